"""The page batch.html: how a run over many patients goes on, and what changes along it.

While the run goes on, the page loads itself again. It has no script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from spherodetect.report.batch_summary import MEASURES, Summary
from spherodetect.report.page import number, write_page

#: Size of a plot, in units of its SVG.
WIDTH, HEIGHT = 860, 130
_LETTER = 14
#: Points of a plot. With more patients, a point is the median of neighbours.
_MAX_POINTS = 400
#: Problems, and patients who differ, that are listed; summary.json has all.
_MAX_LINES = 200


def write_batch_page(path: str | Path, summary: Summary, *, seconds_between: float) -> None:
    """Write the page of a batch.

    Args:
        path: the HTML file.
        summary: what is known so far.
        seconds_between: after so many seconds the page of a run that goes on is loaded again.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    drift = {one.name: one for one in summary.drift}
    differing = [
        (one, next(m for m in MEASURES if m.name == one.name))
        for one in summary.differing[:_MAX_LINES]
    ]
    plots = [
        {"measure": measure, "drift": drift.get(measure.name), "plot": _plot(summary, measure.name)}
        for measure in MEASURES
    ]
    write_page(
        path,
        "batch.html.j2",
        summary=summary,
        again=math.ceil(seconds_between) if not summary.complete else None,
        elapsed=_clock(summary.seconds),
        left=_clock(summary.seconds_left),
        percent=100 * summary.n_finished / max(1, summary.n_fields),
        plots=plots,
        differing=differing,
        n_differing=len({one.patient_id for one in summary.differing}),
        problems=summary.problems[:_MAX_LINES],
        width=WIDTH,
        height=HEIGHT,
    )


def _clock(seconds: float | None) -> str:
    """A duration as text."""
    return "not known yet" if seconds is None else str(timedelta(seconds=round(seconds)))


def _plot(summary: Summary, name: str) -> dict[str, Any] | None:
    """The patients' values by date or order, in units of the SVG; None for fewer than two."""
    odd = {one.patient_id for one in summary.differing if one.name == name}
    rows = [(n, row["patient_id"], row[name]) for n, row in enumerate(summary.patients)]
    known = [row for row in rows if math.isfinite(row[2])]
    if len(known) < 2:
        return None
    values = np.array([value for _, _, value in known])
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    low, high = low - margin, high + margin
    last = max(1, len(rows) - 1)

    def place(n: float, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low)
        return round(WIDTH * n / last, 1), round(HEIGHT * (1 - share), 1)

    usual = [row for row in known if row[1] not in odd]
    size = -(-len(usual) // _MAX_POINTS) or 1
    groups = [usual[k : k + size] for k in range(0, len(usual), size)]
    points = [
        (*place(fmean(n for n, _, _ in g), median(v for *_, v in g)), _title(g)) for g in groups
    ]
    marked = [(*place(n, v), f"{i}: {number(v, 3)}") for n, i, v in known if i in odd]
    ticks = [(place(0, v)[1], f"{v:.3g}") for v in (values.min(), values.max(), np.median(values))]
    if min(abs(ticks[2][0] - y) for y, _ in ticks[:2]) < _LETTER:
        del ticks[2]
    ends = ["1", f"{len(rows):,}"]
    if summary.along == "date":
        dates = [summary.patients[k].get("date") or "" for k in (0, -1)]
        ends = [date.partition(" ")[0] for date in dates]
    return {"points": points, "marked": marked, "ticks": ticks, "ends": ends}


def _title(group: Sequence[tuple[int, str, float]]) -> str:
    """The words at a point: a patient, or several neighbours."""
    if len(group) == 1:
        return f"{group[0][1]}: {number(group[0][2], 3)}"
    return f"{group[0][1]} to {group[-1][1]}: median {number(median(v for *_, v in group), 3)}"


__all__ = ["HEIGHT", "WIDTH", "write_batch_page"]
