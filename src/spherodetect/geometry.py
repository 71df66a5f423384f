"""Boxes, outlines and masks in NumPy.

Boxes are (ymin, xmin, ymax, xmax) in pixels, half-open. Polygons are (M, 2) arrays of (y, x),
closed or not. Masks are boolean or hold probabilities, (H, W). graph/boxes.py has the TensorFlow
counterpart of `box_iou`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Exports round coordinates to a tenth of a pixel or better.
ROUNDING_PX = 0.1


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes (N, 4) and (M, 4): (N, M).

    >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 2], [0, 1, 2, 2]]))
    array([[1. , 0.5]])
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=-1) for x in (a, b))
    return overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)


def tight_box(mask: np.ndarray) -> np.ndarray:
    """The (4,) integer box around the pixels of a mask that is not empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])


def polygon_area(polygon_yx: np.ndarray) -> float:
    """Area of a polygon in square pixels, by the shoelace formula; 0 for fewer than three points.

    >>> polygon_area(np.array([[0, 0], [0, 4], [3, 0]]))
    6.0
    """
    if len(polygon_yx) < 3:
        return 0.0
    # Coordinates relative to the first point keep small areas exact far from the origin.
    y, x = (polygon_yx - polygon_yx[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def is_rectangle(polygon_yx: np.ndarray, *, tolerance_px: float = ROUNDING_PX) -> bool:
    """Whether a polygon is an axis-aligned rectangle, with any number of extra points on its sides.

    All four corners of its bounding box must be among its points, and every other point must lie on
    a side of the box; both within tolerance_px.

    >>> is_rectangle(np.array([[0, 0], [0, 3], [0, 6], [8, 6], [8, 0], [0, 0]]))
    True
    """
    low, high = polygon_yx.min(axis=0), polygon_yx.max(axis=0)
    at_low = np.abs(polygon_yx - low) <= tolerance_px
    at_high = np.abs(polygon_yx - high) <= tolerance_px
    if not (at_low | at_high).any(axis=1).all():
        return False
    top, left = at_low.T
    bottom, right = at_high.T
    corners = (top & left, top & right, bottom & left, bottom & right)
    return all(corner.any() for corner in corners)


def fill_polygon(polygon_yx: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool, the pixels whose centres lie within a polygon.

    The even-odd rule decides where the outline crosses itself.
    """
    height, width = size_hw
    (y0, x0), (y1, x1) = polygon_yx.T, np.roll(polygon_yx, -1, axis=0).T
    centres = np.arange(height)[:, None] + 0.5
    row, side = np.nonzero((y0 <= centres) != (y1 <= centres))
    crossing = x0[side] + (row + 0.5 - y0[side]) * (x1 - x0)[side] / (y1 - y0)[side]
    # The column of the first pixel centre to the right of each crossing.
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    place = row * (width + 1) + column
    crossings = np.bincount(place, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.cumsum(crossings[:, :width], axis=1) % 2 == 1


def stretch_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A boolean mask resampled to (size, size) bool, bilinear at the centres of the new pixels."""
    height, width = mask.shape
    return (
        _stretch_weights(height, size) @ mask.astype(float) @ _stretch_weights(width, size).T >= 0.5
    )


def paste_mask(
    probability: np.ndarray, box_yxyx: np.ndarray, window: tuple[int, int, int, int]
) -> np.ndarray:
    """Bilinear values of a mask that covers a box, at the pixel centres of a window.

    Args:
        probability: (S, S) values over the box.
        box_yxyx: the box, in pixels of the field.
        window: whole pixels (y0, x0, y1, x1) of the field.

    Returns:
        (y1 - y0, x1 - x0) values of the same kind as probability.
    """
    size_y, size_x = probability.shape
    y0, x0, y1, x1 = window
    ymin, xmin, ymax, xmax = (float(v) for v in box_yxyx)

    def weights(first: int, last: int, low: float, high: float, size: int) -> np.ndarray:
        at = (np.arange(first, last) + 0.5 - low) / max(high - low, 1e-6) * size - 0.5
        return _linear_weights(at, size)

    return weights(y0, y1, ymin, ymax, size_y) @ probability @ weights(x0, x1, xmin, xmax, size_x).T


@lru_cache(maxsize=256)
def _stretch_weights(n: int, size: int) -> np.ndarray:
    return _linear_weights((np.arange(size) + 0.5) * n / size - 0.5, n)


def _linear_weights(at: np.ndarray, n: int) -> np.ndarray:
    """(len(at), n) weights of n samples for linear interpolation at positions, clamped to the
    ends."""
    at = np.clip(at, 0, n - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n)[None, :]))


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected part of a boolean mask; an empty mask stays as it is.

    >>> largest_part(np.array([[True, False, True], [True, False, False]])).astype(int)
    array([[1, 0, 0],
           [1, 0, 0]])
    """
    from scipy.ndimage import label

    parts, n_parts = label(mask)
    if n_parts < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))
