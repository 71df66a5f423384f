"""The strip of text below an electron micrograph, which is no part of the field."""

from __future__ import annotations

import numpy as np

#: Least and largest height of a strip, as parts of the image's height.
_STRIP_HEIGHT = (0.02, 0.3)
#: Grey levels by which a pixel of a flat row may differ from the strip's background; JPEG adds
#: some.
_STRIP_LEVELS = 6


def block_mean(image: np.ndarray, step: int) -> np.ndarray:
    """The image averaged in blocks of step by step pixels, uint8 RGB (H // step, W // step, 3).

    Rows and columns at the lower and right edge that do not fill a block are left out.
    """
    if step == 1:
        return image
    height, width = (length // step for length in image.shape[:2])
    # Sums of whole rows first: they lie side by side in memory.
    rows = image[: height * step, : width * step].reshape(height, step, width * step * 3)
    sums = rows.sum(axis=1, dtype=np.uint32).reshape(height, width, step, 3).sum(axis=2)
    return np.rint(sums / step**2).astype(np.uint8)


def image_rows(image: np.ndarray) -> int:
    """The number of rows, from the top, that belong to the picture.

    These are all rows, unless a flat strip of text ends the image, as electron microscopes write
    it.

    Args:
        image: (H, W, 3) uint8.
    """
    height = len(image)
    # 200 columns suffice to measure how flat a row is.
    image = image[:, :: max(1, image.shape[1] // 200)]
    paper = np.median(image[-max(1, height // 100) :].reshape(-1, 3), axis=0)
    flat = (np.abs(image.astype(np.int16) - paper).max(axis=2) <= _STRIP_LEVELS).mean(axis=1)
    low, high = (max(2, round(part * height)) for part in _STRIP_HEIGHT)
    if height < 4 * low:
        return height
    # The strip begins where flat rows begin. Letters and lines break the flatness of some rows
    # only, so the mean over `low` rows is compared above and below each candidate.
    means = np.convolve(flat, np.ones(low) / low, "valid")
    before, after = means[:-low], means[low:]
    step = (after - before)[height - high - low : height - 2 * low + 1]
    edge = height - high + int(np.argmax(step))
    # A strip has a sharp upper edge and mostly flat rows, and the picture above it is not flat.
    sharp = flat[edge : edge + 2].min() - flat[edge - 2 : edge].max() > 0.3
    picture = flat[: edge - 1].mean() < 0.5 * flat[edge:].mean()
    is_strip = step.max() > 0.4 and sharp and picture and np.median(flat[edge:]) > 0.6
    return edge if is_strip else height
