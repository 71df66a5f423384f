"""From optical density to an image: lamp, optics, sensor and file format."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from spherodetect.synthetic.marks import add_debris, add_overlays
from spherodetect.synthetic.noise import smooth_noise
from spherodetect.synthetic.style import SmearStyle


def photograph(rng: np.random.Generator, density: np.ndarray, style: SmearStyle) -> np.ndarray:
    """(H, W, 3) uint8: the image that lamp, optics, camera and file format make of an OD.

    Args:
        rng: source of random numbers.
        density: (H, W, 3) float32 optical density.
        style: the smear and the microscope.
    """
    height, width = density.shape[:2]
    mottle = 1 + style.mottle * smooth_noise(rng, (height, width), 0.6 / style.um_per_px)
    density = density * mottle[..., None]
    density += (
        0.1 * style.mottle * smooth_noise(rng, (height, width), 6 / style.um_per_px)[..., None]
    )
    add_debris(rng, density, style)
    y, x = np.ogrid[:height, :width]
    far = (y / width - style.falloff_yx[0] * height / width) ** 2 + (
        x / width - style.falloff_yx[1]
    ) ** 2
    light = (
        np.array(style.background_rgb, np.float32)
        * (1 - style.falloff * np.minimum(far, 1)).astype(np.float32)[..., None]
    )
    image = light * np.exp(-math.log(10) * density)
    turn = rng.uniform(0, 2 * np.pi)
    fringe = style.fringe_um / style.um_per_px * np.array([math.sin(turn), math.cos(turn)])
    for channel, side in enumerate((-1, 0, 1)):
        plane = ndimage.gaussian_filter(
            image[..., channel], style.blur_um / style.um_per_px, truncate=3
        )
        image[..., channel] = (
            ndimage.shift(plane, side * fringe, order=1, mode="nearest") if side else plane
        )
    # Demosaicing spreads the noise of a pixel to its neighbours. The factor 1.78 restores the
    # standard deviation after the filter.
    grain = ndimage.gaussian_filter(
        rng.standard_normal(image.shape, dtype=np.float32), (0.55, 0.55, 0), truncate=2
    )
    image += 1.78 * style.noise * grain
    picture = Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    add_overlays(rng, picture, style)
    if style.jpeg_quality is not None:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(style.jpeg_quality))
        picture = Image.open(file)
    return np.array(picture)
