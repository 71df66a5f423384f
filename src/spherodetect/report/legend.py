"""The strip below the picture of a field: legend, counts, scale bar and note.

Lengths are pixels of the picture. All of them grow with `line_px`, the width of a line, which grows
with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spherodetect.report.outlines import INK, PAPER, Style, draw_outline

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
#: Lengths of a scale bar, the longest first; the bar takes at most this part of the width.
_BARS_UM, _BAR_PART = (50, 20, 10, 5, 2, 1), 0.15


class _Entry(NamedTuple):
    """A sample of an outline with its text, and where the upper left corner lies."""

    left: float
    top: float
    style: Style
    text: str


def draw_legend(
    width: int,
    counts: Sequence[tuple[Style, int]],
    *,
    um_per_px: float | None,
    note: str,
    line_px: float,
) -> Image.Image:
    """Return the strip: a sample of each outline with its count, the scale bar, the note.

    Args:
        width: of the strip.
        counts: the styles to list, with their number of cells.
        um_per_px: size of a pixel of the picture; None for no scale bar.
        note: a text below the legend, wrapped to the width; may be empty.
        line_px: width of a line.
    """
    font = ImageFont.load_default(round(10 * line_px))
    row, gap = round(17 * line_px), round(12 * line_px)
    bar_um, bar_px = _bar(width, um_per_px)
    first_row_end = width - (bar_px + round(50 * line_px) + gap if bar_px else 0)
    entries: list[_Entry] = []
    x, y = float(gap), float(round(4 * line_px))
    for style, n in counts:
        text = f"{style.label} {n}"
        needed = row + font.getlength(text) + gap
        if x > gap and x + needed > (first_row_end if y < row else width):
            x, y = gap, y + row
        entries.append(_Entry(x, y, style, text))
        x += needed
    lines = _wrapped(note, font, width - 2 * gap)
    height = round(y + row * (1 + len(lines)) + 4 * line_px)
    strip = Image.fromarray(_samples((height, width), entries, row=row, line_px=line_px))
    draw = ImageDraw.Draw(strip)
    for left, top, _, text in entries:
        draw.text((left + row * 1.1, top + row / 2), text, INK, font, "lm")
    for i, text in enumerate(lines, 1):
        draw.text((gap, y + row * (i + 0.5)), text, INK, font, "lm")
    if bar_px:
        right_middle = (width - gap, round(4 * line_px) + row // 2)
        _draw_bar(draw, right_middle, bar_px, f"{bar_um}  ", font, line_px)
    return strip


def _bar(width: int, um_per_px: float | None) -> tuple[int, int]:
    """Return the length of the scale bar in µm and in pixels; both 0 for no bar."""
    for bar_um in _BARS_UM:
        if um_per_px and bar_um / um_per_px < _BAR_PART * width:
            return bar_um, round(bar_um / um_per_px)
    return 0, 0


def _samples(
    size_hw: tuple[int, int], entries: Sequence[_Entry], *, row: int, line_px: float
) -> np.ndarray:
    """Return the empty strip (H, W, 3) with an outlined disc for each entry."""
    canvas = np.full((*size_hw, 3), PAPER, np.uint8)
    at = np.arange(row) + 0.5 - row / 2
    disc = np.hypot(at[:, None], at) < 0.3 * row
    for left, top, style, _ in entries:
        draw_outline(canvas, disc, (int(top), int(left)), scale=1, style=style, line_px=line_px)
    return canvas


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    right_middle: tuple[int, int],
    length_px: int,
    number: str,
    font: _Font,
    line_px: float,
) -> None:
    """Draw a scale bar with its length in µm before it."""
    right, y = right_middle
    left, thick = right - length_px, max(2, round(2 * line_px))
    draw.rectangle((left, y - thick // 2, right, y - thick // 2 + thick - 1), INK)
    x = left - 4 * line_px - font.getlength(number + "um")
    draw.text((x, y), number + "um", INK, font, "lm")
    # Pillow's built-in font has no µ, so a stem is drawn at the u.
    x += font.getlength(number)
    u = draw.textbbox((x, y), "u", font, "lm")
    draw.line(
        (u[0] + line_px * 0.4, u[1] + line_px, u[0] + line_px * 0.4, u[3] + 2.4 * line_px),
        INK,
        max(1, round(0.9 * line_px)),
    )


def _wrapped(text: str, font: _Font, width: float) -> list[str]:
    """Return the text in lines of at most this width; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


__all__ = ["draw_legend"]
