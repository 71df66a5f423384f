"""Histograms of size, pallor and density of a patient's counted cells.

Each panel has two rows. The upper row shows the cells that were not flagged, with labelled normal
cells as reference; the lower row shows the flagged cells, with labelled spherocytes as reference
(module `reference`). Heights are shares of the cells of the row, so that a few flagged cells are
as visible as many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherodetect.examined import Examined
from spherodetect.report.reference import QUANTILES

#: Width of a panel and height of a row, in units of the panel's SVG. The template draws the
#: baseline of a row at the bottom of its height.
WIDTH, ROW_HEIGHT = 300, 66


@dataclass(frozen=True)
class _Axis:
    """The horizontal axis of a panel.

    Attributes:
        measured: name of the measurement.
        title: of the panel.
        low, high: ends of the axis, in the unit of the measurement.
        ticks: in the unit that is shown.
        factor: from the unit of the measurement to the unit that is shown.
        n_bins: of the histogram.
    """

    measured: str
    title: str
    low: float
    high: float
    ticks: Sequence[float]
    factor: float = 1.0
    n_bins: int = 30


_SIZE_UM = _Axis(
    "diameter_um", "Size (diameter in µm)", 4, 11, (4, 5, 6, 7, 8, 9, 10, 11), n_bins=35
)
_SIZE = _Axis("relative_diameter", "Size (own median = 1)", 0.5, 1.5, (0.5, 0.75, 1, 1.25, 1.5))
_PALLOR = _Axis(
    "pallor_fraction", "Pallor (% of the inner cell)", 0, 0.6, (0, 20, 40, 60), factor=100
)
_DENSITY = _Axis("relative_od", "Density (own median = 1)", 0.4, 2.2, (0.5, 1, 1.5, 2), n_bins=36)


def panels(fields: Sequence[Examined]) -> list[dict[str, Any]]:
    """Return what the template draws of each panel; no panel without counted cells.

    Sizes are in µm if the pixel size of every field is known, else relative to the median.
    """
    fields = [field for field in fields if field.counted.any()]
    if not fields:
        return []
    size = _SIZE_UM if all(field.cells.um_per_px for field in fields) else _SIZE
    return [_panel(fields, axis) for axis in (size, _PALLOR, _DENSITY)]


def _panel(fields: Sequence[Examined], axis: _Axis) -> dict[str, Any]:
    rows = [
        _row(_values(fields, axis, flagged=flagged), axis, flagged=flagged)
        for flagged in (False, True)
    ]
    ticks = [(_x(tick / axis.factor, axis), f"{tick:g}") for tick in axis.ticks]
    return {"title": axis.title, "ticks": ticks, "rows": rows}


def _values(fields: Sequence[Examined], axis: _Axis, *, flagged: bool) -> np.ndarray:
    """Return (N,) finite values of all counted cells that were flagged, or that were not."""
    parts = []
    for field in fields:
        measured: Mapping[str, np.ndarray] = field.cells.measurements
        chosen = field.flagged if flagged else field.counted & ~field.flagged
        if axis.measured == "diameter_um" and "diameter_px" in measured:
            parts.append(measured["diameter_px"][chosen] * field.cells.um_per_px)
        elif axis.measured in measured:
            parts.append(measured[axis.measured][chosen])
    values = np.concatenate([np.zeros(0), *parts])
    return values[np.isfinite(values)]


def _row(values: np.ndarray, axis: _Axis, *, flagged: bool) -> dict[str, Any]:
    """Return what the template draws of one row; both histograms have the same vertical scale."""
    edges = np.linspace(axis.low, axis.high, axis.n_bins + 1)
    counts = np.histogram(values, edges)[0]
    shares = counts / max(len(values), 1)
    quantiles = QUANTILES[axis.measured]["spherocyte" if flagged else "normal"]
    # The reference is known by its quantiles; its histogram is the step of their inverse.
    cumulative = np.interp(edges, quantiles, np.linspace(0, 1, len(quantiles)))
    reference = np.diff(cumulative)
    top = max(shares.max(), reference.max())
    median = float(np.median(values)) if len(values) else None
    return {
        "n": len(values),
        "bars": _outline(shares / top, axis),
        "reference": _outline(reference / top, axis),
        "median": None if median is None else _x(float(np.clip(median, axis.low, axis.high)), axis),
        "median_label": None if median is None else _label(median, axis),
        "reference_label": _label(float(np.median(quantiles)), axis),
    }


def _label(value: float, axis: _Axis) -> str:
    """Return a value in the unit that is shown; percentages have no decimals."""
    return f"{value * axis.factor:.{0 if axis.factor > 1 else 2}f}"


def _x(value: float, axis: _Axis) -> float:
    """Return the place of a value in the SVG."""
    return round(WIDTH * (value - axis.low) / (axis.high - axis.low), 1)


def _outline(heights: np.ndarray, axis: _Axis) -> str:
    """Return a histogram as the points of an SVG polygon, from the baseline and back to it."""
    x = np.repeat(np.linspace(0, WIDTH, axis.n_bins + 1), 2)
    y = ROW_HEIGHT * (1 - np.concatenate([[0], np.repeat(heights, 2), [0]]))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
