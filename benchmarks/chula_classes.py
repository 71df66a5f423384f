"""The task of the Chula paper on held-out blocks: twelve classes of red cells.

    python -m benchmarks.chula_classes --out runs/chula_classes [--model models/chula13]
    python -m benchmarks.chula_classes --out runs/chula_classes --baseline

Naruenatthanaset et al. (arXiv 2012.01321) report an accuracy of 0.921 and an F1 of 0.868 on 20,875
cells, for crops of known cells, with cells of one smear on both sides of the split. Here whole runs
of files are held out, as in tfrecords/chula13.yaml, and the cells have to be found first. People
who label a photograph of this data set twice agree on the class of 85 % of the cells.

Each labelled point of the twelve classes counts; "uncategorised" is left out. A point without a
detection is wrong. Accuracy is the share of right points. F1 is a mean over the classes, and one
weighted by their points. Intervals are 90 % of bootstraps over blocks of 20 file numbers.

--baseline is RedTell's task on the same points: cells of `segment`, the 74 features that RedTell
measures beside the eleven of `classical`, and a random forest that was trained on the other blocks.
The features are kept in the folder; the rows of both are written as CSV.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classical import FEATURES, ROOT, segmented
from spherodetect.cells import Cells
from spherodetect.detect.matching import match_points
from spherodetect.fields.image import read_image
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.recipe import load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.labels.splits import assign_splits, block_of, spare_copies
from spherodetect.measure import measure
from spherodetect.measure.textures import FEATURES as REDTELL
from spherodetect.measure.textures import cell_features
from spherodetect.safety import atomic_write

CLASSES = (
    "normal", "macrocyte", "microcyte", "spherocyte", "target cell", "stomatocyte", "ovalocyte",
    "teardrop", "burr cell", "schistocyte", "hypochromia", "elliptocyte",
)  # fmt: skip
UM_PER_PX = 0.193

#: A row is a labelled point: field, block, label, and called, which is empty for a missed cell.
Rows = list[dict[str, Any]]


def fields_of_split(split: str) -> Iterator[tuple[LabelledField, np.ndarray, list[str]]]:
    """Fields of a split with the points (M, 2) and names of the twelve classes."""
    recipe = load_recipe(ROOT / "tfrecords" / "chula13.yaml")
    fields = read_labels(recipe).fields
    groups = near_duplicates({f.file: f.path for f in fields if f.path is not None})
    splits = assign_splits(fields, recipe, duplicate_groups=groups)
    spare = spare_copies(fields, splits)
    for field in fields:
        if splits[field.file] != split or field.file in spare or field.path is None:
            continue
        named = [(a.point_yx, recipe.meaning(a.name).class_name) for a in field.annotations]
        known = [(point, name) for point, name in named if name in CLASSES and point is not None]
        if known:
            yield field, np.array([p for p, _ in known], float), [name for _, name in known]


def rows_of(field: str, names: Sequence[str], called: Sequence[str]) -> Rows:
    """The rows of a field's labelled points."""
    block = block_of(field)
    return [
        {"field": field, "block": block, "label": label, "called": one}
        for label, one in zip(names, called, strict=True)
    ]


def detected(detect: Callable[[np.ndarray], Cells]) -> Rows:
    """The rows of the held-out points by a detector of the twelve classes."""
    rows: Rows = []
    for field, points, names in fields_of_split("val"):
        assert field.path is not None, "only fields with an image are given"
        cells = detect(read_image(field.path, name=field.file))
        found = match_points(cells, points).detection
        rows += rows_of(
            field.file, names, [str(cells.names[k]) if k >= 0 else "" for k in found.tolist()]
        )
    return rows


def measured(split: str) -> dict[str, np.ndarray]:
    """Field, label and features (M, 85) of the points of a split; NaN for a missed cell."""
    columns: dict[str, list[Any]] = {"field": [], "label": [], "features": []}
    for field, points, names in fields_of_split(split):
        assert field.path is not None, "only fields with an image are given"
        image = read_image(field.path, name=field.file)
        cells = measure(segmented(image, field.file), image)
        found = match_points(cells, points).detection
        columns["field"] += [field.file] * len(names)
        columns["label"] += names
        columns["features"] += [_features(image, cells, k) for k in found.tolist()]
    return {name: np.array(values) for name, values in columns.items()}


def _features(image: np.ndarray, cells: Cells, k: int) -> np.ndarray:
    if k < 0:
        return np.full(len(FEATURES) + len(REDTELL), np.nan)
    from PIL import Image

    mask, (y, x) = next(cells[[k]].pixel_masks())
    height, width = mask.shape
    grey = np.asarray(Image.fromarray(image[y : y + height, x : x + width]).convert("L"))
    ours = [float(cells.measurements[name][k]) for name in FEATURES]
    theirs = cell_features(grey, mask)
    return np.array([*ours, *(theirs[name] for name in REDTELL)])


