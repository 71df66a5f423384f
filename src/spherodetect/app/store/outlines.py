"""Outlines as the store keeps them: a box, the run lengths of its mask, and a polygon to draw.

Masks are boolean and box-local; boxes are whole pixels (ymin, xmin, ymax, xmax), half-open.
Polygons are flat lists x, y, x, y, ... in pixels of the image, the outer outline alone. The centre
of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.geometry import fill_polygon, polygon_area, tight_box
from spherodetect.rle import RunLengthMask, pack_runs, run_lengths, unpack_runs

#: Points that lie within this distance of the line between their neighbours are left out.
_TOLERANCE_PX = 0.35
#: Fewer pixels are no object.
MIN_AREA_PX = 4
_FAR_PX = 1e6
_MAX_POINTS = 10_000


@dataclass(frozen=True, eq=False)
class Outline:
    """One outline with what a method said of it; what is not known is None.

    Attributes:
        box_yxyx: whole pixels around the mask.
        mask: (h, w) bool, over the box.
        cell_id: of the cell in its field, where a method gave one.
        class_name: as the method calls it.
        confidence, p_spherocyte: probabilities.
        countable: whether it is a whole, separated red cell.
        measurements: as `measure` names them; NaN is left out.
    """

    box_yxyx: tuple[int, int, int, int]
    mask: np.ndarray
    cell_id: int | None = None
    class_name: str | None = None
    confidence: float | None = None
    p_spherocyte: float | None = None
    countable: bool | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns of the table outline."""
        ymin, xmin, ymax, xmax = self.box_yxyx
        return {
            "ymin": ymin,
            "xmin": xmin,
            "ymax": ymax,
            "xmax": xmax,
            "mask": pack_runs(run_lengths(self.mask).runs),
            "polygon": json.dumps(polygon_xy(self.mask, (ymin, xmin)), separators=(",", ":")),
            "area_px": float(np.count_nonzero(self.mask)),
            "cell_id": self.cell_id,
            "class_name": self.class_name,
            "confidence": self.confidence,
            "p_spherocyte": self.p_spherocyte,
            "countable": self.countable,
            "measurements": json.dumps(self.measurements, separators=(",", ":")),
        }


def outlines_of(cells: Cells, *, named: bool = True) -> list[Outline]:
    """The outlines of detected cells; those without a pixel in the image are left out.

    Args:
        cells: measured or not.
        named: whether their classes and probabilities mean something.
    """
    found = []
    columns = {name: np.asarray(values, float) for name, values in cells.measurements.items()}
    for row, (mask, (y, x)) in enumerate(cells.pixel_masks()):
        if not mask.any():
            continue
        top, left, bottom, right = (int(v) for v in tight_box(mask))
        measured = {name: float(values[row]) for name, values in columns.items()}
        found.append(
            Outline(
                (y + top, x + left, y + bottom, x + right),
                mask[top:bottom, left:right],
                cell_id=int(cells.cell_id[row]),
                class_name=str(cells.names[row]) if named else None,
                confidence=float(cells.confidence[row]) if named else None,
                p_spherocyte=float(cells.p_spherocyte[row]) if named else None,
                countable=bool(cells.countable[row]),
                measurements={k: round(v, 5) for k, v in measured.items() if math.isfinite(v)},
            )
        )
    return found


def cells_of(outlines: Sequence[Outline], ids: Sequence[int], size_hw: tuple[int, int]) -> Cells:
    """The outlines of a field as Cells, all of class 1, with these ids."""
    cells = Cells.from_labels(
        np.array([outline.box_yxyx for outline in outlines], np.float32).reshape(-1, 4),
        np.ones(len(outlines)),
        [np.asarray(outline.mask, bool) for outline in outlines],
        image_size_hw=size_hw,
    )
    return replace(cells, cell_id=np.asarray(ids, np.int32))


