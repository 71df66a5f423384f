"""How a threshold of the log odds fits different slides, on held-out cells of several runs.

    nice python -m benchmarks.cuts runs/joint runs/joint_b runs/joint_c [--reference MODEL]

It takes half an hour of two busy cores. The second look of each run is trained on the other runs'
cells. Runs whose training fields have few spherocytes give lower log odds. So those of each run are
moved to the scale of the reference model: at the cut of the reference, the run calls as many cells
as model.json says of the fields that the reference held out. The bundled model has rates of its own
folds up to version 0.9; name a model folder of that version.

The first table is of all cells: F1, average precision, sensitivity and specificity with 90 % of
bootstraps over blocks. The second one has sensitivity, specificity and F1 of each block with at
least fifteen labelled spherocytes. The third one shows what a patient's interval would be: 20
fields of 40 countable cells, of which some percent are called, by the error rates at each cut.
--write keeps rates and figures at the first cut, for `laboratories again --recut`. The calibration
is that of the reference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablations import Judged, compare, held_out_cells
from spherodetect.safety import atomic_write

#: Odds of spherocyte against other red cell, and their logarithms; the first is the cut in use.
ODDS = (1.5, 3.0, 2.2, 1.0, 0.67)
CUTS = tuple(float(np.log(odds)) for odds in ODDS)
#: Fewer expected calls do not tell the scale of a run.
_LEAST_CALLED = 10
_LEAST_SPHEROCYTES = 15
#: A patient's fields, countable cells in each, and the percentages of them that are called.
_FIELDS, _CELLS, _CALLED = 20, 40, (5, 15, 30, 60)


def moved(cells: Any, blocks: Sequence[Mapping[str, Any]], cut: float) -> float | None:
    """What brings the log odds of a run to the scale of a model: as many cells are called.

    The blocks that both have are used. None where fewer than _LEAST_CALLED cells are expected.

    Args:
        cells: `training.calibrate.HeldOutCells` of the run.
        blocks: the model's counts at its cut, as model.json has them, of fields that it held out.
        cut: the log odds of that cut.
    """
    expected, odds = 0.0, []
    for block in blocks:
        here = cells.countable & (cells.block == block["name"])
        for truth, kind, of in (
            (True, "true_spherocytes", "true"),
            (False, "true_others", "others"),
        ):
            if block[kind]:
                found = cells.log_odds[here & (cells.spherocyte == truth)]
                expected += len(found) * block[f"called_of_{of}"] / block[kind]
                odds.append(found)
    if expected < _LEAST_CALLED:
        return None
    return cut - float(np.sort(np.concatenate(odds))[-round(expected)])


def on_one_scale(
    folds: Sequence[Any], blocks: Sequence[Mapping[str, Any]], cut: float
) -> tuple[list[Any], list[float]]:
    """The cells of runs on the scale of a model, and what was added to the log odds of each.

    A run of which `moved` tells nothing moves as the others do on average.
    """
    found = [moved(fold, blocks, cut) for fold in folds]
    told = [shift for shift in found if shift is not None]
    mean = float(np.mean(told)) if told else 0.0
    shifts = [mean if shift is None else shift for shift in found]
    aligned = [replace(f, log_odds=f.log_odds + s) for f, s in zip(folds, shifts, strict=True)]
    return aligned, shifts


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


def recut_of(folds: Sequence[Any], calibration: Any, runs: Sequence[str]) -> Any:
    """The `training.recut.Recut` of the first cut.

    Args:
        folds: cells of runs on the scale of the reference.
        calibration: `Thresholds` of the reference.
        runs: their names.
    """
    from spherodetect.training.calibrate import HeldOutCells, block_rates, figures_of
    from spherodetect.training.recut import Recut

    cells = HeldOutCells.join(folds)
    called = cells.log_odds >= CUTS[0]
    p = 1 / (1 + np.exp(-(calibration.slope * cells.log_odds + calibration.intercept)))
    figures = figures_of(cells.log_odds, p, called, cells.spherocyte)
    return Recut(ODDS[0], figures, tuple(block_rates(cells, called)), tuple(runs))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="runs that held out other fields each")
    parser.add_argument("--cells", type=Path, default=Path("runs/cuts"), help="kept cells")
    parser.add_argument("--um-per-px", type=float, default=0.193, help="pixel size; 0: unknown")
    parser.add_argument(
        "--write", type=Path, help="a JSON file for rates and figures at the first cut"
    )
    parser.add_argument("--reference", type=Path, help="a model folder; default: the bundled one")
    args = parser.parse_args(argv)
    from spherodetect.detect.model_folder import BUNDLED, read_card
    from spherodetect.training import second_look

    card = read_card(args.reference or BUNDLED)
    calibration = card.thresholds
    odds = calibration.p_spherocyte / (1 - calibration.p_spherocyte)
    cut = (np.log(odds) - calibration.intercept) / calibration.slope
    same = {name: getattr(calibration, name) for name in ("confidence", "nms_iou")}
    found = [
        held_out_cells(run, args.cells, um_per_px=args.um_per_px, thresholds=same)
        for run in args.runs
    ]
    _, folds = second_look.cross_fit(found)
    aligned, shifts = on_one_scale(folds, card.rates.blocks, cut)
    for run, fold, shift in zip(args.runs, folds, shifts, strict=True):
        sys.stdout.write(f"{run.name}: {len(fold.log_odds)} cells, moved by {shift:.2f}\n")
    rates = rates_at(aligned)
    tables = [compare(judge(aligned)), block_table(judge(aligned)), interval_table(rates)]
    sys.stdout.write("\n".join(line for table in tables for line in ["", *table]) + "\n")
    if args.write:
        recut = recut_of(aligned, calibration, [run.name for run in args.runs])
        with atomic_write(args.write, text=True) as file:
            file.write(recut.as_json())


if __name__ == "__main__":
    main()
