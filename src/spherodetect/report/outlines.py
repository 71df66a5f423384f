"""How the outline of a cell is drawn.

Pictures are uint8 RGB (H, W, 3) arrays and are drawn into in place. Masks are box-local. A line
runs just outside its mask, so that the rim of the cell, which identifies a spherocyte, stays
visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

#: Dark grey of texts, and the white of the strip and of halos.
INK, PAPER = (34, 34, 34), (255, 255, 255)


@dataclass(frozen=True)
class Style:
    """How the cells of one entry of the legend are drawn.

    Attributes:
        label: the text of the entry.
        color: RGB.
        width: in units of `line_px`, the width of a line in the picture.
        opacity: 0 to 1.
        dashed: the line is broken.
        halo: the line has a white edge on both sides.
    """

    label: str
    color: tuple[int, int, int]
    width: float
    opacity: float = 1.0
    dashed: bool = False
    halo: bool = False


def draw_outline(
    canvas: np.ndarray,
    mask: np.ndarray,
    corner_yx: tuple[int, int],
    *,
    scale: float,
    style: Style,
    line_px: float,
) -> None:
    """Draw the outline of a box-local mask into the canvas.

    Only a window around the cell is computed, so the time does not depend on the picture's size.

    Args:
        canvas: (H, W, 3) uint8, changed in place.
        mask: (h, w) bool.
        corner_yx: place of the mask's first pixel in the image.
        scale: pixels of the canvas per pixel of the image.
        style: how the line looks.
        line_px: width of a line of width 1, in pixels of the canvas.
    """
    if not mask.any():
        return
    # The widest halo reaches 2.4 lines beyond the mask, and the blur 3 lines further.
    pad = int(np.ceil((6 * line_px + 2) / scale)) + 1
    y, x = corner_yx[0] - pad, corner_yx[1] - pad
    shape = np.array(mask.shape) + 2 * pad
    low = np.ceil(np.maximum([y, x], 0) * scale).astype(int)
    high = np.minimum(np.floor((np.array([y, x]) + shape) * scale).astype(int), canvas.shape[:2])
    if (high <= low).any():
        return
    box = ((low[1] / scale - x), (low[0] / scale - y), (high[1] / scale - x), (high[0] / scale - y))
    padded = np.zeros(shape, np.uint8)
    padded[pad : pad + mask.shape[0], pad : pad + mask.shape[1]] = np.where(mask, 255, 0)
    blurred = Image.fromarray(padded).resize(
        (high[1] - low[1], high[0] - low[0]), Image.Resampling.BILINEAR, box=box
    )
    level = np.asarray(blurred.filter(ImageFilter.GaussianBlur(line_px)))
    window = canvas[low[0] : high[0], low[1] : high[1]]
    # Distance and opacity depend on the level alone, so they are computed once for each of the 256.
    outside = _distances(line_px)
    width = max(1.0, style.width * line_px)
    if style.halo:
        halo = 0.75 * _band(outside, -0.3 * width, 1.5 * width)
        edge = np.nonzero(halo[level])
        _blend(window, edge, PAPER, halo[level[edge]])
    opacity = style.opacity * _band(outside, 0, width)
    line = np.nonzero(opacity[level])
    strength = opacity[level[line]]
    if style.dashed:
        strength *= _dashes((outside < 0)[level], line, dash_px=5 * line_px)
    _blend(window, line, style.color, strength)


@lru_cache(maxsize=64)
def _distances(sigma: float) -> np.ndarray:
    """(256,) distances outside of the edge of a mask, in pixels, for the levels of a blurred mask.

    Smooth to a fraction of a pixel: across a straight edge, a Gaussian blur of the mask is the
    normal distribution's integral, so its inverse gives the distance.
    """
    from scipy.special import ndtri

    # 0.1 keeps 0 and 255 finite.
    distances = -sigma * ndtri((np.arange(256.0) + 0.1) / 255.2)
    distances.flags.writeable = False
    return distances


def _band(distance: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 1 where a distance lies between low and high, else 0, with edges of one pixel."""
    return np.clip(np.minimum(distance - low, high - distance) + 0.5, 0, 1)


def _dashes(inside: np.ndarray, places: tuple[np.ndarray, ...], *, dash_px: float) -> np.ndarray:
    """Return 1 and 0 in turn around the cell, each about dash_px long, at these pixels."""
    y, x = (np.arange(n, dtype=float) for n in inside.shape)
    rows, columns = inside.sum(axis=1), inside.sum(axis=0)
    area = max(rows.sum(), 1)
    angle = np.arctan2(y[places[0]] - (rows @ y) / area, x[places[1]] - (columns @ x) / area)
    # The circumference of a disc of this area is 2 sqrt(pi area), and a pair is a dash and a gap.
    pairs = max(3, round(np.sqrt(np.pi * area) / dash_px))
    return (np.mod(angle / (2 * np.pi) * pairs, 1) < 0.55).astype(float)


def _blend(
    window: np.ndarray,
    places: tuple[np.ndarray, ...],
    color: tuple[int, int, int],
    opacity: np.ndarray,
) -> None:
    """Mix a colour into these pixels of the window, in place."""
    before = window[places].astype(float)
    mixed = before + opacity[:, None] * (np.array(color) - before)
    window[places] = np.rint(mixed).astype(np.uint8)


__all__ = ["INK", "PAPER", "Style", "draw_outline"]
