"""Counts of a stratified random sample without replacement -> the share and its interval.

Shares are 0 to 1. Strata are the entries of (H,) arrays. Imports no image code.

The interval is a stratified mid-P interval. Fay and Feuer (1997, Stat Med 16:791) make a confidence
interval for a weighted sum of Poisson counts from two gamma distributions, one for each limit. Here
the two are Beta distributions, and their equal mixture is the mid-P version of Fay and Kim (2017,
doi 10.1002/bimj.201600111). Each Beta has the mean and the variance of the stratified estimate
after one stratum was replaced by the Beta of an exact binomial limit. The stratum that is replaced
is the one in which a further cell would move the estimate most.

Notation of the formulas: a stratum has N cells, n of them reviewed, v of these countable and x of
these spherocytes; f = n / N, r = x / v, and W is the stratum's part of the countable cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize, special

#: Levels of the mixture's limits. They leave 4 % outside instead of 5, because a review that stops
#: when its interval is narrow enough stops a little too often on a lucky sample.
LEVELS = (0.02, 0.98)
DRAWS = 8192
_GRID_STEPS = 4096
#: Least concentration of a Beta. A variance asks for less only where there are hardly any cells.
_LEAST_CONCENTRATION = 1e-3
_NAMES = ("n_cells", "n_reviewed", "n_countable", "n_spherocytes")


@dataclass(frozen=True, eq=False)
class Strata:
    """The counts of a review in each stratum, and the estimates that follow from them.

    Attributes:
        n_cells: (H,) N, all cells of the stratum, at least 1.
        n_reviewed: (H,) n, at least 1.
        n_countable: (H,) v, the reviewed cells that are countable.
        n_spherocytes: (H,) x, the spherocytes among these.

    Counts need not be whole: a forecast multiplies them.

    Raises:
        ValueError: different lengths, a stratum without a reviewed cell, or a part above its whole.

    >>> round(Strata([400, 200], [20, 20], [20, 20], [1, 10]).share, 3)
    0.2
    """

    n_cells: Any
    n_reviewed: Any
    n_countable: Any
    n_spherocytes: Any

    def __post_init__(self) -> None:
        counts = [np.asarray(getattr(self, name), float) for name in _NAMES]
        for name, values in zip(_NAMES, counts, strict=True):
            object.__setattr__(self, name, values)
        alike = len({values.shape for values in counts}) == 1
        if not alike or not all(
            np.all(more >= less)
            for more, less in zip(counts, [*counts[1:], np.zeros(counts[0].shape)], strict=True)
        ):
            expected = "cells >= reviewed >= countable >= spherocytes >= 0 in each stratum"
            raise ValueError(f"expected {expected}, got {[c.tolist() for c in counts]}")
        if not np.all(self.n_reviewed > 0):
            raise ValueError(
                f"expected a reviewed cell in each stratum, got {self.n_reviewed.tolist()}; "
                "review more cells"
            )

    @cached_property
    def fraction(self) -> np.ndarray:
        """(H,) f = n / N, the part of each stratum that was reviewed."""
        return self.n_reviewed / self.n_cells

    @cached_property
    def countable(self) -> np.ndarray:
        """(H,) N' = N v / n, the estimated number of countable cells."""
        return self.n_cells * self.n_countable / self.n_reviewed

    @cached_property
    def total(self) -> float:
        """M', the estimated number of countable cells of all strata."""
        return float(self.countable.sum())

    @cached_property
    def weight(self) -> np.ndarray:
        """(H,) W = N' / M'."""
        return self.countable / self.total

    @cached_property
    def rate(self) -> np.ndarray:
        """(H,) r = x / v, 0 in a stratum without a countable cell."""
        return self.n_spherocytes / np.where(self.n_countable > 0, self.n_countable, 1)

    @cached_property
    def share(self) -> float:
        """tau, the estimated share of spherocytes among the countable cells; nan without any."""
        if not self.total:
            return float("nan")
        return float(np.sum(self.n_cells * self.n_spherocytes / self.n_reviewed) / self.total)

    @cached_property
    def _rate_variance(self) -> np.ndarray:
        """(H,) b, the variance of each rate, with the factor of the finite population."""
        spread = (1 - self.fraction) * self.rate * (1 - self.rate)
        return spread / np.maximum(self.n_countable - 1, 1)

    @cached_property
    def _exclusion_variance(self) -> float:
        """e, the part of the variance that comes from the unknown number of countable cells.

        The share is a ratio of two estimated totals. Its linearised variance is that of the total
        of valid (y - tau), a term that is 0 for an excluded cell.
        """
        n, v, x = self.n_reviewed, self.n_countable, self.n_spherocytes
        total = x - v * self.share
        squares = x * (1 - self.share) ** 2 + (v - x) * self.share**2
        variance = np.maximum(squares - total**2 / n, 0) / np.maximum(n - 1, 1)
        linear = np.sum(self.n_cells**2 * (1 - self.fraction) * variance / n) / self.total**2
        return max(float(linear - np.sum(self.weight**2 * self._rate_variance)), 0.0)

    def mixture(self, *, effect: float = 0.0) -> BetaMixture:
        """The two Betas that the limits come from, the one for the lower limit first.

        Args:
            effect: d T, the design effect of the fields times the allowance for their number; 0
                where only the cells that were found matter.
        """
        return BetaMixture(
            self._moments(self.n_spherocytes, self.rate, effect),
            self._moments(self.n_spherocytes + 1, 1 - self.rate, effect),
        )

    def _moments(self, alpha: np.ndarray, gain: np.ndarray, effect: float) -> tuple[float, float]:
        """Mean and variance after one stratum became Beta(alpha, v + 1 - alpha).

        gain: (H,) how far the rate can still move to this side, r or 1 - r.
        """
        v, rest = self.n_countable, 1 - self.fraction
        g = int(np.argmax(self.weight * rest * gain / (v + 1)))
        mu = alpha[g] / (v[g] + 1)
        mean = self.share + self.weight[g] * rest[g] * (mu - self.rate[g])
        # (1 - f)^2 (1 + (v + 1) / (N' - v)), without the 0 / 0 of a stratum that is all reviewed.
        remaining = rest[g] ** 2 + rest[g] * self.fraction[g] * (v[g] + 1) / max(v[g], 1e-300)
        variance = (
            np.sum(self.weight**2 * self._rate_variance)
            - self.weight[g] ** 2 * self._rate_variance[g]
            + self._exclusion_variance
            + self.weight[g] ** 2 * mu * (1 - mu) / (v[g] + 2) * remaining
        )
        mean = min(max(float(mean), 0.0), 1.0)
        return mean, max(float(variance + effect * mean * (1 - mean) / self.total), 0.0)

    def found_limits(self) -> tuple[float, float]:
        """The limits of the share among the cells that were found.

        They never contradict the cells that were named: with c cells that may be countable, the
        share is at least the named spherocytes over c and at most 1 less the named others over c.
        """
        c = np.sum(self.n_cells) - np.sum(self.n_reviewed - self.n_countable)
        least = np.sum(self.n_spherocytes) / c
        most = 1 - np.sum(self.n_countable - self.n_spherocytes) / c
        low, high = (self.mixture().quantile(level) for level in LEVELS)
        return float(np.clip(low, least, most)), float(np.clip(high, least, most))


