"""Evaluates a model folder on labelled fields, with its own scale and thresholds.

The results are evaluation.json (every figure), evaluation.html (the same as a page),
labelled_cells.csv (a row for each label, see judge.py) and extra_cells.csv (a row for each false
positive without a label).
"""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect import __version__
from spherodetect.detect.matching import match_points
from spherodetect.detect.model import Model, load_model
from spherodetect.errors import SpherodetectError
from spherodetect.evaluation import metrics, shares
from spherodetect.evaluation.ap import ApJudge
from spherodetect.evaluation.bootstrap import intervals
from spherodetect.evaluation.calibrated import calibration_words
from spherodetect.evaluation.judge import Judged, label_rows
from spherodetect.evaluation.leaks import NOT_KNOWN, TRAINED_ON, check_held_out
from spherodetect.evaluation.result import Evaluation
from spherodetect.evaluation.robustness import changes, subset
from spherodetect.evaluation.rows import figures, grouped, known_cells, spread
from spherodetect.evaluation.truth import Truth, open_truth
from spherodetect.evaluation.worst import KINDS, Gallery
from spherodetect.safety import atomic_write, csv_cell, quoted, write_json

Progress = Callable[..., None]

#: Columns of labelled_cells.csv and extra_cells.csv.
_COLUMNS = (
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
#: Diameter of a red cell where no cell was found, in pixels.
_DEFAULT_DIAMETER_PX = 40.0


def evaluate(
    model: str | Path | Model,
    data: str | Path,
    *,
    split: str = "val",
    out: str | Path,
    force: bool = False,
    robustness: int = 0,
    progress: Progress = lambda done, total, label="": None,
) -> Evaluation:
    """Evaluate a model on one split of a recipe's images, or of a folder of records.

    Args:
        model: a model folder, or a loaded model.
        data: a recipe, or a folder of records.
        split: train, val or test.
        out: folder of the results.
        force: evaluate even if the model was trained on these fields; the page then says so.
        robustness: fields on which blur, tint, scale and JPEG are tried as well; 0 for none.
        progress: called with the number of fields done and in total, and what is being done.

    Raises:
        SpherodetectError: no such split, no fields, an unusable model, or one that was trained on
            these fields.
    """
    _require_libraries()
    from spherodetect.evaluation.page import write_evaluation_page

    loaded = model if isinstance(model, Model) else load_model(model)
    data, out = Path(data), Path(out)
    truth = open_truth(data, split, progress=progress)
    held_out = check_held_out(truth, loaded.card.provenance)
    if held_out.status == TRAINED_ON and not force:
        raise SpherodetectError(
            f"{quoted(data)}: expected fields that were held out from training, got a leak: "
            f"{held_out.reason}; evaluate on another split, evaluate a model that held these out, "
            "or say --force"
        )
    judged = Judged()
    gallery = Gallery()
    ap = ApJudge(truth, loaded.class_names)
    for number, labelled in enumerate(truth.read(None), 1):
        cells = loaded.detect(labelled.image, labelled.um_per_px, field_id=labelled.field)
        rows, detection = judged.add(labelled, cells)
        gallery.offer(labelled.image, cells, rows, detection)
        ap.add(labelled, cells)
        progress(number, truth.n_fields, labelled.field)
    if not judged.rows:
        raise SpherodetectError(
            f"{quoted(data)}: expected labelled cells in split {split!r}, got none; name another "
            "with --split"
        )
    details = {
        **_details(judged, loaded, truth),
        "coco": ap.result(),
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
            "held_out": held_out.status,
            "calibrated_on_it": held_out.calibrated,
            "calibration": calibration_words(loaded.card),
        },
    }
    warning = held_out.reason if held_out.status in (TRAINED_ON, NOT_KNOWN) else ""
    result = _summary(loaded.name, judged, warning, details)
    _write_table(judged.rows, out / "labelled_cells.csv")
    _write_table(judged.extras, out / "extra_cells.csv")
    summary = asdict(result)
    write_json(_without_nan(summary | summary.pop("details")), out / "evaluation.json")
    write_evaluation_page(out / "evaluation.html", result, judged.rows, gallery)
    return result


