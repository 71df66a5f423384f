"""Smooth noise for mottled stain, granules and chromatin."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image


def smooth_noise(
    rng: np.random.Generator, shape_hw: tuple[int, int], grain_px: float
) -> np.ndarray:
    """(H, W) float32 noise of about unit variance, with grains of grain_px pixels.

    White noise on a coarse grid is interpolated; the factor 1.3 restores the variance.
    """
    coarse = [max(2, math.ceil(side / max(grain_px, 1))) for side in shape_hw]
    noise = Image.fromarray(rng.standard_normal(coarse, dtype=np.float32))
    return 1.3 * np.asarray(noise.resize(shape_hw[::-1], Image.Resampling.BICUBIC))
