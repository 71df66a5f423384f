"""Cells as images: a label image of all cells, and a binary mask of one class.

Where masks overlap, a pixel belongs to one cell only, see `Cells.label_image`.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from spherodetect.cells import Cells
from spherodetect.safety import atomic_write

#: Pixels of a class mask that are drawn at once.
_BAND_PX = 1 << 21
#: Pixels of a strip of a label image; only one strip is in memory, however large the field is.
_STRIP_PX = 1 << 24


def to_label_tiff(
    cells: Cells, path: str | Path, *, um_per_px: float | None = None, sync: bool = True
) -> None:
    """Write a label image as TIFF: 0 is background, elsewhere the value is cell_id.

    Values are uint16, or uint32 from 65,536 cells on.

    Args:
        cells: the cells of one field.
        path: the file.
        um_per_px: pixel size to write into the file; by default that of the cells, if known.
        sync: as for `atomic_write`.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    import tifffile

    (height, width), dtype = cells.image_size_hw, np.uint16 if len(cells) < 2**16 else np.uint32
    scale = um_per_px or cells.um_per_px
    pixels_per_cm, unit = ((1e4 / scale, 1e4 / scale), "CENTIMETER") if scale else (None, None)
    rows = min(height, max(1, _STRIP_PX // max(width, 1)))
    strips = (
        cells.label_image((y, min(y + rows, height))).astype(dtype) for y in range(0, height, rows)
    )
    # tifffile accepts strips one by one only if they are compressed already.
    data = (zlib.compress(strip.tobytes()) for strip in strips)
    with atomic_write(path, sync=sync) as file:
        tifffile.imwrite(
            file,
            data,
            shape=(height, width),
            dtype=dtype,
            rowsperstrip=rows,
            compression="zlib",
            metadata={"axes": "YX"},
            resolution=pixels_per_cm,
            resolutionunit=unit,
            photometric="minisblack",
        )


def to_class_mask(cells: Cells, class_name: str, path: str | Path, *, sync: bool = True) -> None:
    """Write the pixels of all cells of a class as a binary PNG, 255 on 0; sync as `atomic_write`.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    from PIL import Image

    chosen = cells[cells.names == class_name]
    (height, width), pixels = cells.image_size_hw, np.zeros(cells.image_size_hw, np.uint8)
    for y in range(0, height, rows := max(1, _BAND_PX // max(width, 1))):
        pixels[y : y + rows][chosen.label_image((y, min(y + rows, height))) > 0] = 255
    image = Image.fromarray(pixels)
    with atomic_write(path, sync=sync) as file:
        image.save(file, "PNG")


__all__ = ["to_class_mask", "to_label_tiff"]
