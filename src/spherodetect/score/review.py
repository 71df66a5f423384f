"""Which cells of a patient a person reviews, and what the answers prove about the patient.

Percentages are 0 to 100, probabilities 0 to 1; ids are text. Imports no image code.

A model finds M countable cells of a patient and gives each a probability p of being a spherocyte.
Its error rates differ between slides, so its own interval is wide, and on a stain that it never saw
it is wrong. A person who names 60 to 200 cells of a stratified random sample gives an interval that
holds whatever the model does. The model only makes it narrow, because its probabilities form the
strata.

Two shares are estimated, both from the cells that the model found. A spherocyte that it missed is
in neither:

- cells: the share among the M cells. It narrows to nothing when all cells are reviewed.
- patient: the share of the patient, of whom the fields are a sample. It is what `score_counts`
  estimates; grade and status rest on it.

The interval is that of `stratified`. `benchmarks/reviewed.py` prints how often it holds.

>>> p, ids, fields = [0.1, 0.2, 0.8, 0.9] * 50, [f"c{i}" for i in range(200)], ["a", "b"] * 100
>>> order = review_order(p, ids, seed=1)
>>> answers = {ids[i]: "spherocyte" if p[i] > 0.5 else "other" for i in order[:60]}
>>> reviewed_score(p, ids, fields, answers, seed=1).n_reviewed
60
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from spherodetect.score.interval import DEFAULT_FIELD_ICC, MIN_FIELDS_FOR_ESTIMATE, PRIOR_FIELDS
from spherodetect.score.review_draw import Draw, drawn, review_order
from spherodetect.score.stratified import LEVELS, BetaMixture, Strata

ANSWERS = ("spherocyte", "other", "excluded", "unsure")
#: A review begins with FIRST_CELLS and goes on by batches of BATCH_CELLS, at most to MAX_CELLS.
FIRST_CELLS, BATCH_CELLS, MAX_CELLS = 50, 25, 300
SPHEROCYTE, OTHER, EXCLUDED, UNSURE = range(4)


@dataclass(frozen=True)
class ReviewedScore:
    """What the reviewed cells of a patient prove; percentages.

    Attributes:
        score: the share of spherocytes.
        cells_low, cells_high: 95 % limits of the share among the cells that were found.
        patient_low, patient_high: 95 % limits of the patient's share.
        n_cells: the countable cells that were found, reviewed or not.
        n_reviewed: answers, also those of excluded and unsure cells.
        n_spherocytes: answers "spherocyte".
        n_excluded, n_unsure: answers that leave a cell out of the share.
        score_unsure_other, score_unsure_spherocyte: the score if all unsure cells were one or the
            other.
        design_effect: how many cells count as one for the patient's share, because cells of a field
            are alike.
    """

    score: float
    cells_low: float
    cells_high: float
    patient_low: float
    patient_high: float
    n_cells: int
    n_reviewed: int
    n_spherocytes: int
    n_excluded: int
    n_unsure: int
    score_unsure_other: float
    score_unsure_spherocyte: float
    design_effect: float
    _patient: BetaMixture = field(repr=False)

    @property
    def cells_width(self) -> float:
        """Points between the limits of the cells that were found; `finished` reads it."""
        return self.cells_high - self.cells_low

    @property
    def patient_width(self) -> float:
        """Points between the patient's limits."""
        return self.patient_high - self.patient_low

    def percent_draws(self) -> np.ndarray:
        """(8192,) quantiles of the patient's percentage, for grades and probabilities."""
        return 100 * self._patient.draws()

    def __str__(self) -> str:
        return (
            f"{self.score:.1f} % spherocytes; 95 % interval of the patient {self.patient_low:.1f} "
            f"to {self.patient_high:.1f}, of the cells found {self.cells_low:.1f} to "
            f"{self.cells_high:.1f}; {self.n_reviewed} of {self.n_cells} cells reviewed, "
            f"{self.n_spherocytes} of them spherocytes, {self.n_excluded} excluded, "
            f"{self.n_unsure} unsure"
        )


def reviewed_score(
    p: Any, cell_ids: Sequence[str], field_ids: Sequence[str], answers: Mapping[str, str], seed: int
) -> ReviewedScore:
    """The score of a patient from the answers about the first n cells of the review order.

    Args:
        p: (M,) the model's probabilities that the order was drawn with.
        cell_ids: (M,) text.
        field_ids: (M,) text, the field of each cell.
        answers: cell id to "spherocyte", "other", "excluded" (not a whole single red cell) or
            "unsure"; the keys are the first n of the order.
        seed: the seed of the order.

    Raises:
        ValueError: no cell, another answer, answers that are not those of the first n cells, or so
            few that a stratum has none.
    """
    draw = drawn(p, cell_ids, seed)
    named = named_answers(draw, cell_ids, answers)
    strata = strata_of(draw, named)
    effect, mixture = patient_mixture(
        strata, cells_of_fields(draw, numbered_fields(field_ids, len(cell_ids)))
    )
    cells, patient = interval_limits(strata, mixture)
    as_other, as_spherocyte = (
        100 * strata_of(draw, np.where(named == UNSURE, answer, named)).share
        for answer in (OTHER, SPHEROCYTE)
    )
    return ReviewedScore(
        score=100 * strata.share,
        cells_low=cells[0],
        cells_high=cells[1],
        patient_low=patient[0],
        patient_high=patient[1],
        n_cells=len(cell_ids),
        n_reviewed=int(np.sum(named >= 0)),
        n_spherocytes=int(np.sum(named == SPHEROCYTE)),
        n_excluded=int(np.sum(named == EXCLUDED)),
        n_unsure=int(np.sum(named == UNSURE)),
        score_unsure_other=as_other,
        score_unsure_spherocyte=as_spherocyte,
        design_effect=effect,
        _patient=mixture,
    )


