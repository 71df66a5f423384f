"""The part of a patient's page that is about the review: rows, advice and the narrowing interval.

Percentages are 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherodetect.examined import Examined
from spherodetect.report.page import axis_end, number
from spherodetect.score.counts import CONFIDENT_WIDTH_POINTS, PatientScore, interval_words
from spherodetect.score.patient_review import PatientReview
from spherodetect.score.review import MAX_CELLS
from spherodetect.score.review_plan import expected_cells

WIDTH, HEIGHT = 760, 200


def review_rows(score: PatientScore, review: PatientReview) -> list[tuple[str, str, str]]:
    """Rows of what, how many, and a remark."""
    told = review.score
    who = " and ".join(name for name, _ in review.readers)
    rows = [
        (
            "By the model alone",
            f"{number(score.model_score)} %",
            interval_words(score.model_score_low, score.model_score_high)
            + " %" * math.isfinite(score.model_score_low),
        ),
        (
            "Cells reviewed",
            f"{told.n_reviewed:,}",
            f"of {told.n_cells:,} countable ones, drawn by design and shown blind to {who}",
        ),
        ("Named spherocytes", f"{told.n_spherocytes:,}", _left_out(review)),
        (
            "HS score",
            f"{number(told.score)} %",
            "from the reviewed cells, each standing for the cells of its stratum",
        ),
        (
            "Of the patient",
            f"{number(review.patient_low)} to {number(review.patient_high)} %",
            "95 % interval: the fields are a sample of the patient, design effect "
            f"{number(told.design_effect)}",
        ),
        (
            "Of the cells found",
            f"{number(review.cells_low)} to {number(review.cells_high)} %",
            "95 % interval; spherocytes that the model missed are in neither",
        ),
    ]
    if told.n_unsure:
        rows.append(
            (
                "Unsure",
                f"{told.n_unsure:,}",
                f"the score is {number(told.score_unsure_other)} % if all of them are other cells, "
                f"and {number(told.score_unsure_spherocyte)} % if all are spherocytes",
            )
        )
    for (name, n), both in zip(review.readers[1:], review.compared, strict=False):
        kappa = ""
        if np.isfinite(both.kappa):
            limits = f"{both.kappa_low:.2f} to {both.kappa_high:.2f}"
            kappa = f"; kappa of all cells {both.kappa:.2f} ({limits})"
        rows.append(
            (
                f"Second reader, {name}",
                f"{n:,}",
                f"{both.n_apart} of {both.n} cells named differently, score {both.shift:+.1f} "
                f"points{kappa}; the intervals hold both readers",
            )
        )
    return rows


def _left_out(review: PatientReview) -> str:
    told = review.score
    parts = [
        f"{n} {word}"
        for n, word in ((told.n_excluded, "not a single whole red cell"), (told.n_unsure, "unsure"))
        if n
    ]
    return f"left out: {', '.join(parts)}" if parts else ""


def review_advice(score: PatientScore, review: PatientReview) -> str:
    """What more reviewing would do, in one sentence; empty where nothing is missing."""
    if score.status != "low_confidence":
        return ""
    if not review.more_cells:
        return (
            "Reviewing all cells would not bring the interval to "
            f"{CONFIDENT_WIDTH_POINTS:g} points: the fields of this patient are few or differ. "
            "More fields would help."
        )
    return f"Review {review.more_cells} more cells to reach {CONFIDENT_WIDTH_POINTS:g} points."


def review_offer(score: PatientScore, fields: Sequence[Examined]) -> str:
    """How many cells a person would have to review, where the model alone is not narrow enough."""
    of_model = score.basis == "model" and score.status in ("low_confidence", "uncalibrated")
    if not of_model or not fields:
        return ""
    groups: list[str] = []
    ids: list[str] = []
    p: list[np.ndarray] = []
    for one in fields:
        counted = one.counted
        part = one.cells.measurements["part"] if one.parts else np.zeros(len(counted), int)
        groups += [f"{one.field_id} {k}" for k in part[counted]]
        ids += [f"{one.field_id}#{k}" for k in one.cells.cell_id[counted]]
        p.append(one.cells.p_spherocyte[counted])
    n = expected_cells(np.concatenate(p), ids, groups, width=CONFIDENT_WIDTH_POINTS)
    if n is None or n > MAX_CELLS:
        return ""
    bring = "give an interval of" if score.status == "uncalibrated" else "bring the interval to"
    return (
        f"A person who names about {n} of the cells would {bring} "
        f"{CONFIDENT_WIDTH_POINTS:g} points: spherodetect review."
    )


def narrowing(review: PatientReview) -> dict[str, Any] | None:
    """Both intervals after each batch, as the page draws them; None after one batch only."""
    looks = review.looks
    if len(looks) < 2:
        return None
    top = axis_end(max(look.patient_high for look in looks), 0)
    first, last = looks[0].n, looks[-1].n

    def x(n: int) -> float:
        return round(WIDTH * (n - first) / (last - first), 1)

    def y(percent: float) -> float:
        return round(HEIGHT * (1 - percent / top), 1)

    def band(low: str, high: str) -> str:
        there = [f"{x(look.n)},{y(getattr(look, high))}" for look in looks]
        back = [f"{x(look.n)},{y(getattr(look, low))}" for look in reversed(looks)]
        return " ".join(there + back)

    step = max(1, -(-len(looks) // 8))
    return {
        "patient": band("patient_low", "patient_high"),
        "cells": band("cells_low", "cells_high"),
        "score": " ".join(f"{x(look.n)},{y(look.score)}" for look in looks),
        "points": [(x(look.n), y(look.score)) for look in looks],
        "x_ticks": [(x(look.n), look.n) for look in looks[::-step][::-1]],
        "y_ticks": [(y(top * i / 5), f"{top * i / 5:g}") for i in range(6)],
        "width": WIDTH,
        "height": HEIGHT,
    }
