"""Narrow strokes of ink in an image: the black top-hat, and the unit in which strokes are measured.

Planes are uint8 (H, W) or (H, W, C). Lengths are in pixels.
"""

from __future__ import annotations

import numpy as np

#: Lengths of strokes are stated for an image of this many pixels on its long side.
_UNIT_PX = 640
#: The largest thickness of a line, in units.
THICK_PX = 8


def unit_px(image: np.ndarray) -> int:
    """The factor by which stroke lengths grow with the image; 1 up to 960 pixels on a side."""
    return max(1, round(max(image.shape[:2]) / _UNIT_PX))


def black_top_hat(image: np.ndarray, size: int, *, axis: int) -> np.ndarray:
    """Closing minus image: how much darker a pixel is than its surroundings along one axis.

    A dark stroke that is narrower than the window is removed by the closing, so it stands out in
    the difference. Wider dark areas, such as cells, do not.

    Args:
        image: uint8 (H, W) or (H, W, C).
        size: odd length of the window.
        axis: 0 for windows along a column, 1 along a row.

    Returns:
        uint8, in the shape of image.
    """
    closed = _extreme(_extreme(image, size, axis, np.maximum), size, axis, np.minimum)
    return np.asarray(closed - image)


def _extreme(image: np.ndarray, size: int, axis: int, extreme: np.ufunc) -> np.ndarray:
    """The largest or smallest value in a window of odd size.

    The windows double in length: the extreme of 2 n pixels is that of two extremes of n pixels.
    This takes log2(size) passes and is many times faster than scipy's filter.
    """
    values = np.moveaxis(image, axis, 0)
    values = np.pad(values, ((size // 2,) * 2, *((0, 0),) * (image.ndim - 1)), "edge")
    length = 1
    while length < size:
        step = min(length, size - length)
        values, length = extreme(values[:-step], values[step:]), length + step
    return np.moveaxis(values, 0, axis)
