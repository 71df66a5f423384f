"""How good is a model folder on labelled fields, as a user would run it: whole files in, its own
scale and thresholds.

Labels may be partial: what carries no label is neither right nor wrong, except in fully labelled
fields, where a detection of nothing is counted as an extra. A missed cell is a miss, a second
detection of a matched cell is a false positive, a detection of a class that the label denies is one
too. What is written: evaluation.json (every figure), evaluation.html (the same to read),
labelled_cells.csv (a row a label) and extra_cells.csv (a row a detection without one that counts).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect import __version__
from spherodetect.cells import RED_CELLS, Cells, touches_border
from spherodetect.detect.matching import Matching, match_points
from spherodetect.detect.model import Model, load_model
from spherodetect.errors import SpherodetectError
from spherodetect.evaluation import metrics
from spherodetect.evaluation.ap import ApJudge
from spherodetect.evaluation.leaks import NOT_KNOWN, TRAINED_ON, check_held_out
from spherodetect.evaluation.metrics import average_precision, expected_calibration_error
from spherodetect.evaluation.result import Evaluation
from spherodetect.evaluation.robustness import changes, subset
from spherodetect.evaluation.truth import Labelled, Truth, open_truth
from spherodetect.evaluation.worst import KINDS, Gallery
from spherodetect.labels.splits import block_of
from spherodetect.safety import atomic_write, csv_cell, quoted, write_json

Progress = Callable[..., None]


@dataclass
class _Judged:
    """What the fields said so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    extras: list[dict[str, Any]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    model: Path,
    data: Path,
    *,
    split: str = "val",
    out: Path,
    force: bool = False,
    robustness: int = 0,
    progress: Progress = lambda done, total, label="": None,
) -> Evaluation:
    """Run a model over one split of a recipe's images, or of a folder of records.

    Args:
        model: a model folder.
        data: a recipe, or a folder of records.
        split: train, val or test.
        out: folder of the results.
        force: measure even if the model was trained on these fields; the page then says so.
        robustness: fields on which blur, tint, scale and JPEG are tried as well; 0 for none.
        progress: called with fields done, in all, and what is being done.

    Raises:
        SpherodetectError: no such split, no fields, an unusable model, or one that was trained on
            these fields.
    """
    from spherodetect.evaluation.page import write_evaluation_page

    loaded = load_model(model)
    truth = open_truth(data, split, progress=progress)
    origin = check_held_out(truth, loaded.card.provenance)
    if origin.status == TRAINED_ON and not force:
        raise SpherodetectError(
            f"{quoted(data)}: expected fields that the model never saw, got a leak: {origin.reason}; "
            "measure on another split, measure a model that held these out, or say --force"
        )
    judged, gallery, judge = _Judged(), Gallery(), ApJudge(truth, loaded.class_names)
    for number, labelled in enumerate(truth.read(None), 1):
        cells = loaded.detect(labelled.image, labelled.um_per_px, field_id=labelled.field)
        rows, detection = _take(judged, labelled, cells)
        gallery.offer(labelled.image, cells, rows, detection)
        judge.add(labelled, cells)
        progress(number, truth.n_fields, labelled.field)
    if not judged.rows:
        raise SpherodetectError(
            f"{quoted(data)}: expected labelled cells in split {split!r}, got none"
        )
    warning = origin.reason if origin.status in (TRAINED_ON, NOT_KNOWN) else ""
    details = {
        **_details(judged, loaded, truth),
        "coco": judge.result(),
        "robustness": _robustness(loaded, truth, judged, robustness, progress)
        if robustness
        else {},
        "worst": {
            kind: [{**error.row, "evidence": error.evidence} for error in gallery.errors[kind]]
            for kind in KINDS
        },
        "provenance": {
            "model": loaded.name,
            "model_sha256": dict(loaded.card.checksums),
            "version": __version__,
            "data": truth.name,
            "split": split,
            "held_out": origin.status,
            "calibrated_on_it": origin.calibrated,
        },
    }
    result = _summary(loaded.name, judged, warning, details)
    _write_table(judged.rows, out / "labelled_cells.csv")
    _write_table(judged.extras, out / "extra_cells.csv")
    summary = asdict(result)
    write_json(_jsonable(summary | summary.pop("details")), out / "evaluation.json")
    write_evaluation_page(out / "evaluation.html", result, judged.rows, gallery)
    return result


