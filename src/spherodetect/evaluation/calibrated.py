"""States on which cells a model was calibrated, for the page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spherodetect.detect.model_folder import ModelCard

#: Blocks that are named; the others are counted.
_NAMED = 6


def calibration_words(card: ModelCard) -> list[str]:
    """Sentences on the held-out cells that p_spherocyte and the error rates come from."""
    of_conventions = card.conventions.get("rates", {})
    if of_conventions:
        return [f"Convention {name}: {_blocks(blocks)}." for name, blocks in of_conventions.items()]
    if not card.classifier_rates().known:
        return [
            "Not calibrated: no held-out cells were used, p_spherocyte is the network's own, and "
            "scores have the status uncalibrated."
        ]
    n = card.rates.folds
    words = [f"On fields that {n} detector{'s' * (n != 1)} held out: {_blocks(card.rates.blocks)}."]
    if reference := card.rates.reference:
        words.append(
            f"The spread of the error rates between patients also from {reference['model']}, "
            f"{reference['stain']}: {_blocks(reference['blocks'])}."
        )
    return words


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> str:
    """The blocks with cells that are used, the largest first."""
    counts = {
        str(block["name"]): (block["true_spherocytes"], block["true_others"]) for block in blocks
    }
    used = sorted((name for name in counts if any(counts[name])), key=lambda n: -sum(counts[n]))
    named = [
        f"{name} ({counts[name][0]:,} spherocytes, {counts[name][1]:,} other cells)"
        for name in used[:_NAMED]
    ]
    more = len(used) - _NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


__all__ = ["calibration_words"]
