"""How size, pallor and density of a patient's counted cells lie, beside those of labelled cells
(`reference`).

Two rows a panel: cells that were not flagged beside labelled normal cells, flagged cells beside
labelled spherocytes. Heights are shares of a row's own cells, so that few flagged cells show as
well as many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherodetect.examined import Examined
from spherodetect.report.reference import QUANTILES

#: Of a panel, in units of its SVG; the template draws a row's baseline at the bottom of its height.
WIDTH, ROW_HEIGHT = 300, 66


@dataclass(frozen=True)
class _Axis:
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
    """The panels that the page draws: titles, ticks and outlines as points of an SVG; none without
    counted cells."""
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
    """(N,) what was measured on the counted cells of all fields that were flagged, or that were
    not."""
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
    edges = np.linspace(axis.low, axis.high, axis.n_bins + 1)
    counts = np.histogram(values, edges)[0]
    shares = counts / max(len(values), 1)
    quantiles = QUANTILES[axis.measured]["spherocyte" if flagged else "normal"]
    below = np.interp(edges, quantiles, np.linspace(0, 1, len(quantiles)))
    reference = np.diff(below)
    top = max(shares.max(), reference.max())
    median = float(np.median(values)) if len(values) else None
    return {
        "n": len(values),
        "bars": _outline(shares / top, axis),
        "reference": _outline(reference / top, axis),
        "median": None if median is None else _x(float(np.clip(median, axis.low, axis.high)), axis),
        "median_label": None
        if median is None
        else f"{median * axis.factor:.{0 if axis.factor > 1 else 2}f}",
        "reference_label": f"{np.median(quantiles) * axis.factor:.{0 if axis.factor > 1 else 2}f}",
    }


def _x(value: float, axis: _Axis) -> float:
    return round(WIDTH * (value - axis.low) / (axis.high - axis.low), 1)


def _outline(heights: np.ndarray, axis: _Axis) -> str:
    """Steps from the baseline and back, as an SVG's points."""
    x = np.repeat(np.linspace(0, WIDTH, axis.n_bins + 1), 2)
    y = ROW_HEIGHT * (1 - np.concatenate([[0], np.repeat(heights, 2), [0]]))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
