"""Bar charts of a run by class: mean number of cells in a field, and mean area of a cell, as SVG.

Means are over all fields that could be read, and over all cells of a class with a known area. The
same result gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

from spherodetect.report.page import number
from spherodetect.safety import atomic_write
from spherodetect.score.counts import RESEARCH_USE

_WIDTH, _HEIGHT, _BAR, _GAP = 640, 250, 64, 36
_TOP, _LEFT = 56, 24
_MAX_NAME = 24


def write_bar_chart(path: str | Path, title: str, bars: Mapping[str, float], *, unit: str) -> None:
    """Write one bar for each name, with its value above it; an unknown value has no bar.

    Args:
        path: the SVG file.
        title: of the chart.
        bars: name to a value of 0 or more, or NaN.
        unit: of the values, for the title.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    known = [value for value in bars.values() if math.isfinite(value)]
    top = max(known, default=0.0) or 1.0
    width = max(_WIDTH, 2 * _LEFT + len(bars) * (_BAR + _GAP))
    base = _TOP + _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {base + 60}" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#1b2530">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{base + 60}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16" font-weight="600">{escape(title)} '
        f'<tspan font-weight="400" fill="#5b6673">({escape(unit)})</tspan></text>',
    ]
    for place, (name, value) in enumerate(bars.items()):
        x = _LEFT + _GAP / 2 + place * (_BAR + _GAP)
        middle = x + _BAR / 2
        height = _HEIGHT * value / top if math.isfinite(value) else 0.0
        parts += [
            f'<rect x="{x:.1f}" y="{base - height:.1f}" width="{_BAR}" height="{height:.1f}" '
            'fill="#0048ba"/>',
            f'<text x="{middle:.1f}" y="{base - height - 6:.1f}" text-anchor="middle">'
            f"{number(value)}</text>",
            *_name(name, middle, base + 20),
        ]
    parts += [
        f'<line x1="{_LEFT}" x2="{width - _LEFT}" y1="{base}" y2="{base}" stroke="#5b6673"/>',
        f'<text x="{_LEFT}" y="{base + 54}" font-size="12" fill="#5b6673">'
        f"{escape(RESEARCH_USE)}</text>",
        "</svg>",
    ]
    with atomic_write(path, text=True) as file:
        file.write("\n".join(parts) + "\n")


def _name(name: str, x: float, y: float) -> list[str]:
    """Return the name of a bar below it, in two lines if it has two words."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    shown = shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME - 1]}…"
    lines = shown.split(" ", 1)
    return [
        f'<text x="{x:.1f}" y="{y + 15 * k}" text-anchor="middle" font-size="13">'
        f"{escape(line)}</text>"
        for k, line in enumerate(lines)
    ]


__all__ = ["write_bar_chart"]
