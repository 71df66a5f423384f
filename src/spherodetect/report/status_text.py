"""Sentences about a patient's status: what it means, what is missing, what more fields would do.

Percentages are 0 to 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spherodetect.examined import Examined
from spherodetect.report.page import number
from spherodetect.report.review_section import review_advice, review_offer
from spherodetect.score.counts import (
    CONFIDENT_COUNTABLE,
    CONFIDENT_FIELDS,
    CONFIDENT_WIDTH_POINTS,
    MIN_COUNTABLE,
    MIN_FIELDS,
    PatientScore,
)
from spherodetect.score.patient_review import PatientReview

#: A text that ends with a colon is followed by what is missing.
_STATUS_WORDS: Mapping[str, str] = {
    "ok": "Enough countable cells and fields, and an interval of at most 10 points.",
    "low_confidence": "Graded with low confidence:",
    "at_or_below_limit_of_blank": "Not graded: a slide without any spherocyte could give this "
    "count.",
    "insufficient_cells": "Not graded:",
    "field_quality": "Not graded: too few fields passed quality control.",
    "uncalibrated": "Not graded: the error rates of this model are not known, so the score is the "
    "uncorrected percentage and has no interval.",
    "unseen_stain": "Not graded: the films look like none that the model was taught. If they are "
    "of a laboratory that it knows, state its convention with --convention. The score is the "
    "uncorrected percentage.",
    "out_of_domain": "Not graded: these pictures are unlike those that the method was made for.",
}


def status_words(score: PatientScore) -> str:
    """Return the status in a sentence, with what is missing for a better one."""
    words = _STATUS_WORDS[score.status]
    if not words.endswith(":"):
        return words
    confident = score.status == "low_confidence"
    reviewed = score.basis == "reviewed"
    cells, fields = (
        (CONFIDENT_COUNTABLE, CONFIDENT_FIELDS) if confident else (MIN_COUNTABLE, MIN_FIELDS)
    )
    width = score.hs_score_high - score.hs_score_low
    missing = [
        (
            score.n_countable < cells and not (confident and reviewed),
            f"{score.n_countable:,} countable cells (expected {cells:,})",
        ),
        (
            score.n_fields < fields and not (confident and reviewed),
            f"{score.n_fields} fields (expected {fields})",
        ),
        (
            confident and width > CONFIDENT_WIDTH_POINTS,
            f"an interval {number(width)} points wide "
            f"(expected at most {CONFIDENT_WIDTH_POINTS:g})",
        ),
    ]
    # The status counts only fields with countable cells, but n_fields counts all fields. If that is
    # the difference, none of the numbers above is too small.
    texts = [text for short, text in missing if short]
    return f"{words} {'; '.join(texts) or 'too few fields with countable cells'}."


def advice(
    score: PatientScore,
    more_fields: int | None,
    review: PatientReview | None,
    fields: Sequence[Examined],
) -> str:
    """Return what a review or more fields would do, in sentences; empty if nothing is missing.

    Args:
        score: the patient's score.
        more_fields: how many fields would be enough, or None if no number would.
        review: what people named, if the score rests on a review.
        fields: all fields of the patient.
    """
    if review is not None and score.status != "insufficient_cells":
        return review_advice(score, review)
    parts = _more_fields(score, more_fields), review_offer(score, fields)
    return " ".join(part for part in parts if part)


def _more_fields(score: PatientScore, more_fields: int | None) -> str:
    """Return what more fields would do; empty if nothing is missing."""
    # More fields tell nothing about the errors of a model.
    if score.status in ("ok", "uncalibrated") or more_fields == 0 or not score.n_countable:
        return ""
    if more_fields is None:
        grade = f"A grade needs {MIN_COUNTABLE} countable cells in {MIN_FIELDS} fields. "
        limit = (
            "More fields of this slide would not narrow the interval to 10 points: "
            "the method itself is the limit."
        )
        return grade * (score.status == "insufficient_cells") + limit
    fields = "1 more field" if more_fields == 1 else f"{more_fields} more fields"
    return (
        f"About {fields} like these would give 1,000 cells, 10 fields "
        "and an interval of at most 10 points."
    )


__all__ = ["advice", "status_words"]
