"""Burnt-in scale bars and the metadata strips of electron microscopes, found by image analysis.

Images are uint8 RGB (H, W, 3); lengths are in pixels of the image, rows run downwards. A bar is one
exactly horizontal line of one colour near the upper or lower edge, or in the strip: with a tick at
both ends, or a plain rectangle of paint. Its number is read only where the extra [ocr] is installed
and sure of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from spherodetect.scale.strip import block_mean, image_rows

#: Bars are looked for in so much of the height at the top and at the bottom.
_ZONE = 0.3
#: The measures below are for an image of so many pixels on its long side, and grow with it.
_UNIT_PX = 640
#: A larger image is looked at in a copy of so many pixels: its bar is longer too.
_MAX_SIDE_PX = 2560
#: Shortest bar: half a pixel at each end of a shorter one would be more than 2 %.
_LEAST_PX = 20
#: A line is thinner.
_THICK_PX = 8
#: From so many grey levels over what lies above and below it a line is traced.
_CUT = 10
#: Contrast times length of a bar. Chula RBC-12 at half to twice its size: 940 and more in 95 %;
#: straight pieces of cells' outlines with something like ticks, in the same fields: up to 800 in 95
#: %.
_LEAST_INK = 900
#: A line without ticks could be a hair: it has to be paint.
_PAINT_CONTRAST = 50.0
#: How much it may vary along a row, as JPEG makes it, in parts of the contrast.
_PAINT_SPREAD = 0.12


@dataclass(frozen=True)
class ScaleBar:
    """A bar in an image.

    Attributes:
        length_px: from the middle of one tick to the middle of the other, or of a plain bar from
            end to end.
        box_yxyx: the line with its ticks, half-open.
        colour: its (red, green, blue).
    """

    length_px: float
    box_yxyx: tuple[int, int, int, int]
    colour: tuple[int, int, int]


#: Columns of a bar's ends, and its rows.
_Found = tuple[tuple[float, float], tuple[int, int]]


class _Line(NamedTuple):
    """A traced line, half-open."""

    top: int
    bottom: int
    left: int
    right: int


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
    found = [bar for top, bottom in zones for bar in _bars(image[top:bottom], top, _unit(image))]
    if not found:
        return None
    best = max(found, key=lambda item: item[0])[1]
    top, left, bottom, right = best.box_yxyx
    return replace(
        best,
        length_px=step * best.length_px,
        box_yxyx=(step * top, step * left, step * bottom, step * right),
    )


def _unit(image: np.ndarray) -> int:
    return max(1, round(max(image.shape[:2]) / _UNIT_PX))


def _bars(zone: np.ndarray, top: int, unit: int) -> Iterator[tuple[tuple[bool, float], ScaleBar]]:
    """Bars in some rows of an image, each with its rank: one with ticks before a plain one, then by
    distinctness."""
    size = _THICK_PX * unit + 1
    if min(zone.shape[:2]) < 2 * size:
        return
    planes = np.concatenate([zone, _greenness(zone)], axis=2)
    for ink in (planes, 255 - planes):
        # What is narrow and dark, or bright in the negative: lines down a column, ticks along a
        # row.
        levels, uprights = (_narrow(ink, size, axis=axis) for axis in (0, 1))
        for channel in range(planes.shape[2]):
            level, upright = levels[..., channel], uprights[..., channel]
            for line in (_trimmed(line, level) for line in _lines(level, unit)):
                # What the zone's edge cuts thin is no line.
                if line.top < size // 2 or line.bottom > len(zone) - size // 2:
                    continue
                contrast = _contrast(line, level)
                if contrast * (line.right - line.left) < _LEAST_INK * unit:
                    continue
                found = _ticks(line, upright, contrast, unit) or _paint(
                    line, ink[..., channel], level, contrast, unit
                )
                if found and contrast * (length := found[0][1] - found[0][0]) >= _LEAST_INK * unit:
                    y0, y1 = found[1]
                    drawn = zone[line.top : line.bottom, line.left : line.right].reshape(-1, 3)
                    red, green, blue = np.median(drawn, axis=0).astype(int).tolist()
                    box = (top + y0, line.left, top + y1, line.right)
                    ticked = y1 - y0 > line.bottom - line.top
                    yield (ticked, contrast * length), ScaleBar(length, box, (red, green, blue))


def _greenness(image: np.ndarray) -> np.ndarray:
    """(H, W, 1) uint8: a green bar is as bright as the slide here and there, but nothing on a smear
    is as green."""
    red, green, blue = np.moveaxis(image.astype(np.int16), -1, 0)
    return np.clip(128 + green - (red + blue) // 2, 0, 255).astype(np.uint8)[..., None]


def _narrow(image: np.ndarray, size: int, *, axis: int) -> np.ndarray:
    """How much darker a pixel is than what closing by a window along one axis leaves of it (a black
    top-hat)."""
    closed = _extreme(_extreme(image, size, axis, np.maximum), size, axis, np.minimum)
    return np.asarray(closed - image)


def _extreme(image: np.ndarray, size: int, axis: int, extreme: np.ufunc) -> np.ndarray:
    """Largest or smallest value in a window of odd size, by windows of doubling length; many times
    scipy's pace."""
    values = np.moveaxis(image, axis, 0)
    values = np.pad(values, ((size // 2,) * 2, *((0, 0),) * (image.ndim - 1)), "edge")
    length = 1
    while length < size:
        step = min(length, size - length)
        values, length = extreme(values[:-step], values[step:]), length + step
    return np.moveaxis(values, 0, axis)


def _lines(level: np.ndarray, unit: int) -> list[_Line]:
    """Runs along rows, small gaps closed, and runs in neighbouring rows that begin and end
    together."""
    edges = np.diff(np.pad((level > _CUT).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, start), stop = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    joined = (row[1:] == row[:-1]) & (start[1:] - stop[:-1] <= 2 * unit)
    first = np.flatnonzero(np.concatenate([[True], ~joined])) if len(row) else np.zeros(0, int)
    last = np.concatenate([first[1:], [len(row)]])[: len(first)] - 1
    long = stop[last] - start[first] >= _LEAST_PX * unit
    lines: list[_Line] = []
    above: list[int] = []  # lines that may go on in this row
    for y, left, right in np.stack([row[first], start[first], stop[last]], axis=1)[long].tolist():
        above = [k for k in above if lines[k].bottom >= y]
        for k in above:
            line = lines[k]
            if (
                line.bottom == y
                and abs(line.left - left) <= 3 * unit
                and abs(line.right - right) <= 3 * unit
            ):
                lines[k] = _Line(line.top, y + 1, min(line.left, left), max(line.right, right))
                break
        else:
            above.append(len(lines))
            lines.append(_Line(y, y + 1, left, right))
    return lines


def _trimmed(line: _Line, level: np.ndarray) -> _Line:
    """The line without what joined it at its ends and is much fainter."""
    core = level[line.top : line.bottom, line.left : line.right].max(axis=0)
    strong = np.flatnonzero(core > 0.4 * np.median(core))
    return line._replace(left=line.left + int(strong[0]), right=line.left + int(strong[-1]) + 1)


def _contrast(line: _Line, level: np.ndarray) -> float:
    """Of an even, thin line its grey levels over its surroundings, else 0."""
    length, width = line.right - line.left, level.shape[1]
    if line.bottom - line.top > 0.16 * length or length > 0.7 * width:
        return 0.0
    rows = level[line.top : line.bottom]
    core = np.sort(rows[:, line.left : line.right].max(axis=0))
    contrast = float(core[length // 2])
    apart = 2 * (line.bottom - line.top)
    before, after = (
        rows[:, : max(0, line.left - apart)][:, -2 * apart :],
        rows[:, line.right + apart :][:, : 2 * apart],
    )
    ended = all(side.mean() < 0.5 * contrast for side in (before, after) if side.size)
    return contrast if core[length // 10] > 0.5 * contrast and ended else 0.0


def _ticks(line: _Line, upright: np.ndarray, contrast: float, unit: int) -> _Found | None:
    """The middles of the ticks at a line's ends, and the rows of line and ticks; None where it has
    none."""
    # A tall tick is no part of the line that was traced, which ends beside it.
    reach = 4 * unit
    spans = (
        slice(max(0, line.left - reach), line.left + reach),
        slice(line.right - reach, line.right + reach),
    )
    best: tuple[int, _Found] | None = None
    if line.bottom - line.top > 0.1 * (line.right - line.left):
        return None
    for outward in (slice(line.top - 1, None, -1), slice(line.bottom, None)):
        # Rows in which both ends are marked, from the line on; the two stop together.
        marks = np.stack([upright[outward, span].max(axis=1) for span in spans])
        tall = int(np.argmin(np.append(marks.min(axis=0) > max(_CUT, 0.3 * contrast), False)))
        if not 2 * unit <= tall <= 0.3 * (line.right - line.left) or (best and tall <= best[0]):
            continue
        after = marks[:, tall + unit : tall + unit + 1]
        if (after > 0.7 * np.median(marks[:, :tall], axis=1, keepdims=True)).any():
            continue
        rows = (
            slice(line.top - tall, line.top)
            if outward.step
            else slice(line.bottom, line.bottom + tall)
        )
        profile = np.median(upright[rows], axis=0)
        strength = [profile[span].max() / contrast for span in spans]
        wide = max((profile[span] > 0.5 * profile[span].max()).sum() for span in spans)
        beside = np.concatenate(
            [profile[spans[0].stop :][: 4 * unit], profile[: spans[1].start][-4 * unit :]]
        )
        narrow = (
            wide <= max(4 * unit, line.bottom - line.top) and np.median(beside) < 0.25 * contrast
        )
        if narrow and min(strength) > 0.4 and max(strength) > 0.6:
            left, right = (_middle(profile, span) for span in spans)
            best = tall, ((left, right), (min(line.top, rows.start), max(line.bottom, rows.stop)))
    return best[1] if best else None


def _middle(profile: np.ndarray, span: slice) -> float:
    """The middle of the peak in a span: of what is above 0.4 of it, without what lies beyond a
    dip."""
    values = profile[span] / profile[span].max() - 0.4
    peak = int(np.argmax(values))
    dips = np.flatnonzero(values <= 0)
    first = int(dips[dips < peak].max(initial=-1)) + 1
    last = int(dips[dips > peak].min(initial=len(values)))
    return span.start + 0.5 + float(np.average(np.arange(first, last), weights=values[first:last]))


def _paint(
    line: _Line, ink: np.ndarray, level: np.ndarray, contrast: float, unit: int
) -> _Found | None:
    """Where a rectangle of even paint begins and ends, and its rows; None where the line is
    anything else."""
    strength = np.median(level[line.top : line.bottom, line.left : line.right], axis=1)
    rows = ink[line.top : line.bottom][strength > 0.8 * contrast].astype(np.float32)
    if contrast < _PAINT_CONTRAST or len(rows) < 2:
        return None
    inner = rows[:, line.left + 2 * unit : line.right - 2 * unit]
    reach = 3 * unit
    if (
        inner.std(axis=1).max() > _PAINT_SPREAD * contrast
        or line.left < reach
        or line.right + reach > ink.shape[1]
    ):
        return None
    over = rows.mean(axis=0) - np.median(inner)  # the paint is darker than what lies around it
    outwards = (
        over[line.left - reach : line.left + reach][::-1],
        over[line.right - reach : line.right + reach],
    )
    if min(side[-1] for side in outwards) < 0.5 * contrast:
        return None
    left, right = (_half_way(side) for side in outwards)
    return (line.left + reach - left, line.right - reach + right), (line.top, line.bottom)


def _half_way(profile: np.ndarray) -> float:
    """How far a profile goes before it is half way to its last value, for the first time and
    between samples."""
    part = profile / profile[-1] - 0.5
    beyond = max(1, int(np.argmax(part > 0)))
    return beyond + 0.5 - float(part[beyond] / (part[beyond] - part[beyond - 1]))
