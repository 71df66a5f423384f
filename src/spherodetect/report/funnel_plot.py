"""The funnel plot: each patient's percentage of flagged cells against the number of cells.

The plot (Spiegelhalter 2005, doi 10.1002/sim.1970) shows where patients of one true percentage
would lie: the limits are around the uncorrected percentage of all cells together, and narrow with
the number of counted cells. Cells of one field are similar. Therefore n cells carry as much
information as n / (1 + (m - 1) rho) independent cells, for m cells a field and the correlation rho
that the score assumes by default. The divisor is called the design effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from spherodetect.report.page import axis_end
from spherodetect.score.counts import PatientScore
from spherodetect.score.interval import DEFAULT_FIELD_ICC

#: With fewer patients, limits around what they have in common say little.
MIN_PATIENTS = 5
#: Size of the plot, in units of its SVG.
WIDTH, HEIGHT = 760, 300
#: Probability between the limits, and the SVG dashes of their lines.
_LIMITS = ((0.95, "6 4"), (0.998, "2 3"))
#: With more patients than this, the points have no names beside them.
_MAX_NAMES = 25


def funnel_plot(rows: Sequence[tuple[PatientScore, str | None]]) -> dict[str, Any] | None:
    """Return what the template draws, in units of the SVG; None for fewer than MIN_PATIENTS.

    Args:
        rows: each patient's score and the link of the patient's report, or None. Patients without
            a countable cell are left out.
    """
    counted = [(score, link) for score, link in rows if score.n_countable]
    if len(counted) < MIN_PATIENTS:
        return None
    cells, flagged, fields = (
        sum(getattr(score, name) for score, _ in counted)
        for name in ("n_countable", "n_spherocytes", "n_fields")
    )
    share = flagged / cells
    effect = max(1.0, 1 + (cells / fields - 1) * DEFAULT_FIELD_ICC)
    most = _round_up(1.06 * max(score.n_countable for score, _ in counted))
    n = np.geomspace(max(most / 400, 1), most, 120)
    limits = [(funnel_limits(share, n / effect, level), dashes) for level, dashes in _LIMITS]
    # The limits are very wide where few cells were counted. The axis need not show them further
    # left than 0.6 times the smallest number of cells.
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
        "named": len(points) <= _MAX_NAMES,
        "x_ticks": [(place(most * i / 5, 0)[0], f"{most * i / 5:,.0f}") for i in range(6)],
        "y_ticks": [(place(0, top * i / 5)[1], f"{top * i / 5:g}") for i in range(6)],
        "effect": effect,
        "width": WIDTH,
        "height": HEIGHT,
    }


def funnel_limits(share: float, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits between which the share of n independent cells lies with a probability.

    The arcsine transformation of the binomial keeps them within 0 and 1.

    Args:
        share: the true share, 0 to 1.
        n: (N,) numbers of cells.
        level: the probability.

    Returns:
        (N,) lower limits and (N,) upper limits, 0 to 1.
    """
    spread = special.ndtri(0.5 + level / 2) / (2 * np.sqrt(n))
    angle = math.asin(math.sqrt(share))
    low, high = np.clip(angle - spread, 0, None), np.clip(angle + spread, None, math.pi / 2)
    return np.sin(low) ** 2, np.sin(high) ** 2


def _round_up(value: float) -> int:
    """Return the next larger number that five equal steps divide into round numbers."""
    step = 10 ** math.floor(math.log10(max(value, 10)))
    return next(int(step * k) for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * k >= value)


__all__ = ["HEIGHT", "WIDTH", "funnel_limits", "funnel_plot"]
