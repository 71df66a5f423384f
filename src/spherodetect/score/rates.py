"""The errors of a classifier on a slide that it has not seen, from counts of validation blocks.

Rates are 0 to 1. The two classes are spherocytes and other countable red cells. The score needs
nothing of a model but `ClassifierRates.table`, in Python and in the exported graph alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
from scipy import special

from spherodetect.errors import BadModelError

TABLE_ROWS = 8192

#: Median of the prior of the concentration of the rates between slides. A concentration M is a
#: correlation of 1 / (M + 1), so half of the prior lies below a correlation of 1 / 31. With this
#: value, 94 to 96 % of simulated new slides lie in the central 95 % that 8 to 12 blocks predict, if
#: the rates spread as those of classical classifiers do. If slides differ less, it is more.
TYPICAL_CONCENTRATION = 30.0

_RIGHT_ANGLE = math.pi / 2
#: Grid points of the mean of reference blocks.
_EVIDENCE_STEPS = 720
_BLOCK_KEYS = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")


@dataclass(frozen=True)
class ClassifierRates:
    """The confusion counts of a classifier, block by block.

    A block is a slide or a run of fields that was used neither to train nor to tune the model. The
    rates differ between slides by far more than binomial sampling would explain. Therefore a
    beta-binomial distribution is fitted to the blocks, and the rates of a new slide are drawn from
    its predictive distribution, sensitivity and specificity independently. A block without cells of
    one class gives no evidence about the rate of that class. Without cells of both classes the
    rates are unknown, and a score is not corrected.

    Attributes:
        n_spherocyte: true spherocytes in each block.
        n_spherocyte_called: those of them that were called spherocytes.
        n_other: other countable red cells in each block.
        n_other_called: those of them that were called spherocytes.
        name: name of the model in tables.
        reference: blocks of another classifier on films of the same stain. They are evidence about
            how much rates differ between slides, and none about the mean rates.

    Raises:
        ValueError: counts are negative, not whole, or of different lengths, or more cells were
            called than there were.

    >>> rates = ClassifierRates((90, 80), (80, 68), (900, 950), (9, 4), name="example")
    >>> rates.table.shape, bool(0.8 < rates.sensitivity < 0.9 < rates.specificity)
    ((8192, 3), True)
    """

    n_spherocyte: tuple[int, ...]
    n_spherocyte_called: tuple[int, ...]
    n_other: tuple[int, ...]
    n_other_called: tuple[int, ...]
    name: str = "model"
    reference: ClassifierRates | None = None

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
        """The rates in the content of a model.json.

        Args:
            model: the content.
            name: name of the model; by default the name in the content.

        Raises:
            BadModelError: the rates are missing or invalid.
        """
        try:
            rates, reference = model["rates"], None
            if rates.get("reference"):
                of = rates["reference"]
                reference = cls._of_blocks(of["blocks"], name=str(of["model"]))
            name = name or str(model.get("name") or "model")
            return cls._of_blocks(rates["blocks"], name=name, reference=reference)
        except ValueError as problem:
            raise BadModelError(
                f"model.json: rates.blocks: {problem}; export the model again"
            ) from problem
        except (KeyError, TypeError, AttributeError) as problem:
            expected = f"expected rates.blocks, each with {', '.join(_BLOCK_KEYS)}"
            raise BadModelError(
                f"model.json: {expected}, got {problem!r:.100}; export the model again"
            ) from problem

    @classmethod
    def _of_blocks(
        cls,
        blocks: Sequence[Mapping[str, Any]],
        *,
        name: str,
        reference: ClassifierRates | None = None,
    ) -> ClassifierRates:
        true, called, others, false = (tuple(block[key] for block in blocks) for key in _BLOCK_KEYS)
        return cls(true, called, others, false, name=name, reference=reference)

    @property
    def table(self) -> np.ndarray:
        """(8192, 3) float64, read-only: rows of sensitivity, specificity and a probability.

        Each row has rates that a new slide may have. The rows are a Hammersley set: evenly spread
        points in three dimensions, without a random generator, so that each run gives the same
        result. The limits of an interval differ from those of 32 times as many rows by less than
        1 % of the interval's width. The table takes a tenth of a second and is computed once
        for equal rates, which a model makes anew for each patient. Unknown rates are NaN.
        """
        return _table_of(self)

    @property
    def _hits(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Cells and correctly called cells of each block, of spherocytes and of other cells."""
        right = np.subtract(self.n_other, self.n_other_called)
        return (self.n_spherocyte, self.n_spherocyte_called), (self.n_other, right)

    @property
    def known(self) -> bool:
        """Whether the blocks have cells of both classes, so that a score can be corrected."""
        return sum(self.n_spherocyte) > 0 and sum(self.n_other) > 0

    @property
    def sensitivity(self) -> float:
        """Mean sensitivity on a new slide, which corrects hs_score; NaN if it is unknown."""
        return float(self.table[:, 0].mean())

    @property
    def specificity(self) -> float:
        """Mean specificity on a new slide, which corrects hs_score; NaN if it is unknown."""
        return float(self.table[:, 1].mean())


