"""Pictures of what was found: a field with its cells outlined, and crops of single cells at one
scale.

Images go in as uint8 RGB (H, W, 3) arrays and come out as RGB `PIL.Image`. Outlines run just
outside the mask, so that the rim, which tells a spherocyte, stays bare. Colours are from the
palette of Okabe and Ito, safe for the colour-blind, and classes differ by their line as well:
spherocytes heavy, other red cells thin, cells left out of the count dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from spherodetect.cells import RED_CELLS, Cells

_INK, _PAPER = (34, 34, 34), (255, 255, 255)
#: A field whose long side is shorter than this is drawn at twice its size.
_SMALL_FIELD_PX = 1200


@dataclass(frozen=True)
class _Style:
    """How the cells of one legend entry are drawn; width in lines, which are 1 to 4 pixels by the
    picture's size."""

    label: str
    color: tuple[int, int, int]
    width: float
    opacity: float = 1.0
    dashed: bool = False
    halo: bool = False


_SPHEROCYTE = _Style("spherocyte", (0, 72, 186), 1.6, halo=True)
_SPHEROCYTE_OUT = _Style("spherocyte, not counted", (0, 72, 186), 1.0, dashed=True)
_RED = _Style("other red cell", (40, 40, 40), 0.6, opacity=0.55)
_RED_OUT = _Style("other, not counted", (90, 90, 90), 0.8, opacity=0.8, dashed=True)
_WHITE = _Style("white cell", (0, 130, 95), 1.0)
_PLATELET = _Style("platelet", (213, 94, 0), 0.8)
#: In the legend's order, and drawn from the last to the first, so that what matters most lies on
#: top.
_STYLES = (_SPHEROCYTE, _RED, _SPHEROCYTE_OUT, _RED_OUT, _WHITE, _PLATELET)


def draw_overlay(
    image: np.ndarray,
    cells: Cells,
    *,
    scale: float | None = None,
    accepted: bool = True,
    note: str = "",
) -> Image.Image:
    """The field with every cell outlined, and below it a strip with the counts and, if the pixel
    size is known, a bar.

    Args:
        image: (H, W, 3) uint8.
        cells: its cells.
        scale: pixels of the picture to a pixel of the image; by default 2 for a small field and 1
            for a large one.
        accepted: False for a field that failed quality control: then no cell is drawn as counted.
        note: a line of text for the strip, such as why the field was rejected.

    >>> draw_overlay(np.full((60, 80, 3), 230, np.uint8), Cells.empty(field_id="a", image_size_hw=(60, 80))).mode
    'RGB'
    """
    height, width = image.shape[:2]
    scale = scale or (2.0 if max(height, width) < _SMALL_FIELD_PX else 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    # Lines and letters grow with the picture, for it will be shown at the width of a page or
    # screen.
    line = max(1.0, max(size) / 700)
    # On the small copy of a slide scan no line is as wide as a cell.
    stroke = (
        min(line, max(1.0, 0.08 * scale * float(np.median(_box_sides(cells)))))
        if len(cells)
        else line
    )
    styles = _styles(cells, countable=cells.countable & accepted)
    masks = list(cells.pixel_masks())
    for style in reversed(_STYLES):
        for index in np.flatnonzero(styles == style.label):
            _outline(canvas, *masks[index], scale=scale, style=style, line=stroke)
    counts = [(style, int((styles == style.label).sum())) for style in _STYLES]
    um_per_px = cells.um_per_px / scale if cells.um_per_px else None
    strip = _legend(size[0], counts, um_per_px=um_per_px, note=note, line=line)
    picture = Image.new("RGB", (size[0], size[1] + strip.height), _PAPER)
    picture.paste(Image.fromarray(canvas), (0, 0))
    picture.paste(strip, (0, size[1]))
    return picture


def crop_gallery(
    image: np.ndarray, cells: Cells, *, window_px: float | None = None, size_px: int = 112
) -> list[Image.Image]:
    """One square picture a cell, all at the same scale, the cell in the middle and its neighbours
    as they are.

    Args:
        image: (H, W, 3) uint8.
        cells: the cells to show, in order.
        window_px: side of the square in pixels of the image; by default twice the median red cell's
            box. Give one value for all fields of a patient to keep sizes comparable between them.
        size_px: side of the pictures.
    """
    if not len(cells):
        return []
    window = window_px or 2 * float(np.median(_box_sides(cells)))
    half = max(window, 2) / 2
    pad = int(np.ceil(half)) + 1
    # Beyond the field's edge there is neither cell nor slide, and it should not look like either.
    padded = Image.fromarray(np.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=235))
    crops = []
    for ymin, xmin, ymax, xmax in cells.box_yxyx.astype(float):
        y, x = (ymin + ymax) / 2 + pad, (xmin + xmax) / 2 + pad
        box = tuple(
            np.clip([x - half, y - half, x + half, y + half], 0, [*padded.size, *padded.size])
        )
        crops.append(padded.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box))
    return crops


