"""Counts of one patient's cells -> `PatientScore`: the HS score, its interval, grade and status.

Counts are arrays with one entry a field. Percentages are 0 to 100, probabilities 0 to 1. This
module imports no image code. `interval.py` explains the estimate and its interval.

The estimand is the fraction of spherocytes among the countable red cells of the patient. The border
of a field cuts small cells a little less often than large ones, so spherocytes are slightly
overcounted. This bias is not corrected, because it is small. Where spherocytes are 34 and other
cells 39 pixels wide (6.5 and 7.5 µm) in fields of 640x480, true percentages of 5, 20 and 50 %
become 5.1, 20.3 and 50.5 %: a tenth of the half-width of any interval from 1,000 cells. If each
cell found in Chula RBC-12 were weighted by its probability to be whole, 11.4 % would become 11.2 %,
and no run of 20 fields would lose more than 0.4 points. In fields of 65 by 49 µm (Dataset A) 5, 20
and 50 % become 5.3, 20.9 and 51.5 %, and its patients' 10 to 22 % would lose 0.5 to 1.4 points,
less than half the half-width of their intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.score.blank import is_blank
from spherodetect.score.grades import GradeScheme, load_grade_scheme
from spherodetect.score.interval import corrected_percent, summarise
from spherodetect.score.rates import (
    ClassifierRates,
    HasRates,
    checked_counts,
    rates_of,
    rates_table,
)

FIXED_SENTENCE = (
    "Spherocytes are not specific to any disorder; this report does not interpret them."
)
RESEARCH_USE = "For Research Use Only. Not for use in diagnostic procedures."

HINTS = ("out_of_domain", "field_quality", "unseen_stain")
UNGRADED = (*HINTS, "uncalibrated", "insufficient_cells", "at_or_below_limit_of_blank")
#: The statuses in the order in which they are checked. The first that applies is the patient's.
STATUSES = (*UNGRADED, "low_confidence", "ok")

MIN_COUNTABLE, MIN_FIELDS = 200, 3
CONFIDENT_COUNTABLE, CONFIDENT_FIELDS, CONFIDENT_WIDTH_POINTS = 1000, 10, 10.0

_NAMES = ("spherocytes", "countable")


@dataclass(frozen=True)
class PatientScore:
    """The score of one patient, a row of patients.csv. It is a measurement, not a diagnosis.

    Attributes:
        patient_id: the patient.
        status: one of STATUSES.
        hs_score, hs_score_low, hs_score_high: corrected percentage of spherocytes among the
            countable red cells, and its 95 % limits; NaN without cells. If the rates of the model
            are unknown, hs_score is raw_percent and the limits are NaN. On an unseen stain it is
            raw_percent too, and the interval begins at 0.
        raw_percent: percentage of spherocytes as counted; NaN without cells.
        grade: the grade, or empty where the status allows none.
        grade_scheme: name of the scheme.
        p_above_5_percent, p_above_20_percent: probability that the true percentage is above 5 or
            20; NaN where the limits are, and on an unseen stain.
        n_fields: number of fields that were counted; n_fields_rejected are not among them.
        n_fields_rejected: number of fields that failed quality control.
        n_cells: number of all detected cells.
        n_countable: number of countable red cells.
        n_spherocytes: number of those that were called spherocytes.
        model: name of the model, or "labels".
        version: version of spherodetect.
        basis: "model", "reviewed" or "labels": what hs_score, its limits, grade and status rest on.
        n_reviewed: number of cells that people named for the review, also those that they
            excluded.
        n_reviewed_spherocytes: number of those that were named spherocytes.
        model_score, model_score_low, model_score_high: the percentage and limits by the model
            alone; NaN for labels.
    """

    patient_id: str
    status: str
    hs_score: float
    hs_score_low: float
    hs_score_high: float
    raw_percent: float
    grade: str
    grade_scheme: str
    p_above_5_percent: float
    p_above_20_percent: float
    n_fields: int
    n_fields_rejected: int
    n_cells: int
    n_countable: int
    n_spherocytes: int
    model: str
    version: str
    basis: str = "model"
    n_reviewed: int = 0
    n_reviewed_spherocytes: int = 0
    model_score: float = math.nan
    model_score_low: float = math.nan
    model_score_high: float = math.nan

    def __str__(self) -> str:
        fields = (
            f"{self.n_fields} field{'s' * (self.n_fields != 1)} ({self.n_fields_rejected} rejected)"
        )
        head = f"{self.patient_id or 'patient'}: {self.status}"
        if not self.n_countable:
            return f"{head}, no countable cells in {fields}; {self.model}"
        grade = f", grade {self.grade} ({self.grade_scheme})" if self.grade else ""
        reviewed = ""
        if self.basis == "reviewed":
            reviewed = f", {self.n_reviewed_spherocytes} of {self.n_reviewed} reviewed cells"
        return (
            f"{head}, {self.hs_score:.1f} % spherocytes "
            f"({interval_words(self.hs_score_low, self.hs_score_high)}){grade}{reviewed}; "
            f"{self.n_spherocytes} of {self.n_countable} countable cells, "
            f"{self.raw_percent:.1f} %, in {fields}; {self.model}"
        )


def interval_words(low: float, high: float) -> str:
    """The limits of an interval in percent as text.

    >>> interval_words(9.5, 13.7), interval_words(math.nan, math.nan)
    ('95 % interval 9.5 to 13.7', 'no interval')
    """
    return "no interval" if math.isnan(low) else f"95 % interval {low:.1f} to {high:.1f}"


def score_counts(
    spherocytes: Any,
    countable: Any,
    *,
    model: ClassifierRates | HasRates | None = None,
    healthy: ClassifierRates | None = None,
    patient_id: str = "",
    n_cells: int | None = None,
    n_fields_rejected: int = 0,
    grade_scheme: str | Path | GradeScheme = "icsh2015",
    status_hint: str | None = None,
) -> PatientScore:
    """The HS score of one patient from the counts of the fields that passed quality control.

    Args:
        spherocytes: (J,) countable cells called spherocytes in each field.
        countable: (J,) countable red cells in each field.
        model: the classifier's rates, or a model that has them. Without it the counts are human
            labels, and nothing is corrected. With rates that are unknown nothing is corrected
            either, and the score has no limits and no grade.
        healthy: what is called in healthy blood of the same stain, for the limit of blank. Without
            it the specificity of `model` stands in.
        patient_id: the patient.
        n_cells: number of all detected cells; by default the number of countable ones.
        n_fields_rejected: number of fields that failed quality control.
        grade_scheme: a scheme, the name of one, or the file of a laboratory's own scheme.
        status_hint: "out_of_domain", "field_quality" or "unseen_stain", if the caller found that.
            Without it the status is field_quality if all fields were rejected.

    Raises:
        ValueError: counts are negative, not whole, or of different lengths, or a field has more
            spherocytes than countable cells; or an option is invalid.
        SpherodetectError: the grade scheme is unknown or cannot be read.

    >>> score = score_counts([9, 12, 10] * 4, [90] * 12, patient_id="p1")
    >>> print(score)  # doctest: +NORMALIZE_WHITESPACE
    p1: ok, 11.5 % spherocytes (95 % interval 9.5 to 13.7), grade 2+ (icsh2015);
    124 of 1080 countable cells, 11.5 %, in 12 fields (0 rejected); labels
    """
    spherocytes, countable = checked_counts(spherocytes, countable, names=_NAMES, unit="field")
    scheme = (
        grade_scheme if isinstance(grade_scheme, GradeScheme) else load_grade_scheme(grade_scheme)
    )
    rates = rates_of(model)
    calibrated = rates is None or rates.known
    n, called = int(countable.sum()), int(spherocytes.sum())
    n_cells = n if n_cells is None else n_cells
    if n_cells < n or n_fields_rejected < 0:
        raise ValueError(
            f"expected n_cells >= {n} and n_fields_rejected >= 0, "
            f"got {n_cells} and {n_fields_rejected}"
        )
    if status_hint not in (None, "", *HINTS):
        raise ValueError(f"expected status_hint {' or '.join(HINTS)}, got {status_hint!r:.60}")
    if not status_hint and n_fields_rejected and not len(countable):
        status_hint = "field_quality"
    summary = summarise(spherocytes, countable)
    score = low = high = above_5 = above_20 = math.nan
    percent, blank = np.empty(0), False
    if n and not calibrated:
        score = 100.0 * summary.share
    elif n:
        table = rates_table(rates)
        blank = is_blank(called, n, table if healthy is None else rates_table(healthy))
        score, low, high, percent = corrected_percent(summary, table)
        # At or below the limit of blank the slide may have no spherocyte at all.
        low = 0.0 if blank else low
        if status_hint == "unseen_stain":
            # Rates of other laboratories correct no film of this one, and nothing excludes 0.
            score, low = 100.0 * summary.share, 0.0
            high = max(high, score)
        else:
            above_5, above_20 = (float(np.mean(percent > limit)) for limit in (5.0, 20.0))
    hint = status_hint or ("" if calibrated else "uncalibrated")
    status = _status(hint, n, summary.n_fields, blank=blank, width=high - low)
    return PatientScore(
        patient_id=patient_id,
        status=status,
        hs_score=score,
        hs_score_low=low,
        hs_score_high=high,
        raw_percent=100.0 * summary.share,
        grade="" if status in UNGRADED else scheme.grade(percent),
        grade_scheme=scheme.name,
        p_above_5_percent=above_5,
        p_above_20_percent=above_20,
        n_fields=len(countable),
        n_fields_rejected=int(n_fields_rejected),
        n_cells=int(n_cells),
        n_countable=n,
        n_spherocytes=called,
        model="labels" if rates is None else rates.name,
        version=_version(),
        basis="labels" if rates is None else "model",
        model_score=math.nan if rates is None else score,
        model_score_low=math.nan if rates is None else low,
        model_score_high=math.nan if rates is None else high,
    )


def _status(hint: str, n: int, n_fields: int, *, blank: bool, width: float) -> str:
    """The first status, in the order of STATUSES, that applies."""
    if hint:
        return hint
    if n < MIN_COUNTABLE or n_fields < MIN_FIELDS:
        return "insufficient_cells"
    if blank:
        return "at_or_below_limit_of_blank"
    if n < CONFIDENT_COUNTABLE or n_fields < CONFIDENT_FIELDS or width > CONFIDENT_WIDTH_POINTS:
        return "low_confidence"
    return "ok"


def more_fields_needed(
    spherocytes: Any,
    countable: Any,
    *,
    model: ClassifierRates | HasRates | None = None,
    at_most: int = 200,
) -> int | None:
    """The number of further fields for 1,000 cells, 10 fields and an interval of 10 points.

    The further fields are assumed to be like the present ones.

    Args:
        spherocytes: as in `score_counts`.
        countable: as in `score_counts`.
        model: as in `score_counts`.
        at_most: limit of the number of further fields.

    Returns:
        0 if nothing is missing; None if even `at_most` fields would not suffice, because the spread
        of the classifier's rates between slides alone gives a wider interval, or because the rates
        are unknown.
    """
    spherocytes, countable = checked_counts(spherocytes, countable, names=_NAMES, unit="field")
    summary = summarise(spherocytes, countable)
    if not summary.n_fields:
        return CONFIDENT_FIELDS
    table = rates_table(model)

    def narrow(k: int) -> bool:
        _, low, high, _ = corrected_percent(summary.with_more_fields(k), table)
        return high - low <= CONFIDENT_WIDTH_POINTS

    cells_a_field = summary.n / summary.n_fields
    low = max(
        0,
        CONFIDENT_FIELDS - summary.n_fields,
        math.ceil((CONFIDENT_COUNTABLE - summary.n) / cells_a_field),
    )
    high = max(low, at_most)
    if not narrow(high):
        return None
    # Bisection for the smallest number that suffices: more fields give a narrower interval.
    while low < high:
        middle = (low + high) // 2
        if narrow(middle):
            high = middle
        else:
            low = middle + 1
    return low


@cache
def _version() -> str:
    """The installed version; a source tree that was not installed has none."""
    try:
        return metadata.version("spherodetect")
    except metadata.PackageNotFoundError:
        return "0+unknown"


__all__ = [
    "CONFIDENT_COUNTABLE",
    "CONFIDENT_FIELDS",
    "CONFIDENT_WIDTH_POINTS",
    "FIXED_SENTENCE",
    "HINTS",
    "MIN_COUNTABLE",
    "MIN_FIELDS",
    "RESEARCH_USE",
    "STATUSES",
    "UNGRADED",
    "PatientScore",
    "interval_words",
    "more_fields_needed",
    "score_counts",
]
