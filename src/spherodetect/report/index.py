"""The page index.html: all patients of a run in a table that can be sorted, and a funnel plot.

The page has no script. The table is in the order of the patients. The buttons above it sort it by
style rules alone, in browsers with CSS `:has` and `subgrid` (all since 2023); in other browsers
they do not appear. Percentages are 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spherodetect.report.fhir import FhirContext
from spherodetect.report.funnel_plot import funnel_plot
from spherodetect.report.page import axis_end, href, write_page
from spherodetect.report.status_text import status_words
from spherodetect.score.counts import STATUSES, PatientScore
from spherodetect.score.grades import ICSH2015, GradeScheme

#: What the table can be sorted by, and the words on its button.
_SORT_WORDS = {
    "patient": "patient",
    "score": "HS score",
    "width": "width of the interval",
    "grade": "grade",
    "status": "status",
    "countable": "countable cells",
    "flagged": "flagged cells",
    "fields": "fields counted",
    "rejected": "fields rejected",
}


def write_index(
    path: str | Path,
    rows: Iterable[tuple[PatientScore, str | None]],
    *,
    title: str = "Patients",
    scheme: GradeScheme = ICSH2015,
    problems: Sequence[str] = (),
    context: FhirContext | None = None,
) -> None:
    """Write the page of all patients.

    Args:
        path: the HTML file.
        rows: each patient's score, and the path of the patient's report relative to the page, or
            None if there is no report.
        title: the heading of the page.
        scheme: the table of the grades.
        problems: a line for each file or label that was left out.
        context: when and by whom the page was made.

    Raises:
        SpherodetectError: the file cannot be written.
        ValueError: a report's path is absolute or leaves the page's folder.
    """
    rows = list(rows)
    scores = [score for score, _ in rows]
    end = axis_end(
        max(
            (v for s in scores for v in (s.hs_score, s.hs_score_high) if math.isfinite(v)),
            default=0,
        ),
        0,
    )
    columns = _columns(scores, scheme)
    places = {name: _places(values) for name, values in columns.items()}
    links = [href(link) for _, link in rows]
    entries = [
        {
            "score": score,
            "href": link,
            "status": status_words(score),
            "has_interval": math.isfinite(score.hs_score_high),
            "places": {name: place[i] for name, place in places.items() if i in place},
        }
        for i, (score, link) in enumerate(zip(scores, links, strict=True))
    ]
    write_page(
        path,
        "index.html.j2",
        context=context,
        rows=entries,
        columns=_SORT_WORDS,
        axis=end,
        limits=[100 * limit / end for limit in scheme.from_percent[1:] if limit < end],
        scheme=scheme,
        title=title,
        reviewed=any(score.basis == "reviewed" for score in scores),
        funnel=funnel_plot(list(zip(scores, links, strict=True))),
        problems=problems,
    )


def _columns(scores: Sequence[PatientScore], scheme: GradeScheme) -> dict[str, list[Any]]:
    """Return the sort keys of each column; None comes last in both directions."""
    grades = {name: i for i, name in enumerate(scheme.grades)}
    return {
        "patient": list(range(len(scores))),
        "score": [s.hs_score if s.n_countable else None for s in scores],
        "width": [
            s.hs_score_high - s.hs_score_low if math.isfinite(s.hs_score_high) else None
            for s in scores
        ],
        "grade": [grades.get(s.grade.partition(" or ")[0]) if s.grade else None for s in scores],
        "status": [STATUSES.index(s.status) for s in scores],
        "countable": [s.n_countable for s in scores],
        "flagged": [s.n_spherocytes for s in scores],
        "fields": [s.n_fields for s in scores],
        "rejected": [s.n_fields_rejected for s in scores],
    }


def _places(values: Sequence[Any]) -> dict[int, int]:
    """Return index -> place in ascending order, from 0; equal values keep their order.

    None has no place, and the style rules put it last in both directions.
    """
    order = sorted(
        (i for i, value in enumerate(values) if value is not None), key=lambda i: values[i]
    )
    return {i: place for place, i in enumerate(order)}


__all__ = ["write_index"]
