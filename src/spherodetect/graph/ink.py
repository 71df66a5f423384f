"""Cells under ink that was burnt into a photograph: scale bars, text and pointers.

No stain is as green or as yellow as ink, and none is black in all three colours: the nucleus of a
white cell lets red or blue through. labels/repair/marks.py hides the same marks from training.
"""

from __future__ import annotations

import math

import tensorflow as tf

from spherodetect.graph.boxes import align
from spherodetect.graph.outlines import spread

#: How far green exceeds red and blue, and how far red and green exceed blue, in grey levels on a
#: slide of _WHITE. Unstained haemoglobin is yellow too, by up to 60.
_GREEN_EXCESS, _YELLOW_EXCESS, _WHITE = 50.0, 110.0, 230.0
#: No colour of a black pixel is brighter, in grey levels.
_BLACK = 35.0
#: A compressed photograph spreads ink over so many pixels on each side.
_SPREAD_PX = 2
#: Samples along each side of a cell's box.
_SAMPLES = 14
#: A cell of which a larger share lies under ink is not countable.
MAX_INK = 0.02


def is_ink(density: tf.Tensor) -> tf.Tensor:
    """(H, W, 1) float32, 1 on ink and beside it.

    Args:
        density: (H, W, 3) optical density, so that the lamp and the camera's balance do not count.
    """
    # The power of ten as an exponential: TensorFlow's own pow takes ten times as long.
    colours = _WHITE * tf.exp(-math.log(10.0) * density)
    red, green, blue = tf.unstack(colours, num=3, axis=-1)
    found = green - tf.maximum(red, blue) > _GREEN_EXCESS
    found |= tf.minimum(red, green) - blue > _YELLOW_EXCESS
    found |= tf.reduce_max(colours, axis=-1) < _BLACK
    marks = found[tf.newaxis]
    for _ in range(_SPREAD_PX):
        marks = spread(marks)
    return tf.cast(marks[0, ..., tf.newaxis], tf.float32)


def under_ink(
    ink: tf.Tensor, boxes: tf.Tensor, masks: tf.Tensor, *, gathered: bool = False
) -> tf.Tensor:
    """(N,) bool, cells that lie under ink.

    Args:
        ink: (H, W, 1), see `is_ink`.
        boxes: (N, 4) in its pixels.
        masks: (N, m, m), which fill the boxes.
        gathered: use operations that XLA compiles.
    """
    here = align([ink], boxes, _SAMPLES, first_level=0, gathered=gathered)[..., 0]
    inside = tf.image.resize(masks[..., tf.newaxis], [_SAMPLES, _SAMPLES])[..., 0] >= 0.5
    weight = tf.cast(inside, tf.float32)
    share = tf.reduce_sum(here * weight, axis=[1, 2]) / tf.maximum(
        tf.reduce_sum(weight, axis=[1, 2]), 1.0
    )
    return share > MAX_INK


__all__ = ["MAX_INK", "is_ink", "under_ink"]
