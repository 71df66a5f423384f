"""Bootstraps over fields: intervals of rates, and the paired comparison of two models.

Cells of one field are alike, so fields are drawn, and not cells (Efron 1979). Rates are 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spherodetect.evaluation.rows import Rows, grouped, rates, totals

_DRAWS = 2000
#: The limits of an interval that contains 90 of 100 bootstraps.
_LIMITS = (0.05, 0.95)


def intervals(rows: Rows, *, draws: int = _DRAWS, seed: int = 1) -> dict[str, tuple[float, float]]:
    """The limits of each rate in 90 of 100 bootstraps over fields."""
    fields = [totals(group) for group in grouped(rows, "field").values()]
    per_field = np.array(fields).reshape(-1, 7)
    result = {}
    for name, values in rates(_drawn(len(per_field), draws, seed) @ per_field).items():
        known = values[np.isfinite(values)]
        low, high = np.quantile(known, _LIMITS) if len(known) else (math.nan, math.nan)
        result[name] = (float(low), float(high))
    return result


@dataclass(frozen=True)
class Comparison:
    """The difference of F1 between two models on the same fields.

    Attributes:
        f1_a, f1_b: of the class spherocyte.
        low, high: limits of the difference in 90 of 100 bootstraps.
        n_fields: fields that both judged.
    """

    f1_a: float
    f1_b: float
    low: float
    high: float
    n_fields: int

    @property
    def difference(self) -> float:
        """F1 of a minus F1 of b."""
        return self.f1_a - self.f1_b

    def __str__(self) -> str:
        return (
            f"F1 {self.f1_a:.3f} against {self.f1_b:.3f}: {self.difference:+.3f}, 90 % of "
            f"bootstraps over {self.n_fields} fields between {self.low:+.3f} and {self.high:+.3f}"
        )


def compare(a: Rows, b: Rows, *, draws: int = _DRAWS, seed: int = 1) -> Comparison:
    """Compare two evaluations by F1 of the class spherocyte.

    The bootstrap is paired, over the fields that both judged.

    Args:
        a, b: rows of two evaluations; fields of only one of them are left out.
        draws: bootstraps.
        seed: of the bootstraps.

    Raises:
        ValueError: no field in common, or a field with another number of labelled spherocytes.

    >>> cell = {"field": "1.jpg", "label": "spherocyte", "called": "spherocyte", "found": 1}
    >>> print(compare([cell], [cell | {"called": "rbc"}]))
    F1 1.000 against 0.000: +1.000, 90 % of bootstraps over 1 fields between +1.000 and +1.000
    """
    counts = [
        {field: totals(group) for field, group in grouped(rows, "field").items()} for rows in (a, b)
    ]
    fields = [field for field in counts[0] if field in counts[1]]
    differing = next((f for f in fields if counts[0][f][2] != counts[1][f][2]), None)
    if not fields or differing:
        got = f"other labels in {differing!r}" if differing else "none"
        raise ValueError(
            f"expected fields in common with the same labels, got {got}; evaluate both with the "
            "same recipe"
        )
    drawn = _drawn(len(fields), draws, seed)
    both = [np.array([one[f] for f in fields]) for one in counts]
    f1 = [float(rates(one.sum(axis=0))["f1"]) for one in both]
    many = [np.nan_to_num(rates(drawn @ one)["f1"]) for one in both]
    low, high = np.quantile(many[0] - many[1], _LIMITS)
    return Comparison(f1[0], f1[1], float(low), float(high), len(fields))


def _drawn(n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of n units is drawn, (draws, n); n draws with replacement."""
    if not n:
        return np.zeros((draws, 0))
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
