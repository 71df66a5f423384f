"""Counts of one patient's cells -> `PatientScore`: the HS score, its interval, grade and status.

Counts come as arrays with one entry a field. Percentages are 0 to 100, probabilities 0 to 1.
Imports no image code.

The estimand is the fraction of spherocytes among the countable red cells of the patient. The border
cuts small cells a little less often, which is not corrected. Where spherocytes are 34 and other
cells 39 pixels wide (6.5 and 7.5 µm) in fields of 640x480, 5, 20 and 50 % count as 5.1, 20.3 and
50.5 %, a tenth of the half-width of any interval from 1,000 cells; if each cell found in Chula
RBC-12 were weighted by its chance to be whole, 11.4 % would become 11.2 %, and no run of 20 fields
lose more than 0.4 points. In fields of 65 by 49 µm (Dataset A) 5, 20 and 50 % count as 5.3, 20.9
and 51.5 %, and its patients' 10 to 22 % would lose 0.5 to 1.4 points, less than half the half-width
of their intervals.

The method is one fixed formula on a table of constants (`ClassifierRates.table`), elementary enough
to be repeated in a TensorFlow graph:

1. p = sum of spherocytes / sum of countable cells: the ratio estimator, never the mean of the
fields' percentages.
2. hs_score = (p + Sp - 1) / (Se + Sp - 1), clipped to 0..1, with the mean Se and Sp of the table:
   the adjusted count of
   Rogan and Gladen (1978, doi 10.1093/oxfordjournals.aje.a112510).
3. The design effect d of J fields (Rao and Scott 1992, doi 10.2307/2532311) turns n cells into n /
   d effective ones:
   d = max(1, (2 d0 + (J - 1) d1) / (J + 1)), where d1 is the variance of the ratio estimator over that of n independent
   cells, and d0 = 1 + (m - 1) 0.05 a default for m cells a field that weighs as much as two fields, so that five quiet
   fields do not feign certainty. Below five fields, d = d0.
4. The fraction q of cells that the classifier calls spherocytes, given p, has the density
   (1 + D(q) / nu)^(-(nu + 1) / 2) / sqrt(q (1 - q)), where D is the binomial deviance of n / d cells and nu = J + 1. It
   is Jeffreys' posterior with the scale integrated out: t instead of z on the scale of the signed root deviance.
5. Row i of the table holds a sensitivity and a specificity that a new slide may have, and a
   probability u_i. With q_i
   the u_i quantile of step 4, the draws (q_i + Sp_i - 1) / (Se_i + Sp_i - 1), clipped to 0..1, carry the sampling of
   cells, the spread between fields and the spread between slides together, as an interval for a corrected prevalence
   must (Lang and Reiczigel 2014, doi 10.1016/j.prevetmed.2013.09.015). Limits and probabilities are quantiles and
   shares of these draws; the lower limit is 0 for a patient at or below the limit of blank.

`benchmarks/coverage.py` prints how often the interval holds the truth of simulated patients, at 5 %
of spherocytes and above in 5 fields and more 95 to 97 %, and `benchmarks/pseudo_patients.py` how
often that of labelled fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import special

from spherodetect.score.grades import GradeScheme, load_grade_scheme
from spherodetect.score.rates import ClassifierRates, checked_counts, labels_table

FIXED_SENTENCE = (
    "Spherocytes are not specific to any disorder; this report does not interpret them."
)
RESEARCH_USE = "For Research Use Only. Not for use in diagnostic procedures."

_CALLERS_STATUSES = ("out_of_domain", "field_quality")
_UNGRADED = (*_CALLERS_STATUSES, "insufficient_cells")
#: In the order in which they are asked for; the first that holds is the patient's.
STATUSES = (*_UNGRADED, "at_or_below_limit_of_blank", "low_confidence", "ok")

MIN_COUNTABLE, MIN_FIELDS = 200, 3
CONFIDENT_COUNTABLE, CONFIDENT_FIELDS, CONFIDENT_WIDTH_POINTS = 1000, 10, 10.0

DEFAULT_FIELD_ICC = 0.05  # a design effect of 2.7 at 35 cells a field, 6 at 100
MIN_FIELDS_FOR_ESTIMATE = 5
PRIOR_FIELDS = 2  # fields that the default counts for beside the estimate
MIN_YOUDEN = 0.1  # mean Se + Sp - 1 below which a correction would only magnify noise

BLANK_ROWS = 1024
ANGLE_STEPS = 4096
_RIGHT_ANGLE = math.pi / 2
_NAMES = ("spherocytes", "countable")


class HasRates(Protocol):
    """What `load_model` returns, as far as the score knows it."""

    @property
    def rates(self) -> ClassifierRates:
        """Sensitivity and specificity a held-out block."""


@dataclass(frozen=True)
class PatientScore:
    """One patient's row of patients.csv; a measurement, not a diagnosis.

    hs_score, its 95 % limits and raw_percent: percent of the countable red cells, nan without any.
    p_above_*: probability that the patient's true percentage is above 5 or 20. grade: empty where
    the status forbids one. n_fields: fields that were counted; n_fields_rejected come on top.
    n_cells: all detected cells. version: of spherodetect.
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

    def __str__(self) -> str:
        fields = (
            f"{self.n_fields} field{'s' * (self.n_fields != 1)} ({self.n_fields_rejected} rejected)"
        )
        head = f"{self.patient_id or 'patient'}: {self.status}"
        if not self.n_countable:
            return f"{head}, no countable cells in {fields}; {self.model}"
        grade = f", grade {self.grade} ({self.grade_scheme})" if self.grade else ""
        return (
            f"{head}, {self.hs_score:.1f} % spherocytes (95 % interval {self.hs_score_low:.1f} to "
            f"{self.hs_score_high:.1f}){grade}; {self.n_spherocytes} of {self.n_countable} countable cells, "
            f"{self.raw_percent:.1f} %, in {fields}; {self.model}"
        )


