"""The strip of text below an electron micrograph."""

from __future__ import annotations

import numpy as np

#: Metadata strips are so high, as parts of the image's height.
_STRIP_HEIGHT = (0.02, 0.3)


_STRIP_LEVELS = 6


def block_mean(image: np.ndarray, step: int) -> np.ndarray:
    """The image averaged in blocks of step by step pixels; what does not fill a block at the edge
    is left out."""
    if step == 1:
        return image
    height, width = (length // step for length in image.shape[:2])
    blocks = image[: height * step, : width * step].reshape(height, step, width, step, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def image_rows(image: np.ndarray) -> int:
    """How many rows from the top are picture: all, but for a flat strip of text that ends an
    electron micrograph."""
    height = len(image)
    image = image[:, :: max(1, image.shape[1] // 200)]
    paper = np.median(image[-max(1, height // 100) :].reshape(-1, 3), axis=0)
    flat = (np.abs(image.astype(np.int16) - paper).max(axis=2) <= _STRIP_LEVELS).mean(axis=1)
    low, high = (max(2, round(part * height)) for part in _STRIP_HEIGHT)
    if height < 4 * low:
        return height
    # The strip begins where flat rows begin; the letters and lines in it leave most of each row but
    # a few flat.
    before, after = (
        np.convolve(flat, np.ones(low) / low, "valid")[s] for s in (np.s_[:-low], np.s_[low:])
    )
    step = (after - before)[height - high - low : height - 2 * low + 1]
    edge = height - high + int(np.argmax(step))
    sharp = flat[edge : edge + 2].min() - flat[edge - 2 : edge].max() > 0.3
    picture = flat[: edge - 1].mean() < 0.5 * flat[edge:].mean()
    return (
        edge if step.max() > 0.4 and sharp and picture and np.median(flat[edge:]) > 0.6 else height
    )
