"""The score of one patient from its examined fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.report.scored_field import ReportField
from spherodetect.score.counts import PatientScore, score_counts

if TYPE_CHECKING:
    from spherodetect.detect.model import Model
from typing import Any

from spherodetect.cells import Cells


def relative(seen: Sequence[ReportField]) -> list[ReportField]:
    """Sizes and densities relative to the patient's own red cells, in the fields that count."""
    from spherodetect.measure import relative_to_patient

    by_field: dict[str, Cells] = {}
    for fields in by_patient(seen).values():
        good = [s for s in fields if s.quality.accepted] or fields
        by_field |= {c.field_id: c for c in relative_to_patient([s.cells for s in good])}
    return [replace(s, cells=by_field.get(s.field_id, s.cells)) for s in seen]


def by_patient(seen: Sequence[ReportField]) -> dict[str, list[ReportField]]:
    patients: dict[str, list[ReportField]] = {}
    for one in seen:
        patients.setdefault(one.patient_id, []).append(one)
    return patients


def score_fields(
    patient: str, fields: Sequence[ReportField], model: Model, scheme: Any, *, n_unread: int
) -> PatientScore:
    good = [s for s in fields if s.quality.accepted]
    hint = None
    if not good:
        domain = all(s.quality.reason.startswith("out of domain") for s in fields)
        hint = "out_of_domain" if domain else "field_quality"
    spherocytes, countable = field_counts(fields)
    return score_counts(
        spherocytes,
        countable,
        model=model.rates,
        patient_id=patient,
        n_cells=sum(int(s.accepted.sum()) for s in good),
        grade_scheme=scheme,
        status_hint=hint,
        n_fields_rejected=sum(s.n_fields for s in fields) - len(countable) + n_unread,
    )


def field_counts(fields: Sequence[ReportField]) -> tuple[list[int], list[int]]:
    """Counted spherocytes and countable cells of every field that passed."""
    counts = np.concatenate([np.zeros((0, 2), int), *(field.counts for field in fields)])
    return counts[:, 0].tolist(), counts[:, 1].tolist()
