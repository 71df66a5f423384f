"""How a threshold of the log odds fits different slides, on held-out cells of several runs.

    nice python -m benchmarks.cuts runs/joint runs/joint_b runs/joint_c [--reference MODEL]

It takes half an hour of two busy cores, most of it for the second looks. Each of them is trained on
the other runs' cells. The log odds of each run are moved to the scale of the reference model by the
median difference over the same cells near the cut (training/prior.py): runs whose fields have few
spherocytes give lower ones. The reference may have seen the cells, so that a run's move is rather
too large.

The first table is of all cells: F1, average precision, sensitivity and specificity with 90 % of
bootstraps over blocks. The second one has sensitivity, specificity and F1 of each block with at
least fifteen labelled spherocytes. The third one shows what a patient's interval would be: 20
fields of 40 countable cells, of which some percent are called, by the error rates at each cut.
--write keeps these rates, as model.json has them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablations import Judged, compare, held_out_cells
from spherodetect.safety import atomic_write

#: Natural log odds; the first is the cut in use.
CUTS = (float(np.log(3)), 1.5, 0.8, 0.4, 0.0, -0.4)
#: Cells whose mean log odds of run and reference lie within this of 0 are near the cut.
_NEAR = 3.0
_LEAST_SPHEROCYTES = 15
#: A patient's fields, countable cells in each, and the percentages of them that are called.
_FIELDS, _CELLS, _CALLED = 20, 40, (5, 15, 30, 60)


def moved(cells: Any, reference: Any) -> Any:
    """The cells of a run with log odds on the reference's scale, and what was added to them.

    Fields in which both found the same labels are compared.

    Args:
        cells, reference: `training.calibrate.HeldOutCells`.
    """
    theirs = _by_field(reference)
    pairs = [
        (cells.log_odds[a], reference.log_odds[b])
        for field, rows in _by_field(cells).items()
        if cells.name[rows].tolist() == reference.name[theirs.get(field, [])].tolist()
        for a, b in zip(rows, theirs[field], strict=True)
    ]
    both = np.array(pairs).reshape(-1, 2)
    near = np.abs(both.mean(axis=1)) < _NEAR
    shift = float(np.median(both[near, 1] - both[near, 0])) if near.any() else 0.0
    return replace(cells, log_odds=cells.log_odds + shift), shift


def _by_field(cells: Any) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for k, field in enumerate(cells.field):
        rows[str(field)].append(k)
    return rows


def block_table(judged: dict[str, Judged]) -> list[str]:
    """Sensitivity, specificity and F1 of each block by each cut, and the mean F1 of the blocks."""
    first = next(iter(judged.values()))
    blocks = [
        str(block)
        for block in np.unique(first.block)
        if (first.truth & (first.block == block)).sum() >= _LEAST_SPHEROCYTES
    ]
    lines = [f"| block | spherocytes, others | {' | '.join(judged)} |"]
    lines.append("|---" * (2 + len(judged)) + "|")
    of_all = []
    for block in blocks:
        here = first.block == block
        figures = [one.figures(here.astype(float))[[2, 3, 0]] for one in judged.values()]
        of_all.append([f1 for _, _, f1 in figures])
        n = int((here & first.truth).sum())
        shown = [f"{a:.2f}, {b:.3f}, {f1:.2f}" for a, b, f1 in figures]
        lines.append(f"| {block} | {n}, {int(here.sum()) - n} | {' | '.join(shown)} |")
    means = [f"{mean:.3f}" for mean in np.mean(of_all, axis=0)]
    lines.append(f"| mean F1 | | {' | '.join(means)} |")
    return lines


def judge(folds: Sequence[Any], cuts: Sequence[float] = CUTS) -> dict[str, Judged]:
    """All cells of runs by each cut; a block of several runs counts in the first."""
    from spherodetect.training.calibrate import HeldOutCells

    cells = HeldOutCells.join(folds)
    return {
        f"{cut:.2f}": Judged(
            cells.block, cells.spherocyte, cells.log_odds >= cut, cells.log_odds
        )
        for cut in cuts
    }  # fmt: skip


def rates_at(folds: Sequence[Any], cuts: Sequence[float] = CUTS) -> dict[str, list[dict]]:
    """The error rates of each cut, blocks as in model.json."""
    from spherodetect.training.calibrate import HeldOutCells, block_rates

    cells = HeldOutCells.join(folds)
    return {f"{cut:.2f}": block_rates(cells, cells.log_odds >= cut) for cut in cuts}


def interval_table(rates: dict[str, list[dict]]) -> list[str]:
    """Score and 95 % interval of a patient by the rates of each cut, by the percentage called."""
    from spherodetect.score.counts import score_counts
    from spherodetect.score.rates import ClassifierRates

    lines = [f"| log odds | {' | '.join(f'{called} % called' for called in _CALLED)} |"]
    lines.append("|---" * (1 + len(_CALLED)) + "|")
    for cut, blocks in rates.items():
        model = ClassifierRates.from_model_json({"rates": {"blocks": blocks}, "name": cut})
        scores = [
            score_counts([_CELLS * called // 100] * _FIELDS, [_CELLS] * _FIELDS, model=model)
            for called in _CALLED
        ]
        shown = [
            f"{s.hs_score:.1f} ({s.hs_score_low:.1f} to {s.hs_score_high:.1f})" for s in scores
        ]
        lines.append(f"| {cut} | {' | '.join(shown)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="runs that held out other fields each")
    parser.add_argument("--cells", type=Path, default=Path("runs/cuts"), help="kept cells")
    parser.add_argument("--um-per-px", type=float, default=0.193, help="pixel size; 0: unknown")
    parser.add_argument("--write", type=Path, help="a JSON file for the rates at each cut")
    parser.add_argument("--reference", type=Path, help="a model folder; default: the bundled one")
    args = parser.parse_args(argv)
    from spherodetect.detect.model_folder import BUNDLED
    from spherodetect.training import held_out, second_look
    from spherodetect.training.export import restore
    from spherodetect.training.kept import kept_detector

    found = [held_out_cells(run, args.cells, um_per_px=args.um_per_px) for run in args.runs]
    _, folds = second_look.cross_fit(found)
    card, detector = kept_detector(args.reference or BUNDLED)
    aligned = []
    for run, fold in zip(args.runs, folds, strict=True):
        records = held_out.validation_records(run, restore(run)[0])
        theirs = held_out.collect(
            detector, records, list(card.class_names), um_per_px=args.um_per_px
        )
        (theirs,) = second_look.cross_fit([theirs])[1]
        cells, shift = moved(fold, theirs)
        aligned.append(cells)
        sys.stdout.write(f"{run.name}: {len(cells.log_odds)} cells, moved by {shift:.2f}\n")
    judged = judge(aligned)
    rates = rates_at(aligned)
    tables = [compare(judged), block_table(judged), interval_table(rates)]
    sys.stdout.write("\n".join(line for table in tables for line in ["", *table]) + "\n")
    if args.write:
        with atomic_write(args.write, text=True) as file:
            file.write(json.dumps(rates, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
