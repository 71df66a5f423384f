"""Two people who reviewed the same cells of a patient: their agreement, and the score of both.

Percentages are 0 to 100. Imports no image code.

The first reader's answers give the score as in `review`. The second reader named the first n2 cells
of the same order. The mean difference of their answers, stratum by stratum, moves the score to the
second reader's; its variance widens the interval. A report prints the hull of both intervals: one
reader's own errors are in no interval that rests on that reader alone. Simulated readers who miss
10 % of the spherocytes and call 2 % of the other cells cover the truth in 72 % of the reviews by
themselves, and in 99 % when a second reader who errs in nothing names 50 cells.

Cohen's kappa is taken of the population of cells. The sample holds too many cells that are hard to
tell, so each cell has the weight N / n of its stratum. The kappa of the plain counts would be
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherodetect.score.review import OTHER, SPHEROCYTE, named_answers, reviewed_score, strata_of
from spherodetect.score.review_draw import drawn

_KAPPA_DRAWS = 4000
_JEFFREYS = 0.5


@dataclass(frozen=True)
class TwoReaders:
    """What a second reader of the same cells says of the first; percentages but for kappa.

    Attributes:
        n: cells that both named spherocyte or other.
        n_apart: of them, those that they named differently.
        shift: D, by how much the second reader's score is higher, in points.
        second_score, second_low, second_high: the patient's score and 95 % limits by the second
            reader.
        cells_low, cells_high, patient_low, patient_high: the hull of both readers' 95 % intervals.
        kappa, kappa_low, kappa_high: of the population of cells, with a 95 % interval; nan where
            all cells were named alike and so kappa has no value.
    """

    n: int
    n_apart: int
    shift: float
    second_score: float
    second_low: float
    second_high: float
    cells_low: float
    cells_high: float
    patient_low: float
    patient_high: float
    kappa: float
    kappa_low: float
    kappa_high: float


def two_readers(
    p: Any,
    cell_ids: Sequence[str],
    field_ids: Sequence[str],
    first: Mapping[str, str],
    second: Mapping[str, str],
    seed: int,
) -> TwoReaders:
    """Compare a second reader with the first.

    Args:
        p: (M,) as for `reviewed_score`.
        cell_ids: (M,) text.
        field_ids: (M,) text.
        first: the answers that the score rests on.
        second: another person's answers about the first n2 cells of the order, n2 at most as many.
        seed: of the order.

    Raises:
        ValueError: as for `reviewed_score`, more answers than the first reader's, or no cell that
            both named.
    """
    if len(second) > len(first):
        raise ValueError(
            f"expected at most the {len(first)} answers of the first reader, got {len(second)}"
        )
    score = reviewed_score(p, cell_ids, field_ids, first, seed)
    draw = drawn(p, cell_ids, seed)
    named = [named_answers(draw, cell_ids, answers) for answers in (first, second)]
    both = np.isin(named[0], (SPHEROCYTE, OTHER)) & np.isin(named[1], (SPHEROCYTE, OTHER))
    if not both.any():
        raise ValueError("expected a cell that both readers named, got none")
    weight = strata_of(draw, named[0]).weight
    stratum, said = draw.stratum[both], [one[both] == SPHEROCYTE for one in named]
    shift, variance = _shift(stratum, said[1].astype(float) - said[0], weight)
    second_score = min(max(score.score + 100 * shift, 0.0), 100.0)
    extra = 100 * 1.96 * math.sqrt(variance)

    def moved(low: float, high: float) -> tuple[float, float]:
        second_low = second_score - math.hypot(score.score - low, extra)
        second_high = second_score + math.hypot(high - score.score, extra)
        return max(second_low, 0.0), min(second_high, 100.0)

    patient = moved(score.patient_low, score.patient_high)
    cells = moved(score.cells_low, score.cells_high)
    n_cells = np.bincount(draw.stratum, minlength=draw.n_strata)
    n_both = np.bincount(stratum, minlength=draw.n_strata)
    kappa = _kappa(said[0], said[1], n_cells[stratum] / n_both[stratum])
    return TwoReaders(
        int(both.sum()),
        int(np.sum(said[0] != said[1])),
        100 * shift,
        second_score,
        *patient,
        min(score.cells_low, cells[0]),
        max(score.cells_high, cells[1]),
        min(score.patient_low, patient[0]),
        max(score.patient_high, patient[1]),
        *kappa,
    )


def _shift(stratum: np.ndarray, difference: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """D and its variance V_D, as shares.

    Strata that hold no cell of both have no difference; the others take over their weight.
    """
    n = np.bincount(stratum, minlength=len(weight))
    total = np.bincount(stratum, difference, minlength=len(weight))
    squares = np.bincount(stratum, difference**2, minlength=len(weight))
    has, n = n > 0, np.maximum(n, 1)
    weight = np.where(has, weight, 0) / weight[has].sum()
    spread = np.maximum(squares - total**2 / n, 0) / np.maximum(n - 1, 1)
    # A few cells on which both agree do not make the difference certain: w is the least error.
    least = np.sum(weight**2 / n)
    return float(np.sum(weight * total / n)), float(np.sum(weight**2 * spread / n) + least**2)


def _kappa(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> tuple[float, ...]:
    """Kappa of the population and its limits, from a Dirichlet distribution of the four shares.

    The shares count as many cells as Kish's effective number, (sum w)^2 / sum w^2.
    """
    cell = 2 * first.astype(int) + second
    shares = np.bincount(cell, weight, minlength=4) / weight.sum()
    effective = weight.sum() ** 2 / np.sum(weight**2)
    # A fixed seed, so that a result is the same at every run.
    draws = np.random.default_rng(0).dirichlet(effective * shares + _JEFFREYS, _KAPPA_DRAWS)
    low, high = np.quantile(_kappa_of(draws), [0.025, 0.975])
    kappa = float(_kappa_of(shares[None])[0])
    if math.isnan(kappa):
        return math.nan, math.nan, math.nan
    return kappa, float(min(low, kappa)), float(max(high, kappa))


def _kappa_of(shares: np.ndarray) -> np.ndarray:
    """(B,) kappa of (B, 4) shares: other-other, other-spherocyte, spherocyte-other, both."""
    agreed = shares[:, 0] + shares[:, 3]
    first, second = shares[:, 2] + shares[:, 3], shares[:, 1] + shares[:, 3]
    chance = first * second + (1 - first) * (1 - second)
    room = 1 - chance
    # Where all cells are named alike, agreement by chance is complete and kappa has no value.
    return np.where(room > 1e-9, (agreed - chance) / np.maximum(room, 1e-9), np.nan)
