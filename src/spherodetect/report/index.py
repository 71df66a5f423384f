"""Many patients on one page: side by side, in any order, and a funnel plot of their counts.

The page has no script. It comes in the order of the patients; where the browser knows CSS `:has`
and `subgrid` (all do since 2023), the arrows of a column sort the table, otherwise it stays in that
order. Percentages are 0 to 100.

The funnel (Spiegelhalter 2005, doi 10.1002/sim.1970) shows what patients of one true percentage
would give: the limits of the uncorrected percentage around that of all cells together, by the
number of cells counted. Cells of one field are alike, so that n of them tell as much as n over the
design effect 1 + (m - 1) rho of independent ones, for m cells a field and the correlation rho that
the score assumes by default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from spherodetect.report.page import axis_end, href, write_page
from spherodetect.report.patient import status_words
from spherodetect.score.counts import DEFAULT_FIELD_ICC, STATUSES, PatientScore
from spherodetect.score.grades import ICSH2015, GradeScheme

#: Of the funnel plot's field, in units of its SVG.
WIDTH, HEIGHT = 760, 300
#: Probability between the limits, and how their lines are dashed.
_LIMITS = ((0.95, "6 4"), (0.998, "2 3"))
_MOST_NAMES = 25


def write_index(
    path: str | Path,
    rows: Iterable[tuple[PatientScore, str | None]],
    *,
    title: str = "Patients",
    scheme: GradeScheme = ICSH2015,
    problems: Sequence[str] = (),
) -> None:
    """Write the page of a cohort.

    Args:
        path: the HTML file.
        rows: each patient's figures and the report's path relative to the page, or None where there
            is no report.
        title: the page's heading.
        scheme: the table that the grades come from.
        problems: a line for each thing that was left out.

    Raises:
        SpherodetectError: the file cannot be written.
        ValueError: a report's path is absolute or leaves the page's folder.
    """
    rows = list(rows)
    scores = [score for score, _ in rows]
    end = axis_end(
        max((s.hs_score_high for s in scores if math.isfinite(s.hs_score_high)), default=0), 0
    )
    columns = _columns(scores, scheme)
    places = {name: _places(values) for name, values in columns.items()}
    links = [href(link) for _, link in rows]
    entries = [
        {
            "score": score,
            "href": link,
            "status": status_words(score),
            "places": {name: place[i] for name, place in places.items() if i in place},
        }
        for i, (score, link) in enumerate(zip(scores, links, strict=True))
    ]
    write_page(
        path,
        "index.html.j2",
        rows=entries,
        columns=list(columns),
        axis=end,
        limits=[100 * limit / end for limit in scheme.from_percent[1:] if limit < end],
        scheme=scheme,
        title=title,
        funnel=_funnel(list(zip(scores, links, strict=True))),
        problems=problems,
    )


def _columns(scores: Sequence[PatientScore], scheme: GradeScheme) -> dict[str, list[Any]]:
    """What each column is sorted by; None comes last, rising and falling."""
    grades = {name: i for i, name in enumerate(scheme.grades)}
    return {
        "patient": list(range(len(scores))),
        "score": [s.hs_score if s.n_countable else None for s in scores],
        "width": [s.hs_score_high - s.hs_score_low if s.n_countable else None for s in scores],
        "grade": [grades.get(s.grade.partition(" or ")[0]) if s.grade else None for s in scores],
        "status": [STATUSES.index(s.status) for s in scores],
        "countable": [s.n_countable for s in scores],
        "flagged": [s.n_spherocytes for s in scores],
        "fields": [s.n_fields for s in scores],
        "rejected": [s.n_fields_rejected for s in scores],
    }


def _places(values: Sequence[Any]) -> dict[int, int]:
    """The place of each value in rising order, from 0; of two alike the earlier first. What is None
    has none."""
    order = sorted(
        (i for i, value in enumerate(values) if value is not None), key=lambda i: values[i]
    )
    return {i: place for place, i in enumerate(order)}


def _funnel(rows: Sequence[tuple[PatientScore, str | None]]) -> dict[str, Any] | None:
    """The plot's points, limits and ticks in units of its SVG; None with fewer than two patients to
    compare."""
    counted = [(score, link) for score, link in rows if score.n_countable]
    if len(counted) < 2:
        return None
    cells, called, fields = (
        sum(getattr(score, name) for score, _ in counted)
        for name in ("n_countable", "n_spherocytes", "n_fields")
    )
    share = called / cells
    effect = max(1.0, 1 + (cells / fields - 1) * DEFAULT_FIELD_ICC)
    most = _round_up(1.06 * max(score.n_countable for score, _ in counted))
    n = np.geomspace(max(most / 400, 1), most, 120)
    limits = [(_limits(share, n / effect, level), dashes) for level, dashes in _LIMITS]
    # The mouth of the funnel, where hardly any cells were counted, may leave the plot.
    at = int(np.searchsorted(n, 0.6 * min(score.n_countable for score, _ in counted)))
    highest = max(
        100 * float(limits[-1][0][1][min(at, len(n) - 1)]),
        *(score.raw_percent for score, _ in counted),
    )
    top = axis_end(highest, 0)

    def place(cells_counted: float, percent: float) -> tuple[float, float]:
        return round(WIDTH * cells_counted / most, 1), round(HEIGHT * (1 - percent / top), 1)

    def line(shares: np.ndarray) -> str:
        inside = [place(a, 100 * b) for a, b in zip(n, shares, strict=True) if 100 * b <= top]
        return " ".join(f"{x},{y}" for x, y in inside)

    points = [
        (*place(score.n_countable, score.raw_percent), score, link) for score, link in counted
    ]
    return {
        "pooled": place(0, 100 * share)[1],
        "percent": 100 * share,
        "limits": [(line(limit), dashes) for both, dashes in limits for limit in both],
        "points": points,
        "named": len(points) <= _MOST_NAMES,
        "x_ticks": [(place(most * i / 5, 0)[0], f"{most * i / 5:,.0f}") for i in range(6)],
        "y_ticks": [(place(0, top * i / 5)[1], f"{top * i / 5:g}") for i in range(6)],
        "effect": effect,
        "width": WIDTH,
        "height": HEIGHT,
    }


def _limits(share: float, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Between which shares n independent cells fall with this probability; by the arcsine, so never
    beyond 0 and 1."""
    spread = special.ndtri(0.5 + level / 2) / (2 * np.sqrt(n))
    angle = math.asin(math.sqrt(share))
    low, high = np.clip(angle - spread, 0, None), np.clip(angle + spread, None, math.pi / 2)
    return np.sin(low) ** 2, np.sin(high) ** 2


def _round_up(value: float) -> int:
    """The next number of cells that five ticks divide well."""
    step = 10 ** math.floor(math.log10(max(value, 10)))
    return next(int(step * k) for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * k >= value)


__all__ = ["write_index"]
