"""A contact sheet of crops, each beside the same crop with outlines, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from spherodetect.cells import Cells
from spherodetect.report.outlines import Style, draw_outline

_STYLES = tuple(
    Style("", color, 1.0)
    for color in ((0, 90, 255), (230, 0, 0), (0, 140, 0), (200, 0, 200), (230, 120, 0))
)
_TEXT_PX = 14


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of a photograph.

    Attributes:
        image: (H, W, 3) uint8.
        center_yx: of the part, in pixels of the image.
        side_px: of the square part.
        shown: the cells whose outlines are drawn, one set a picture.
        text: the line below.
    """

    image: np.ndarray
    center_yx: tuple[float, float]
    side_px: int
    shown: Sequence[Cells]
    text: str


def write_sheet(tiles: Sequence[Tile], out: Path, *, size_px: int = 160, columns: int = 4) -> None:
    """Write the sheet as a PNG; each tile has its crop without outlines first."""
    pictures = 1 + max(len(tile.shown) for tile in tiles)
    width, height = pictures * size_px + 6, size_px + _TEXT_PX + 4
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, tile in enumerate(tiles):
        x, y = k % columns * width, k // columns * height
        for n, picture in enumerate(_pictures(tile, size_px)):
            sheet.paste(Image.fromarray(picture), (x + n * size_px, y))
        draw.text((x + 2, y + size_px + 1), tile.text, fill="black")
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def _pictures(tile: Tile, size_px: int) -> list[np.ndarray]:
    top, left = (round(at - tile.side_px / 2) for at in tile.center_yx)
    pad = tile.side_px
    padded = np.pad(tile.image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    crop = padded[top + pad :, left + pad :][: tile.side_px, : tile.side_px]
    large = np.array(Image.fromarray(crop).resize((size_px, size_px), Image.Resampling.BICUBIC))
    pictures = [large]
    for cells in tile.shown:
        canvas = large.copy()
        for k, (mask, (y, x)) in enumerate(cells.pixel_masks()):
            draw_outline(
                canvas,
                mask,
                (y - top, x - left),
                scale=size_px / tile.side_px,
                style=_STYLES[k % len(_STYLES)],
                line_px=1.2,
            )
        pictures.append(canvas)
    return pictures
