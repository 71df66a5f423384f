"""The patients of a project: their scores by the model and by reviews, and what was done.

A score is computed by the worker, from the fields that the model examined, and kept; a review
changes it at once. Percentages are 0 to 100.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from spherodetect.app.methods.mask_rcnn import examined
from spherodetect.app.project import Project
from spherodetect.app.reviews import patient_review_of, reviews_of
from spherodetect.app.store.database import Database, now
from spherodetect.app.store.edits import settled
from spherodetect.app.store.fields import all_fields
from spherodetect.detect.detector import error_rates_of, name_of
from spherodetect.detect.model import Model
from spherodetect.fields.names import natural_key
from spherodetect.pipeline.patient import relative, score_patient
from spherodetect.report.status_text import status_words
from spherodetect.score.counts import PatientScore
from spherodetect.score.grades import load_grade_scheme
from spherodetect.score.patient_review import reviewed_patient

SCHEME = "icsh2015"


def score_by_model(project: Project, patient: str) -> PatientScore | None:
    """Compute and keep the score of a patient from the fields that the model examined.

    Fields that the model did not examine yet are left out; None without any.
    """
    fields = [f for f in all_fields(project.base, patient) if f.model_run_id is not None]
    if not fields:
        return None
    detector = project.detector()
    rates = detector if isinstance(detector, Model) else error_rates_of(detector)
    read = [dataclasses.replace(examined(project, f), photograph=None) for f in fields]
    if all(one.problem for one in read):
        return None
    score = score_patient(relative(read), rates, patient_id=patient, grade_scheme=SCHEME)
    if rates is None:
        score = score.called_by(name_of(detector))
    with project.base.writing():
        project.base.execute(
            "INSERT OR REPLACE INTO patient_score VALUES (?, ?, ?)",
            (patient, now(), json.dumps(_to_json(score))),
        )
        project.base.changed("fields")
    return score


def model_score(base: Database, patient: str) -> PatientScore | None:
    """The kept score of a patient by the model, or None."""
    row = base.row("SELECT score FROM patient_score WHERE patient = ?", (patient,))
    if row is None:
        return None
    values: dict[str, Any] = {
        name: math.nan if value is None else value
        for name, value in json.loads(row["score"]).items()
    }
    return PatientScore(**values)


def score_of(base: Database, patient: str) -> PatientScore | None:
    """The score of a patient, by its review where there is one; None before any detection."""
    score = model_score(base, patient)
    review = patient_review_of(base, patient)
    if score is None or review is None:
        return score
    fields = [f for f in all_fields(base, patient) if f.accepted]
    return reviewed_patient(score, review, scheme=load_grade_scheme(SCHEME), n_fields=len(fields))


def patient_rows(base: Database) -> list[dict[str, Any]]:
    """One row a patient, for the page of patients."""
    fields = all_fields(base)
    objects = _per_field(
        base, "SELECT field_id, count(*) AS n FROM object WHERE visible = 1 GROUP BY field_id"
    )
    labelled = _per_field(
        base,
        "SELECT field_id, count(DISTINCT o.id) AS n FROM object o JOIN current_label c "
        "ON c.object_id = o.id WHERE o.visible = 1 GROUP BY field_id",
    )
    queued = queued_per_field(base)
    rows = []
    for patient in sorted({f.patient for f in fields}, key=natural_key):
        own = [f for f in fields if f.patient == patient]
        score = score_of(base, patient)
        rows.append(
            {
                "patient": patient,
                **_shown(score),
                "n_fields": len(own),
                "n_fields_rejected": sum(f.accepted is False for f in own),
                "n_segmented": sum(f.run_id is not None for f in own),
                "n_objects": sum(objects.get(f.id, 0) for f in own),
                "n_labelled": sum(labelled.get(f.id, 0) for f in own),
                "n_queued": sum(queued.get(f.id, 0) for f in own),
                "reviews": [review.id for review in reviews_of(base, patient)],
            }
        )
    return rows


def queued_per_field(base: Database) -> dict[int, int]:
    """Field id to its open entries of the queue."""
    done = settled(base)
    counts: dict[int, int] = {}
    for row in base.rows("SELECT id, field_id FROM queue WHERE settled_by_run IS NULL"):
        if row["id"] not in done:
            counts[row["field_id"]] = counts.get(row["field_id"], 0) + 1
    return counts


def finite(value: float | None) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _shown(score: PatientScore | None) -> dict[str, Any]:
    names = ("hs_score", "hs_score_low", "hs_score_high")
    counts = ("n_countable", "n_spherocytes", "n_reviewed")
    if score is None:
        return {
            "status": None,
            "status_text": "not examined by the model yet",
            "basis": None,
            **dict.fromkeys((*names, "grade"), None),
            **dict.fromkeys(counts, 0),
        }
    return {
        "status": score.status,
        "status_text": status_words(score),
        "basis": score.basis,
        "grade": score.grade,
        **{name: finite(getattr(score, name)) for name in names},
        **{name: getattr(score, name) for name in counts},
    }


def _per_field(base: Database, sql: str, values: Sequence[Any] = ()) -> dict[int, int]:
    return {row["field_id"]: row["n"] for row in base.rows(sql, values)}


def _to_json(score: PatientScore) -> dict[str, Any]:
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(score).items()
    }


__all__ = [
    "SCHEME",
    "finite",
    "model_score",
    "patient_rows",
    "queued_per_field",
    "score_by_model",
    "score_of",
]
