"""Judges the detections of one field by its labels: one row for each label and each false positive.

Labels may be partial. A detection without a label counts neither as right nor as wrong, except in
fully labelled fields, where it is an extra, a false positive. A second detection of a matched cell
is a false positive, and so is a detection with another class than its label. A label without a
detection is a missed cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells, touches_border
from spherodetect.detect.matching import Matching, match_points
from spherodetect.evaluation.truth import RED_CELL, Labelled
from spherodetect.labels.splits import block_of

_MISSED = {"found": 0, "called": "", "p_spherocyte": 0.0, "confidence": 0.0, "countable": 0}


@dataclass
class Judged:
    """The judged fields so far.

    Attributes:
        rows: labelled cells and duplicates, see rows.py.
        extras: detections without a label, in fully labelled fields.
        fields: counts of each field.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    extras: list[dict[str, Any]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)

    def add(self, labelled: Labelled, cells: Cells) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Judge a field; returns its rows and the detection of each, -1 for a missed cell."""
        matching = match_points(cells, labelled.points_yx)
        rows = label_rows(labelled, cells, matching)
        place = _place(labelled)
        whole = ~touches_border(cells.box_yxyx, cells.image_size_hw)
        extra = _extras(labelled, cells, matching) & whole
        twice = np.flatnonzero(matching.duplicate & (cells.names == "spherocyte"))
        self.rows += rows
        self.rows += [
            place | {"label": "duplicate", "fine": "", **_call(cells, k)} for k in twice.tolist()
        ]
        self.extras += [
            place | {"label": "", "fine": "", **_call(cells, k)}
            for k in np.flatnonzero(extra).tolist()
        ]
        self.fields.append(
            {
                **place,
                "n_labels": len(rows),
                "n_detections": len(cells),
                "n_whole": int(whole.sum()),
                "n_duplicates": int(matching.duplicate.sum()),
                "n_cells_seen": labelled.n_cells,
                "n_unlabelled": labelled.n_unlabelled,
                "fully_labelled": labelled.full,
                "n_extras": int(extra.sum()),
            }
        )
        return rows, matching.detection


def label_rows(labelled: Labelled, cells: Cells, matching: Matching) -> list[dict[str, Any]]:
    """The row of each label of a field, see rows.py."""
    return [
        {
            **_place(labelled),
            "label": two_class(labelled.classes[k]),
            "fine": labelled.fine[k],
            **(_call(cells, detection) if detection >= 0 else _MISSED),
            "x_px": round(float(labelled.points_yx[k, 1]), 1),
            "y_px": round(float(labelled.points_yx[k, 0]), 1),
        }
        for k, detection in enumerate(matching.detection.tolist())
    ]


def two_class(name: str) -> str:
    """The class of a label, where every other red cell is `rbc`; `fine` keeps the finer name."""
    return "rbc" if name in RED_CELLS - {"spherocyte"} else name


def _extras(labelled: Labelled, cells: Cells, matching: Matching) -> np.ndarray:
    """(N,) bool, detections without a label that are false positives."""
    if not labelled.full or not len(labelled.classes):
        return np.zeros(len(cells), bool)
    # If a kind of cell was not labelled at all, its detections are not counted.
    kinds = {_kind(name) for name in labelled.classes}
    extra = ~matching.duplicate & np.array([_kind(name) in kinds for name in cells.names], bool)
    extra[matching.detection[matching.found]] = False
    return extra


def _kind(name: str) -> str:
    return RED_CELL if name in RED_CELLS else name


def _place(labelled: Labelled) -> dict[str, Any]:
    return {
        "field": labelled.field,
        "block": block_of(labelled.field, labelled.patient),
        "patient": labelled.patient,
    }


def _call(cells: Cells, k: int) -> dict[str, Any]:
    """The columns of a detection."""
    ymin, xmin, ymax, xmax = cells.box_yxyx[k].astype(float)
    return {
        "found": 1,
        "called": str(cells.names[k]),
        "p_spherocyte": round(float(cells.p_spherocyte[k]), 5),
        "confidence": round(float(cells.confidence[k]), 5),
        "countable": int(cells.countable[k]),
        "x_px": round((xmin + xmax) / 2, 1),
        "y_px": round((ymin + ymax) / 2, 1),
    }
