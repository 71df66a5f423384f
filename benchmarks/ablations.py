"""The contribution of each part of the model, on found held-out cells of the same blocks.

    nice python -m benchmarks.ablations runs/chula runs/chula_b runs/chula_c
    python -m benchmarks.ablations --rows "model=A/labelled_cells.csv@MODEL_A,B/..." \\
        "classical=predictions.csv"

The first command takes 15 minutes of two cores, and 5 minutes when it is repeated. Each run held
out other fields. Their held-out cells are kept in --cells.

--rows evaluates tables of `spherodetect evaluate` (labelled_cells.csv) or of
benchmarks/classical.py (predictions.csv), including missed and duplicate cells. A model folder
after @ removes the calibration of that model from its probabilities, so that the cells of several
models can be ranked together.

F1, sensitivity and specificity are for one threshold; average precision has none. The intervals of
90 % are from 1,000 bootstraps of whole blocks: a few slides have most of the spherocytes, and their
cells are similar. The last column is the difference of average precision to the first row, from
the same bootstraps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Judged:
    """Labelled red cells of many blocks with their calls, as parallel arrays.

    Attributes:
        block: (N,) names.
        truth, called: (N,) bool, spherocyte by label and by call.
        score: (N,) of spherocyte; a missed cell has the lowest.
    """

    block: np.ndarray
    truth: np.ndarray
    called: np.ndarray
    score: np.ndarray

    def figures(self, weight: np.ndarray) -> np.ndarray:
        """F1, average precision, sensitivity and specificity with a weight (N,) for each cell."""
        hits, called, true = (
            float(weight[of].sum()) for of in (self.called & self.truth, self.called, self.truth)
        )
        others = float(weight[~self.truth].sum())
        order = np.argsort(-self.score, kind="stable")
        w, t = weight[order], (weight * self.truth)[order]
        precision = np.cumsum(t) / np.maximum(np.cumsum(w), 1e-9)
        ap = (precision * t).sum() / max(true, 1e-9)
        return np.array(
            [2 * hits / (called + true), ap, hits / true, 1 - (called - hits) / max(others, 1e-9)]
        )


def compare(judged: Mapping[str, Judged], *, seed: int = 1) -> Iterator[str]:
    """The lines of a Markdown table; all rows use the same bootstraps."""
    blocks = sorted({str(b) for one in judged.values() for b in one.block})
    draws = np.random.default_rng(seed).multinomial(
        len(blocks), np.full(len(blocks), 1 / len(blocks)), DRAWS
    )
    place = {block: k for k, block in enumerate(blocks)}
    columns = ("held out", "cells (spherocytes)", "F1", "average precision", "sensitivity")
    yield f"| {' | '.join((*columns, 'specificity', 'difference'))} |"
    yield "|---" * 7 + "|"
    first = None
    for name, one in judged.items():
        at = np.array([place[str(b)] for b in one.block])
        whole = one.figures(np.ones(len(at)))
        many = np.array(
            [one.figures(w) for draw in draws if (w := draw[at].astype(float))[one.truth].any()]
        )
        first = many if first is None else first
        low, high = np.quantile(many, [0.05, 0.95], axis=0)
        shown = [f"{v:.3f} ({a:.3f} to {b:.3f})" for v, a, b in zip(whole, low, high, strict=True)]
        gain = (
            np.quantile(many[:, 1] - first[:, 1], [0.05, 0.95])
            if len(many) == len(first)
            else [np.nan] * 2
        )
        less = "–" if many is first else f"{gain[0]:+.3f} to {gain[1]:+.3f}"
        cells = f"{len(at):,} ({int(one.truth.sum()):,})"
        yield f"| {name} | {cells} | {' | '.join(shown)} | {less} |"


def variants(folds: Sequence[Any]) -> dict[str, Judged]:
    """The variants of the classifier, on the held-out cells of several detectors.

    Args:
        folds: the `training.second_look.SecondLookCells` of each detector.
    """
    from spherodetect.graph.prevalence import with_field_prior
    from spherodetect.graph.second_look import mean_log_odds
    from spherodetect.training import second_look
    from spherodetect.training.calibrate import CUT, HeldOutCells

    columns = ("window", "size", "spherocyte")

    def second_log_odds(fold: Any) -> tuple[np.ndarray, np.ndarray]:
        """Log odds of the labelled and of the other cells, by a network of the other folds."""
        others = [other for other in folds if other is not fold]
        model = second_look.fit(
            *(np.concatenate([getattr(other, c) for other in others]) for c in columns)
        )
        return tuple(
            second_look.predict(model, cells.window, cells.size)
            for cells in (fold, fold.neighbours)
        )

    second = [second_log_odds(fold) for fold in folds]
    joined = HeldOutCells.join(folds)
    # A block of several folds counts in the first one, as in HeldOutCells.join.
    seen: set[str] = set()
    new = []
    for fold in folds:
        new.append(~np.isin(fold.block.astype(str), list(seen)))
        seen |= set(fold.n_countable)

    def judged(of_each: Sequence[np.ndarray]) -> Judged:
        score = np.concatenate([odds[keep] for odds, keep in zip(of_each, new, strict=True)])
        return Judged(joined.block, joined.spherocyte, score >= CUT, score)

    def in_field(fold: Any, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        return with_field_prior(own, fold.countable, fold.field, others, fold.neighbours.field)

    pairs = list(zip(folds, second, strict=True))
    both = [
        [mean_log_odds(c.log_odds, o) for c, o in zip((f, f.neighbours), s, strict=True)]
        for f, s in pairs
    ]
    return {
        "both networks and the field's prevalence, as shipped": judged(
            [in_field(fold, *odds) for fold, odds in zip(folds, both, strict=True)]
        ),
        "both networks": judged([own for own, _ in both]),
        "Mask R-CNN and the field's prevalence": judged(
            [in_field(fold, fold.log_odds, fold.neighbours.log_odds) for fold in folds]
        ),
        "Mask R-CNN alone": judged([fold.log_odds for fold in folds]),
        "second look alone": judged([own for own, _ in second]),
    }


def from_rows(tables: Sequence[str]) -> Judged:
    """The rows of each FILE[@MODEL]; a field of an earlier table is left out."""
    from benchmarks.classical import read_rows
    from spherodetect.labels.splits import block_of

    taken: set[str] = set()
    kept: list[tuple[Mapping[str, Any], float]] = []
    for table in tables:
        file, _, model = table.partition("@")
        card = json.loads((Path(model) / "model.json").read_text()) if model else {}
        slope, intercept = (
            card.get("thresholds", {}).get(key, usual)
            for key, usual in (("slope", 1), ("intercept", 0))
        )
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for row in read_rows(Path(file)):
            parts.setdefault(row.get("fold", ""), []).append(row)
        for rows in parts.values():
            red = [
                r
                for r in rows
                if r["field"] not in taken and r["label"] in ("rbc", "spherocyte", "duplicate")
            ]
            p = np.clip([float(r["p_spherocyte"]) for r in red], 1e-6, 1 - 1e-6)
            score = (np.log(p / (1 - p)) - intercept) / slope
            kept += zip(
                red,
                np.where([r["found"] == "1" for r in red], score, -np.inf).tolist(),
                strict=True,
            )
            taken |= {r["field"] for r in rows}
    rows = [row for row, _ in kept]
    return Judged(
        np.array([block_of(r["field"], "") for r in rows]),
        np.array([r["label"] == "spherocyte" for r in rows]),
        np.array([r["called"] == "spherocyte" for r in rows]),
        np.array([score for _, score in kept]),
    )


def held_out_cells(
    run: Path, kept: Path, *, um_per_px: float, thresholds: Mapping[str, float] | None = None
) -> Any:
    """The held-out cells of a run, from the kept file or from its validation records.

    Args:
        run: the folder of the run.
        kept: folder of the kept files.
        um_per_px: pixel size of fields that state none.
        thresholds: those of `Thresholds` that are not the usual ones of a run.
    """
    from spherodetect.detect.model_folder import Thresholds
    from spherodetect.safety import atomic_write
    from spherodetect.training import held_out
    from spherodetect.training.export import restore
    from spherodetect.training.second_look import Neighbours, SecondLookCells

    file = kept / f"{run.name}-{um_per_px:g}.npz"
    if not file.is_file():
        params, detector, _ = restore(run)
        detector.assign(Thresholds(**(thresholds or {})))
        records = held_out.validation_records(run, params)
        found = held_out.collect(detector, records, params.task.class_names, um_per_px=um_per_px)
        columns = vars(found) | {
            f"neighbours_{key}": column for key, column in vars(found.neighbours).items()
        }
        columns |= {"n_countable": json.dumps(columns["n_countable"]), "neighbours": ""}
        plain = {key: np.asarray(column) for key, column in columns.items()}
        plain = {
            key: column.astype(str) if column.dtype == object else column
            for key, column in plain.items()
        }
        with atomic_write(file) as written:
            np.savez(written, **plain)
    with np.load(file, allow_pickle=False) as kept_columns:
        columns = {key: kept_columns[key] for key in kept_columns.files}
    neighbours = Neighbours(
        **{f.name: columns.pop(f"neighbours_{f.name}") for f in fields(Neighbours)}
    )
    return SecondLookCells(
        **columns
        | {"n_countable": json.loads(str(columns["n_countable"])), "neighbours": neighbours}
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="runs that held out other fields each")
    parser.add_argument(
        "--cells",
        type=Path,
        default=Path("runs/ablations"),
        help="folder of the cells that are kept",
    )
    parser.add_argument(
        "--um-per-px", type=float, default=0.193, help="pixel size; 0: unknown; default: 0.193"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="NAME=FILE[@MODEL][,...]",
        help="judge these tables as well",
    )
    args = parser.parse_args(argv)
    judged = {}
    for rows in args.rows:
        name, _, files = rows.partition("=")
        judged[name] = from_rows(files.split(","))
    if args.runs:
        judged |= variants(
            [held_out_cells(run, args.cells, um_per_px=args.um_per_px) for run in args.runs]
        )
    print("\n".join(compare(judged)))


if __name__ == "__main__":
    main()
