"""Burnt-in scale bars, and the bars in the text strips of electron microscopes, by image analysis.

Images are uint8 RGB (H, W, 3). Lengths are in pixels of the image, and rows run downwards. A bar is
one exactly horizontal line of one colour near the upper or lower edge, or in the strip. It either
has a tick at both ends or is a plain rectangle of paint. `ocr.py` reads its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from spherodetect.fields.strip import block_mean, image_rows
from spherodetect.scale.bar_ends import CUT, Line, paint_ends, tick_ends
from spherodetect.scale.strokes import THICK_PX, black_top_hat, unit_px

#: Part of the height, at the top and at the bottom, in which bars are searched.
_ZONE = 0.3
#: A larger image is analysed in a copy of this many pixels on its long side. Its bar is longer too.
_MAX_SIDE_PX = 2560
#: Least length of a bar, in units: half a pixel at each end of a shorter bar would be over 2 %.
_LEAST_PX = 20
#: Least contrast times length of a bar, in grey levels times units. Chula RBC-12 at half to twice
#: its size: at least 940 for 95 % of the bars. Straight pieces of the outlines of cells, with
#: something like ticks, in the same fields: at most 800 for 95 % of them.
_LEAST_INK = 900
#: A line without ticks is the stroke of a letter if so many marks of its colour stand beside it, at
#: most so far away and with a height in this range, both in lengths of the line. A bar is longer
#: than its number is high.
_LETTERS, _LETTER_APART, _LETTER_HEIGHTS, _SAME_INK = 2, 3.0, (0.6, 3.0), 30
#: A letter may end so many lengths above an underscore, or begin below the top of a capital. It
#: fills less of its box than a cell.
_LETTER_DROP, _LETTER_FILL = 0.8, 0.7


@dataclass(frozen=True)
class ScaleBar:
    """A bar in an image.

    Attributes:
        length_px: distance of the middles of the ticks, or the length of a plain bar.
        box_yxyx: the line with its ticks, half-open.
        colour: its (red, green, blue).
    """

    length_px: float
    box_yxyx: tuple[int, int, int, int]
    colour: tuple[int, int, int]


def find_scale_bar(image: np.ndarray) -> ScaleBar | None:
    """The most distinct scale bar of an image, or None.

    Args:
        image: (H, W, 3) uint8.

    >>> import numpy as np
    >>> image = np.full((480, 640, 3), 200, np.uint8)
    >>> image[440:443, 500:600] = 0
    >>> find_scale_bar(image).length_px
    100.0
    """
    step = -(-max(image.shape[:2]) // _MAX_SIDE_PX)
    image = block_mean(image, step) if min(image.shape[:2]) >= step else image[:0]
    height, rows = len(image), image_rows(image) if len(image) else 0
    depth = round(_ZONE * rows)
    zones = [(rows, height)] if rows < height else [(0, depth), (rows - depth, rows)]
    unit = unit_px(image)
    found = [
        (rank, bar)
        for top, bottom in zones
        for rank, bar in _bars(image[top:bottom], top, unit)
        if rank[0] or not _in_text(image, bar)
    ]
    if not found:
        return None
    best = max(found, key=lambda item: item[0])[1]
    top, left, bottom, right = best.box_yxyx
    return replace(
        best,
        length_px=step * best.length_px,
        box_yxyx=(step * top, step * left, step * bottom, step * right),
    )


def _bars(zone: np.ndarray, top: int, unit: int) -> Iterator[tuple[tuple[bool, float], ScaleBar]]:
    """The bars in some rows of an image, each with its rank.

    A bar with ticks ranks before a plain one, then contrast times length decides.

    Args:
        zone: (h, W, 3) uint8, rows of the image.
        top: first of these rows in the image.
        unit: see `strokes.unit_px`.
    """
    size = THICK_PX * unit + 1
    if min(zone.shape[:2]) < 2 * size:
        return
    planes = np.concatenate([zone, _greenness(zone)], axis=2)
    # Dark bars stand out in the planes, bright bars in their negatives.
    for ink in (planes, 255 - planes):
        # A horizontal line is narrow along a column, a tick is narrow along a row.
        levels, uprights = (black_top_hat(ink, size, axis=axis) for axis in (0, 1))
        for channel in range(planes.shape[2]):
            level, upright = levels[..., channel], uprights[..., channel]
            for line in (_trimmed(line, level) for line in _lines(level, unit)):
                # At the edge of the zone a wide dark area is cut, and looks like a thin line.
                if line.top < size // 2 or line.bottom > len(zone) - size // 2:
                    continue
                contrast = _contrast(line, level)
                if contrast * (line.right - line.left) < _LEAST_INK * unit:
                    continue
                ends = tick_ends(line, upright, contrast, unit) or paint_ends(
                    line, ink[..., channel], level, contrast, unit
                )
                if ends is None:
                    continue
                length = ends.columns[1] - ends.columns[0]
                if contrast * length < _LEAST_INK * unit:
                    continue
                y0, y1 = ends.rows
                drawn = zone[line.top : line.bottom, line.left : line.right].reshape(-1, 3)
                red, green, blue = np.median(drawn, axis=0).astype(int).tolist()
                box = (top + y0, line.left, top + y1, line.right)
                has_ticks = y1 - y0 > line.bottom - line.top
                yield (has_ticks, contrast * length), ScaleBar(length, box, (red, green, blue))


def _in_text(image: np.ndarray, bar: ScaleBar) -> bool:
    """Whether a line is a stroke of burnt-in text, such as a camera's: letters stand beside it."""
    top, left, bottom, right = bar.box_yxyx
    length = right - left
    low, high = (factor * length for factor in _LETTER_HEIGHTS)
    reach, beside = round(high), round(_LETTER_APART * length)
    y0, x0 = max(0, top - reach), max(0, left - beside)
    window = image[y0 : bottom + reach, x0 : right + beside]
    ink = (np.abs(window.astype(np.int16) - np.array(bar.colour)) < _SAME_INK).all(axis=2)
    # The strokes of letters are narrow, and the dark parts of cells are not.
    size = THICK_PX * unit_px(image) + 1
    thin = [black_top_hat(one, size, axis=a) for one in (window, 255 - window) for a in (0, 1)]
    ink &= np.max(thin, axis=(0, 3)) > CUT
    own = slice(left - x0, right - x0)
    ink[:, own] = False
    marks = ndimage.find_objects(ndimage.label(ink, np.ones((3, 3)))[0])
    letters = [
        low <= y.stop - y.start <= high
        and y.start < bottom - y0 + _LETTER_DROP * length
        and y.stop > top - y0 - _LETTER_DROP * length
        and ink[y, x].mean() < _LETTER_FILL
        for y, x in marks
    ]
    return sum(letters) >= _LETTERS


