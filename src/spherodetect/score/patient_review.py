"""One patient's review as a whole: readers, intervals, looks, and what they make of the score.

Percentages are 0 to 100. Imports no image code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spherodetect.score.counts import (
    CONFIDENT_WIDTH_POINTS,
    HINTS,
    MIN_COUNTABLE,
    MIN_FIELDS,
    UNGRADED,
    PatientScore,
)
from spherodetect.score.grades import GradeScheme
from spherodetect.score.readers import TwoReaders, two_readers
from spherodetect.score.review import FIRST_CELLS, ReviewedScore, reviewed_score
from spherodetect.score.review_plan import more_cells_needed


@dataclass(frozen=True)
class Look:
    """The score and both intervals after the first n cells."""

    n: int
    score: float
    cells_low: float
    cells_high: float
    patient_low: float
    patient_high: float


@dataclass(frozen=True)
class PatientReview:
    """What people answered about one patient, and what it proves.

    Attributes:
        score: from the answers of the first reader, the one who answered most cells.
        readers: name and number of cells of each reviewer.
        compared: one entry a further reviewer.
        looks: the intervals at the end of each batch, by the first reader's answers.
        cells_low, cells_high, patient_low, patient_high: 95 % limits, over all reviewers.
        more_cells: further cells to a patient interval of 10 points, 0 where there are enough, None
            where all cells would not do.
    """

    score: ReviewedScore
    readers: tuple[tuple[str, int], ...]
    compared: tuple[TwoReaders, ...]
    looks: tuple[Look, ...]
    cells_low: float
    cells_high: float
    patient_low: float
    patient_high: float
    more_cells: int | None

    def percent_draws(self) -> np.ndarray:
        """Quantiles of the patient's percentage, those of all reviewers together."""
        first = self.score.percent_draws()
        parts = [first]
        for other in self.compared:
            # The same distribution about the other reader's score, stretched to that interval.
            below = _ratio(other.second_score - other.second_low, self.score, upper=False)
            above = _ratio(other.second_high - other.second_score, self.score, upper=True)
            away = first - self.score.score
            moved = other.second_score + away * np.where(away < 0, below, above)
            parts.append(np.clip(moved, 0, 100))
        return np.sort(np.concatenate(parts))


def _ratio(half_width: float, score: ReviewedScore, *, upper: bool) -> float:
    own = score.patient_high - score.score if upper else score.score - score.patient_low
    return half_width / own if own > 0 else 1.0


def patient_review(
    p: Any,
    cell_ids: Sequence[str],
    field_ids: Sequence[str],
    answers: Mapping[str, Mapping[str, str]],
    seed: int,
    *,
    batches: Sequence[int],
) -> PatientReview:
    """The review of one patient.

    Args:
        p: (M,) of the draw, as for `reviewed_score`.
        cell_ids: (M,) text.
        field_ids: (M,) text.
        answers: reviewer to the answers of their complete batches; at least one reviewer. The one
            with the most cells is the first.
        seed: of the draw.
        batches: numbers of cells at which batches end, rising.

    Raises:
        ValueError: as for `reviewed_score`.
    """
    names = sorted(answers, key=lambda name: -len(answers[name]))
    first = answers[names[0]]
    drawn_from = p, cell_ids, field_ids
    score = reviewed_score(*drawn_from, first, seed)
    compared = []
    for name in names[1:]:
        with_value = {"spherocyte", "other"}
        second = answers[name]
        if any(first[cell] in with_value and second[cell] in with_value for cell in second):
            compared.append(two_readers(*drawn_from, first, second, seed))
    ordered = list(first)
    looks = []
    for n in batches:
        if n <= len(first):
            at = reviewed_score(*drawn_from, {cell: first[cell] for cell in ordered[:n]}, seed)
            looks.append(
                Look(n, at.score, at.cells_low, at.cells_high, at.patient_low, at.patient_high)
            )
    return PatientReview(
        score,
        tuple((name, len(answers[name])) for name in names),
        tuple(compared),
        tuple(looks),
        min([score.cells_low, *(c.cells_low for c in compared)]),
        max([score.cells_high, *(c.cells_high for c in compared)]),
        min([score.patient_low, *(c.patient_low for c in compared)]),
        max([score.patient_high, *(c.patient_high for c in compared)]),
        more_cells_needed(*drawn_from, first, seed, width=CONFIDENT_WIDTH_POINTS),
    )


def reviewed_patient(
    score: PatientScore, review: PatientReview, *, scheme: GradeScheme, n_fields: int
) -> PatientScore:
    """The patient's score with the review as its basis.

    The score, its limits, the probabilities and the grade come from the review. The model's own
    figures move to model_score. What the model cannot do on this stain, and its limit of blank, no
    longer matter.

    Args:
        score: from the model.
        review: of the same patient.
        scheme: the grades.
        n_fields: fields with countable cells.
    """
    if math.isnan(review.score.score):
        return score
    percent = review.percent_draws()
    status = _status(score, review, n_fields)
    return replace(
        score,
        status=status,
        hs_score=review.score.score,
        hs_score_low=review.patient_low,
        hs_score_high=review.patient_high,
        grade="" if status in UNGRADED else scheme.grade(percent),
        p_above_5_percent=float(np.mean(percent > 5)),
        p_above_20_percent=float(np.mean(percent > 20)),
        basis="reviewed",
        n_reviewed=review.score.n_reviewed,
        n_reviewed_spherocytes=review.score.n_spherocytes,
        model_score=score.hs_score,
        model_score_low=score.hs_score_low,
        model_score_high=score.hs_score_high,
    )


def _status(score: PatientScore, review: PatientReview, n_fields: int) -> str:
    # Named cells need no model: the look of a film and the model's rates do not matter any more.
    if score.status in HINTS and score.status != "unseen_stain":
        return score.status
    if score.n_countable < MIN_COUNTABLE or n_fields < MIN_FIELDS:
        return "insufficient_cells"
    narrow = review.patient_high - review.patient_low <= CONFIDENT_WIDTH_POINTS
    return "ok" if narrow and review.score.n_reviewed >= FIRST_CELLS else "low_confidence"