@cache
def labels_table() -> np.ndarray:
    """(8192, 3), read-only: the table of human labels, with sensitivity and specificity 1.

    Nothing is corrected then, and only the sampling of cells and fields varies.
    """
    return _table(1.0, 1.0)


class HasRates(Protocol):
    """An object with the rates of a classifier, such as the model that `load_model` returns."""

    @property
    def rates(self) -> ClassifierRates:
        """Sensitivity and specificity of the held-out blocks."""


def rates_of(model: ClassifierRates | HasRates | None) -> ClassifierRates | None:
    """The rates of a model, or None for human labels."""
    return model if model is None or isinstance(model, ClassifierRates) else model.rates


def rates_table(model: ClassifierRates | HasRates | None) -> np.ndarray:
    """(8192, 3): the table of a model's rates, or of human labels if model is None."""
    rates = rates_of(model)
    return labels_table() if rates is None else rates.table


def unknown_rates(name: str) -> ClassifierRates:
    """The rates of a model of which no labelled cells are known."""
    return ClassifierRates((), (), (), (), name=name)


@lru_cache(maxsize=32)
def _table_of(rates: ClassifierRates) -> np.ndarray:
    if not rates.known:
        return _table(np.nan, np.nan)
    reference = rates.reference._hits if rates.reference else (((), ()), ((), ()))
    sensitivity, specificity = (
        predictive_quantiles(*hits, _mirrored_digits(base), reference=of_reference)
        for base, hits, of_reference in zip((2, 3), rates._hits, reference, strict=True)
    )
    return _table(sensitivity, specificity)


def _table(sensitivity: Any, specificity: Any) -> np.ndarray:
    table = np.empty((TABLE_ROWS, 3))
    table[:, 0], table[:, 1] = sensitivity, specificity
    table[:, 2] = (np.arange(TABLE_ROWS) + 0.5) / TABLE_ROWS
    table.flags.writeable = False
    return table


def _mirrored_digits(base: int) -> np.ndarray:
    """(8192,) numbers in 0..1, the van der Corput sequence of a base.

    The digits of the row's number in that base are mirrored at the point: 6 = 110 in base 2 becomes
    0.011 = 3 / 8. Bases 2 and 3 together with the row's number are a Hammersley set.
    """
    rest, mirrored, place = np.arange(TABLE_ROWS), np.zeros(TABLE_ROWS), 1.0
    while rest.any():
        place /= base
        mirrored += place * (rest % base)
        rest = rest // base
    return mirrored + place / 2


