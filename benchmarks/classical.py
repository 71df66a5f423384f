"""The classical baseline of the detector: watershed cells and eleven measurements of each.

    nice python -m benchmarks.classical --out runs/classical
    python -m benchmarks.classical --out runs/classical \\
        --against A=EVALUATION/labelled_cells.csv ...

It takes 10 minutes on one core. `segment` finds the cells, `measure` measures them, and a logistic
regression classifies them. Training and evaluation use the same folds as the detector, whole runs
of files. The evaluation is that of `spherodetect evaluate`: each labelled point of known class
counts, a missed cell is a false negative, and a duplicate is a false positive.

`predictions.csv` has a row for each labelled cell. `--against` compares the F1 with that of an
evaluated detector on the same fields. Measurements are kept as long as the code of `segment` and
`measure` does not change.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import spherodetect
from spherodetect.cells import Cells
from spherodetect.detect.matching import match_points
from spherodetect.evaluation.metrics import average_precision
from spherodetect.fields.image import read_image
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.labels.splits import assign_splits, block_of
from spherodetect.measure import measure
from spherodetect.safety import atomic_write, sha256
from spherodetect.segment import segment

ROOT = Path(__file__).resolve().parents[1]
FOLDS = {"A": "chula.yaml", "B": "chula_b.yaml", "C": "chula_c.yaml"}
FEATURES = (
    "center_rim_ratio", "pallor_fraction", "mean_od", "relative_od", "integrated_od", "diameter_px",
    "relative_diameter", "circularity", "solidity", "aspect_ratio", "nearest_px",
)  # fmt: skip

#: A cell with this probability or more is called a spherocyte. A threshold with the best F1 on the
#: training fields, cross-validated by block, was tried too. It fits only the slides with most of
#: the spherocytes, and F1 fell from 0.873 to 0.818.
CUT = 0.5

#: Columns of predictions.csv. A row is a labelled cell, or a duplicate with that label.
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """Labelled cells with their segmentation and measurements, as parallel arrays.

    Attributes:
        field: (N,) file names.
        x_px, y_px: (N,) the labelled point, or the centre of a duplicate.
        label: (N,) rbc, spherocyte, or duplicate.
        found: (N,) bool, whether it has a segmented cell.
        features: (N, 11) in the order of FEATURES, NaN without a cell or a measurement.
    """

    field: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    label: np.ndarray
    found: np.ndarray
    features: np.ndarray


def measured_cells(
    fields: Iterable[LabelledField],
    recipe: Recipe,
    *,
    progress: Callable[[str], None] = lambda file: None,
) -> LabelledCells:
    """The labelled cells of fields: segmented, measured and matched with their points."""
    parts: dict[str, list[Any]] = {name: [] for name in LabelledCells.__dataclass_fields__}
    for labelled in fields:
        known = [
            (a.point_yx, name)
            for a in labelled.annotations
            if (name := recipe.meaning(a.name).class_name)
        ]
        if labelled.path is None or not known:
            continue
        image = read_image(labelled.path, name=labelled.file)
        cells = measure(segmented(image, labelled.file), image)
        points, names = np.array([p for p, _ in known], float), [name for _, name in known]
        matching = match_points(cells, points)
        twice = np.flatnonzero(matching.duplicate)
        box = cells.box_yxyx[twice]
        center = (box[:, :2] + box[:, 2:]) / 2
        rows = np.concatenate([matching.detection, twice])
        features = np.stack([cells.measurements[name] for name in FEATURES], axis=1)
        features = np.concatenate([features, np.full((1, len(FEATURES)), np.nan, np.float32)])[rows]
        at = np.concatenate([points, center])
        columns = {
            "field": [labelled.file] * len(rows),
            "x_px": at[:, 1],
            "y_px": at[:, 0],
            "label": names + ["duplicate"] * len(twice),
            "found": rows >= 0,
            "features": features,
        }
        for name, values in columns.items():
            parts[name].append(values)
        progress(labelled.file)
    return LabelledCells(**{name: np.concatenate(values) for name, values in parts.items()})


def segmented(image: np.ndarray, file: str = "") -> Cells:
    """The cells that `segment` finds, as `Cells` with boolean masks."""
    from scipy import ndimage

    labels = segment(image).labels
    windows = ndimage.find_objects(labels)
    box = np.array([[y.start, x.start, y.stop, x.stop] for y, x in windows]).reshape(-1, 4)
    masks = [labels[window] == k for k, window in enumerate(windows, 1)]
    return Cells.from_labels(
        box, np.ones(len(box)), masks, image_size_hw=image.shape[:2], field_id=file
    )


def classify(cells: LabelledCells, train: np.ndarray, judged: np.ndarray) -> Rows:
    """Probabilities of the judged rows by a classifier of the training rows; both (N,) bool."""
    red = np.isin(cells.label, ["rbc", "spherocyte"]) & cells.found
    training = np.flatnonzero(train & red)
    probability = _regression(cells.features[training], cells.label[training] == "spherocyte")
    at = np.flatnonzero(judged)
    score = np.where(cells.found[at], probability(cells.features[at]), 0.0)
    return [
        {
            "field": str(cells.field[k]),
            "block": block_of(cells.field[k]),
            "x_px": round(float(cells.x_px[k]), 1),
            "y_px": round(float(cells.y_px[k]), 1),
            "label": str(cells.label[k]),
            "found": int(cells.found[k]),
            "called": ("spherocyte" if p >= CUT else "rbc") if cells.found[k] else "",
            "p_spherocyte": round(float(p), 5),
        }
        for k, p in zip(at, score, strict=True)
    ]


def _regression(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    model.fit(x, y)
    return lambda features: model.predict_proba(features)[:, 1]


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Recall, and F1, average precision, sensitivity and specificity of the class spherocyte.

    A missed cell is not called and has the lowest score. Specificity is that of the other red cells
    that were found. A rate without cells is NaN.
    """
    label, called = (np.array([r[key] for r in rows], object) for key in ("label", "called"))
    found = np.array([int(r["found"]) for r in rows], bool)
    score = np.array([float(r["p_spherocyte"]) for r in rows])
    truth, positive, labelled = label == "spherocyte", called == "spherocyte", label != "duplicate"
    others = (label == "rbc") & found
    hits = int((truth & positive).sum())
    return {
        "fields": len({r["field"] for r in rows}),
        "cells": int(labelled.sum()),
        "spherocytes": int(truth.sum()),
        "recall": _ratio(int(found[labelled].sum()), int(labelled.sum())),
        "f1": _ratio(2 * hits, int(positive.sum() + truth.sum())),
        "average_precision": average_precision(score, truth) if truth.any() else float("nan"),
        "sensitivity": _ratio(hits, int(truth.sum())),
        "specificity": _ratio(int((others & ~positive).sum()), int(others.sum())),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class Difference:
    """The difference of F1 on the same fields, with its limits in 90 of 100 bootstraps."""

    ours: float
    theirs: float
    low: float
    high: float
    n_fields: int

    @property
    def difference(self) -> float:
        return self.ours - self.theirs

    def __str__(self) -> str:
        return (
            f"F1 {self.ours:.3f} against {self.theirs:.3f}: {self.difference:+.3f}, "
            f"90 % of bootstraps over {self.n_fields} fields between {self.low:+.3f} and "
            f"{self.high:+.3f}"
        )


def paired_bootstrap(
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
    *,
    draws: int = 4000,
    seed: int = 1,
) -> Difference:
    """Compare F1 of the class spherocyte by a paired bootstrap over fields (Efron 1979).

    Args:
        ours, theirs: rows of predictions.csv or labelled_cells.csv.

    Raises:
        ValueError: no field in common, or a field with different labels.
    """
    a, b = _counts(ours), _counts(theirs)
    fields = sorted(a.keys() & b.keys())
    differing = [f for f in fields if a[f][2] != b[f][2]]
    if not fields or differing:
        got = f"other labels in {differing[0]!r}" if differing else "none"
        raise ValueError(
            f"expected fields in common with the same labels, got {got}; evaluate both with the "
            "same recipe"
        )
    counts = np.array([[a[f], b[f]] for f in fields], float)
    drawn = np.random.default_rng(seed).multinomial(
        len(fields), np.full(len(fields), 1 / len(fields)), draws
    )

    def f1(total: np.ndarray) -> np.ndarray:
        return 2 * total[..., 0] / np.maximum(total[..., 1] + total[..., 2], 1)

    whole = f1(counts.sum(axis=0))
    many = f1(np.tensordot(drawn, counts, axes=1))
    low, high = np.quantile(many[:, 0] - many[:, 1], [0.05, 0.95])
    return Difference(float(whole[0]), float(whole[1]), float(low), float(high), len(fields))


def _counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """True positives, called spherocytes and labelled spherocytes of each field."""
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3, int))
    for row in rows:
        if row["label"] in ("rbc", "spherocyte", "duplicate"):
            true, called = row["label"] == "spherocyte", row["called"] == "spherocyte"
            counts[row["field"]] += np.array([true and called, called, true])
    return counts


