"""Splits large images into tiles, gives each cell to one tile, and finds empty slide.

Each pixel lies in the core of one tile. The window of a tile is its core with a margin, which is
wide enough for a cell at the edge of the core and for the neighbours of that cell. A tile owns the
cells whose box has its centre in the core. Windows are (y0, x0, y1, x1) in pixels of the image,
half-open; boxes are (N, 4) (ymin, xmin, ymax, xmax).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spherodetect.fields.scan import Region, Window

#: Width of a core and of its margin, in red cells. A core has about the size of a field.
CORE, MARGIN = 20.0, 2.0
#: Smallest width of a window, in red cells. The background light is estimated from the window.
MIN_SIDE = 12.0
#: Largest side of a window, in pixels; it matters where cells are large.
MAX_SIDE_PX = 3072
#: Two detections whose centres are closer than this, in red cells, are the same cell in two tiles.
_SAME_CELL = 0.25
#: Side of the blocks of a survey, and of the squares in them that are averaged against noise.
BLOCK_PX, _NOISE_PX = 256, 8
#: Optical density above which a pixel is not empty slide; the palest red cells have 0.1.
_EMPTY_OD = 0.06
#: A window that is covered less than this is not a sample of cells.
_MIN_COVERED = 0.02
#: Covered share of a monolayer; samples with about this share come first.
_MONOLAYER_COVERED = 0.33
#: Width of a grey level bin, and the number of blocks that are read at once.
_LEVEL, _BLOCKS_READ = 8, 16
#: Largest side of the overview.
_OVERVIEW_PX = 4096
_GREEN = 1


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        core: the window whose cells the tile owns.
        window: the core with its margin, clipped to the image.
    """

    core: Window
    window: Window

    @property
    def origin_yx(self) -> tuple[int, int]:
        """The window's upper left corner."""
        return self.window[:2]

    @property
    def core_hw(self) -> tuple[int, int]:
        """Height and width of the core."""
        y0, x0, y1, x1 = self.core
        return y1 - y0, x1 - x0


