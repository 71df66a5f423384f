"""Outlines in the inference graph: one whole piece a cell, a box that fits it, and contact with
neighbours.

Masks are (N, m, m) probabilities that fill their boxes; boxes are (N, 4), (ymin, xmin, ymax, xmax),
in the network's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

#: A part of a mask is found by growing from its seed, so many samples at most.
_STEPS = 48
#: Side of the square whose mean decides which part of a mask is the largest.
_SEED_SIDE = 9
#: A hole gets this probability: it is inside, and no surer than that.
_FILLED = 0.6
#: Weights of a sample and its neighbours on both sides in a smooth mask: binomial, with a standard
#: deviation of one sample. Of 935 countable real cells, 12 then have a solidity below 0.93 and not
#: 26, and outlines of drawn cells keep their IoU.
_SMOOTHING = (6 / 16, 4 / 16, 1 / 16)
#: Side of the windows in which neighbours are looked at, in the network's pixels: two red cells.
_WINDOW = 64
#: Pixels around a cell in which a neighbour touches it.
_REACH = 2


def one_piece(masks: tf.Tensor, *, gathered: bool = False) -> tf.Tensor:
    """Masks without all parts but the largest, and without holes.

    Args:
        masks: (N, m, m) probabilities.
        gathered: work on all masks, in operations that XLA compiles; otherwise only on those that
            have more than one part or a hole.
    """
    if gathered:
        return _one_piece(masks)
    rows = tf.where(euler_number(masks >= 0.5) != 1)

    def mended() -> tf.Tensor:
        return tf.tensor_scatter_nd_update(masks, rows, _one_piece(tf.gather_nd(masks, rows)))

    return tf.cond(tf.size(rows) > 0, mended, lambda: masks)


def euler_number(inside: tf.Tensor) -> tf.Tensor:
    """(N,) int32: parts less holes of (N, H, W) bool masks, parts joined over corners too.

    Counted in two by two windows (Gray 1971, IEEE Trans. Computers 20:551).
    """
    a = tf.cast(tf.pad(inside, [[0, 0], [1, 1], [1, 1]]), tf.int32)
    corners = a[:, :-1, :-1], a[:, :-1, 1:], a[:, 1:, :-1], a[:, 1:, 1:]
    total = tf.add_n(corners)
    diagonal = (total == 2) & (corners[0] == corners[3])
    ones, threes, diagonals = (
        tf.reduce_sum(tf.cast(which, tf.int32), axis=[1, 2])
        for which in (total == 1, total == 3, diagonal)
    )
    return (ones - threes - 2 * diagonals) // 4


def _one_piece(masks: tf.Tensor) -> tf.Tensor:
    inside = masks >= 0.5
    seed = _summit(_blurred(tf.cast(inside, tf.float32)), inside)
    part = _grown(seed, inside)
    # The outside is what is reached from a ring around the mask, over sides alone.
    ring = [[0, 0], [1, 1], [1, 1]]
    empty = tf.pad(tf.logical_not(part), ring, constant_values=True)
    frame = tf.pad(tf.zeros_like(part), ring, constant_values=True)
    outside = _grown(frame, empty, corners=False)[:, 1:-1, 1:-1]
    hole = tf.logical_not(outside | part)
    # A rim of a sample stays, so that the outline lies where it lay between samples.
    near = spread(part | hole)
    masks = tf.where(near & ~(inside & ~part), masks, 0.0)
    return tf.where(hole, tf.maximum(masks, _FILLED), masks)


def _grown(seed: tf.Tensor, within: tf.Tensor, *, corners: bool = True) -> tf.Tensor:
    """What is reached from a seed by steps inside (N, H, W) bool."""

    def step(_: tf.Tensor, reached: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wider = spread(reached, corners=corners) & within
        return tf.reduce_any(wider != reached), wider

    start = (tf.constant(True), seed & within)
    return tf.while_loop(lambda more, _: more, step, start, maximum_iterations=_STEPS)[1]


def spread(inside: tf.Tensor, *, corners: bool = True) -> tf.Tensor:
    """(N, H, W) bool, a sample wider on all sides."""
    padded = tf.pad(inside, [[0, 0], [1, 1], [1, 1]])
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    if corners:
        return rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
    middle = padded[:, 1:-1]
    return rows[:, :, 1:-1] | middle[:, :, :-2] | middle[:, :, 2:]


def _blurred(values: tf.Tensor) -> tf.Tensor:
    return tf.nn.avg_pool2d(values[..., tf.newaxis], _SEED_SIDE, 1, "SAME")[..., 0]


def _summit(values: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """(N, H, W) bool, true at the highest value among some of each (H, W)."""
    n, height, width = tf.unstack(tf.shape(values))
    flat = tf.reshape(tf.where(among, values, -1.0), [n, height * width])
    top = tf.one_hot(tf.argmax(flat, axis=1), height * width, on_value=True, off_value=False)
    return tf.reshape(top, [n, height, width])


def tightened(boxes: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes that end where their masks end, and the masks sampled anew in them.

    Between samples a mask is linear, and it ends at a probability of a half. A mask that is empty,
    or that fills its box, is left with its box.
    """
    size = masks.shape[1]
    spans = []
    for axis in (2, 1):
        profile = tf.reduce_max(masks, axis=axis)
        low = _first_crossing(profile)
        high = float(size) - _first_crossing(tf.reverse(profile, [1]))
        empty = high <= low
        spans.append((tf.where(empty, 0.0, low), tf.where(empty, float(size), high)))
    (y0, y1), (x0, x1) = spans
    step = (boxes[:, 2:] - boxes[:, :2]) / float(size)
    at = tf.stack([y0, x0, y1, x1], axis=1)
    tight = tf.tile(boxes[:, :2], [1, 2]) + at * tf.tile(step, [1, 2])
    rows, columns = _samples(y0, y1, size), _samples(x0, x1, size)
    return tight, tf.einsum("nyi,nij,nxj->nyx", rows, masks, columns)


