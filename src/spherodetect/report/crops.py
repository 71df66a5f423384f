"""Square pictures of single cells, all at one scale.

Images are uint8 RGB (H, W, 3) arrays; the pictures are RGB `PIL.Image`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from spherodetect.cells import Cells

#: Grey of what lies beyond the edge of the field. It is neither the colour of a cell nor that of
#: the slide, so nobody takes it for either.
_OUTSIDE = 235


def crop_gallery(
    image: np.ndarray, cells: Cells, *, window_px: float | None = None, size_px: int = 112
) -> list[Image.Image]:
    """Return one square picture a cell, all at the same scale, with the cell in the middle.

    Args:
        image: (H, W, 3) uint8.
        cells: the cells to show, in order.
        window_px: side of the square in pixels of the image; by default twice the median side of
            the cells' boxes. Give one value for all fields of a patient, so that sizes can be
            compared between them.
        size_px: side of the pictures.
    """
    if not len(cells):
        return []
    window = window_px or 2 * median_side_px(cells)
    half = max(window, 2) / 2
    pad = int(np.ceil(half)) + 1
    padded = Image.fromarray(
        np.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=_OUTSIDE)
    )
    crops = []
    for ymin, xmin, ymax, xmax in cells.box_yxyx.astype(float):
        y, x = (ymin + ymax) / 2 + pad, (xmin + xmax) / 2 + pad
        box = tuple(
            np.clip([x - half, y - half, x + half, y + half], 0, [*padded.size, *padded.size])
        )
        crops.append(padded.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box))
    return crops


def median_side_px(cells: Cells) -> float:
    """Return the median side of the squares that are as large as the cells' boxes."""
    ymin, xmin, ymax, xmax = cells.box_yxyx.T
    return float(np.median(np.sqrt(np.maximum((ymax - ymin) * (xmax - xmin), 1))))


__all__ = ["crop_gallery", "median_side_px"]