def score_counts(
    spherocytes: Any,
    countable: Any,
    *,
    model: ClassifierRates | HasRates | None = None,
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
        model: the classifier's rates, or the model that has them; without it the counts are human
            labels and stay uncorrected.
        n_cells: all detected cells; by default the countable ones.
        n_fields_rejected: fields that were left out.
        grade_scheme: a scheme, its name, or the file of a laboratory's own.
        status_hint: "out_of_domain" or "field_quality" where the caller found so; no countable
            field and at least one rejected means field_quality by itself.

    Raises:
        ValueError: counts that are negative, not whole, of different lengths, or more spherocytes
            than cells.
        SpherodetectError: an unknown or unreadable grade scheme.

    >>> score = score_counts([9, 12, 10] * 4, [90] * 12, patient_id="p1")
    >>> print(score)  # doctest: +NORMALIZE_WHITESPACE
    p1: ok, 11.5 % spherocytes (95 % interval 9.5 to 13.7), grade 2+ (icsh2015); 124 of 1080 countable cells, 11.5 %,
    in 12 fields (0 rejected); labels
    """
    spherocytes, countable = checked_counts(spherocytes, countable, names=_NAMES, unit="field")
    scheme = (
        grade_scheme if isinstance(grade_scheme, GradeScheme) else load_grade_scheme(grade_scheme)
    )
    rates = _rates_of(model)
    n, called = int(countable.sum()), int(spherocytes.sum())
    n_cells = n if n_cells is None else n_cells
    if n_cells < n or n_fields_rejected < 0:
        raise ValueError(
            f"expected n_cells >= {n} and n_fields_rejected >= 0, got {n_cells} and {n_fields_rejected}"
        )
    if status_hint not in (None, "", *_CALLERS_STATUSES):
        raise ValueError(
            f"expected status_hint {' or '.join(_CALLERS_STATUSES)}, got {status_hint!r:.60}"
        )
    if not status_hint and n_fields_rejected and not len(countable):
        status_hint = "field_quality"
    summary = _summarise(spherocytes, countable)
    score = low = high = above_5 = above_20 = math.nan
    percent, blank = np.empty(0), False
    if n:
        table = labels_table() if rates is None else rates.table
        blank = _is_blank(called, n, table)
        score, low, high, percent = _corrected(summary, table)
        low = 0.0 if blank else low
        above_5, above_20 = (float(np.mean(percent > limit)) for limit in (5.0, 20.0))
    status = _status(status_hint, n, summary.n_fields, blank=blank, width=high - low)
    return PatientScore(
        patient_id=patient_id,
        status=status,
        hs_score=score,
        hs_score_low=low,
        hs_score_high=high,
        raw_percent=100.0 * summary.share,
        grade="" if status in _UNGRADED else scheme.grade(percent),
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
    )


def _rates_of(model: ClassifierRates | HasRates | None) -> ClassifierRates | None:
    return model if model is None or isinstance(model, ClassifierRates) else model.rates


@dataclass(frozen=True)
class _Summary:
    """What the fields say: the share called, cells, fields with cells, and the design effect's two
    sources."""

    share: float
    n: float
    n_fields: int
    default_effect: float
    estimated_effect: float

    def more(self, k: int) -> _Summary:
        """The same patient with k more fields like these."""
        grown = self.n_fields + k
        return _Summary(
            self.share,
            self.n * grown / self.n_fields,
            grown,
            self.default_effect,
            self.estimated_effect,
        )

    @property
    def design_effect(self) -> float:
        """How many cells count as one, at least 1; below five fields the default correlation
        alone."""
        if self.n_fields < MIN_FIELDS_FOR_ESTIMATE:
            return self.default_effect
        told = PRIOR_FIELDS * self.default_effect + (self.n_fields - 1) * self.estimated_effect
        return max(1.0, told / (PRIOR_FIELDS + self.n_fields - 1))


def _summarise(spherocytes: np.ndarray, countable: np.ndarray) -> _Summary:
    """The ratio estimate and the fields' design effect; fields without cells say nothing."""
    order = np.lexsort(
        (spherocytes, countable)
    )  # sums in one order, so that the fields' order changes no digit
    order = order[countable[order] > 0]
    s, m = spherocytes[order], countable[order]
    if not len(m):
        return _Summary(math.nan, 0.0, 0, 1.0, 1.0)
    n, n_fields = m.sum(), len(m)
    p = s.sum() / n
    default = 1.0 + (np.sum(m * m) / n - 1.0) * DEFAULT_FIELD_ICC
    estimated = default
    if n_fields >= MIN_FIELDS_FOR_ESTIMATE:
        # Rao-Scott: variance of the ratio estimator over that of as many independent cells; all or
        # none called tells 1.
        residual = n_fields / (n_fields - 1) * np.sum((s - p * m) ** 2)
        estimated = residual / (n * p * (1 - p)) if 0 < p < 1 else 1.0
    return _Summary(float(p), float(n), n_fields, float(default), float(estimated))


def _corrected(summary: _Summary, table: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """hs_score, its two limits, and the draws they come from, all in percent."""
    p, sensitivity, false_rate = summary.share, table[:, 0].mean(), 1 - table[:, 1].mean()
    # A classifier that is hardly better than chance corrects nothing: the raw share, with an
    # interval that says so.
    useful = sensitivity - false_rate >= MIN_YOUDEN
    score = 100.0 * (np.clip((p - false_rate) / (sensitivity - false_rate), 0, 1) if useful else p)
    effective, dof = summary.n / summary.design_effect, summary.n_fields - 1 + PRIOR_FIELDS
    percent = (
        100.0 * corrected_draws(np.array([p]), np.array([effective]), np.array([dof]), table)[0]
    )
    low, high = np.quantile(percent, (0.025, 0.975))
    return float(score), float(min(low, score)), float(max(high, score)), percent


def corrected_draws(
    share: np.ndarray,
    n_effective: np.ndarray,
    dof: np.ndarray,
    table: np.ndarray,
    *,
    steps: int = ANGLE_STEPS,
) -> np.ndarray:
    """Draws of the true fraction for many patients at once: steps 4 and 5 of the module's text.

    Args:
        share: (B,) called share p.
        n_effective: (B,) cells over the design effect.
        dof: (B,) degrees of freedom of the t.
        table: (M, 3) sensitivity, specificity, probability.
        steps: points of the grid in angle = arcsin(sqrt(q)), where Jeffreys' prior is flat.

    Returns:
        (B, M) fractions 0 to 1, in the order of the table's rows.
    """
    p, n, nu = (np.asarray(value, float)[:, None] for value in (share, n_effective, dof))
    angle = np.linspace(0.0, _RIGHT_ANGLE, steps)
    q = np.clip(np.sin(angle) ** 2, 1e-300, 1 - 1e-16)
    entropy = special.xlogy(p, p) + special.xlogy(1 - p, 1 - p)
    deviance = np.maximum(2 * n * (entropy - p * np.log(q) - (1 - p) * np.log1p(-q)), 0)
    density = np.exp(-(nu + 1) / 2 * np.log1p(deviance / nu))
    below = np.cumsum(density[:, 1:] + density[:, :-1], axis=1)
    below = np.concatenate([np.zeros_like(p), below / below[:, -1:]], axis=1)
    # One interpolation for all patients: patient b's distribution lies between b and b + 1.
    row = np.arange(len(p))[:, None]
    at = np.interp((table[:, 2] + row).ravel(), (below + row).ravel(), np.tile(angle, len(p)))
    called = np.sin(at.reshape(len(p), -1)) ** 2
    false_rate = 1 - table[:, 1]
    youden = np.maximum(
        table[:, 0] - false_rate, 1e-3
    )  # no better than chance: as likely all as none
    return np.clip((called - false_rate) / youden, 0, 1)


def _is_blank(called: int, n: int, table: np.ndarray) -> bool:
    """Whether `called` of n cells are within the 95th percentile of what a slide without
    spherocytes gives.

    There the count X is binomial with a specificity drawn between slides, a beta-binomial mixture.
    P(X < called) is the regularised incomplete beta function I_Sp(n - called + 1, called), averaged
    over the table's first rows.
    """
    if not called:
        return True
    return float(np.mean(special.betainc(n - called + 1, called, table[:BLANK_ROWS, 1]))) < 0.95


def limit_of_blank(n_countable: int, *, model: ClassifierRates | HasRates | None = None) -> float:
    """The 95th percentile of raw_percent where no cell is a spherocyte, for this many countable
    cells, in percent.

    A proxy: it rests on the specificity between the validation's slides, for no healthy controls
        are public. Without a
    model it is 0; nan without cells.
    """
    if not n_countable:
        return math.nan
    rates = _rates_of(model)
    table = labels_table() if rates is None else rates.table
    low, high = 0, int(n_countable)
    while low < high:  # the largest count that is still blank
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _is_blank(middle, n_countable, table) else (low, middle - 1)
    return 100.0 * low / n_countable


def _status(hint: str | None, n: int, n_fields: int, *, blank: bool, width: float) -> str:
    """The first status in the order of STATUSES that holds; fields are those with countable
    cells."""
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
    """How many more fields like these would give 1,000 cells, 10 fields and an interval of 10
    points.

    0 where they are there already; None where even `at_most` more would not do, because the spread
    of the classifier between slides alone is wider.
    """
    spherocytes, countable = checked_counts(spherocytes, countable, names=_NAMES, unit="field")
    summary = _summarise(spherocytes, countable)
    if not summary.n_fields:
        return CONFIDENT_FIELDS
    rates = _rates_of(model)
    table = labels_table() if rates is None else rates.table

    def narrow(k: int) -> bool:
        _, low, high, _ = _corrected(summary.more(k), table)
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
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if narrow(middle) else (middle + 1, high)
    return low


@cache
def _version() -> str:
    """The installed version; a source tree that was never installed has none."""
    try:
        return metadata.version("spherodetect")
    except metadata.PackageNotFoundError:
        return "0+unknown"
