"""The coverage of the 95 % interval on real held-out fields, whose truth are the labels.

    python -m benchmarks.pseudo_patients [MODEL/model.json]

Each run of neighbouring blocks with at least 50 labelled countable cells is a pseudo-patient. Its
truth is the share of these cells that people labelled spherocyte. Its counts are the calls of the
model, and the error rates come from the other runs. A model.json of an earlier version has no
counts of each field; its cells are then distributed evenly over the fields of a block, which makes
the fields too similar. The same is printed for single blocks, with the rates of the other runs, and
for the patients and blocks of each convention. The blocks of `unseen` are those of laboratories
that were left out of the fit.

People label some cells differently the second time (see training/calibrate.py), so the labelled
share is known within limits only. The number of intervals that overlap these limits is printed
beside the strict count. Percentages are 0 to 100.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import UNSEEN
from spherodetect.safety import read_json
from spherodetect.score import counts as scoring
from spherodetect.score.counts import PatientScore, score_counts
from spherodetect.score.rates import ClassifierRates
from spherodetect.training.calibrate import OTHERS_MISNAMED, SPHEROCYTES_MISNAMED

BUNDLED = Path(scoring.__file__).parents[1] / "models" / "bundled" / "model.json"
BLOCK_FIELDS = 20
MIN_CELLS = 50

Block = Mapping[str, Any]


@dataclass(frozen=True)
class PseudoPatient:
    """A run or a block: its labelled share in percent, and the score by the other runs' rates."""

    truth: float
    score: PatientScore

    @property
    def held(self) -> bool:
        return self.score.hs_score_low <= self.truth <= self.score.hs_score_high

    @property
    def held_within_slips(self) -> bool:
        """Whether the interval overlaps the limits of the labelled share."""
        least = (self.truth - 100 * OTHERS_MISNAMED) / (1 - OTHERS_MISNAMED)
        most = self.truth / (1 - SPHEROCYTES_MISNAMED)
        return self.score.hs_score_low <= most and least <= self.score.hs_score_high

    def __str__(self) -> str:
        s, mark = self.score, "yes" if self.held else "slips" if self.held_within_slips else "no"
        return (
            f"{s.patient_id:>9} {s.n_countable:6d} {self.truth:7.1f} {s.raw_percent:7.1f} "
            f"{s.hs_score:7.1f} "
            f"{s.hs_score_low:6.1f} {s.hs_score_high:6.1f}  {mark:5}  {s.status}"
        )


def pseudo_patients(
    model: Mapping[str, Any], *, whole_runs: bool = True, convention: str = ""
) -> list[PseudoPatient]:
    """The pseudo-patients of a model.json, or of one of its conventions: runs, or single blocks."""
    rates = model["conventions"]["rates"][convention] if convention else model["rates"]["blocks"]
    runs = _runs(rates)
    patients = []
    for run in runs:
        others = [block for other in runs if other is not run for block in other]
        rates = ClassifierRates.from_model_json({"rates": {"blocks": others}, "name": "other runs"})
        for part in [run] if whole_runs else [[block] for block in run]:
            if sum(_labelled(part)) >= MIN_CELLS:
                patients.append(_patient(part, rates, unseen=convention == UNSEEN))
    return patients


def _runs(blocks: Iterable[Block]) -> list[list[Block]]:
    """Runs of consecutive blocks of file numbers, which may be of one slide.

    Other blocks are patients.
    """
    runs: list[list[Block]] = []
    end = None
    for block in sorted(blocks, key=lambda block: (_numbers(block) or (0, 0), block["name"])):
        numbers = _numbers(block)
        if numbers and end is not None and numbers[0] == end + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
        end = numbers[1] if numbers else None
    return runs


def _numbers(block: Block) -> tuple[int, int] | None:
    first, _, last = block["name"].partition("-")
    return (int(first), int(last)) if first.isdigit() and last.isdigit() else None


def _labelled(blocks: Iterable[Block]) -> list[int]:
    return [block["true_spherocytes"] + block["true_others"] for block in blocks]


def _patient(blocks: Sequence[Block], rates: ClassifierRates, *, unseen: bool) -> PseudoPatient:
    true = sum(block["true_spherocytes"] for block in blocks)
    first, last = blocks[0]["name"], blocks[-1]["name"]
    name = first if len(blocks) == 1 else f"{first.partition('-')[0]}-{last.partition('-')[2]}"
    countable, called = np.concatenate([_fields(block) for block in blocks]).T
    hint = "unseen_stain" if unseen else None
    score = score_counts(called, countable, model=rates, patient_id=name, status_hint=hint)
    return PseudoPatient(100 * true / countable.sum(), score)


def _fields(block: Block) -> np.ndarray:
    """Labelled countable cells and called cells of each field, (J, 2)."""
    if block.get("fields"):
        return np.array(block["fields"], int)
    field = np.arange(BLOCK_FIELDS)
    # Distributed evenly in whole cells, so that no field has more called cells than cells.
    totals = *_labelled([block]), block["called_of_true"] + block["called_of_others"]
    return np.stack([n // BLOCK_FIELDS + (field < n % BLOCK_FIELDS) for n in totals], axis=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the pseudo-patients of a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model_json", type=Path, nargs="?", default=BUNDLED, help="default: the bundled model's"
    )
    model = read_json(parser.parse_args(argv).model_json)
    conventions = model.get("conventions", {}).get("rates", {})
    for convention, whole_runs in itertools.product(["", *conventions], (True, False)):
        patients = pseudo_patients(model, whole_runs=whole_runs, convention=convention)
        print(f"convention {convention}" if convention else "the model")
        print(
            "      run" if whole_runs else "    block",
            "  cells  labels  called   score    low   high  held",
        )
        print("\n".join(map(str, patients)))
        held, within = (
            sum(getattr(p, name) for p in patients) for name in ("held", "held_within_slips")
        )
        n = len(patients)
        print(
            f"{held} of {n} intervals ({100 * held / n:.0f} %) hold the label share, {within} "
            "within its limits\n"
        )


if __name__ == "__main__":
    main()
