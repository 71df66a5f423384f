"""The cells of a field as marks over its picture: each leads from the field to the cell's crop."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from spherodetect.cells import Cells

#: Points of an outline. On a circle, the chords stay within 0.3 % of its radius.
_N_POINTS = 40


class Mark(NamedTuple):
    """A cell over the picture of its field, in pixels of the photograph.

    Attributes:
        cell_id: as in cells.csv.
        path: the outline, as the `d` of an SVG path.
        x, y: where the number is written.
    """

    cell_id: int
    path: str
    x: int
    y: int


def marks(cells: Cells, cell_ids: Collection[int]) -> list[Mark]:
    """Return the marks of these cells of a field, in the order of the field."""
    chosen = np.isin(cells.cell_id, list(cell_ids))
    shown = cells[chosen]
    found = []
    for k, (mask, corner_yx) in enumerate(shown.pixel_masks()):
        y0, _, _, x1 = shown.box_yxyx[k]
        outline = _outline(mask, corner_yx) if mask.any() else _box(shown.box_yxyx[k])
        path = "M" + "L".join(f"{x:g} {y:g}" for y, x in outline) + "z"
        found.append(Mark(int(shown.cell_id[k]), path, round(float(x1)), round(float(y0))))
    return found


def _outline(mask: np.ndarray, corner_yx: tuple[int, int]) -> np.ndarray:
    """(M, 2) the outer outline of a mask in pixels of the photograph, with few points."""
    from skimage.measure import find_contours

    ring = max(find_contours(np.pad(mask, 1), 0.5), key=len)[:-1]
    few = ring[:: max(1, len(ring) // _N_POINTS)]
    # A pixel has its centre at a half; the padding is one pixel.
    return np.round(few - 0.5 + corner_yx, 1)


def _box(box_yxyx: np.ndarray) -> list[tuple[float, float]]:
    y0, x0, y1, x1 = (round(float(v), 1) for v in box_yxyx)
    return [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]


__all__ = ["Mark", "marks"]
