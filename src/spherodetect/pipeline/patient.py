"""The score of one patient from its examined fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spherodetect import corrections as _corrections
from spherodetect.cells import UNSEEN
from spherodetect.corrections import Correction
from spherodetect.detect.model import Model
from spherodetect.examined import Examined
from spherodetect.measure import relative_to_patient
from spherodetect.score.counts import PatientScore, score_counts
from spherodetect.score.grades import GradeScheme
from spherodetect.score.rates import ClassifierRates, HasRates


def score_patient(
    examined: Iterable[Examined],
    rates: ClassifierRates | HasRates | None = None,
    *,
    patient_id: str | None = None,
    grade_scheme: str | Path | GradeScheme = "icsh2015",
    corrections: Mapping[str, Sequence[Correction]] | None = None,
) -> PatientScore:
    """The HS score of one patient.

    Args:
        examined: the patient's fields; those that failed quality control or could not be read are
            counted as rejected.
        rates: sensitivity and specificity of the detector, or a loaded model that has them;
            without them the score is not corrected.
        patient_id: the name in the result; by default that of the first field.
        grade_scheme: a scheme, its name, or the file of a laboratory's own.
        corrections: field_id to what a person changed in that field.

    Raises:
        SpherodetectError: an unknown grade scheme, or a correction of a cell that does not exist.

    >>> from spherodetect import examine, load_model
    >>> model = load_model()  # doctest: +SKIP
    >>> print(score_patient(examine("smears/p1", model), model))  # doctest: +SKIP
    """
    fields = [corrected(one, (corrections or {}).get(one.field_id, ())) for one in examined]
    readable = [one for one in fields if not one.problem]
    accepted = [one for one in readable if one.quality.accepted]
    convention = convention_of(accepted)
    # Rates of a laboratory of its own replace the conventions of a model.
    hint = "unseen_stain" if convention == UNSEEN and isinstance(rates, Model) else None
    if not accepted and readable:
        domain = all(one.quality.reason.startswith("out of domain") for one in readable)
        hint = "out_of_domain" if domain else "field_quality"
    spherocytes, countable = field_counts(readable)
    return score_counts(
        spherocytes,
        countable,
        model=convention_rates(rates, convention),
        healthy=healthy_rates(rates, convention),
        patient_id=(fields[0].patient_id if fields else "") if patient_id is None else patient_id,
        n_cells=sum(int(one.accepted.sum()) for one in accepted),
        grade_scheme=grade_scheme,
        status_hint=hint,
        n_fields_rejected=sum(one.n_fields for one in fields) - len(countable),
    )


def convention_of(accepted: Sequence[Examined]) -> str:
    """The convention that judged most countable cells of the accepted fields, or "" without one."""
    cells: dict[str, int] = {}
    for one in accepted:
        name = one.cells.convention
        cells[name] = cells.get(name, 0) + int(one.cells.countable.sum())
    return max(cells, key=lambda name: cells[name], default="")


def convention_rates(
    rates: ClassifierRates | HasRates | None, convention: str
) -> ClassifierRates | HasRates | None:
    """The rates of a convention if the model has conventions; otherwise the rates as they are."""
    return rates.rates_of(convention) if convention and isinstance(rates, Model) else rates


def healthy_rates(
    rates: ClassifierRates | HasRates | None, convention: str
) -> ClassifierRates | None:
    """What a model calls spherocytes in healthy blood of a convention's stain, if it is known."""
    return rates.healthy_rates_of(convention) if isinstance(rates, Model) else None


def corrected(one: Examined, changes: Sequence[Correction]) -> Examined:
    """The field with a person's corrections made.

    Raises:
        SpherodetectError: a correction of a cell that the field does not have.
    """
    return replace(one, cells=_corrections.apply(one.cells, changes)) if changes else one


def relative(fields: Sequence[Examined]) -> list[Examined]:
    """The fields of one patient, with sizes and densities relative to the patient's red cells.

    The reference is taken from the fields that passed quality control, or from all if none did.
    """
    readable = [one for one in fields if not one.problem]
    reference = [one for one in readable if one.quality.accepted] or readable
    related = relative_to_patient([one.cells for one in reference]) if reference else []
    by_field = {cells.field_id: cells for cells in related}
    return [replace(one, cells=by_field.get(one.field_id, one.cells)) for one in fields]


def field_counts(fields: Sequence[Examined]) -> tuple[list[int], list[int]]:
    """The counted spherocytes and the countable cells of every field that passed."""
    counts = np.concatenate([np.zeros((0, 2), int), *(field.counts for field in fields)])
    return counts[:, 0].tolist(), counts[:, 1].tolist()


__all__ = [
    "convention_of",
    "convention_rates",
    "corrected",
    "field_counts",
    "healthy_rates",
    "relative",
    "score_patient",
]
