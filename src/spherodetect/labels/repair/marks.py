"""Paints over burnt-in marks, such as green scale bars and yellow arrows, before training.

Most shared spherocytes are in fields with a green bar; a model that sees the bar learns it. Images
are uint8 RGB.
"""

from __future__ import annotations

import numpy as np

#: How far the colour of a mark exceeds every colour of stain and slide, in grey levels.
_EXCESS = 45
#: JPEG smears colour over this many neighbouring pixels.
_JPEG_PX = 4
#: Widths of the filters that fill a mark, the narrow ones first.
_FILL_SIGMAS_PX = (2.5, 6.0, 15.0, 60.0)


def hide_marks(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Replace saturated green and yellow marks by their surroundings.

    Returns:
        The image (the same object if there are no marks), and the number of pixels painted over.
    """
    red, green, blue = np.moveaxis(image.astype(np.int16), -1, 0)
    is_green = green - np.maximum(red, blue) > _EXCESS
    is_yellow = np.minimum(red, green) - blue > 1.6 * _EXCESS
    marks = is_green | is_yellow
    if not marks.any():
        return image, 0
    from scipy import ndimage

    marks = ndimage.binary_dilation(marks, iterations=_JPEG_PX)
    painted = image.copy()
    # Normalised convolution: the blurred image divided by the blurred weight of known pixels.
    remaining = marks
    for sigma in _FILL_SIGMAS_PX:
        known = ndimage.gaussian_filter((~marks).astype(np.float32), sigma)
        fill = remaining & (known > 0.02)
        for channel in range(3):
            unmarked = np.where(marks, 0, image[..., channel]).astype(np.float32)
            blurred = ndimage.gaussian_filter(unmarked, sigma)
            painted[..., channel][fill] = np.clip(blurred[fill] / known[fill], 0, 255)
        remaining = remaining & ~fill
    return painted, int(marks.sum())
