"""Another cut of a model, with the error rates and figures that it has there.

The fields that taught a model cannot be held out from it again. Other trainings on the same data
sets, which held them out, show what a cut does: `python -m benchmarks.cuts --write FILE`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spherodetect.detect.model_folder import ErrorRates, ModelCard
from spherodetect.detect.provenance import Provenance
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted, read_json

_MAX_BYTES = 5_000_000


@dataclass(frozen=True)
class Recut:
    """A cut and what held-out cells say of it.

    Attributes:
        odds: a cell is called from these odds of spherocyte against other red cell on.
        figures: accuracy of the cells by name, as in model.json.
        blocks: counts of each block, as in model.json.
        runs: names of the trainings that judged the cells.
    """

    odds: float
    figures: Mapping[str, float]
    blocks: tuple[Mapping[str, Any], ...]
    runs: tuple[str, ...]

    @classmethod
    def load(cls, file: Path) -> Recut:
        """Read what `as_json` gave.

        Raises:
            SpherodetectError: no such file.
        """
        content = read_json(file, max_bytes=_MAX_BYTES)
        try:
            missing = [key for key in ("odds", "figures", "rates", "runs") if key not in content]
            if missing:
                raise ValueError(f"no {', '.join(missing)}")
            odds, blocks = float(content["odds"]), tuple(content["rates"])
            figures, runs = dict(content["figures"]), tuple(map(str, content["runs"]))
            if not (math.isfinite(odds) and odds > 0 and runs):
                raise ValueError("odds or runs that cannot be")
            if not all(isinstance(block, Mapping) for block in blocks):
                raise ValueError("rates that are no counts of blocks")
        except (TypeError, ValueError) as error:
            raise SpherodetectError(
                f"{quoted(file)}: expected odds, figures, rates and runs, got "
                f"{quoted(str(error))}; write it with `python -m benchmarks.cuts --write`"
            ) from error
        return cls(odds, figures, blocks, runs)

    def as_json(self) -> str:
        """The content of the file."""
        content = {
            "odds": self.odds,
            "figures": dict(self.figures),
            "runs": list(self.runs),
            "rates": list(self.blocks),
        }
        return json.dumps(content, separators=(",", ":")) + "\n"

    def applied(self, card: ModelCard, convention: str) -> ModelCard:
        """The record of a model with this cut; its calibration stays.

        Args:
            card: the record.
            convention: the one of its conventions that has the model's own cut.

        Raises:
            SpherodetectError: the model has conventions, and not this one.
        """
        rows = card.conventions.get("rows", {})
        if rows and convention not in rows:
            raise SpherodetectError(
                f"{quoted(card.name)}: expected a model with the convention {convention}, got "
                f"{quoted(', '.join(rows))}; another cut is for models with this convention"
            )
        calibration = card.thresholds
        log_odds = calibration.slope * math.log(self.odds) + calibration.intercept
        cut = 1 / (1 + math.exp(-log_odds))
        conventions = dict(card.conventions)
        if conventions:
            for key, value in (("rates", list(self.blocks)), ("figures", dict(self.figures))):
                conventions[key] = {**conventions[key], convention: value}
            row = {**conventions["rows"][convention], "cut": cut}
            conventions["rows"] = {**conventions["rows"], convention: row}
        judged = {"runs": list(self.runs), "odds": self.odds}
        return replace(
            card,
            thresholds=replace(card.thresholds, p_spherocyte=cut),
            held_out_figures=dict(self.figures),
            rates=ErrorRates(self.blocks, len(self.runs)),
            conventions=conventions,
            provenance=Provenance({**card.provenance.content, "judged_by": judged}),
        )


__all__ = ["Recut"]