def read_rows(path: Path) -> Rows:
    """The rows of predictions.csv, or of evaluate's labelled_cells.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(
    out: Path, *, root: Path | None = None, progress: Callable[[str], None] = lambda file: None
) -> dict[str, Rows]:
    """The rows of all folds; predictions.csv and the measurements are written to `out`."""
    recipes = {
        fold: load_recipe(ROOT / "tfrecords" / name, root=root) for fold, name in FOLDS.items()
    }
    recipe = recipes["A"]
    fields = read_labels(recipe).fields
    groups = near_duplicates(
        {f.file: f.path for f in fields if f.path is not None}, cache=out / "duplicates.json"
    )
    kept = out / f"cells-{_code_digest()}.npz"
    if kept.is_file():
        cells = LabelledCells(**np.load(kept, allow_pickle=False))
    else:
        cells = measured_cells(fields, recipe, progress=progress)
        with atomic_write(kept) as file:
            np.savez_compressed(file, **vars(cells))
    results = {}
    for fold, one in recipes.items():
        splits = assign_splits(fields, one, duplicate_groups=groups)
        split = np.array([splits[field] for field in cells.field])
        results[fold] = classify(cells, split == "train", split == "val")
    rows = [{"fold": fold} | row for fold, part in results.items() for row in part]
    with atomic_write(out / "predictions.csv", text=True) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return results


def _code_digest() -> str:
    """A digest of the code of `segment` and `measure`, on which the measurements depend."""
    package = Path(spherodetect.__file__).parent
    files = [path for name in ("segment", "measure") for path in (package / name).rglob("*.py")]
    return sha256(b"".join(path.read_bytes() for path in sorted(files)))[:12]


def table(results: Mapping[str, Rows]) -> str:
    """The figures of the folds and of their blocks, as a Markdown table."""
    columns = (
        "fields",
        "cells",
        "spherocytes",
        "recall",
        "f1",
        "average_precision",
        "sensitivity",
        "specificity",
    )
    names = [c.replace("_", " ") for c in columns]
    lines = [f"| held out | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]

    def add(name: str, rows: Rows) -> None:
        values = figures(rows)
        cells = [
            f"{values[c]:.3f}" if isinstance(values[c], float) else str(values[c]) for c in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells).replace("nan", "–") + " |")

    for fold, rows in results.items():
        add(f"**fold {fold}**", rows)
        for block in sorted(
            {r["block"] for r in rows}, key=lambda name: int(name.partition("-")[0])
        ):
            add(block, [r for r in rows if r["block"] == block])
    add("**all folds**", list(chain.from_iterable(results.values())))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, train, judge; print the table and, with --against, the difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the predictions and the measurements"
    )
    parser.add_argument(
        "--root", type=Path, help="where Chula RBC-12 lies, if not where the recipes say"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="FOLD=CSV",
        help="labelled_cells.csv of evaluate",
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    results = run(args.out, root=args.root, progress=lambda file: print(file, end="\r", flush=True))
    print(table(results))
    if args.against:
        evaluated = dict(pair.split("=", 1) for pair in args.against)
        ours = {fold: read_rows(Path(path)) for fold, path in evaluated.items()}
        theirs = {fold: results[fold] for fold in evaluated}
        print(f"\ndetector against baseline: {paired_bootstrap(_by_fold(ours), _by_fold(theirs))}")


def _by_fold(rows: Mapping[str, Rows]) -> Rows:
    """The rows with the fold in the name of each field, since two folds may hold out one field."""
    return [
        row | {"field": f"{fold} {row['field']}"} for fold, part in rows.items() for row in part
    ]


if __name__ == "__main__":
    main()
