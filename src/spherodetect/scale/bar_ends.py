"""Where a traced line ends, to a fraction of a pixel: at its ticks, or at the ends of its paint.

A line that has neither is no scale bar.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: From this many grey levels over the pixels above and below it a line is traced.
CUT = 10
#: A line without ticks could be a hair. It needs more contrast than a hair ...
_PAINT_CONTRAST = 50.0
#: ... and may vary along a row by no more than this part of the contrast, as it does after JPEG.
_PAINT_SPREAD = 0.12


class Line(NamedTuple):
    """A traced line: rows top to bottom and columns left to right, half-open."""

    top: int
    bottom: int
    left: int
    right: int


class Ends(NamedTuple):
    """The measured ends of a bar.

    Attributes:
        columns: position of the left and of the right end.
        rows: first and last row of the line with its ticks, half-open.
    """

    columns: tuple[float, float]
    rows: tuple[int, int]


def tick_ends(line: Line, upright: np.ndarray, contrast: float, unit: int) -> Ends | None:
    """The middles of the ticks at a line's ends, or None without ticks.

    Args:
        line: the traced line.
        upright: (H, W) uint8, top-hat along rows, in which ticks stand out.
        contrast: grey levels of the line over its surroundings.
        unit: see `strokes.unit_px`.
    """
    if line.bottom - line.top > 0.1 * (line.right - line.left):
        return None
    # The trace of the line may end beside a tall tick, because a tall tick is no narrow line along
    # the column. So ticks are searched on both sides of each end.
    reach = 4 * unit
    spans = (
        slice(max(0, line.left - reach), line.left + reach),
        slice(line.right - reach, line.right + reach),
    )
    best: tuple[int, Ends] | None = None
    for outward in (slice(line.top - 1, None, -1), slice(line.bottom, None)):
        # The number of rows, from the line on, in which both ends are marked.
        marks = np.stack([upright[outward, span].max(axis=1) for span in spans])
        tall = int(np.argmin(np.append(marks.min(axis=0) > max(CUT, 0.3 * contrast), False)))
        if not 2 * unit <= tall <= 0.3 * (line.right - line.left) or (best and tall <= best[0]):
            continue
        # Both ticks stop at the same height. The outline of a cell would go on at one end.
        after = marks[:, tall + unit : tall + unit + 1]
        if (after > 0.7 * np.median(marks[:, :tall], axis=1, keepdims=True)).any():
            continue
        if outward.step:
            rows = slice(line.top - tall, line.top)
        else:
            rows = slice(line.bottom, line.bottom + tall)
        profile = np.median(upright[rows], axis=0)
        if _are_ticks(profile, spans, contrast, unit, line.bottom - line.top):
            left, right = (_middle(profile, span) for span in spans)
            first, last = min(line.top, rows.start), max(line.bottom, rows.stop)
            best = tall, Ends((left, right), (first, last))
    return best[1] if best else None


def _are_ticks(
    profile: np.ndarray, spans: tuple[slice, slice], contrast: float, unit: int, thickness: int
) -> bool:
    """Whether the peaks in both spans are strong and narrow, and the columns between are empty."""
    strength = [profile[span].max() / contrast for span in spans]
    wide = max((profile[span] > 0.5 * profile[span].max()).sum() for span in spans)
    inner = np.concatenate(
        [profile[spans[0].stop :][: 4 * unit], profile[: spans[1].start][-4 * unit :]]
    )
    narrow = wide <= max(4 * unit, thickness) and np.median(inner) < 0.25 * contrast
    return bool(narrow and min(strength) > 0.4 and max(strength) > 0.6)


def _middle(profile: np.ndarray, span: slice) -> float:
    """The middle of the peak in a span.

    This is the centre of mass of the part that is above 0.4 of the maximum. Pixels beyond a gap
    belong to something else and are left out.
    """
    values = profile[span] / profile[span].max() - 0.4
    peak = int(np.argmax(values))
    gaps = np.flatnonzero(values <= 0)
    first = int(gaps[gaps < peak].max(initial=-1)) + 1
    last = int(gaps[gaps > peak].min(initial=len(values)))
    return span.start + 0.5 + float(np.average(np.arange(first, last), weights=values[first:last]))


def paint_ends(
    line: Line, ink: np.ndarray, level: np.ndarray, contrast: float, unit: int
) -> Ends | None:
    """The ends of a rectangle of even paint, or None if the line is something else.

    Args:
        line: the traced line.
        ink: (H, W) uint8, dark where the paint is.
        level: (H, W) uint8, top-hat along columns.
        contrast: grey levels of the line over its surroundings.
        unit: see `strokes.unit_px`.
    """
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
    # Profiles from inside the paint outwards. The paint is darker than its surroundings.
    over = rows.mean(axis=0) - np.median(inner)
    outwards = (
        over[line.left - reach : line.left + reach][::-1],
        over[line.right - reach : line.right + reach],
    )
    if min(side[-1] for side in outwards) < 0.5 * contrast:
        return None
    left, right = (_half_way(side) for side in outwards)
    columns = (line.left + reach - left, line.right - reach + right)
    return Ends(columns, (line.top, line.bottom))


def _half_way(profile: np.ndarray) -> float:
    """The position at which a profile first reaches half of its last value, between samples."""
    part = profile / profile[-1] - 0.5
    beyond = max(1, int(np.argmax(part > 0)))
    return beyond + 0.5 - float(part[beyond] / (part[beyond] - part[beyond - 1]))
