"""The corrected percentage of spherocytes and its 95 % interval.

Fractions are 0 to 1 here, until `corrected_percent` returns percentages. The method is one fixed
formula on a table of constants (`ClassifierRates.table`). It uses only elementary operations, so
that graph/score_graph.py can repeat it in TensorFlow; a test holds the two to 1e-4.

1. p = sum of spherocytes / sum of countable cells. This is the ratio estimator. The mean of the
   fields' percentages would give a field of 10 cells the weight of a field of 100.
2. hs_score = (p + Sp - 1) / (Se + Sp - 1), clipped to 0..1, with the mean sensitivity Se and the
   mean specificity Sp of the table: the adjusted count of Rogan and Gladen (1978, doi
   10.1093/oxfordjournals.aje.a112510).
3. Cells of one field are more alike than cells of different fields. The design effect d of J fields
   (Rao and Scott 1992, doi 10.2307/2532311) turns n cells into n / d effective cells:
   d = max(1, (2 d0 + (J - 1) d1) / (J + 1)). Here d1 is the variance of the ratio estimator over
   the variance for n independent cells, estimated from the fields. d0 = 1 + (m - 1) 0.05 is a
   default for m cells a field, with an intra-field correlation of 0.05. The default has the weight
   of two fields, because an estimate from five fields may be near 0 by chance. Below five fields
   d = d0.
4. Let q be the fraction of cells that the classifier would call spherocytes on many more fields.
   Given p, the density of q is (1 + D(q) / nu)^(-(nu + 1) / 2) / sqrt(q (1 - q)). D is the binomial
   deviance of n / d cells, and nu = J + 1. This is the posterior with Jeffreys' prior after the
   unknown scale of the variance was integrated out. In other words, the signed root of the deviance
   has a t distribution instead of a normal distribution.
5. Row i of the table holds a sensitivity Se_i and a specificity Sp_i that a new slide may have, and
   a probability u_i. Let q_i be the u_i quantile of step 4. The draws
   (q_i + Sp_i - 1) / (Se_i + Sp_i - 1), clipped to 0..1, combine the sampling of cells, the spread
   between fields and the spread between slides, as an interval of a corrected prevalence must (Lang
   and Reiczigel 2014, doi 10.1016/j.prevetmed.2013.09.015). Limits are quantiles of these draws,
   and probabilities are shares of them.

`benchmarks/coverage.py` measures how often the interval contains the truth of simulated patients:
95 to 97 % at 5 % of spherocytes and more, in 5 fields and more. `benchmarks/pseudo_patients.py`
does so with labelled fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

#: Default correlation of cells within a field: a design effect of 2.7 at 35 cells a field, and of 6
#: at 100.
DEFAULT_FIELD_ICC = 0.05
MIN_FIELDS_FOR_ESTIMATE = 5
#: The number of fields whose weight the default design effect has beside the estimate.
PRIOR_FIELDS = 2
#: Below this mean of Se + Sp - 1 (Youden's index) a correction would mainly magnify noise.
MIN_YOUDEN = 0.1
ANGLE_STEPS = 4096
_RIGHT_ANGLE = math.pi / 2


@dataclass(frozen=True)
class FieldSummary:
    """The sums over the fields of a patient that the score needs.

    Attributes:
        share: fraction of the countable cells that were called spherocytes; NaN without cells.
        n: number of countable cells.
        n_fields: number of fields with countable cells.
        default_effect: design effect d0 of the default correlation.
        estimated_effect: design effect d1 that was estimated from the fields.
    """

    share: float
    n: float
    n_fields: int
    default_effect: float
    estimated_effect: float

    def with_more_fields(self, k: int) -> FieldSummary:
        """The same patient with k more fields of the same kind."""
        n_fields = self.n_fields + k
        return FieldSummary(
            self.share,
            self.n * n_fields / self.n_fields,
            n_fields,
            self.default_effect,
            self.estimated_effect,
        )

    @property
    def design_effect(self) -> float:
        """The number of cells that tell as much as one independent cell does, at least 1."""
        if self.n_fields < MIN_FIELDS_FOR_ESTIMATE:
            return self.default_effect
        # Weighted mean: PRIOR_FIELDS for the default, the degrees of freedom for the estimate.
        total = PRIOR_FIELDS * self.default_effect + (self.n_fields - 1) * self.estimated_effect
        return max(1.0, total / (PRIOR_FIELDS + self.n_fields - 1))


def summarise(spherocytes: np.ndarray, countable: np.ndarray) -> FieldSummary:
    """The ratio estimate of the share and the two design effects.

    Args:
        spherocytes: (J,) float, cells called spherocytes in each field.
        countable: (J,) float, countable cells in each field. Fields without cells are ignored.
    """
    # Floating-point sums depend on the order of their terms. Sorting first makes the result
    # independent of the order of the fields, to the last bit.
    order = np.lexsort((spherocytes, countable))
    order = order[countable[order] > 0]
    s, m = spherocytes[order], countable[order]
    if not len(m):
        return FieldSummary(math.nan, 0.0, 0, 1.0, 1.0)
    n, n_fields = m.sum(), len(m)
    p = s.sum() / n
    # With unequal fields, the mean number of cells a field is weighted by the cells: sum m^2 / n.
    default = 1.0 + (np.sum(m * m) / n - 1.0) * DEFAULT_FIELD_ICC
    estimated = default
    if n_fields >= MIN_FIELDS_FOR_ESTIMATE:
        # Rao and Scott: the variance of the ratio estimator from the residuals s - p m, over the
        # binomial variance n p (1 - p). If no cell or every cell was called, there is no variance
        # to compare, and the fields give no evidence against independence.
        residual = n_fields / (n_fields - 1) * np.sum((s - p * m) ** 2)
        estimated = residual / (n * p * (1 - p)) if 0 < p < 1 else 1.0
    return FieldSummary(float(p), float(n), n_fields, float(default), float(estimated))


def corrected_percent(
    summary: FieldSummary, table: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """hs_score, its lower and upper 95 % limit, and the draws behind them, all in percent.

    Args:
        summary: of the patient's fields, with at least one cell.
        table: (M, 3), see `ClassifierRates.table`.
    """
    p, sensitivity, false_rate = summary.share, table[:, 0].mean(), 1 - table[:, 1].mean()
    # A classifier that is hardly better than chance gives no correction. The score is then the raw
    # share, and the draws, which use the rates in any case, give a very wide interval.
    useful = sensitivity - false_rate >= MIN_YOUDEN
    score = 100.0 * (np.clip((p - false_rate) / (sensitivity - false_rate), 0, 1) if useful else p)
    effective, dof = summary.n / summary.design_effect, summary.n_fields - 1 + PRIOR_FIELDS
    draws = corrected_draws(np.array([p]), np.array([effective]), np.array([dof]), table)
    percent = 100.0 * draws[0]
    low, high = np.quantile(percent, (0.025, 0.975))
    # The score uses the mean rates, so it may lie outside the quantiles of a skewed distribution.
    return float(score), float(min(low, score)), float(max(high, score)), percent


def corrected_draws(
    share: np.ndarray,
    n_effective: np.ndarray,
    dof: np.ndarray,
    table: np.ndarray,
    *,
    steps: int = ANGLE_STEPS,
) -> np.ndarray:
    """Draws of the true fraction of many patients at once: steps 4 and 5 of the module's text.

    Args:
        share: (B,) share p of the cells that were called spherocytes.
        n_effective: (B,) number of cells over the design effect.
        dof: (B,) degrees of freedom of the t distribution.
        table: (M, 3) sensitivity, specificity, probability.
        steps: number of grid points in the angle arcsin(sqrt(q)).

    Returns:
        (B, M) fractions 0 to 1, in the order of the table's rows.
    """
    p, n, nu = (np.asarray(value, float)[:, None] for value in (share, n_effective, dof))
    # In the angle arcsin(sqrt(q)) Jeffreys' prior is constant: the factor 1 / sqrt(q (1 - q)) of
    # the density and the derivative of q cancel. So only the t density remains to be summed.
    angle = np.linspace(0.0, _RIGHT_ANGLE, steps)
    q = np.clip(np.sin(angle) ** 2, 1e-300, 1 - 1e-16)
    entropy = special.xlogy(p, p) + special.xlogy(1 - p, 1 - p)
    deviance = np.maximum(2 * n * (entropy - p * np.log(q) - (1 - p) * np.log1p(-q)), 0)
    density = np.exp(-(nu + 1) / 2 * np.log1p(deviance / nu))
    below = np.cumsum(density[:, 1:] + density[:, :-1], axis=1)
    below = np.concatenate([np.zeros_like(p), below / below[:, -1:]], axis=1)
    # One interpolation serves all patients: b is added to the distribution function of patient b,
    # so that it runs from b to b + 1 and the functions follow one another.
    row = np.arange(len(p))[:, None]
    at = np.interp((table[:, 2] + row).ravel(), (below + row).ravel(), np.tile(angle, len(p)))
    called = np.sin(at.reshape(len(p), -1)) ** 2
    false_rate = 1 - table[:, 1]
    # With a drawn Youden's index of 0 or less, the correction becomes a step: 0 or 1.
    youden = np.maximum(table[:, 0] - false_rate, 1e-3)
    return np.clip((called - false_rate) / youden, 0, 1)