def forest(train: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray]) -> Rows:
    """The rows of the held-out points by a random forest on the features of the training points."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    known = ~np.isnan(train["features"]).all(axis=1)
    found = ~np.isnan(held_out["features"]).all(axis=1)
    model = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        RandomForestClassifier(
            400, min_samples_leaf=2, class_weight="balanced_subsample", n_jobs=2, random_state=1
        ),
    )
    model.fit(train["features"][known], train["label"][known])
    called = np.full(len(found), "", object)
    if found.any():
        called[found] = model.predict(held_out["features"][found])
    rows: Rows = []
    for file, label, one in zip(held_out["field"], held_out["label"], called, strict=True):
        rows += rows_of(str(file), [str(label)], [str(one)])
    return rows


def confusion(rows: Rows) -> np.ndarray:
    """(12, 14) counts of labels by what they are called: the classes, another one, missed."""
    columns = {name: k for k, name in enumerate(CLASSES)} | {"": len(CLASSES) + 1}
    counts = np.zeros((len(CLASSES), len(CLASSES) + 2), int)
    for row in rows:
        called = columns.get(row["called"], len(CLASSES))
        counts[columns[row["label"]], called] += 1
    return counts


def figures(counts: np.ndarray) -> dict[str, float]:
    """Accuracy, that of found cells, mean and weighted F1 of a confusion table.

    A class without a label counts in neither mean.
    """
    n = len(CLASSES)
    right, labelled = np.diag(counts[:, :n]), counts.sum(axis=1)
    f1 = class_f1(counts)
    some = labelled > 0
    return {
        "accuracy": right.sum() / max(labelled.sum(), 1),
        "accuracy of found cells": right.sum() / max(counts[:, : n + 1].sum(), 1),
        "mean F1": float(f1[some].mean()) if some.any() else float("nan"),
        "weighted F1": float((f1 * labelled).sum() / max(labelled.sum(), 1)),
    }


def class_f1(counts: np.ndarray) -> np.ndarray:
    """(12,) F1 of each class, 0 for a class that is neither labelled nor called."""
    n = len(CLASSES)
    called = counts[:, :n].sum(axis=0)
    return 2 * np.diag(counts[:, :n]) / np.maximum(called + counts.sum(axis=1), 1)


def intervals(rows: Rows, *, draws: int = 1000, seed: int = 1) -> dict[str, tuple[float, float]]:
    """The limits of each figure in 90 of 100 bootstraps over blocks."""
    blocks = sorted({row["block"] for row in rows})
    tables = np.array([confusion([r for r in rows if r["block"] == b]) for b in blocks])
    n = len(blocks)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
    many = [figures(np.tensordot(one, tables, axes=1)) for one in drawn]
    return {
        name: tuple(np.quantile([one[name] for one in many], [0.05, 0.95]).tolist())
        for name in many[0]
    }


def report(name: str, rows: Rows) -> list[str]:
    """Figures with intervals, accuracy of each block, F1 of each class, and the confusion table."""
    counts = confusion(rows)
    limits = intervals(rows)
    lines = [f"{name}: {len(rows)} points of {len({r['field'] for r in rows})} fields"]
    lines += [
        f"  {key} {value:.3f} ({limits[key][0]:.3f} to {limits[key][1]:.3f})"
        for key, value in figures(counts).items()
    ]
    for block in sorted({r["block"] for r in rows}, key=lambda b: int(b.partition("-")[0])):
        part = [r for r in rows if r["block"] == block]
        lines.append(f"  block {block}: {len(part)}, {figures(confusion(part))['accuracy']:.3f}")
    short = [one[:6] for one in (*CLASSES, "other", "missed")]
    lines += ["", f"| label | F1 | {' | '.join(short)} |", "|---" * (len(short) + 2) + "|"]
    for label, f1, row in zip(CLASSES, class_f1(counts), counts, strict=True):
        lines.append(f"| {label} | {f1:.2f} | {' | '.join(map(str, row))} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Judge the baseline or a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of features and rows")
    parser.add_argument("--model", type=Path, help="a model folder with the classes of Chula")
    parser.add_argument("--baseline", action="store_true", help="judge the random forest")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.baseline:
        _finish(
            "baseline", forest(*(_kept(args.out, split) for split in ("train", "val"))), args.out
        )
    if args.model:
        from spherodetect import load_model

        model = load_model(args.model)
        _finish("model", detected(lambda image: model.detect(image, UM_PER_PX)), args.out)


def _kept(out: Path, split: str) -> dict[str, np.ndarray]:
    file = out / f"features-{split}.npz"
    if not file.is_file():
        values = measured(split)
        with atomic_write(file) as opened:
            np.savez_compressed(opened, **values)
    return dict(np.load(file, allow_pickle=False))


def _finish(name: str, rows: Rows, out: Path) -> None:
    with atomic_write(out / f"{name}.csv", text=True) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(report(name, rows)))


if __name__ == "__main__":
    main()