def make_tiles(
    size_hw: tuple[int, int], diameter_px: float, *, core_px: float | None = None
) -> list[Tile]:
    """The tiles of an image, row by row.

    Args:
        size_hw: height and width of the image.
        diameter_px: of its red cells.
        core_px: largest side of a core; by default CORE red cells, or as many as fit into
            MAX_SIDE_PX.
    """
    margin = int(np.ceil(MARGIN * diameter_px))
    side = core_px or min(CORE * diameter_px, max(MAX_SIDE_PX - 2 * margin, 2 * margin))
    margin = max(margin, int(np.ceil(min(MIN_SIDE * diameter_px, MAX_SIDE_PX) - side)) // 2)
    edges = [
        np.linspace(0, n, max(1, int(np.ceil(n / side))) + 1).round().astype(int).tolist()
        for n in size_hw
    ]
    (height, width), (ys, xs) = size_hw, edges
    return [
        Tile(
            (y0, x0, y1, x1),
            (
                max(0, y0 - margin),
                max(0, x0 - margin),
                min(height, y1 + margin),
                min(width, x1 + margin),
            ),
        )
        for y0, y1 in pairwise(ys)
        for x0, x1 in pairwise(xs)
    ]


class Ownership:
    """Gives each cell to one tile, although two tiles detect it at slightly different places.

    A tile also owns a cell whose centre lies just outside its core, unless another tile owns it.

    Args:
        diameter_px: of the red cells.
    """

    def __init__(self, diameter_px: float) -> None:
        self._reach = _SAME_CELL * diameter_px
        self._taken = np.zeros((0, 2))

    def of(self, tile: Tile, box_yxyx: np.ndarray) -> np.ndarray:
        """(N,) bool, the cells that the tile owns; boxes are in pixels of the tile's window."""
        from scipy.spatial import KDTree

        center = (box_yxyx[:, :2].astype(float) + box_yxyx[:, 2:]) / 2 + tile.origin_yx
        low, high = np.array(tile.core[:2]), np.array(tile.core[2:])
        own = ((center >= low - self._reach / 2) & (center < high + self._reach / 2)).all(axis=1)
        at_seam = own & ~((center >= low + self._reach) & (center < high - self._reach)).all(axis=1)
        if at_seam.any() and len(self._taken):
            taken = KDTree(self._taken).query(center[at_seam], distance_upper_bound=self._reach)[0]
            own[at_seam] &= np.isinf(taken)
        self._taken = np.concatenate([self._taken, center[own & at_seam]])
        return own


@dataclass(frozen=True, eq=False)
class Survey:
    """A quick overview of a whole image.

    Attributes:
        covered: (rows, columns), the share of each block of BLOCK_PX that is not empty slide, 0 to
            1.
        overview: (H, W, 3) uint8, every `step`-th pixel of the image.
        step: pixels of the image in one pixel of the overview.
    """

    covered: np.ndarray
    overview: np.ndarray
    step: int

    def is_empty(self, window: Window) -> bool:
        """Whether a window is empty slide."""
        return not self._blocks_of(window).any()

    def _blocks_of(self, window: Window) -> np.ndarray:
        y0, x0, y1, x1 = window
        return self.covered[
            y0 // BLOCK_PX : -(-y1 // BLOCK_PX), x0 // BLOCK_PX : -(-x1 // BLOCK_PX)
        ]

    def samples(self, side_px: int, size_hw: tuple[int, int], n: int) -> list[Window]:
        """Up to n windows that most likely show cells side by side, the best first.

        Args:
            side_px: side of the windows; they do not overlap.
            size_hw: height and width of the image.
        """
        from scipy.ndimage import uniform_filter

        blocks = max(1, round(side_px / BLOCK_PX))
        share = uniform_filter(self.covered, blocks, mode="constant")
        found: list[Window] = []
        rank = np.where(share > 0, np.abs(share - _MONOLAYER_COVERED), np.inf)
        while len(found) < n and np.isfinite(rank).any():
            row, column = np.unravel_index(int(np.argmin(rank)), rank.shape)
            rank[
                max(0, row - blocks) : row + blocks + 1,
                max(0, column - blocks) : column + blocks + 1,
            ] = np.inf
            low = [
                int(np.clip((k + 0.5) * BLOCK_PX - side_px / 2, 0, max(0, size - side_px)))
                for k, size in zip((row, column), size_hw, strict=True)
            ]
            window = (
                low[0],
                low[1],
                min(size_hw[0], low[0] + side_px),
                min(size_hw[1], low[1] + side_px),
            )
            if self._blocks_of(window).mean() > _MIN_COVERED:
                found.append(window)
        return found


def survey(region: Region) -> Survey:
    """The survey of a whole image; each block is read once."""
    from scipy.ndimage import maximum_filter

    height, width = region.size_hw
    step = max(1, -(-max(height, width) // _OVERVIEW_PX))
    overview = np.zeros((-(-height // step), -(-width // step), 3), np.uint8)
    levels = np.zeros((-(-height // BLOCK_PX), -(-width // BLOCK_PX), 256 // _LEVEL), np.uint16)
    bright = np.zeros(levels.shape[:2])
    for y, x, pixels in _blocks(region):
        at_y, at_x = -(-y // step), -(-x // step)
        small = pixels[at_y * step - y :: step, at_x * step - x :: step]
        overview[at_y : at_y + small.shape[0], at_x : at_x + small.shape[1]] = small
        means = _means(pixels[..., _GREEN])
        row, column = y // BLOCK_PX, x // BLOCK_PX
        bright[row, column] = means.max()
        levels[row, column] = np.bincount(
            (means.ravel() / _LEVEL).astype(int), minlength=levels.shape[2]
        )
    # Empty slide is the brightest part of the neighbourhood: light falls off towards the edges of
    # a scan.
    slide = maximum_filter(bright, 5)
    below = np.ceil(slide * 10**-_EMPTY_OD / _LEVEL).astype(int)[..., np.newaxis] - 1
    dark = np.take_along_axis(levels.cumsum(axis=2), np.maximum(below, 0), axis=2)[..., 0] * (
        below[..., 0] >= 0
    )
    return Survey(dark / levels.sum(axis=2), overview, step)


def _blocks(region: Region) -> Iterator[tuple[int, int, np.ndarray]]:
    """The blocks of an image with their places.

    Several are read at a time, so that a tile of a scan is decoded once.
    """
    height, width = region.size_hw
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, _BLOCKS_READ * BLOCK_PX):
            band = region.read(
                (y, x, min(height, y + BLOCK_PX), min(width, x + _BLOCKS_READ * BLOCK_PX))
            )
            for left in range(0, band.shape[1], BLOCK_PX):
                yield y, x + left, band[:, left : left + BLOCK_PX]


def _means(values: np.ndarray) -> np.ndarray:
    """Means over squares of _NOISE_PX; a rest at the right or lower edge is left out."""
    height, width = values.shape
    down, across = max(1, height // _NOISE_PX), max(1, width // _NOISE_PX)
    tall, wide = min(height, _NOISE_PX), min(width, _NOISE_PX)
    squares = values[: down * tall, : across * wide].reshape(down, tall, across, wide)
    return squares.sum(axis=(1, 3), dtype=np.uint32) / (tall * wide)


__all__ = ["Ownership", "Survey", "Tile", "make_tiles", "survey"]
