"""The score of a patient on a horizontal scale with the grades, as the page draws it."""

from __future__ import annotations

import math
from typing import Any

from spherodetect.report.page import axis_end
from spherodetect.score.counts import PatientScore
from spherodetect.score.grades import GradeScheme


def graded_scale(score: PatientScore, scheme: GradeScheme) -> dict[str, Any]:
    """Return bands, ticks, interval and score; positions are percent of the scale's width."""
    reviewed = score.basis == "reviewed"
    has_interval = math.isfinite(score.hs_score_high)
    shown = [score.hs_score_high if has_interval else score.hs_score]
    if reviewed:
        shown += filter(math.isfinite, (score.model_score, score.model_score_high))
    highest = max(shown)
    end = axis_end(highest, 1.25 * scheme.from_percent[-1])
    limits = [*(limit for limit in scheme.from_percent if limit < end), end]
    bands = []
    for name, low, high in zip(scheme.grades, limits, limits[1:], strict=False):
        width = 100 * (high - low) / end
        # A letter takes about 1.4 % of the width; a band too narrow for its name has none.
        bands.append(
            {"x": 100 * low / end, "width": width, "name": name if width > 1.4 * len(name) else ""}
        )
    # A round number too near to a limit of a grade is left out.
    ticks = {end * i / 5 for i in range(6)}
    ticks = {t for t in ticks if min(abs(t - limit) for limit in limits) > 0.04 * end} | set(limits)
    return {
        "bands": bands,
        "ticks": [
            {"x": 100 * t / end, "label": f"{t:g}", "limit": t in limits[1:-1]}
            for t in sorted(ticks)
        ],
        "limits": (100 * score.hs_score_low / end, 100 * score.hs_score_high / end)
        if has_interval
        else None,
        "at": 100 * score.hs_score / end,
        "model": {
            "limits": (100 * score.model_score_low / end, 100 * score.model_score_high / end)
            if math.isfinite(score.model_score_high)
            else None,
            "at": 100 * score.model_score / end,
        }
        if reviewed
        else None,
    }


__all__ = ["graded_scale"]