def _require_libraries() -> None:
    needed = ("matplotlib", "pycocotools")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise SpherodetectError(
            f"evaluate needs {' and '.join(missing)}; pip install 'spherodetect[evaluate]'"
        )


def _summary(name: str, judged: Judged, warning: str, details: Mapping[str, Any]) -> Evaluation:
    rows, fields = judged.rows, judged.fields
    p, truth = known_cells(rows)
    red = [r for r in rows if r["label"] in ("rbc", "spherocyte", "duplicate")]
    score = np.array([r["p_spherocyte"] for r in red])
    positive = np.array([r["label"] == "spherocyte" for r in red], bool)
    others = [r for r in rows if r["label"] in ("wbc", "platelet")]
    full = [f for f in fields if f["fully_labelled"]]
    n_duplicates = sum(f["n_duplicates"] for f in fields)
    n_detections = sum(f["n_detections"] for f in fields)
    ap = metrics.average_precision(score, positive) if positive.any() else math.nan
    return Evaluation(
        model=name,
        n_fields=len(fields),
        average_precision=ap,
        brier=float(np.mean((p - truth) ** 2)) if len(p) else math.nan,
        ece=metrics.expected_calibration_error(p, truth) if len(p) else math.nan,
        duplicates=n_duplicates / max(n_detections, 1),
        white_or_platelet_called=(sum(r["called"] == "spherocyte" for r in others), len(others)),
        blocks=tuple({"block": b} | figures(part) for b, part in grouped(rows, "block").items()),
        extras=(len(full), sum(f["n_whole"] for f in full), len(judged.extras)),
        warning=warning,
        details=details,
        **figures(rows),
    )


def _details(judged: Judged, model: Model, truth: Truth) -> dict[str, Any]:
    """The figures beyond the summary."""
    rows = judged.rows
    names = model.class_names
    unit = "patient" if truth.patients else "block"
    return {
        "intervals": intervals(rows),
        "confusion": metrics.confusion(rows, judged.extras, names),
        "confusion_fine": metrics.confusion(rows, judged.extras, names, key="fine"),
        "reliability": metrics.reliability(*known_cells(rows)),
        "agreement": shares.agreement(rows),
        "within_field": shares.within_field(rows),
        "spread": {key: spread(rows, key) for key in ("block", "field")},
        "leave_one_out": {"unit": unit, "groups": shares.leave_one_out(rows, key=unit)},
        "threshold": model.card.thresholds.p_spherocyte,
        "fields": judged.fields,
    }


def _robustness(
    model: Model, truth: Truth, judged: Judged, n: int, progress: Progress
) -> dict[str, Any]:
    """The figures under each change of the image, on up to n fields.

    The fields have both spherocytes and other red cells.
    """
    suitable = [
        name
        for name, part in grouped(judged.rows, "field").items()
        if {"rbc", "spherocyte"} <= {r["label"] for r in part}
    ]
    chosen = subset(suitable, n)
    all_changes = list(changes())
    rows: list[list[dict[str, Any]]] = [[] for _ in all_changes]
    for number, labelled in enumerate(truth.read(frozenset(chosen)), 1):
        diameter = _DEFAULT_DIAMETER_PX
        for k, change in enumerate(all_changes):
            um_per_px = labelled.um_per_px and labelled.um_per_px / change.factor
            image = change.apply(labelled.image, diameter)
            cells = model.detect(image, um_per_px, field_id=labelled.field)
            if k == 0:
                # The first change is none: its cells give the diameter for the others.
                diameter = cells.rbc_diameter_px or diameter
            matching = match_points(cells, labelled.points_yx * change.factor)
            rows[k] += label_rows(labelled, cells, matching)
        progress(number, len(chosen), "robustness")
    names = ("recall", "sensitivity", "specificity", "f1")
    return {
        "fields": chosen,
        "n_suitable": len(suitable),
        "changes": [
            {"kind": c.kind, "strength": c.strength} | {k: figures(part)[k] for k in names}
            for c, part in zip(all_changes, rows, strict=True)
        ],
    }


def _write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with atomic_write(path, text=True) as file:
        writer = csv.DictWriter(file, fieldnames=_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: csv_cell(row.get(key, "")) for key in _COLUMNS} for row in rows)


def _without_nan(value: Any) -> Any:
    """The value with null for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["evaluate"]
