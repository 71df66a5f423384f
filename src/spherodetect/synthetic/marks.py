"""Things in an image that are no cells: debris, a pointer, a scale bar, an arrow."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from spherodetect.synthetic.style import SmearStyle

#: Corners (x, y) of an arrow of length 1 whose tip is at the origin.
_ARROW = np.array(
    [(0, 0), (0.4, 0.17), (0.4, 0.09), (1, 0.09), (1, -0.09), (0.4, -0.09), (0.4, -0.17)]
)


def add_debris(rng: np.random.Generator, density: np.ndarray, style: SmearStyle) -> None:
    """Add specks of precipitated stain and dust, and the shadow of an eyepiece pointer.

    Args:
        rng: source of random numbers.
        density: (H, W, 3) optical density, which is changed.
        style: the smear.
    """
    height, width = density.shape[:2]
    for _ in range(rng.poisson(style.debris * height * width * style.um_per_px**2 / 1e4)):
        size = rng.uniform(0.12, 0.45) / style.um_per_px
        cy, cx = rng.uniform(0, [height, width])
        y0, x0, reach = max(int(cy - 4 * size), 0), max(int(cx - 4 * size), 0), int(8 * size) + 2
        y, x = np.ogrid[y0 : min(y0 + reach, height), x0 : min(x0 + reach, width)]
        speck = np.exp(-((y - cy) ** 2 + ((x - cx) * rng.uniform(0.7, 1.4)) ** 2) / (2 * size**2))
        colour = rng.uniform(-0.05, 0.35) * rng.uniform(0.6, 1, 3)
        density[y0 : y0 + reach, x0 : x0 + reach] += speck[..., None] * colour
    if rng.random() < style.overlays / 2:
        shadow = Image.new("L", (width, height))
        tip = rng.uniform([0.4, 0.2], [0.95, 0.7]) * [width, height]
        foot = np.array([tip[0] + rng.uniform(-0.3, 0.3) * width, height * 1.05])
        ImageDraw.Draw(shadow).line([tuple(tip), tuple(foot)], fill=255, width=max(2, width // 45))
        density += (
            rng.uniform(0.2, 0.5)
            * ndimage.gaussian_filter(np.asarray(shadow, np.float32) / 255, width / 160)[..., None]
        )


def add_overlays(rng: np.random.Generator, picture: Image.Image, style: SmearStyle) -> None:
    """Draw burnt-in marks into a picture: a scale bar of the true length, and an arrow.

    The marks do not depend on the cells.
    """
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    if rng.random() < style.overlays:
        length = min((5, 8, 10, 20), key=lambda um: abs(um / style.um_per_px - 0.13 * width))
        right, bottom, tick = 0.96 * width, 0.92 * height, height / 100
        left, thickness = right - length / style.um_per_px, max(1, height // 480)
        colour = [(0, 230, 30), (20, 20, 20), (250, 250, 250)][rng.integers(3)]
        draw.line((left, bottom, right, bottom), fill=colour, width=thickness)
        for end in (left, right):
            draw.line((end, bottom - tick, end, bottom + tick), fill=colour, width=thickness)
        font = ImageFont.load_default(size=max(8, height / 45))
        draw.text(
            ((left + right) / 2, bottom - 2), f"{length}.00um", fill=colour, anchor="mb", font=font
        )
    if rng.random() < style.overlays / 2:
        tip = rng.uniform(0.15, 0.85, 2) * [width, height]
        turn, size = rng.uniform(0, 2 * np.pi), height / 18
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        draw.polygon([tuple(p) for p in size * _ARROW @ rotation + tip], fill=(255, 225, 0))
