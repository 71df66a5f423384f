"""How often a classifier errs on a slide that it has not seen: counts per validation block -> a
table of constants.

Rates are 0 to 1. The two classes are spherocytes and other countable red cells.
`ClassifierRates.table` is all that the score needs to know of a model, in Python and in the
exported graph alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy import special

from spherodetect.errors import BadModelError

TABLE_ROWS = 8192

#: Concentration of the rates between slides where the blocks cannot tell: half the prior lies below
#: a correlation of 1 / 31. Of simulated new slides, 94 to 96 % then fall into the central 95 % that
#: 8 to 12 blocks predict, where rates spread as those of classical classifiers do; where slides
#: differ less, more.
TYPICAL_CONCENTRATION = 30.0

_RIGHT_ANGLE = math.pi / 2
_BLOCK_KEYS = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")


@dataclass(frozen=True)
class ClassifierRates:
    """How many true spherocytes and other countable red cells the classifier called spherocytes,
    block by block.

    A block is a slide or a run of fields whose predictions neither trained nor tuned the model.
    Rates differ between slides by far more than counts alone would, so a beta-binomial is fitted to
    the blocks, and a new slide draws from its predictive distribution; sensitivity and specificity
    draw independently. Blocks without cells of one kind say nothing about its rate; without any
    block the rate could be anything, and every interval says so.

    Attributes:
        n_spherocyte, n_spherocyte_called: true spherocytes in each block, and those of them called
            spherocytes.
        n_other, n_other_called: other countable red cells in each block, and those of them called
            spherocytes.
        name: the model's name in tables.

    Raises:
        ValueError: counts that are negative, not whole, of different lengths, or more called than
            there were.

    >>> rates = ClassifierRates((90, 80), (80, 68), (900, 950), (9, 4), name="example")
    >>> rates.table.shape, bool(0.8 < rates.sensitivity < 0.9 < rates.specificity)
    ((8192, 3), True)
    """

    n_spherocyte: tuple[int, ...]
    n_spherocyte_called: tuple[int, ...]
    n_other: tuple[int, ...]
    n_other_called: tuple[int, ...]
    name: str = "model"

    def __post_init__(self) -> None:
        for names in (("n_spherocyte_called", "n_spherocyte"), ("n_other_called", "n_other")):
            counts = checked_counts(
                *(getattr(self, name) for name in names), names=names, unit="block"
            )
            for name, values in zip(names, counts, strict=True):
                object.__setattr__(self, name, tuple(int(value) for value in values))
        if len(self.n_spherocyte) != len(self.n_other):
            expected = f"as many blocks of n_other as of n_spherocyte, {len(self.n_spherocyte)}"
            raise ValueError(f"expected {expected}, got {len(self.n_other)}")

    @classmethod
    def from_model_json(
        cls, model: Mapping[str, Any], *, name: str | None = None
    ) -> ClassifierRates:
        """The rates of a model.json that was read already; `name` goes before the name in it.

        Raises:
            BadModelError: no rates in it, or counts that cannot be.
        """
        try:
            blocks = model["rates"]["blocks"]
            true, called, others, false = (
                tuple(block[key] for block in blocks) for key in _BLOCK_KEYS
            )
            return cls(true, called, others, false, name=name or str(model.get("name") or "model"))
        except ValueError as problem:
            raise BadModelError(
                f"model.json: rates.blocks: {problem}; export the model again"
            ) from problem
        except (KeyError, TypeError, AttributeError) as problem:
            expected = f"expected rates.blocks, each with {', '.join(_BLOCK_KEYS)}"
            raise BadModelError(
                f"model.json: {expected}, got {problem!r:.100}; export the model again"
            ) from problem

    @cached_property
    def table(self) -> np.ndarray:
        """(8192, 3) float64, read-only: sensitivity and specificity that a new slide may have, and
        a probability.

        The rows are a Hammersley set, evenly spread in three dimensions without a generator; limits
        lie within 1 % of the interval's width of those from 32 times as many rows. Takes a third of
        a second, once.
        """
        right = np.subtract(self.n_other, self.n_other_called)
        sensitivity = predictive_quantiles(
            self.n_spherocyte, self.n_spherocyte_called, _mirrored_digits(2)
        )
        specificity = predictive_quantiles(self.n_other, right, _mirrored_digits(3))
        return _table(sensitivity, specificity)

    @property
    def sensitivity(self) -> float:
        """Mean sensitivity on a new slide, which corrects hs_score."""
        return float(self.table[:, 0].mean())

    @property
    def specificity(self) -> float:
        """Mean specificity on a new slide, which corrects hs_score."""
        return float(self.table[:, 1].mean())


@cache
def labels_table() -> np.ndarray:
    """(8192, 3), read-only: the table of human labels, where nothing is corrected and only sampling
    varies."""
    return _table(1.0, 1.0)


def _table(sensitivity: Any, specificity: Any) -> np.ndarray:
    table = np.empty((TABLE_ROWS, 3))
    table[:, 0], table[:, 1] = sensitivity, specificity
    table[:, 2] = (np.arange(TABLE_ROWS) + 0.5) / TABLE_ROWS
    table.flags.writeable = False
    return table


def _mirrored_digits(base: int) -> np.ndarray:
    """(8192,) numbers in 0..1: the row's number with its digits mirrored at the point (van der
    Corput)."""
    rest, mirrored, place = np.arange(TABLE_ROWS), np.zeros(TABLE_ROWS), 1.0
    while rest.any():
        place /= base
        mirrored += place * (rest % base)
        rest = rest // base
    return mirrored + place / 2


def predictive_quantiles(n: Any, hits: Any, u: np.ndarray) -> np.ndarray:
    """Quantiles of the rate on a new slide, from the hits among n in each block.

    On a slide the rate is Beta(m M, (1 - m) M). The mean m has Jeffreys' prior, the concentration M
    the uniform shrinkage prior M0 / (M0 + M)^2 (Daniels 1999, Can. J. Stat. 27:567); both are
    integrated out on a grid, so neither a block without hits nor blocks that agree by luck make the
    rate certain.

    Args:
        n: (K,) cells of each block; K may be 0.
        hits: (K,) hits among them.
        u: probabilities of the quantiles wanted, any shape.
    """
    n, hits = np.asarray(n, float), np.asarray(hits, float)
    concentration = TYPICAL_CONCENTRATION * np.exp(np.linspace(-6, 6, 31))
    log_prior = np.log(concentration) - 2 * np.log(TYPICAL_CONCENTRATION + concentration)
    low, high = 0.0, _RIGHT_ANGLE
    for _ in range(
        2
    ):  # the second time only where the first found the mean; flat in the angle is Jeffreys' prior
        step = (high - low) / 48
        angle = low + step * (np.arange(48) + 0.5)
        mean = np.sin(angle)[:, None] ** 2
        a, b = mean * concentration, (1 - mean) * concentration
        log_weight = log_prior + np.zeros_like(a)
        for trials, successes in zip(n, hits, strict=True):
            log_weight += special.betaln(a + successes, b + trials - successes) - special.betaln(
                a, b
            )
        weight = np.exp(log_weight - log_weight.max())
        found = angle[weight.max(axis=1) > 1e-6]
        low, high = max(found[0] - step, 0.0), min(found[-1] + step, _RIGHT_ANGLE)
    likely = weight > 1e-4
    angle = np.linspace(0, _RIGHT_ANGLE, 513)
    below = weight[likely] @ special.betainc(
        a[likely][:, None], b[likely][:, None], np.sin(angle) ** 2
    )
    return np.sin(np.interp(u, below / below[-1], angle)) ** 2


def checked_counts(
    part: Any, whole: Any, *, names: tuple[str, str], unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both counts as (J,) float64 with one entry a unit (field or block).

    Raises:
        ValueError: they are negative, not whole, of different lengths, or the part is more than the
            whole.
    """
    parts, wholes = (
        _checked_count(values, name, unit)
        for values, name in zip((part, whole), names, strict=True)
    )
    if len(parts) != len(wholes):
        raise ValueError(
            f"expected as many {unit}s in {names[0]} as in {names[1]}, {len(wholes)}, got {len(parts)}"
        )
    if (more := np.flatnonzero(parts > wholes)).size:
        expected = f"at most the {wholes[more[0]]:g} of {names[1]} in {unit} {more[0]}"
        raise ValueError(f"{names[0]}: expected {expected}, got {parts[more[0]]:g}")
    return parts, wholes


def _checked_count(values: Any, name: str, unit: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: expected one whole number a {unit}, got {values!r:.60}"
        ) from None
    if array.ndim != 1:
        raise ValueError(
            f"{name}: expected one whole number a {unit} in a 1-D array, got shape {array.shape}"
        )
    whole = np.isfinite(array) & (array >= 0) & (array == np.floor(array))
    if (wrong := np.flatnonzero(~whole)).size:
        raise ValueError(
            f"{name}: expected whole numbers of at least 0, got {array[wrong[0]]:g} in {unit} {wrong[0]}"
        )
    return array