def _box_sides(cells: Cells) -> np.ndarray:
    ymin, xmin, ymax, xmax = cells.box_yxyx.T
    return np.sqrt(np.maximum((ymax - ymin) * (xmax - xmin), 1))


def _styles(cells: Cells, *, countable: np.ndarray) -> np.ndarray:
    """(N,) the label of each cell's style."""
    names = cells.names
    styles = np.where(countable, _RED.label, _RED_OUT.label).astype(object)
    sphere = names == "spherocyte"
    styles[sphere] = np.where(countable, _SPHEROCYTE.label, _SPHEROCYTE_OUT.label)[sphere]
    styles[~np.isin(names, list(RED_CELLS))] = _PLATELET.label
    styles[names == "wbc"] = _WHITE.label
    return styles


def _outline(
    canvas: np.ndarray,
    mask: np.ndarray,
    corner_yx: tuple[int, int],
    *,
    scale: float,
    style: _Style,
    line: float,
) -> None:
    """Draw the outline of a box-local mask into the canvas, in a window of its own."""
    from scipy.special import ndtri

    if not mask.any():
        return
    pad = int(np.ceil((6 * line + 2) / scale)) + 1
    y, x = corner_yx[0] - pad, corner_yx[1] - pad
    shape = np.array(mask.shape) + 2 * pad
    low = np.ceil(np.maximum([y, x], 0) * scale).astype(int)
    high = np.minimum(np.floor((np.array([y, x]) + shape) * scale).astype(int), canvas.shape[:2])
    if (high <= low).any():
        return
    # A blurred edge is the normal distribution's integral, and its inverse the distance to the
    # edge, without stairs.
    sigma = line
    box = ((low[1] / scale - x), (low[0] / scale - y), (high[1] / scale - x), (high[0] / scale - y))
    blurred = Image.fromarray(np.pad(mask, pad).astype(np.uint8) * 255)
    blurred = blurred.resize(
        (high[1] - low[1], high[0] - low[0]), Image.Resampling.BILINEAR, box=box
    )
    level = np.asarray(blurred.filter(ImageFilter.GaussianBlur(sigma)), float)
    outside = -sigma * ndtri((level + 0.1) / 255.2)
    window = canvas[low[0] : high[0], low[1] : high[1]]
    width = max(1.0, style.width * line)
    if style.halo:
        _blend(window, _PAPER, 0.75 * _band(outside, -0.3 * width, 1.5 * width))
    opacity = style.opacity * _band(outside, 0, width)
    if style.dashed:
        opacity *= _dashes(outside, dash_px=5 * line)
    _blend(window, style.color, opacity)


