"""How good is a model folder on labelled fields, as a user would run it: whole files in, its own scale and thresholds.

Labels may be partial: what carries no label is neither right nor wrong. A missed cell is a miss, a second detection of
a matched cell is a false positive, a detection of a class that the label denies is one too.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.detect import Model, load_model
from spherodetect.errors import SpherodetectError
from spherodetect.matching import match_points
from spherodetect.safety import atomic_write, quoted, write_json
from spherodetect.training.calibrate import average_precision, expected_calibration_error


@dataclass(frozen=True)
class Evaluation:
    """What was measured; printed, it is a short table.

    Attributes:
        n_fields, n_labels, n_spherocytes: fields with labels, labelled red cells, and labelled spherocytes among them.
        recall: labelled red cells that have a detection.
        precision, sensitivity, f1: of the class spherocyte; a missed cell counts as missed, a double one against.
        specificity: of the labelled other red cells that were found.
        average_precision: of p_spherocyte; missed spherocytes count.
        brier, ece: of p_spherocyte on found cells.
        duplicates: second detections of a matched cell, as a share of all detections.
        white_or_platelet_called: labelled white cells and platelets, and how many of them were called spherocytes.
        blocks: figures a block of fields.
    """

    model: str
    n_fields: int
    n_labels: int
    n_spherocytes: int
    recall: float
    precision: float
    sensitivity: float
    f1: float
    specificity: float
    average_precision: float
    brier: float
    ece: float
    duplicates: float
    white_or_platelet_called: tuple[int, int]
    blocks: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        figures = {k: v for k, v in asdict(self).items() if isinstance(v, float)}
        called, total = self.white_or_platelet_called
        lines = [
            f"{self.model}: {self.n_labels} labelled red cells, {self.n_spherocytes} spherocytes, "
            f"in {self.n_fields} fields"
        ]
        lines += [f"  {name.replace('_', ' '):18s}{value:.3f}" for name, value in figures.items()]
        lines.append(f"  white cells and platelets called spherocyte: {called} of {total}")
        lines += [
            f"  block {b['block']:>10}: recall {b['recall']:.3f}, f1 {b['f1']:.3f} "
            f"({b['n_spherocytes']} of {b['n_labels']})"
            for b in self.blocks
        ]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class _Labelled:
    """A field's image and its labelled cells: points (M, 2), class names, the annotator's names."""

    field: str
    patient: str
    image: np.ndarray
    points_yx: np.ndarray
    classes: np.ndarray
    fine: np.ndarray
    um_per_px: float | None


def evaluate(
    model: Path, data: Path, *, split: str = "val", out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:  # fmt: skip
    """Run a model over one split of a recipe's images, or of a folder of records; writes evaluation.json and cells.csv.

    Raises:
        SpherodetectError: no such split, no fields, or an unusable model.
    """
    loaded = load_model(model)
    fields = list(_from_recipe(data, split) if data.suffix in (".yaml", ".yml") else _from_records(data, split))
    rows: list[dict[str, Any]] = []
    n_detections = n_duplicates = 0
    for number, labelled in enumerate(fields, 1):
        found, duplicates, detections = _field_rows(loaded, labelled)
        rows += found
        n_duplicates += duplicates
        n_detections += detections
        progress(number, len(fields))
    if not rows:
        raise SpherodetectError(f"{quoted(data)}: expected labelled cells in split {split!r}, got none")
    result = _summary(loaded.name, len(fields), rows, n_duplicates / max(n_detections, 1))
    write_json(_jsonable(asdict(result)), out / "evaluation.json")
    with atomic_write(out / "labelled_cells.csv", text=True) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return result


def _jsonable(value: Any) -> Any:
    """JSON has no NaN: what could not be measured is null."""
    if isinstance(value, Mapping):
        return {key: _jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _field_rows(model: Model, labelled: _Labelled) -> tuple[list[dict[str, Any]], int, int]:
    from spherodetect.training.export import block_of

    cells = model.detect(labelled.image, field_id=labelled.field)
    matching = match_points(cells, labelled.points_yx)
    names = cells.names
    rows = []
    for k, detection in enumerate(matching.detection):
        hit = detection >= 0
        rows.append(
            {
                "field": labelled.field,
                "block": block_of(labelled.field, labelled.patient),
                "label": labelled.classes[k],
                "fine": labelled.fine[k],
                "found": int(hit),
                "called": names[detection] if hit else "",
                "p_spherocyte": round(float(cells.p_spherocyte[detection]), 5) if hit else 0.0,
                "countable": int(cells.countable[detection]) if hit else 0,
            }
        )
    spurious = matching.duplicate & (names == "spherocyte")
    for detection in np.flatnonzero(spurious):
        rows.append(
            {
                "field": labelled.field, "block": block_of(labelled.field, labelled.patient), "label": "duplicate",
                "fine": "", "found": 1, "called": "spherocyte",
                "p_spherocyte": round(float(cells.p_spherocyte[detection]), 5),
                "countable": int(cells.countable[detection]),
            }
        )  # fmt: skip
    return rows, int(matching.duplicate.sum()), len(cells)


def _summary(name: str, n_fields: int, rows: list[dict[str, Any]], duplicates: float) -> Evaluation:
    red = [r for r in rows if r["label"] in ("rbc", "spherocyte", "duplicate")]
    # A red cell of unknown kind can be found or missed, and nothing more.
    labels = [r for r in rows if r["label"] in ("rbc", "spherocyte", "red cell")]
    others = [r for r in rows if r["label"] in ("wbc", "platelet")]
    found = [r for r in labels if r["found"]]
    kinds = [r for r in found if r["label"] != "red cell"]
    p = np.array([r["p_spherocyte"] for r in kinds])
    truth = np.array([r["label"] == "spherocyte" for r in kinds], bool)
    p_all = np.array([r["p_spherocyte"] for r in red])
    truth_all = np.array([r["label"] == "spherocyte" for r in red], bool)
    figures = _figures(red)
    negatives = [r for r in found if r["label"] == "rbc"]
    by_block: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in red:
        by_block[r["block"]].append(r)
    return Evaluation(
        model=name,
        n_fields=n_fields,
        n_labels=len(labels),
        n_spherocytes=int(truth_all.sum()),
        recall=len(found) / max(len(labels), 1),
        specificity=sum(r["called"] != "spherocyte" for r in negatives) / max(len(negatives), 1),
        average_precision=average_precision(p_all, truth_all),
        brier=float(np.mean((p - truth) ** 2)) if len(p) else float("nan"),
        ece=expected_calibration_error(p, truth),
        duplicates=duplicates,
        white_or_platelet_called=(sum(r["called"] == "spherocyte" for r in others), len(others)),
        blocks=tuple({"block": b, **_figures(by_block[b])} for b in sorted(by_block, key=lambda b: (len(b), b))),
        **{key: figures[key] for key in ("precision", "sensitivity", "f1")},
    )


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [r for r in rows if r["label"] != "duplicate"]
    hits = sum(r["label"] == "spherocyte" and r["called"] == "spherocyte" for r in rows)
    called = sum(r["called"] == "spherocyte" for r in rows)
    true = sum(r["label"] == "spherocyte" for r in rows)
    return {
        "n_labels": len(labels),
        "n_spherocytes": true,
        "recall": sum(r["found"] for r in labels) / max(len(labels), 1),
        "precision": hits / called if called else float("nan"),
        "sensitivity": hits / true if true else float("nan"),
        "f1": 2 * hits / (called + true) if called + true else float("nan"),
    }


def _from_recipe(path: Path, split: str) -> Iterator[_Labelled]:
    from spherodetect.fields import read_image
    from spherodetect.labels.duplicates import near_duplicates
    from spherodetect.labels.recipe import load_recipe
    from spherodetect.labels.source import read_labels
    from spherodetect.labels.splits import assign_splits, spare_copies
    from spherodetect.tfrecords import unstretch

    recipe = load_recipe(path)
    labels = read_labels(recipe)
    groups = near_duplicates({f.file: f.path for f in labels.fields if f.path is not None})
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)
    spare = spare_copies(labels.fields, splits)
    for labelled in labels.fields:
        if splits[labelled.file] != split or labelled.file in spare:
            continue
        if labelled.path is None or not labelled.annotations:
            continue
        image, field, _ = unstretch(read_image(labelled.path, name=labelled.file), labelled)
        points, classes, fine = [], [], []
        for annotation in field.annotations:
            meaning = recipe.meaning(annotation.name)
            point, box = annotation.point_yx, annotation.outline_box_yxyx
            if point is None:
                assert box is not None, "an annotation without a point has an outline"
                point = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            points.append(point)
            classes.append(meaning.class_name or ("red cell" if meaning.red_cell else ""))
            fine.append(meaning.fine_name)
        yield _Labelled(
            field.file, field.patient_id or "", image, np.array(points), np.array(classes, object),
            np.array(fine, object), field.um_per_px,
        )  # fmt: skip


def _from_records(folder: Path, split: str) -> Iterator[_Labelled]:
    from spherodetect.safety import read_json
    from spherodetect.tfrecords import read_examples

    manifest = read_json(folder / "manifest.json", max_bytes=200_000_000)
    names = ("", *manifest["class_names"])
    shards = sorted(p for p in folder.glob(f"{manifest['name']}-{split}-*.tfrecord"))
    if not shards:
        raise SpherodetectError(
            f"{quoted(folder)}: expected records of split {split!r}, got none; known: {', '.join(manifest['splits'])}"
        )
    for example in read_examples(shards):
        known = np.array([bool(name) for name in example["name"]], bool)
        center = (example["box_yxyx"][:, :2] + example["box_yxyx"][:, 2:]) / 2
        points = np.where(example["point_yx"] >= 0, example["point_yx"], center)
        yield _Labelled(
            example["field"], example["patient"], example["image"], points[known],
            np.array([names[k] for k in example["class_id"]], object)[known],
            np.array(example["name"], object)[known], None,
        )  # fmt: skip
