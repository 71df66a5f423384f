"""What the second look sees of each cell: windows of density and mask, and sizes."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from spherodetect.graph.boxes import align

#: Side of what is seen around a cell's centre, in the network's pixels: one and a half red cells.
WINDOW = 48


SPECS = tf.TensorSpec([None, WINDOW, WINDOW, 4]), tf.TensorSpec([None, 3])


#: A window shows this many times more or less at most.
_MOST_ZOOM = 1.6


#: Sizes are small numbers beside densities.
SIZE_GAIN = 5.0


#: The field's median cell is believed to be at most so many times larger or smaller than usual.
_MOST_UNUSUAL = 1.28


def windows(
    density: tf.Tensor,
    boxes: tf.Tensor,
    masks: tf.Tensor,
    *,
    zoom: tf.Tensor | float = 1.0,
    gathered: bool = False,
) -> tf.Tensor:
    """What is seen of each cell, (N, WINDOW, WINDOW, 4): optical density, and the mask.

    Args:
        density: (H, W, 3) at the network's scale, 0 where there is no image.
        boxes: (N, 4) in its pixels.
        masks: (N, m, m), which fill the boxes.
        zoom: pixels of the image to one of the window.
        gathered: with operations that XLA compiles.
    """
    zoom = tf.clip_by_value(zoom, 1 / _MOST_ZOOM, _MOST_ZOOM)
    half, room = zoom * WINDOW / 2, math.ceil(_MOST_ZOOM * WINDOW / 2)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    # In the frame of the padded image; `align` counts from the first pixel's centre.
    around = tf.concat([center - half, center + half], axis=1) + (room - 0.5)
    padded = tf.pad(density, [[room, room], [room, room], [0, 0]])
    seen = align([padded], around, WINDOW, first_level=0, gathered=gathered)
    pixels = (tf.range(WINDOW, dtype=tf.float32) - (WINDOW - 1) / 2) * zoom
    shares = [
        _mask_shares(
            center[:, axis, tf.newaxis] + pixels, boxes[:, axis], boxes[:, axis + 2], masks.shape[1]
        )
        for axis in (0, 1)
    ]
    mask = tf.einsum("nyi,nij,nxj->nyx", shares[0], masks, shares[1])
    return tf.concat([seen, mask[..., tf.newaxis]], axis=-1)


def _mask_shares(pixel: tf.Tensor, low: tf.Tensor, high: tf.Tensor, samples: int) -> tf.Tensor:
    """(N, WINDOW, samples): of every sample of a mask in each pixel (N, WINDOW), linear between
    samples."""
    extent = tf.maximum(high - low, 1.0)[:, tf.newaxis]
    at = (pixel - low[:, tf.newaxis]) / extent * samples - 0.5
    return tf.maximum(1.0 - tf.abs(at[..., tf.newaxis] - tf.range(samples, dtype=tf.float32)), 0.0)


def sizes(relative: tf.Tensor, median_um: tf.Tensor, usual_um: float) -> tf.Tensor:
    """The numbers that go with the windows, (N, 3).

    Args:
        relative: (N,) diameter over the median of the field's red cells.
        median_um: scalar, that median in µm, or 0 where the pixel size is unknown.
        usual_um: what it is in most blood.
    """
    known = tf.cast(median_um > 0.0, tf.float32)
    unusual = tf.clip_by_value(
        tf.maximum(median_um, 1e-3) / usual_um, 1 / _MOST_UNUSUAL, _MOST_UNUSUAL
    )
    relative = tf.math.log(tf.clip_by_value(relative, 0.3, 3.0))
    both = [
        relative * SIZE_GAIN,
        tf.zeros_like(relative) + tf.math.log(unusual) * SIZE_GAIN * known,
    ]
    return tf.stack([*both, tf.zeros_like(relative) + known], axis=1)


def combined(network: Any, second: Any) -> Any:
    """The log odds of both."""
    return 0.5 * (network + second)