@dataclass(frozen=True)
class BetaMixture:
    """The equal mixture of two Beta distributions, each given by its mean and variance.

    A variance of 0 stands for a point.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]

    def quantile(self, level: float) -> float:
        """The smallest value whose probability of not being exceeded is at least `level`."""
        both = self.lower, self.upper
        low, high = sorted(_quantile(moments, level) for moments in both)
        if high - low < 1e-12 or self.below(low) >= level:
            return low
        if self.below(high) <= level:
            return high
        return float(optimize.brentq(lambda value: self.below(value) - level, low, high))

    def below(self, value: Any) -> Any:
        """The probability of at most `value`, of the value's shape."""
        return (_below(self.lower, value) + _below(self.upper, value)) / 2

    def draws(self) -> np.ndarray:
        """(8192,) evenly spaced quantiles, rising: they stand in for random draws."""
        angle = np.linspace(0, np.pi / 2, _GRID_STEPS + 1)
        levels = (np.arange(DRAWS) + 0.5) / DRAWS
        return np.sin(np.interp(levels, self.below(np.sin(angle) ** 2), angle)) ** 2


def _shape(moments: tuple[float, float]) -> tuple[float, float] | None:
    """The two parameters of the Beta with this mean and variance, or None for a point."""
    mean, variance = moments
    if variance < 1e-18 or not 0 < mean < 1:
        return None
    concentration = max(mean * (1 - mean) / variance - 1, _LEAST_CONCENTRATION)
    return mean * concentration, (1 - mean) * concentration


def _quantile(moments: tuple[float, float], level: float) -> float:
    shape = _shape(moments)
    return moments[0] if shape is None else float(special.betaincinv(*shape, level))


def _below(moments: tuple[float, float], value: Any) -> Any:
    shape = _shape(moments)
    if shape is None:
        return (np.asarray(value) >= moments[0]).astype(float)
    return special.betainc(*shape, value)
