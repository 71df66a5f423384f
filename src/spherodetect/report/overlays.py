"""The picture of a field with every cell outlined, and a legend below it.

Images go in as uint8 RGB (H, W, 3) arrays and come out as RGB `PIL.Image`. The colours are from the
colour-blind safe palette of Okabe and Ito (Color Universal Design, 2008). The classes differ in
their lines too: spherocytes have a heavy line, other red cells a thin one, and cells that are not
counted a dashed one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.report.crops import median_side_px
from spherodetect.report.legend import draw_legend
from spherodetect.report.outlines import PAPER, Style, draw_outline

#: A field whose long side is shorter than this is drawn at twice its size.
_SMALL_FIELD_PX = 1200
#: Side of the picture in pixels for which a line is one pixel wide. Lines and letters grow with the
#: picture, because a page or a screen shows every picture at about the same width.
_SIDE_OF_LINE_1_PX = 520

_SPHEROCYTE = Style("spherocyte", (0, 72, 186), 1.6, halo=True)
_SPHEROCYTE_OUT = Style("spherocyte, not counted", (0, 72, 186), 1.0, dashed=True)
_RED = Style("other red cell", (40, 40, 40), 0.6, opacity=0.55)
_RED_OUT = Style("other, not counted", (90, 90, 90), 0.8, opacity=0.8, dashed=True)
_WHITE = Style("white cell", (0, 130, 95), 1.0)
_PLATELET = Style("platelet", (213, 94, 0), 0.8)
#: In the order of the legend. Cells are drawn from the last style to the first, so that
#: spherocytes lie on top.
_STYLES = (_SPHEROCYTE, _RED, _SPHEROCYTE_OUT, _RED_OUT, _WHITE, _PLATELET)
#: Styles that the legend lists even for a count of 0.
_ALWAYS_LISTED = (_SPHEROCYTE, _RED)


def draw_overlay(
    image: np.ndarray,
    cells: Cells,
    *,
    scale: float | None = None,
    accepted: bool = True,
    note: str = "",
) -> Image.Image:
    """Return the field with every cell outlined, and below it a strip with a legend.

    The strip holds the count of each kind of cell and, if the pixel size is known, a scale bar.

    Args:
        image: (H, W, 3) uint8.
        cells: the cells of this image.
        scale: pixels of the picture per pixel of the image; by default 2 for a small field and 1
            for a large one.
        accepted: False for a field that failed quality control: then no cell is drawn as counted.
        note: a line of text for the strip, such as why the field was rejected.

    >>> empty = Cells.empty(field_id="a", image_size_hw=(60, 80))
    >>> draw_overlay(np.full((60, 80, 3), 230, np.uint8), empty).mode
    'RGB'
    """
    height, width = image.shape[:2]
    scale = scale or (2.0 if max(height, width) < _SMALL_FIELD_PX else 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    line_px = max(1.0, max(size) / _SIDE_OF_LINE_1_PX)
    outline_px = line_px
    if len(cells):
        # On the small copy of a slide scan, cells are a few pixels wide; the line must stay
        # narrower than they are.
        outline_px = min(line_px, max(1.0, 0.08 * scale * median_side_px(cells)))
    styles = _styles(cells, countable=cells.countable & accepted)
    masks = list(cells.pixel_masks())
    for style in reversed(_STYLES):
        for index in np.flatnonzero(styles == style.label):
            draw_outline(canvas, *masks[index], scale=scale, style=style, line_px=outline_px)
    counts = [(style, int((styles == style.label).sum())) for style in _STYLES]
    strip = draw_legend(
        size[0],
        [(style, n) for style, n in counts if n or style in _ALWAYS_LISTED],
        um_per_px=cells.um_per_px / scale if cells.um_per_px else None,
        note=note,
        line_px=line_px,
    )
    picture = Image.new("RGB", (size[0], size[1] + strip.height), PAPER)
    picture.paste(Image.fromarray(canvas), (0, 0))
    picture.paste(strip, (0, size[1]))
    return picture


def _styles(cells: Cells, *, countable: np.ndarray) -> np.ndarray:
    """(N,) the label of each cell's style."""
    names = cells.names
    styles = np.where(countable, _RED.label, _RED_OUT.label).astype(object)
    sphere = names == "spherocyte"
    styles[sphere] = np.where(countable, _SPHEROCYTE.label, _SPHEROCYTE_OUT.label)[sphere]
    styles[~np.isin(names, list(RED_CELLS))] = _PLATELET.label
    styles[names == "wbc"] = _WHITE.label
    return styles


def shrunk(cells: Cells, size_hw: tuple[int, int]) -> Cells:
    """Return the cells in the coordinates of a smaller copy of their image."""
    factor = size_hw[0] / cells.image_size_hw[0]
    um_per_px = cells.um_per_px / factor if cells.um_per_px else None
    box = (cells.box_yxyx * factor).astype(np.float32)
    return replace(cells, box_yxyx=box, image_size_hw=size_hw, um_per_px=um_per_px)


__all__ = ["draw_overlay", "shrunk"]
