"""`Summary`: the content of summary.json, progress and drift of a run over many patients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measure:
    """One number of a patient: its name, its words and its unit."""

    name: str
    words: str
    unit: str = ""
    decimals: int = 2


#: A patient's value is the median over the fields; that of doubtful cells their share of all.
MEASURES = (
    Measure("stain", "Stain: median optical density of the red cells", "OD", 3),
    Measure("focus", "Focus: a cell's diameter over the width of its edge", "", 1),
    Measure("cell_size_px", "Size: median diameter of the countable red cells", "px", 1),
    Measure("doubtful_percent", "Doubt: countable cells whose class is in doubt", "%", 1),
)


@dataclass(frozen=True)
class Drift:
    """How a measure changes along the batch.

    Attributes:
        name: the measure.
        median: of all patients.
        first, last: medians of the first and the last fifth of the patients.
        correlation: of the measure with the date or the order, by ranks (Spearman).
        p: probability of so strong a correlation without any drift.
        drifts: whether that is below a hundredth for all measures together.
    """

    name: str
    median: float
    first: float
    last: float
    correlation: float
    p: float
    drifts: bool


@dataclass(frozen=True)
class Differing:
    """A patient who differs from the batch in one measure.

    Attributes:
        patient_id: the patient.
        name: the measure.
        value: of the patient.
        deviations: robust standard deviations from the median of all patients, with sign.
    """

    patient_id: str
    name: str
    value: float
    deviations: float


@dataclass(frozen=True)
class Summary:
    """The content of summary.json.

    Attributes:
        complete: whether the run has ended.
        n_fields, n_finished, n_unreadable, n_rejected: fields of the batch, and of these so far.
        n_patients, n_patients_finished: patients likewise.
        seconds: since the run began.
        fields_per_second: of the last hundred fields.
        seconds_left: at this rate; None if it is not known.
        problems: a line for each file that was left out so far.
        drift: one a measure, where there are eight patients or more.
        differing: who differs, the farthest first.
        patients: each patient's id, date and measures, in the order of `along`; None where nothing
            was measured, and for the date where it is not known or not to be shown.
        along: "date" if drift is looked for along the dates of the photographs, or "order" if it is
            along the order of the run, because not every patient has a date, or all have the same.
    """

    complete: bool
    n_fields: int
    n_finished: int
    n_unreadable: int
    n_rejected: int
    n_patients: int
    n_patients_finished: int
    seconds: float
    fields_per_second: float | None
    seconds_left: float | None
    problems: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    differing: tuple[Differing, ...] = ()
    patients: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    along: str = "order"


__all__ = ["MEASURES", "Differing", "Drift", "Measure", "Summary"]