def read_mask(text: str, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, the mask of a box from its stored run lengths."""
    return np.asarray(RunLengthMask(np.array(unpack_runs(text), np.int64), size_hw))


def polygon_xy(mask: np.ndarray, corner_yx: tuple[int, int]) -> list[float]:
    """The outer outline of a mask's largest piece, to a tenth of a pixel."""
    from skimage.measure import approximate_polygon, find_contours

    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    if not contours:
        return []
    largest = max(contours, key=polygon_area)
    points = approximate_polygon(largest, _TOLERANCE_PX)[:-1]
    if len(points) < 3:
        points = largest[:-1]
    # find_contours counts from pixel centres: half a pixel apart; the padding adds the other half.
    at = points - 0.5 + np.array(corner_yx)
    return [round(float(v), 1) for v in at[:, ::-1].ravel()]


def drawn_mask(
    flat_xy: Sequence[float], size_hw: tuple[int, int]
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The box and the mask of a polygon that a person drew; parts outside the image are cut off.

    Raises:
        SpherodetectError: it is no polygon, or holds no pixels of the image.
    """
    points = points_xy(flat_xy, least=3)
    low = np.clip(np.floor(points.min(axis=0)), 0, size_hw).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, size_hw).astype(int)
    if (high <= low).any():
        raise SpherodetectError("expected an outline inside of the image, got one outside of it")
    mask = fill_polygon(points - low, tuple(high - low))
    if np.count_nonzero(mask) < MIN_AREA_PX:
        raise SpherodetectError(
            f"expected an outline around {MIN_AREA_PX} pixels or more, got fewer; draw it larger"
        )
    return trimmed(mask, (int(low[0]), int(low[1])))


def trimmed(
    mask: np.ndarray, corner_yx: tuple[int, int]
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The tight box around a mask that is not empty, in the image, and the mask over it."""
    top, left, bottom, right = (int(v) for v in tight_box(mask))
    y, x = corner_yx
    return (y + top, x + left, y + bottom, x + right), mask[top:bottom, left:right]


def points_xy(flat_xy: Sequence[float], *, least: int) -> np.ndarray:
    """(M, 2) float64 (y, x) of a flat list x, y, x, y, ...

    Raises:
        SpherodetectError: too few or too many points, or no finite numbers.
    """
    n = len(flat_xy)
    if n % 2 or not 2 * least <= n <= 2 * _MAX_POINTS:
        raise SpherodetectError(
            f"expected {least} to {_MAX_POINTS:,} points as x, y, x, y, ..., got {n} numbers"
        )
    points = np.asarray(flat_xy, np.float64).reshape(-1, 2)[:, ::-1]
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR_PX:
        raise SpherodetectError("expected points near the image, got others")
    return points


def joined_mask(outlines: Sequence[Outline]) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The box and the mask of several outlines together, without the holes between them."""
    from scipy.ndimage import binary_fill_holes

    boxes = np.array([outline.box_yxyx for outline in outlines])
    top, left = (int(v) for v in boxes[:, :2].min(axis=0))
    bottom, right = (int(v) for v in boxes[:, 2:].max(axis=0))
    mask = np.zeros((bottom - top, right - left), bool)
    for outline in outlines:
        y0, x0, y1, x1 = outline.box_yxyx
        mask[y0 - top : y1 - top, x0 - left : x1 - left] |= outline.mask
    return (top, left, bottom, right), binary_fill_holes(mask)


def cut_masks(
    outline: Outline, line_xy: Sequence[float]
) -> list[tuple[tuple[int, int, int, int], np.ndarray]]:
    """The boxes and masks of the pieces into which a line cuts an outline, the largest first.

    The pixels of the line itself go to the nearest piece.

    Raises:
        SpherodetectError: the line does not cut the outline in two.
    """
    from scipy import ndimage

    points = points_xy(line_xy, least=2) - np.array(outline.box_yxyx[:2])
    rest = outline.mask & ~_line(points, outline.mask.shape)
    # Pieces that meet at a corner only are apart: the line is one pixel wide.
    pieces, n = ndimage.label(rest)
    areas = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    large = [k + 1 for k in np.argsort(-areas, kind="stable") if areas[k] >= MIN_AREA_PX]
    if len(large) < 2:
        raise SpherodetectError(
            "expected a line that crosses the outline from side to side, got one that leaves it in "
            "one piece"
        )
    kept = np.where(np.isin(pieces, large), pieces, 0)
    nearest = ndimage.distance_transform_edt(kept == 0, return_distances=False, return_indices=True)
    whole = np.where(outline.mask, kept[tuple(nearest)], 0)
    y, x = outline.box_yxyx[:2]
    return [trimmed(whole == k, (y, x)) for k in large]


def _line(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool, the pixels that a line of points touches, connected by their sides."""
    drawn = np.zeros(shape, bool)
    for start, end in itertools.pairwise(points):
        low, high = _within(start, end, shape)
        if high < low:
            continue
        n = int(4 * (high - low) * np.abs(end - start).max()) + 2
        along = np.linspace(low, high, n)[:, None]
        at = np.floor(start + along * (end - start)).astype(int)
        # Of a diagonal step, the corner pixel is taken too: a line has no gap.
        corners = np.stack([at[1:, 0], at[:-1, 1]], axis=1)
        at = np.concatenate([at, corners])
        inside = ((at >= 0) & (at < shape)).all(axis=1)
        drawn[tuple(at[inside].T)] = True
    return drawn


def _within(start: np.ndarray, end: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """The part of a line, 0 to 1, that lies in the mask or at most a pixel outside of it."""
    low, high = 0.0, 1.0
    for at, step, size in zip(start, end - start, shape, strict=True):
        if abs(step) < 1e-12:
            if not -1 <= at <= size + 1:
                return 1.0, 0.0
            continue
        first, last = sorted(((-1 - at) / step, (size + 1 - at) / step))
        low, high = max(low, first), min(high, last)
    return low, high


__all__ = [
    "MIN_AREA_PX",
    "Outline",
    "cells_of",
    "cut_masks",
    "drawn_mask",
    "joined_mask",
    "outlines_of",
    "points_xy",
    "polygon_xy",
    "read_mask",
    "trimmed",
]
