"""The inputs of the second look: a window of density and mask around each cell, and its size."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from spherodetect.graph.boxes import align

#: Side of the window around a cell's centre, in the network's pixels: one and a half red cells.
WINDOW = 48
#: Shapes of the windows and of the sizes.
SPECS = tf.TensorSpec([None, WINDOW, WINDOW, 4]), tf.TensorSpec([None, 3])
#: Largest change of a window's scale.
_MAX_ZOOM = 1.6
#: Factor of the log sizes, which are small numbers compared with densities.
SIZE_GAIN = 5.0
#: Largest accepted ratio between the field's median diameter and the usual one.
_MAX_UNUSUAL = 1.28


def windows(
    density: tf.Tensor,
    boxes: tf.Tensor,
    masks: tf.Tensor,
    *,
    zoom: tf.Tensor | float = 1.0,
    gathered: bool = False,
) -> tf.Tensor:
    """Optical density and mask around each cell, (N, WINDOW, WINDOW, 4).

    Args:
        density: (H, W, 3) at the network's scale, 0 where there is no image.
        boxes: (N, 4) in its pixels.
        masks: (N, m, m), each fills its box.
        zoom: pixels of the image in one pixel of the window.
        gathered: use operations that XLA compiles.
    """
    zoom = tf.clip_by_value(zoom, 1 / _MAX_ZOOM, _MAX_ZOOM)
    half = zoom * WINDOW / 2
    room = math.ceil(_MAX_ZOOM * WINDOW / 2)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Coordinates of the padded image; `align` counts from the centre of the first pixel.
    around = tf.concat([center - half, center + half], axis=1) + (room - 0.5)
    padded = tf.pad(density, [[room, room], [room, room], [0, 0]])
    pixels = align([padded], around, WINDOW, first_level=0, gathered=gathered)
    distances = (tf.range(WINDOW, dtype=tf.float32) - (WINDOW - 1) / 2) * zoom
    shares = [
        _mask_shares(
            center[:, axis, tf.newaxis] + distances,
            boxes[:, axis],
            boxes[:, axis + 2],
            masks.shape[1],
        )
        for axis in (0, 1)
    ]
    mask = tf.einsum("nyi,nij,nxj->nyx", shares[0], masks, shares[1])
    return tf.concat([pixels, mask[..., tf.newaxis]], axis=-1)


def _mask_shares(pixel: tf.Tensor, low: tf.Tensor, high: tf.Tensor, samples: int) -> tf.Tensor:
    """Weights of the mask's samples in each pixel along one axis, (N, WINDOW, samples).

    The interpolation is linear. `pixel` (N, WINDOW) are positions, `low` and `high` the box's ends.
    """
    extent = tf.maximum(high - low, 1.0)[:, tf.newaxis]
    at = (pixel - low[:, tf.newaxis]) / extent * samples - 0.5
    return tf.maximum(1.0 - tf.abs(at[..., tf.newaxis] - tf.range(samples, dtype=tf.float32)), 0.0)


def sizes(relative: tf.Tensor, median_um: tf.Tensor, usual_um: float) -> tf.Tensor:
    """Sizes of the cells, (N, 3): relative diameter, field's median, whether µm are known.

    Args:
        relative: (N,) diameter over the median of the field's red cells.
        median_um: scalar, that median in µm, or 0 if the pixel size is unknown.
        usual_um: the median in most blood.
    """
    known = tf.cast(median_um > 0.0, tf.float32)
    unusual = tf.clip_by_value(
        tf.maximum(median_um, 1e-3) / usual_um, 1 / _MAX_UNUSUAL, _MAX_UNUSUAL
    )
    relative = tf.math.log(tf.clip_by_value(relative, 0.3, 3.0))
    both = [
        relative * SIZE_GAIN,
        tf.zeros_like(relative) + tf.math.log(unusual) * SIZE_GAIN * known,
    ]
    return tf.stack([*both, tf.zeros_like(relative) + known], axis=1)


def mean_log_odds(network: Any, second: Any) -> Any:
    """The mean of the log odds of the Mask R-CNN and of the second look."""
    return 0.5 * (network + second)
