"""Burnt-in marks (green scale bars, yellow arrows) are painted over before anything learns from a
field.

Most shared spherocytes lie in fields with a green bar: a model that sees it learns the bar. Images
are uint8 RGB.
"""

from __future__ import annotations

import numpy as np

#: How much a mark's colour exceeds what stain and slide ever show, in grey levels.
_EXCESS = 45


def hide_marks(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Replace saturated green and yellow marks by what surrounds them.

    Returns:
        The image, itself if nothing was found, and the number of pixels painted over.
    """
    red, green, blue = np.moveaxis(image.astype(np.int16), -1, 0)
    marks = (green - np.maximum(red, blue) > _EXCESS) | (
        np.minimum(red, green) - blue > 1.6 * _EXCESS
    )
    if not marks.any():
        return image, 0
    from scipy import ndimage

    # JPEG smears colour over neighbouring pixels.
    marks = ndimage.binary_dilation(marks, iterations=4)
    painted = image.copy()
    # Normalised convolution, from the near surroundings first; wide marks need a wider reach.
    left = marks
    for sigma in (2.5, 6.0, 15.0, 60.0):
        known = ndimage.gaussian_filter((~marks).astype(np.float32), sigma)
        fill = left & (known > 0.02)
        for channel in range(3):
            blurred = ndimage.gaussian_filter(
                np.where(marks, 0, image[..., channel]).astype(np.float32), sigma
            )
            painted[..., channel][fill] = np.clip(blurred[fill] / known[fill], 0, 255)
        left = left & ~fill
    return painted, int(marks.sum())
