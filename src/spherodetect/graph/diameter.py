"""A first guess of the red cells' diameter, from optical density alone, before the network has seen
the field."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from spherodetect.graph import optics

#: The long side of the copy that is looked at, and the largest radius that is counted there.
_COARSE_PX, _MAX_RADIUS = 320.0, 80
_GREEN = 1
#: Where no cell votes.
_DEFAULT_PX = 40.0


def estimate_diameter(density: tf.Tensor) -> tf.Tensor:
    """A first guess of the red cells' diameter in native pixels, scalar: twice the inscribed radius
    of most foreground.

    On a small copy, pale centres are closed by a flood from the border, the distance to the slide
    is counted in erosions, and local maxima vote with their area.
    """
    native = tf.cast(tf.shape(density)[:2], tf.float32)
    scale = tf.minimum(1.0, _COARSE_PX / tf.reduce_max(native))
    hw = density.shape[:2].as_list()
    canvas = None if None in hw else [round(n * min(1.0, _COARSE_PX / max(hw))) for n in hw]
    small = optics.resampled(
        density[..., _GREEN : _GREEN + 1], tf.round(native * scale), canvas=canvas
    )[..., 0]
    cut = tf.maximum(0.85 * optics.otsu(tf.reshape(small, [-1])), 0.015)
    # What the slide reaches from the border is slide; what it does not reach is a cell, pale centre
    # included. A gap between touching cells is closed too; it is small beside them, or its vote is
    # one of many.
    solid = 1.0 - flooded(tf.cast(small <= cut, tf.float32))
    distance = tf.while_loop(
        lambda layer, distance, step: (step < _MAX_RADIUS) & (tf.reduce_max(layer) > 0.0),
        lambda layer, distance, step: (_eroded(layer, step), distance + layer, step + 1),
        [solid, tf.zeros_like(solid), 0],
    )[1]
    around = tf.nn.max_pool2d(distance[tf.newaxis, ..., tf.newaxis], 5, 1, "SAME")[0, ..., 0]
    votes = tf.where((distance >= around) & (distance > 1.5), distance**2, 0.0)
    by_radius = tf.math.unsorted_segment_sum(votes, tf.cast(distance, tf.int32), _MAX_RADIUS + 1)
    total = tf.reduce_sum(by_radius)
    # Votes for a whole radius are spread over a pixel, or the median would leap by one.
    below = tf.cumsum(by_radius)
    at = tf.minimum(tf.reduce_sum(tf.cast(below < total / 2, tf.int32)), _MAX_RADIUS)
    too_many = (tf.gather(below, at) - total / 2) / tf.maximum(tf.gather(by_radius, at), 1e-6)
    radius = tf.cast(at, tf.float32) + 0.5 - too_many
    # Erosions take a whole pixel a round, and touching cells hide part of their width: 1.2 by the
    # cells of 36 fields of benchmarks/invariance.py, which it meets within 3 % (standard
    # deviation).
    return tf.where(total > 0, 1.2 * (2 * radius - 0.5) / scale, _DEFAULT_PX)


def flooded(slide: tf.Tensor) -> tf.Tensor:
    """What can be reached from the border over 1s, (H, W) of 0 and 1, corners included.

    A round fills rows, then columns, from end to end, and goes one step round the corners; winding
    ways take several.
    """
    rows, columns = _filler(slide), _filler(tf.transpose(slide))
    inner = tf.pad(tf.zeros_like(slide[1:-1, 1:-1]), [[1, 1], [1, 1]], constant_values=1.0)

    def spread(
        now: tf.Tensor, before: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        filled = tf.transpose(columns(tf.transpose(rows(now))))
        return _dilated(filled) * slide, now, step + 1

    return tf.while_loop(
        lambda now, before, step: (step < 100) & (tf.reduce_sum(now) > tf.reduce_sum(before)),
        spread,
        [inner * slide, tf.zeros_like(slide), 0],
    )[0]


def _filler(slide: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that fills the runs of a row that hold a 1."""
    # A run gets a number: it begins where a row does or what was slide was none, or the other way
    # round.
    begins = tf.pad(
        tf.cast(slide[:, 1:] != slide[:, :-1], tf.int32), [[0, 0], [1, 0]], constant_values=1
    )
    number = tf.cumsum(tf.reshape(begins, [-1]))
    shape = tf.shape(slide)

    def fill(now: tf.Tensor) -> tf.Tensor:
        run = tf.math.unsorted_segment_max(tf.reshape(now, [-1]), number, tf.size(slide) + 1)
        return tf.reshape(tf.gather(run, number), shape) * slide

    return fill


def _eroded(layer: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """One erosion, by a square and a cross in turn: an octagon comes close to a disc."""
    framed = tf.pad(layer, [[1, 1], [1, 1]])
    cross = tf.minimum(_least_above(framed[:, 1:-1]), _least_beside(framed[1:-1]))
    return tf.where(step % 2 == 0, cross, _least_beside(_least_above(framed)))


def _dilated(layer: tf.Tensor) -> tf.Tensor:
    return -_least_beside(_least_above(tf.pad(-layer, [[1, 1], [1, 1]])))


def _least_above(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.minimum(x[:-2], x[1:-1]), x[2:])


def _least_beside(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.minimum(x[:, :-2], x[:, 1:-1]), x[:, 2:])