def _greenness(image: np.ndarray) -> np.ndarray:
    """(H, W, 1) uint8: green over the mean of red and blue, 128 for grey.

    A green bar can be as bright as the slide in each channel, but nothing on a smear is as green.
    """
    red, green, blue = np.moveaxis(image.astype(np.int16), -1, 0)
    return np.clip(128 + green - (red + blue) // 2, 0, 255).astype(np.uint8)[..., None]


def _lines(level: np.ndarray, unit: int) -> list[Line]:
    """Horizontal lines: long runs along rows, joined with the runs of the next rows.

    A run is a sequence of pixels above CUT, in which gaps of 2 units are closed. Runs of
    neighbouring rows are one line if they begin and end within 3 units of each other.

    Args:
        level: (H, W) uint8, top-hat along columns.
        unit: see `strokes.unit_px`.
    """
    edges = np.diff(np.pad((level > CUT).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, start), stop = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    joined = (row[1:] == row[:-1]) & (start[1:] - stop[:-1] <= 2 * unit)
    first = np.flatnonzero(np.concatenate([[True], ~joined])) if len(row) else np.zeros(0, int)
    last = np.concatenate([first[1:], [len(row)]])[: len(first)] - 1
    long = stop[last] - start[first] >= _LEAST_PX * unit
    runs = np.stack([row[first], start[first], stop[last]], axis=1)[long].tolist()
    lines: list[Line] = []
    open_lines: list[int] = []  # indices of the lines that may continue in this row
    for y, left, right in runs:
        open_lines = [k for k in open_lines if lines[k].bottom >= y]
        for k in open_lines:
            line = lines[k]
            same_left = abs(line.left - left) <= 3 * unit
            same_right = abs(line.right - right) <= 3 * unit
            if line.bottom == y and same_left and same_right:
                lines[k] = Line(line.top, y + 1, min(line.left, left), max(line.right, right))
                break
        else:
            open_lines.append(len(lines))
            lines.append(Line(y, y + 1, left, right))
    return lines


def _trimmed(line: Line, level: np.ndarray) -> Line:
    """The line without much fainter pixels at its ends, such as the edge of a cell behind it."""
    core = level[line.top : line.bottom, line.left : line.right].max(axis=0)
    strong = np.flatnonzero(core > 0.4 * np.median(core))
    return line._replace(left=line.left + int(strong[0]), right=line.left + int(strong[-1]) + 1)


def _contrast(line: Line, level: np.ndarray) -> float:
    """The grey levels of an even, thin line over its surroundings, or 0 for any other line.

    The line must be thin, shorter than 0.7 of the image, strong over nine tenths of its length, and
    its rows must be empty beyond its ends.
    """
    length, width = line.right - line.left, level.shape[1]
    if line.bottom - line.top > 0.16 * length or length > 0.7 * width:
        return 0.0
    rows = level[line.top : line.bottom]
    core = np.sort(rows[:, line.left : line.right].max(axis=0))
    contrast = float(core[length // 2])
    apart = 2 * (line.bottom - line.top)
    before = rows[:, : max(0, line.left - apart)][:, -2 * apart :]
    after = rows[:, line.right + apart :][:, : 2 * apart]
    ended = all(side.mean() < 0.5 * contrast for side in (before, after) if side.size)
    return contrast if core[length // 10] > 0.5 * contrast and ended else 0.0