def smoothed(masks: tf.Tensor) -> tf.Tensor:
    """Masks without the notches and spikes of single samples; outside of its box a mask is 0."""
    distance = np.abs(np.subtract.outer(*[np.arange(masks.shape[1])] * 2))
    weights = np.select([distance == k for k in range(len(_SMOOTHING))], _SMOOTHING, 0.0)
    along = tf.constant(weights, tf.float32)
    return tf.einsum("yi,nij,xj->nyx", along, masks, along)


def _first_crossing(profile: tf.Tensor) -> tf.Tensor:
    """(N,) where (N, m) profiles first reach a half, in samples from the edge; 0 at the edge."""
    above = profile >= 0.5
    first = tf.argmax(tf.cast(above, tf.int32), axis=1, output_type=tf.int32)
    here = tf.gather(profile, first, batch_dims=1)
    before = tf.gather(profile, tf.maximum(first - 1, 0), batch_dims=1)
    part = (0.5 - before) / tf.maximum(here - before, 1e-6)
    at = tf.cast(first, tf.float32) - 0.5 + tf.clip_by_value(part, 0.0, 1.0)
    at = tf.where(first == 0, 0.0, at)
    return tf.where(tf.reduce_any(above, axis=1), at, float(profile.shape[1]))


def _samples(low: tf.Tensor, high: tf.Tensor, size: int) -> tf.Tensor:
    """(N, size, size): of each old sample in each new one, between low and high; linear."""
    share = (tf.range(size, dtype=tf.float32) + 0.5) / size
    at = low[:, None] + share * (high - low)[:, None] - 0.5
    at = tf.clip_by_value(at, 0.0, size - 1.0)
    return tf.maximum(1.0 - tf.abs(at[..., None] - tf.range(size, dtype=tf.float32)), 0.0)


def contact(
    boxes: tf.Tensor,
    masks: tf.Tensor,
    size: tf.Tensor,
    among: tf.Tensor | None = None,
    *,
    canvas: Sequence[int] | None = None,
) -> tf.Tensor:
    """(N,) share of each outline within _REACH pixels of which another mask lies.

    Args:
        boxes: (N, 4) in the network's pixels.
        masks: (N, m, m).
        size: (2,) of the image.
        among: (N,) bool, the masks that others may touch; by default all.
        canvas: at least the size, in numbers: XLA has to know how many pixels there are.
    """
    # One pixel more on every side, and windows that reach over the border.
    corner = tf.cast(tf.round((boxes[:, :2] + boxes[:, 2:]) / 2), tf.int32)
    if canvas is None:
        height, width = tf.unstack(tf.cast(tf.math.ceil(size), tf.int32) + _WINDOW)
    else:
        height, width = (side + _WINDOW for side in canvas)
    origin = tf.cast(corner - _WINDOW // 2, tf.float32)
    pixels = tf.range(_WINDOW, dtype=tf.float32) + 0.5
    inside = _pasted(boxes, masks, origin, pixels)
    counted = inside if among is None else inside & among[:, None, None]
    places = corner[:, :, None] + tf.range(_WINDOW)
    index = places[:, 0, :, None] * width + places[:, 1, None, :]
    index = tf.where(counted, tf.clip_by_value(index, 0, height * width - 1), height * width)
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(tf.reshape(index, [-1])), tf.reshape(index, [-1]), height * width + 1
    )
    around = places[:, 0, :, None] * width + places[:, 1, None, :]
    counts = tf.gather(counts, tf.clip_by_value(around, 0, height * width - 1))
    others = counts > tf.cast(counted, tf.int32)
    grown = inside
    for _ in range(_REACH):
        grown = spread(grown)
    ring = tf.cast(grown & ~inside, tf.float32)
    touched = tf.reduce_sum(ring * tf.cast(others, tf.float32), axis=[1, 2])
    return touched / tf.maximum(tf.reduce_sum(ring, axis=[1, 2]), 1.0)


def _pasted(boxes: tf.Tensor, masks: tf.Tensor, origin: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """(N, S, S) bool: masks at the pixels of windows that begin at origin (N, 2)."""
    size = masks.shape[1]
    shares = []
    for axis in (0, 1):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        position = origin[:, axis, None] + pixels
        at = (position - low) / tf.maximum(high - low, 1.0) * size - 0.5
        weight = tf.maximum(1.0 - tf.abs(at[..., None] - tf.range(size, dtype=tf.float32)), 0.0)
        # Between the last sample and the edge of the box the mask goes on as it is.
        within = (position > low) & (position < high)
        edge = tf.maximum(tf.reduce_sum(weight, axis=2, keepdims=True), 1e-6)
        shares.append(tf.where(within[..., None], weight / edge, 0.0))
    return tf.einsum("nyi,nij,nxj->nyx", shares[0], masks, shares[1]) >= 0.5


__all__ = ["contact", "euler_number", "one_piece", "smoothed", "spread", "tightened"]
