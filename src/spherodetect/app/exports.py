"""What leaves the project: COCO, tables, a recipe for training, and the reports with corrections.

Files are made a field at a time. Text of other people that a spreadsheet would execute is
neutralised.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from spherodetect.app.project import Project
from spherodetect.app.selection import Seen, seen_objects, statistics
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import FieldRow, all_fields
from spherodetect.app.store.labels import Label, active_set, labels_of
from spherodetect.app.store.objects import objects_in
from spherodetect.measure import MEASUREMENTS
from spherodetect.rle import run_lengths
from spherodetect.safety import csv_cell, safe_name
from spherodetect.vocabulary import CLASS_NAMES, NO_CELL, canonical_name

HUMAN, MODEL, CLASSIFIER = "human", "model", "classifier"
_CELL_COLUMNS = (
    "patient_id", "field_id", "object_id", "label", "labelled_by", "reviewer", "model_class",
    "p_spherocyte", "ymin_px", "xmin_px", "ymax_px", "xmax_px",
)  # fmt: skip
_FIGURES = ("name", "n", "percent", "n_human", "diameter_mean", "diameter_sd", "diameter_median",
            "area_mean")  # fmt: skip


@dataclass(frozen=True)
class _Labelled:
    """The label of an object, and who gave it."""

    label: Label
    by: str
    reviewer: str


def coco_pieces(base: Database, *, human_only: bool = False) -> Iterator[str]:
    """A COCO data set of the labelled objects as pieces of JSON text, a field each.

    Annotations have `labelled_by` and, of a person's label, `reviewer`. Objects without any label
    are left out.
    """
    labels = labels_of(base, active_set(base))
    number = {label.id: k for k, label in enumerate(labels, 1)}
    fields = all_fields(base)
    head = {
        "info": {"description": "spherodetect app"},
        "categories": [
            {"id": number[label.id], "name": label.name, "supercategory": label.meaning}
            for label in labels
        ],
        "images": [
            {
                "id": field.id,
                "file_name": field.name,
                "height": field.size_hw[0],
                "width": field.size_hw[1],
                "patient_id": field.patient,
            }
            for field in fields
        ],
    }
    yield json.dumps(head)[:-1] + ', "annotations": ['
    comma = ""
    for field in fields:
        for annotation in _annotations(base, field, number, labels, human_only):
            yield comma + json.dumps(annotation)
            comma = ",\n"
    yield "]}\n"


def cells_rows(base: Database) -> Iterator[str]:
    """The lines of cells.csv: one object a line."""
    yield _line([*_CELL_COLUMNS, *MEASUREMENTS])
    labels = labels_of(base, active_set(base))
    for field in all_fields(base):
        known = _labels_in(base, field, labels)
        for one in objects_in(base, field.id):
            given = known.get(one.id)
            row = [
                field.patient,
                field.name,
                one.id,
                given.label.name if given else "",
                given.by if given else "",
                given.reviewer if given else "",
                one.class_name or "",
                "" if one.p_spherocyte is None else one.p_spherocyte,
                *one.box_yxyx,
                *(one.measurements.get(name, "") for name in MEASUREMENTS),
            ]
            yield _line(row)


def statistics_rows(base: Database) -> Iterator[str]:
    """The lines of statistics.csv: by label, field and patient."""
    labels = {label.id: label.name for label in labels_of(base, active_set(base))}
    seen = seen_objects(base)
    yield _line(["by", "unit", *_FIGURES])
    for by in ("label", "field", "patient"):
        found = statistics(seen, labels, by)
        for row in found["rows"]:
            values = (row[name] for name in _FIGURES)
            yield _line([by, found["unit"], *("" if v is None else v for v in values)])


def recipe_zip(project: Project) -> bytes:
    """A zip with the labels of people as COCO, and a recipe for `spherodetect tfrecords`.

    Unpacked into the project's folder, its file names lead to the photographs. A patient is the
    first folder of a path, and validation is split off by patient.
    """
    base = project.base
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.coco.json", "".join(coco_pieces(base, human_only=True)))
        archive.writestr("recipe.yaml", _recipe(project))
    return data.getvalue()


def _recipe(project: Project) -> str:
    labels = labels_of(project.base, active_set(project.base))
    classes = [label for label in labels if label.meaning == "class"]
    known = {label.name: canonical_name(label.name) for label in classes}
    is_blood = all(name in CLASS_NAMES for name in known.values()) and bool(known)
    mapped = {label.name: known[label.name] if is_blood else label.name for label in classes} | {
        label.name: NO_CELL for label in labels if label.meaning == "ignore" and is_blood
    }
    recipe: dict[str, Any] = {
        "name": safe_name(project.name).replace(" ", "_").strip("~_") or "project",
        "format": "coco",
        "root": ".",
        "labels": "labels.coco.json",
        "classes": {name: meant for name, meant in mapped.items() if meant != NO_CELL},
        "unknown": [label.name for label in labels if label.name not in known],
        "unlabelled_cells": "unknown",
        "patients": "^(?P<patient>[^/]+)/",
        "split": {"by": "patient", "val_fraction": 0.25},
    }
    if not is_blood:
        recipe["class_names"] = [label.name for label in classes]
    head = (
        "# Labels of people in `spherodetect app`. Unpack both files into the project's folder.\n"
    )
    return head + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)


def _annotations(
    base: Database,
    field: FieldRow,
    number: dict[int, int],
    labels: Sequence[Label],
    human_only: bool,
) -> Iterator[dict[str, Any]]:
    known = _labels_in(base, field, labels)
    for one in objects_in(base, field.id):
        given = known.get(one.id)
        if given is None or (human_only and given.by != HUMAN):
            continue
        ymin, xmin, ymax, xmax = one.box_yxyx
        mask = one.outline().mask
        packed = run_lengths(mask, origin_yx=(ymin, xmin), size_hw=field.size_hw)
        yield {
            "id": one.id,
            "image_id": field.id,
            "category_id": number[given.label.id],
            "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
            "area": int(one.area_px),
            "iscrowd": 0,
            "segmentation": packed.to_coco(),
            "labelled_by": given.by,
            **({"reviewer": given.reviewer} if given.by == HUMAN else {}),
        }


def _labels_in(base: Database, field: FieldRow, labels: Sequence[Label]) -> dict[int, _Labelled]:
    by_id = {label.id: label for label in labels}
    reviewers = {
        row["object_id"]: row["reviewer"]
        for row in base.rows(
            "SELECT c.object_id, s.reviewer FROM current_label c JOIN step s ON s.id = c.step_id "
            "JOIN object o ON o.id = c.object_id WHERE o.field_id = ? AND c.set_id = ?",
            (field.id, active_set(base)),
        )
    }
    found = {}
    for one in seen_objects(base, field_id=field.id):
        label = by_id.get(one.shown or 0)
        if label is not None:
            found[one.id] = _Labelled(label, _source(one), reviewers.get(one.id, ""))
    return found


def _source(one: Seen) -> str:
    if one.human is not None:
        return HUMAN
    return CLASSIFIER if one.classifier is not None else MODEL


def _line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([csv_cell(value) for value in values])
    return text.getvalue()


__all__ = ["cells_rows", "coco_pieces", "recipe_zip", "statistics_rows"]