def interval_limits(
    strata: Strata, mixture: BetaMixture
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The limits of the cells that were found and those of the patient, in percent."""
    if not strata.total:
        return (0.0, 100.0), (0.0, 100.0)
    cells = strata.found_limits()
    patient = [mixture.quantile(level) for level in LEVELS]
    # Close to 0, a wider distribution may have a lower upper quantile. The patient's share is never
    # known better than that of the cells.
    low, high = min(patient[0], cells[0]), max(patient[1], cells[1])
    return (100 * cells[0], 100 * cells[1]), (100 * low, 100 * high)


def named_answers(draw: Draw, cell_ids: Sequence[str], answers: Mapping[str, str]) -> np.ndarray:
    """(M,) the number of each cell's answer in ANSWERS, -1 for a cell that was not reviewed.

    Raises:
        ValueError: no cell, another answer, or answers that are not those of the first n cells.
    """
    if not len(cell_ids):
        raise ValueError("expected at least one countable cell")
    numbers = {answer: number for number, answer in enumerate(ANSWERS)}
    named = np.full(len(cell_ids), -1)
    for at in draw.order[: len(answers)]:
        if (answer := answers.get(cell_ids[at])) is None:
            raise ValueError(
                f"expected answers for the first {len(answers)} cells of the order, got none for "
                f"{cell_ids[at]!r:.80}"
            )
        if answer not in numbers:
            raise ValueError(f"expected one of {', '.join(ANSWERS)}, got {answer!r:.40}")
        named[at] = numbers[answer]
    if len(answers) > len(cell_ids):
        raise ValueError(f"expected at most {len(cell_ids)} answers, got {len(answers)}")
    return named


def numbered_fields(field_ids: Sequence[str], n_cells: int) -> np.ndarray:
    """(M,) int, the field of each cell as a number from 0."""
    fields: dict[str, int] = {}
    numbers = np.array([fields.setdefault(name, len(fields)) for name in field_ids], int)
    if len(numbers) != n_cells:
        raise ValueError(f"expected one field id a cell, {n_cells}, got {len(numbers)}")
    return numbers


def strata_of(draw: Draw, named: np.ndarray) -> Strata:
    """The counts of each stratum from the answers of `named_answers`."""

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(draw.stratum[chosen], minlength=draw.n_strata)

    return Strata(
        count(np.ones(len(named), bool)),
        count(named >= 0),
        count((named == SPHEROCYTE) | (named == OTHER)),
        count(named == SPHEROCYTE),
    )


def cells_of_fields(draw: Draw, fields: np.ndarray) -> np.ndarray:
    """(J, H) cells of each field in each stratum."""
    shape = int(fields.max()) + 1, draw.n_strata
    return np.bincount(
        fields * draw.n_strata + draw.stratum, minlength=shape[0] * shape[1]
    ).reshape(shape)


def patient_mixture(strata: Strata, crossed: np.ndarray) -> tuple[float, BetaMixture]:
    """The design effect of the fields, and the distribution of the patient's share.

    Args:
        strata: what the review found.
        crossed: (J, H) cells of each field in each stratum.
    """
    n_fields, share, total = len(crossed), strata.share, strata.total
    if not total:
        return 1.0, BetaMixture((0.0, 0.0), (1.0, 0.0))
    cells = crossed.sum(axis=1)
    default = 1 + (np.sum(cells**2) / np.sum(cells) - 1) * DEFAULT_FIELD_ICC
    effect = default
    if n_fields >= MIN_FIELDS_FOR_ESTIMATE and 0 < share < 1:
        # Each field's residual from the rates of its strata. Of the spread of the
        # cells within strata, of which the review tells little, the default correlation is taken.
        countable = crossed * (strata.n_countable / strata.n_reviewed)
        residual = countable @ strata.rate - share * countable.sum(axis=1)
        independent = total * share * (1 - share)
        explained = np.sum(strata.countable * (strata.rate - share) ** 2) / independent
        seen = n_fields / (n_fields - 1) * np.sum(residual**2) / independent
        estimated = seen + 1 - explained + (1 - explained**2) * (default - 1)
        weighed = PRIOR_FIELDS * default + (n_fields - 1) * estimated
        effect = max(1.0, weighed / (PRIOR_FIELDS + n_fields - 1))
    t = float(special.stdtrit(n_fields + 1, 0.975))
    return float(effect), strata.mixture(effect=effect * (t / 1.96) ** 2)


def finished(
    widths: Sequence[float], ns: Sequence[int], *, width: float, n_max: int = MAX_CELLS
) -> bool:
    """Whether a review ends after the last of its looks.

    Args:
        widths: points between cells_low and cells_high after each batch.
        ns: cells that were reviewed by then, rising.
        width: the width that is wanted, in points.
        n_max: the most cells.

    After the first look that is narrow enough, one further batch follows. Without it, a review
    would end too often on a sample that is narrow by luck.

    >>> finished([14.0, 9.5], [50, 75], width=10)
    False
    >>> finished([14.0, 9.5, 8.0], [50, 75, 100], width=10)
    True
    """
    if len(widths) != len(ns):
        raise ValueError(f"expected as many widths as looks, {len(ns)}, got {len(widths)}")
    if not ns:
        return False
    enough = [n for n, w in zip(ns, widths, strict=True) if n >= FIRST_CELLS and w <= width]
    return ns[-1] >= n_max or (bool(enough) and ns[-1] > enough[0])


__all__ = [
    "ANSWERS",
    "BATCH_CELLS",
    "FIRST_CELLS",
    "MAX_CELLS",
    "ReviewedScore",
    "finished",
    "patient_mixture",
    "review_order",
    "reviewed_score",
]