def predictive_quantiles(
    n: Any, hits: Any, u: np.ndarray, *, reference: tuple[Any, Any] = ((), ())
) -> np.ndarray:
    """Quantiles of the rate on a new slide, given the hits among n cells of each block.

    The rate of a slide has the distribution Beta(m M, (1 - m) M). The mean m has Jeffreys' prior.
    The concentration M has the uniform shrinkage prior M0 / (M0 + M)^2 (Daniels 1999, Can. J. Stat.
    27:567). Both are integrated out on a grid instead of being estimated. So the predicted rate
    keeps its uncertainty, even if a block has no hits or all blocks agree by chance.

    Args:
        n: (K,) number of cells of each block; K may be 0.
        hits: (K,) number of hits among them.
        u: probabilities of the quantiles, any shape.
        reference: the same of other blocks, whose rates have a mean of their own and the same
            concentration.

    Returns:
        The quantiles, in the shape of u.
    """
    n, hits = np.asarray(n, float), np.asarray(hits, float)
    concentration = TYPICAL_CONCENTRATION * np.exp(np.linspace(-6, 6, 31))
    log_prior = np.log(concentration) - 2 * np.log(TYPICAL_CONCENTRATION + concentration)
    log_prior = log_prior + _log_evidence(*reference, concentration)
    # The grid of the mean is uniform in the angle arcsin(sqrt(m)), where Jeffreys' prior is
    # constant. The first pass covers all means; the second is confined to those that have weight.
    low, high = 0.0, _RIGHT_ANGLE
    for _ in range(2):
        step = (high - low) / 48
        angle = low + step * (np.arange(48) + 0.5)
        mean = np.sin(angle)[:, None] ** 2
        a, b = mean * concentration, (1 - mean) * concentration
        log_weight = log_prior + _log_likelihood(n, hits, a, b)
        weight = np.exp(log_weight - log_weight.max())
        found = angle[weight.max(axis=1) > 1e-6]
        low, high = max(found[0] - step, 0.0), min(found[-1] + step, _RIGHT_ANGLE)
    # The predictive distribution is the mixture of the beta distributions of all grid points. Its
    # distribution function is tabulated and inverted; points of negligible weight are left out.
    likely = weight > 1e-4
    angle = np.linspace(0, _RIGHT_ANGLE, 513)
    below = weight[likely] @ special.betainc(
        a[likely][:, None], b[likely][:, None], np.sin(angle) ** 2
    )
    return np.sin(np.interp(u, below / below[-1], angle)) ** 2


def _log_likelihood(n: Any, hits: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Beta-binomial log likelihood of blocks for parameters (A, B), without constants; (A, B)."""
    log_likelihood = np.zeros_like(a)
    for trials, successes in zip(n, hits, strict=True):
        posterior = special.betaln(a + successes, b + trials - successes)
        log_likelihood += posterior - special.betaln(a, b)
    return log_likelihood


def _log_evidence(n: Any, hits: Any, concentration: np.ndarray) -> np.ndarray:
    """(B,) log likelihood of blocks for each concentration, over all means (Jeffreys' prior)."""
    angle = _RIGHT_ANGLE * (np.arange(_EVIDENCE_STEPS) + 0.5) / _EVIDENCE_STEPS
    mean = np.sin(angle)[:, None] ** 2
    log_likelihood = _log_likelihood(n, hits, mean * concentration, (1 - mean) * concentration)
    return np.asarray(special.logsumexp(log_likelihood, axis=0))


def checked_counts(
    part: Any, whole: Any, *, names: tuple[str, str], unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both counts as (J,) float64 arrays, after a check.

    Args:
        part: (J,) counts.
        whole: (J,) counts that contain part.
        names: names of both in error messages.
        unit: what an entry stands for in error messages (field or block).

    Raises:
        ValueError: counts are negative, not whole, or of different lengths, or a part is larger
            than its whole.
    """
    parts, wholes = (
        _checked_count(values, name, unit)
        for values, name in zip((part, whole), names, strict=True)
    )
    if len(parts) != len(wholes):
        expected = f"as many {unit}s in {names[0]} as in {names[1]}, {len(wholes)}"
        raise ValueError(f"expected {expected}, got {len(parts)}")
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
        got = f"{array[wrong[0]]:g} in {unit} {wrong[0]}"
        raise ValueError(f"{name}: expected whole numbers of at least 0, got {got}")
    return array
