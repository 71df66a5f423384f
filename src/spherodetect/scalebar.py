"""Burnt-in scale bars and the metadata strips of electron microscopes, found by image analysis.

Images are uint8 RGB (H, W, 3); lengths are in pixels of the image, rows run downwards. A bar is one exactly horizontal
line of one colour near the upper or lower edge, or in the strip: with a tick at both ends, or a plain rectangle of
paint. Its number is read only where the extra [ocr] is installed and the reading is beyond doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

#: Bars are looked for in so much of the height at the top and at the bottom.
_ZONE = 0.3
#: The measures below are for an image of so many pixels on its long side, and grow with it.
_UNIT_PX = 640
#: Shortest bar: half a pixel at each end of a shorter one would be more than 2 %.
_LEAST_PX = 20
#: A line is at most so thick; stops between letters and cells are wider.
_THICK_PX = 8
#: From so many grey levels over what lies above and below it a line is traced.
_CUT = 10
#: Contrast times length of a bar. Chula RBC-12 at half to twice its size: 940 and more in 95 %; straight pieces of
#: cells' outlines with something like ticks, in the same fields: up to 800 in 95 %.
_LEAST_INK = 900
#: A line without ticks could be a hair: it has to be paint.
_PAINT_CONTRAST = 60.0
#: Metadata strips are so high, as parts of the image's height.
_STRIP_HEIGHT = (0.02, 0.3)
_STRIP_LEVELS = 6
#: From here on the reader's own certainty is trusted. Chula: 0.96 and more where it reads right, up to 0.84 elsewhere.
_READ_CONFIDENCE = 0.9
_LENGTH = re.compile(r"(\d{1,4}(?:[.,]\d{1,3})?)(µ|μ|u|n|m)m?")
_IN_UM = {"µ": 1.0, "μ": 1.0, "u": 1.0, "n": 1e-3, "m": 1e3}


@dataclass(frozen=True)
class ScaleBar:
    """A bar in an image.

    Attributes:
        length_px: from the middle of one tick to the middle of the other, or of a plain bar from end to end.
        box_yxyx: the line with its ticks, half-open.
        colour: its (red, green, blue).
    """

    length_px: float
    box_yxyx: tuple[int, int, int, int]
    colour: tuple[int, int, int]


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
    height = image.shape[0]
    rows = image_rows(image)
    depth = round(_ZONE * rows)
    zones = [(rows, height)] if rows < height else [(0, depth), (rows - depth, rows)]
    found = [bar for top, bottom in zones for bar in _bars(image[top:bottom], top, _unit(image))]
    return max(found, key=lambda item: item[0])[1] if found else None


def image_rows(image: np.ndarray) -> int:
    """How many rows from the top are picture: all, but for a flat strip of text that ends an electron micrograph."""
    height = len(image)
    image = image[:, :: max(1, image.shape[1] // 200)]
    paper = np.median(image[-max(1, height // 100) :].reshape(-1, 3), axis=0)
    flat = (np.abs(image.astype(np.int16) - paper).max(axis=2) <= _STRIP_LEVELS).mean(axis=1)
    low, high = (max(2, round(part * height)) for part in _STRIP_HEIGHT)
    if height < 4 * low:
        return height
    # The strip begins where flat rows begin; the letters and lines in it leave most of each row but a few flat.
    before, after = (np.convolve(flat, np.ones(low) / low, "valid")[s] for s in (np.s_[:-low], np.s_[low:]))
    step = (after - before)[height - high - low : height - 2 * low + 1]
    edge = height - high + int(np.argmax(step))
    sharp = flat[edge : edge + 2].min() - flat[edge - 2 : edge].max() > 0.3
    picture = flat[: edge - 1].mean() < 0.5 * flat[edge:].mean()
    return edge if step.max() > 0.4 and sharp and picture and np.median(flat[edge:]) > 0.6 else height


def read_length_um(image: np.ndarray, bar: ScaleBar) -> float | None:
    """The length that is written at a bar, in µm, or None where it cannot be read for certain or no reader is there.

    Needs the extra [ocr] (RapidOCR, whose models are in its package). A number without a unit is no length.
    """
    reader = _reader()
    if reader is None:
        return None
    lengths = set()
    for line in _text_lines(image, bar):
        found = reader(line, use_det=False, use_cls=False, use_rec=True)
        for text, confidence in zip(found.txts or (), found.scores or (), strict=False):
            match = _LENGTH.fullmatch(text.replace(" ", ""))
            if match and confidence >= _READ_CONFIDENCE:
                lengths.add(float(match[1].replace(",", ".")) * _IN_UM[match[2]])
    return lengths.pop() if len(lengths) == 1 and min(lengths) > 0 else None


def _unit(image: np.ndarray) -> int:
    return max(1, round(max(image.shape[:2]) / _UNIT_PX))


def _bars(zone: np.ndarray, top: int, unit: int) -> Iterator[tuple[tuple[bool, float], ScaleBar]]:
    """Bars in some rows of an image, each with its rank: one with ticks before a plain one, then by distinctness."""
    size = _THICK_PX * unit + 1
    if min(zone.shape[:2]) < 2 * size:
        return
    for ink in (zone, 255 - zone):
        # What is narrower than the window and dark (or, in the negative, bright): lines down a column, ticks along a row.
        levels, uprights = (np.moveaxis(_narrow(ink, size, axis=axis), 2, 0) for axis in (0, 1))
        for level, upright in zip(levels, uprights, strict=True):
            for line in _lines(level, unit):
                contrast = _contrast(line, level)
                if contrast * (line.right - line.left) < _LEAST_INK * unit:
                    continue
                ends = _ticks(line, upright, contrast, unit) or _paint_ends(line, level, contrast, unit)
                if ends:
                    (left, right), (y0, y1) = ends
                    if contrast * (right - left) < _LEAST_INK * unit:
                        continue
                    drawn = zone[line.top : line.bottom, line.left : line.right].reshape(-1, 3)
                    red, green, blue = np.median(drawn, axis=0).astype(int).tolist()
                    box = (top + y0, line.left, top + y1, line.right)
                    ticked = y1 - y0 > line.bottom - line.top
                    yield (ticked, contrast * (right - left)), ScaleBar(right - left, box, (red, green, blue))


def _narrow(image: np.ndarray, size: int, *, axis: int) -> np.ndarray:
    """How much darker each uint8 is than what a window of so many pixels along one axis closes over (a black top-hat)."""
    closed = _extreme(_extreme(image, size, axis, np.maximum), size, axis, np.minimum)
    return np.asarray(closed - image)


def _extreme(image: np.ndarray, size: int, axis: int, extreme: np.ufunc) -> np.ndarray:
    """Largest or smallest value in a window of odd size, by windows of doubling length; many times scipy's pace."""
    values = np.moveaxis(image, axis, 0)
    values = np.pad(values, ((size // 2,) * 2, *((0, 0),) * (image.ndim - 1)), "edge")
    length = 1
    while length < size:
        step = min(length, size - length)
        values, length = extreme(values[:-step], values[step:]), length + step
    return np.moveaxis(values, 0, axis)


def _lines(level: np.ndarray, unit: int) -> list[_Line]:
    """Runs along rows, small gaps closed, and runs in neighbouring rows that begin and end together."""
    edges = np.diff(np.pad((level > _CUT).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, start), stop = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    joined = (row[1:] == row[:-1]) & (start[1:] - stop[:-1] <= 2 * unit)
    first = np.flatnonzero(np.concatenate([[True], ~joined])) if len(row) else np.zeros(0, int)
    last = np.concatenate([first[1:], [len(row)]])[: len(first)] - 1
    long = stop[last] - start[first] >= _LEAST_PX * unit
    lines: list[_Line] = []
    for y, left, right in np.stack([row[first], start[first], stop[last]], axis=1)[long].tolist():
        near = 3 * unit
        for k, line in enumerate(lines):
            if line.bottom == y and abs(line.left - left) <= near and abs(line.right - right) <= near:
                lines[k] = _Line(line.top, y + 1, min(line.left, left), max(line.right, right))
                break
        else:
            lines.append(_Line(y, y + 1, left, right))
    return lines


def _contrast(line: _Line, level: np.ndarray) -> float:
    """Of an even, thin line its grey levels over its surroundings, else 0."""
    length, width = line.right - line.left, level.shape[1]
    if line.bottom - line.top > 0.1 * length or length > 0.7 * width:
        return 0.0
    rows = level[line.top : line.bottom]
    core = np.sort(rows[:, line.left : line.right].max(axis=0))
    contrast = float(core[length // 2])
    apart = 2 * (line.bottom - line.top)
    beyond = [rows[:, max(0, line.left - 3 * apart) : max(0, line.left - apart)], rows[:, line.right + apart :][:, : 2 * apart]]
    ended = all(side.mean() < 0.5 * contrast for side in beyond if side.size)
    return contrast if core[length // 10] > 0.5 * contrast and ended else 0.0


def _ticks(
    line: _Line, upright: np.ndarray, contrast: float, unit: int
) -> tuple[tuple[float, float], tuple[int, int]] | None:
    """The middles of the ticks at a line's ends, and the rows of line and ticks; None where it has none."""
    length, best, rows = line.right - line.left, 0, slice(0)
    spans = (slice(max(0, line.left - unit), line.left + 4 * unit), slice(line.right - 4 * unit, line.right + unit))
    for outward in (np.s_[line.top - 1 :: -1] if line.top else np.s_[:0], np.s_[line.bottom :]):
        # Rows in which both ends are marked, from the line on.
        marked = np.minimum(*(upright[outward, span].max(axis=1) for span in spans)) > max(_CUT, 0.3 * contrast)
        tall = int(np.argmin(np.append(marked, False)))
        if tall > best:
            best = tall
            rows = slice(line.top - tall, line.top) if outward.step else slice(line.bottom, line.bottom + tall)
    if not 2 * unit <= best <= 0.3 * length:
        return None
    profile = np.median(upright[rows], axis=0)
    strength = [profile[span].max() / contrast for span in spans]
    between = np.median(profile[line.left + 4 * unit : line.right - 4 * unit]) / contrast
    wide = max((profile[span] > 0.5 * profile[span].max()).sum() for span in spans)
    if min(strength) < 0.4 or max(strength) < 0.6 or between > 0.25 or wide > max(4 * unit, line.bottom - line.top):
        return None
    left, right = (_middle(profile, span) for span in spans)
    return (left, right), (min(line.top, rows.start), max(line.bottom, rows.stop))


def _middle(profile: np.ndarray, span: slice) -> float:
    """The middle of the peak in a span: of what is above 0.4 of it, without what lies beyond a dip."""
    values = profile[span] / profile[span].max() - 0.4
    peak = int(np.argmax(values))
    dips = np.flatnonzero(values <= 0)
    first = int(dips[dips < peak].max(initial=-1)) + 1
    last = int(dips[dips > peak].min(initial=len(values)))
    return span.start + 0.5 + float(np.average(np.arange(first, last), weights=values[first:last]))


def _paint_ends(
    line: _Line, level: np.ndarray, contrast: float, unit: int
) -> tuple[tuple[float, float], tuple[int, int]] | None:
    """Where a rectangle of even paint begins and ends, and its rows; None where the line is anything else."""
    if contrast < _PAINT_CONTRAST or line.bottom - line.top < 2:
        return None
    rows = level[line.top : line.bottom]
    inner = rows[:, line.left + 2 * unit : line.right - 2 * unit]
    if inner.std(axis=1).max() > 0.08 * contrast:
        return None
    around = np.arange(max(0, line.left - 3 * unit), min(level.shape[1], line.right + 3 * unit))
    half = rows[:, around].mean(axis=0) / inner.mean() - 0.5
    if max(half[0], half[-1]) > -0.3 or (np.diff(np.sign(half)) != 0).sum() != 2:
        return None
    left, right = (_crossing(x, y) for x, y in ((around, half), (around[::-1], half[::-1])))
    return (left + 0.5, right + 0.5), (line.top, line.bottom)


def _crossing(x: np.ndarray, y: np.ndarray) -> float:
    """Where y rises through 0, between samples."""
    k = int(np.argmax(y > 0))
    return float(x[k] - (x[k] - x[k - 1]) * y[k] / (y[k] - y[k - 1]))


def _text_lines(image: np.ndarray, bar: ScaleBar) -> Iterator[np.ndarray]:
    """Pictures of the lines of text right above and right below a bar, enlarged for the reader (BGR)."""
    from PIL import Image

    top, left, bottom, right = bar.box_yxyx
    unit = _unit(image)
    reach, margin = round(0.3 * (right - left)) + 12 * unit, 3 * unit
    x0, x1 = max(0, left - reach // 2), right + reach // 2
    for y0, y1 in ((max(0, top - reach), top + margin), (bottom, bottom + reach)):
        near = image[y0:y1, x0:x1].astype(np.float32)
        if min(near.shape[:2], default=0) < 2 * margin:
            continue
        # Ink is nearer to the bar's colour than to what lies around it.
        ink = np.abs(near - bar.colour).sum(axis=2) < np.abs(near - np.median(near, axis=(0, 1))).sum(axis=2)
        rows, columns = (np.flatnonzero(ink.sum(axis=axis) >= 2) for axis in (1, 0))
        if not len(rows) or not len(columns):
            continue
        picture = Image.fromarray(near[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8))
        ...


@cache
def _reader() -> Any:
    """RapidOCR, or None where the extra [ocr] is not installed."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        return None
    return RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})
