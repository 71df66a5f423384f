"""Large images by tiles: where they lie, which cell is whose, and which of them show nothing.

Every pixel lies in the core of one tile. A tile is looked at with a margin around its core, wide
enough for any cell at the core's edge and its neighbours, and owns the cells whose box's centre
lies in its core. Windows are (y0, x0, y1, x1) in pixels of the image, half-open; boxes are (N, 4)
(ymin, xmin, ymax, xmax).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spherodetect.fields.scan import Region, Window

#: Width of a core and of the margin around it, in red cells: a core is about a field.
CORE, MARGIN = 20.0, 2.0
#: What is looked at at once is at least so many red cells wide, for the light of the slide is
#: judged by it.
LEAST = 12.0
#: The side of what is looked at at once stays within this many pixels where cells are large.
MAX_SIDE_PX = 3072
#: Centres of one cell, seen by two tiles, lie nearer to each other than this, and those of two
#: cells do not; in cells.
_SAME = 0.25
#: Sides of the squares that a survey tells of, and of those over which it averages grain away.
BLOCK_PX, _GRAIN_PX = 256, 8
#: Optical density from which something lies on the slide; the palest red cells have 0.1.
_SOMETHING_OD = 0.06
#: A place of which less is covered tells nothing of cells.
_FEW = 0.02
#: Grey levels that a survey does not tell apart; squares that it reads at once.
_LEVEL, _BLOCKS_READ = 8, 16
#: Side of the overview, at most.
_OVERVIEW_PX = 4096
_GREEN = 1


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        core: whose cells are its own.
        window: the core and its margin, clipped to the image.
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


def cut(
    size_hw: tuple[int, int], diameter_px: float, *, core_px: float | None = None
) -> list[Tile]:
    """The tiles of an image, row by row.

    Args:
        size_hw: the image's.
        diameter_px: of its red cells.
        core_px: side of the cores, at most; by default CORE red cells, or as many as MAX_SIDE_PX
            has room for.
    """
    margin = int(np.ceil(MARGIN * diameter_px))
    side = core_px or min(CORE * diameter_px, max(MAX_SIDE_PX - 2 * margin, 2 * margin))
    margin = max(margin, int(np.ceil(min(LEAST * diameter_px, MAX_SIDE_PX) - side)) // 2)
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
    """Gives every cell to one tile, though two tiles see it a little differently.

    A cell whose centre lies just outside of a core is kept too, unless it is one that another tile
    has kept.

    Args:
        diameter_px: of the red cells.
    """

    def __init__(self, diameter_px: float) -> None:
        self._reach = _SAME * diameter_px
        self._taken = np.zeros((0, 2))

    def of(self, tile: Tile, box_yxyx: np.ndarray) -> np.ndarray:
        """(N,) bool, the cells that are the tile's own; boxes lie in the tile's window."""
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
    """What a quick look at a whole image came to.

    Attributes:
        covered: (rows, columns) of squares of BLOCK_PX, the part of each in which something lies on
            the slide, 0 to 1.
        overview: (H, W, 3) uint8, the image at a whole fraction of its size.
        step: pixels of the image to one of the overview.
    """

    covered: np.ndarray
    overview: np.ndarray
    step: int

    def shows_nothing(self, window: Window) -> bool:
        """Whether a window is empty slide."""
        return not self._squares(window).any()

    def _squares(self, window: Window) -> np.ndarray:
        y0, x0, y1, x1 = window
        return self.covered[
            y0 // BLOCK_PX : -(-y1 // BLOCK_PX), x0 // BLOCK_PX : -(-x1 // BLOCK_PX)
        ]

    def samples(self, side_px: int, size_hw: tuple[int, int], n: int) -> list[Window]:
        """Windows of a side in which cells lie most likely side by side, the best first; not on one
        another."""
        from scipy.ndimage import uniform_filter

        blocks = max(1, round(side_px / BLOCK_PX))
        share = uniform_filter(self.covered, blocks, mode="constant")
        found: list[Window] = []
        # A third of the slide covered is a monolayer; nothing is better than a place that is
        # covered all over.
        rank = np.where(share > 0, np.abs(share - 0.33), np.inf)
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
            if self._squares(window).mean() > _FEW:
                found.append(window)
        return found


def survey(region: Region) -> Survey:
    """Look at a whole image once, square by square."""
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
    # The slide is what is brightest nearby: light falls off towards a scan's edges.
    slide = maximum_filter(bright, 5)
    below = np.ceil(slide * 10**-_SOMETHING_OD / _LEVEL).astype(int)[..., np.newaxis] - 1
    dark = np.take_along_axis(levels.cumsum(axis=2), np.maximum(below, 0), axis=2)[..., 0] * (
        below[..., 0] >= 0
    )
    return Survey(dark / levels.sum(axis=2), overview, step)


def _blocks(region: Region) -> Iterator[tuple[int, int, np.ndarray]]:
    """The squares of an image with their places; read several at a time, so that a tile of a scan
    is decoded once."""
    height, width = region.size_hw
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, _BLOCKS_READ * BLOCK_PX):
            band = region.read(
                (y, x, min(height, y + BLOCK_PX), min(width, x + _BLOCKS_READ * BLOCK_PX))
            )
            for left in range(0, band.shape[1], BLOCK_PX):
                yield y, x + left, band[:, left : left + BLOCK_PX]


def _means(values: np.ndarray) -> np.ndarray:
    """Means over squares of _GRAIN_PX; a rest at the right and lower edge is left out."""
    height, width = values.shape
    down, across = max(1, height // _GRAIN_PX), max(1, width // _GRAIN_PX)
    tall, wide = min(height, _GRAIN_PX), min(width, _GRAIN_PX)
    squares = values[: down * tall, : across * wide].reshape(down, tall, across, wide)
    return squares.sum(axis=(1, 3), dtype=np.uint32) / (tall * wide)


__all__ = ["Ownership", "Survey", "Tile", "cut", "survey"]