def _band(distance: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where a distance lies between low and high, 0 outside, with an edge of one pixel."""
    return np.clip(np.minimum(distance - low, high - distance) + 0.5, 0, 1)


def _dashes(outside: np.ndarray, *, dash_px: float) -> np.ndarray:
    """1 and 0 by turns around the cell, each about dash_px long."""
    inside = outside < 0
    y, x = (np.arange(n, dtype=float) for n in outside.shape)
    rows, columns = inside.sum(axis=1), inside.sum(axis=0)
    area = max(rows.sum(), 1)
    angle = np.arctan2(y[:, None] - (rows @ y) / area, x[None, :] - (columns @ x) / area)
    pairs = max(3, round(np.sqrt(np.pi * area) / dash_px))
    return (np.mod(angle / (2 * np.pi) * pairs, 1) < 0.55).astype(float)


def _blend(window: np.ndarray, color: tuple[int, int, int], opacity: np.ndarray) -> None:
    mixed = window + opacity[..., None] * (np.array(color) - window.astype(float))
    window[...] = np.rint(mixed).astype(np.uint8)


def _legend(
    width: int,
    counts: Sequence[tuple[_Style, int]],
    *,
    um_per_px: float | None,
    note: str,
    line: float,
) -> Image.Image:
    """The strip below the field: a sample of each outline with its count, the scale bar, the
    note."""
    font = ImageFont.load_default(round(10 * line))
    row, gap = round(17 * line), round(12 * line)
    entries = [(s, f"{s.label} {n}") for s, n in counts if n or s in (_SPHEROCYTE, _RED)]
    bar_um = next(
        (um for um in (50, 20, 10, 5, 2, 1) if um_per_px and um / um_per_px < 0.15 * width), None
    )
    bar_px = round(bar_um / um_per_px) if bar_um and um_per_px else 0
    first_row_end = width - (bar_px + round(50 * line) + gap if bar_px else 0)
    places: list[tuple[float, float, _Style, str]] = []
    x, y = float(gap), float(round(4 * line))
    for style, text in entries:
        needs = row + font.getlength(text) + gap
        if x > gap and x + needs > (first_row_end if y < row else width):
            x, y = gap, y + row
        places.append((x, y, style, text))
        x += needs
    lines = _wrapped(note, font, width - 2 * gap)
    canvas = np.full((round(y + row * (1 + len(lines)) + 4 * line), width, 3), _PAPER, np.uint8)
    radius = 0.3 * row
    at = np.arange(row) + 0.5 - row / 2
    disc = np.hypot(at[:, None], at) < radius
    for left, top, style, _ in places:
        _outline(canvas, disc, (int(top), int(left)), scale=1, style=style, line=line)
    strip = Image.fromarray(canvas)
    draw = ImageDraw.Draw(strip)
    for left, top, _, text in places:
        draw.text((left + row * 1.1, top + row / 2), text, _INK, font, "lm")
    for i, text in enumerate(lines, 1):
        draw.text((gap, y + row * (i + 0.5)), text, _INK, font, "lm")
    if bar_px:
        _draw_bar(
            draw, (width - gap, round(4 * line) + row // 2), bar_px, f"{bar_um}  ", font, line
        )
    return strip


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    right_middle: tuple[int, int],
    length_px: int,
    number: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    line: float,
) -> None:
    """A scale bar with its length in µm before it."""
    right, y = right_middle
    left, thick = right - length_px, max(2, round(2 * line))
    draw.rectangle((left, y - thick // 2, right, y - thick // 2 + thick - 1), _INK)
    x = left - 4 * line - font.getlength(number + "um")
    draw.text((x, y), number + "um", _INK, font, "lm")
    # Pillow's own font has no µ: the u gets the stem that it lacks.
    x += font.getlength(number)
    u = draw.textbbox((x, y), "u", font, "lm")
    draw.line(
        (u[0] + line * 0.4, u[1] + line, u[0] + line * 0.4, u[3] + 2.4 * line),
        _INK,
        max(1, round(0.9 * line)),
    )


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shrunk(cells: Cells, size_hw: tuple[int, int]) -> Cells:
    """The cells as they lie on a smaller copy of their image."""
    factor = size_hw[0] / cells.image_size_hw[0]
    um_per_px = cells.um_per_px / factor if cells.um_per_px else None
    box = (cells.box_yxyx * factor).astype(np.float32)
    return replace(cells, box_yxyx=box, image_size_hw=size_hw, um_per_px=um_per_px)