def _take(
    judged: _Judged, labelled: Labelled, cells: Cells
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Judge a field; its rows, and the detection behind each."""
    matching = match_points(cells, labelled.points_yx)
    rows = _label_rows(labelled, cells, matching)
    names, spurious = cells.names, matching.duplicate
    where, whole = _where(labelled), ~touches_border(cells.box_yxyx, cells.image_size_hw)
    unlabelled = np.zeros(len(cells), bool)
    if labelled.full and rows:
        # Where a kind of cell was not marked, finding one is no error; nor is finding what the
        # border cuts.
        kinds = {_kind(name) for name in labelled.classes}
        unlabelled = whole & ~spurious
        unlabelled[matching.detection[matching.found]] = False
        unlabelled &= np.array([_kind(name) in kinds for name in names], bool)
    twice = np.flatnonzero(spurious & (names == "spherocyte"))
    doubles = [
        where | {"label": "duplicate", "fine": "", **_call(cells, k)} for k in twice.tolist()
    ]
    judged.rows += rows + doubles
    judged.extras += [
        where | {"label": "", "fine": "", **_call(cells, k)}
        for k in np.flatnonzero(unlabelled).tolist()
    ]
    judged.fields.append(
        {
            **where,
            "n_labels": len(rows),
            "n_detections": len(cells),
            "n_whole": int(whole.sum()),
            "n_duplicates": int(spurious.sum()),
            "n_cells_seen": labelled.n_cells,
            "n_unlabelled": labelled.n_unlabelled,
            "fully_labelled": labelled.full,
            "n_extras": int(unlabelled.sum()),
        }
    )
    return rows, matching.detection


def _where(labelled: Labelled) -> dict[str, str]:
    return {
        "field": labelled.field,
        "block": block_of(labelled.field, labelled.patient),
        "patient": labelled.patient,
    }


def _kind(name: str) -> str:
    return "red cell" if name in RED_CELLS else name


def _side(name: str) -> str:
    """A red cell is a spherocyte or another, whatever classes a model has; `fine` keeps the
    annotator's own name."""
    return "rbc" if name in RED_CELLS - {"spherocyte"} else name


def _label_rows(labelled: Labelled, cells: Cells, matching: Matching) -> list[dict[str, Any]]:
    missed = {"found": 0, "called": "", "p_spherocyte": 0.0, "confidence": 0.0, "countable": 0}
    return [
        {
            **_where(labelled),
            "label": _side(labelled.classes[k]),
            "fine": labelled.fine[k],
            **(_call(cells, detection) if detection >= 0 else missed),
            "x_px": round(float(labelled.points_yx[k, 1]), 1),
            "y_px": round(float(labelled.points_yx[k, 0]), 1),
        }
        for k, detection in enumerate(matching.detection.tolist())
    ]


def _call(cells: Cells, k: int) -> dict[str, Any]:
    """What the model says of a detection."""
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


def _summary(name: str, judged: _Judged, warning: str, details: Mapping[str, Any]) -> Evaluation:
    rows, fields = judged.rows, judged.fields
    figures = metrics.figures(rows)
    p, truth = metrics.known_cells(rows)
    red = [r for r in rows if r["label"] in ("rbc", "spherocyte", "duplicate")]
    score = np.array([r["p_spherocyte"] for r in red])
    positive = np.array([r["label"] == "spherocyte" for r in red], bool)
    others = [r for r in rows if r["label"] in ("wbc", "platelet")]
    full = [f for f in fields if f["fully_labelled"]]
    return Evaluation(
        model=name,
        n_fields=len(fields),
        average_precision=average_precision(score, positive) if positive.any() else math.nan,
        brier=float(np.mean((p - truth) ** 2)) if len(p) else math.nan,
        ece=expected_calibration_error(p, truth) if len(p) else math.nan,
        duplicates=sum(f["n_duplicates"] for f in fields)
        / max(sum(f["n_detections"] for f in fields), 1),
        white_or_platelet_called=(sum(r["called"] == "spherocyte" for r in others), len(others)),
        blocks=tuple(
            {"block": b} | metrics.figures(part)
            for b, part in metrics.grouped(rows, "block").items()
        ),
        extras=(len(full), sum(f["n_whole"] for f in full), len(judged.extras)),
        warning=warning,
        details=details,
        **figures,
    )


def _details(judged: _Judged, model: Model, truth: Truth) -> dict[str, Any]:
    """What the labelled cells say beyond the summary."""
    rows = judged.rows
    p, known = metrics.known_cells(rows)
    unit = "patient" if truth.patients else "block"
    return {
        "intervals": metrics.intervals(rows),
        "confusion": metrics.confusion(rows, judged.extras, model.class_names),
        "confusion_fine": metrics.confusion(rows, judged.extras, model.class_names, key="fine"),
        "reliability": metrics.reliability(p, known),
        "agreement": metrics.agreement(rows),
        "within_field": metrics.within_field(rows),
        "spread": {key: metrics.spread(rows, key) for key in ("block", "field")},
        "leave_one_out": {"unit": unit, "groups": metrics.leave_one_out(rows, key=unit)},
        "threshold": model.card.thresholds.p_spherocyte,
        "fields": judged.fields,
    }


def _robustness(
    model: Model, truth: Truth, judged: _Judged, n: int, progress: Progress
) -> dict[str, Any]:
    """The figures under every change, on a few of the fields that hold both spherocytes and other
    red cells."""
    both = [
        name
        for name, part in metrics.grouped(judged.rows, "field").items()
        if {"rbc", "spherocyte"} <= {r["label"] for r in part}
    ]
    chosen = subset(both, n)
    all_changes = list(changes())
    rows: list[list[dict[str, Any]]] = [[] for _ in all_changes]
    for number, labelled in enumerate(truth.read(frozenset(chosen)), 1):
        diameter = 40.0
        for k, change in enumerate(all_changes):
            um_per_px = labelled.um_per_px and labelled.um_per_px / change.factor
            cells = model.detect(
                change.apply(labelled.image, diameter), um_per_px, field_id=labelled.field
            )
            diameter = (cells.rbc_diameter_px or diameter) if k == 0 else diameter
            matching = match_points(cells, labelled.points_yx * change.factor)
            rows[k] += _label_rows(labelled, cells, matching)
        progress(number, len(chosen), "made worse")
    figures = ("recall", "sensitivity", "specificity", "f1")
    return {
        "fields": chosen,
        "n_suitable": len(both),
        "changes": [
            {"kind": c.kind, "strength": c.strength}
            | {k: metrics.figures(part)[k] for k in figures}
            for c, part in zip(all_changes, rows, strict=True)
        ],
    }


def _write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = (
        "field",
        "block",
        "patient",
        "label",
        "fine",
        "found",
        "called",
        "p_spherocyte",
        "confidence",
        "countable",
        "x_px",
        "y_px",
    )
    with atomic_write(path, text=True) as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: csv_cell(row.get(key, "")) for key in columns} for row in rows)


def _jsonable(value: Any) -> Any:
    """JSON has no NaN: what could not be measured is null."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
