"""A first estimate of the red cells' diameter from optical density, before the network runs."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from spherodetect.graph import optics

#: Longest side of the small copy that is examined, and the largest radius in its pixels.
_COARSE_PX, _MAX_RADIUS = 320.0, 80
_GREEN = 1
#: Densities above this share of Otsu's threshold, and above the least, are of cells.
_STAINED, _LEAST_STAINED = 0.3, 0.03
#: The diameter if there is no cell.
_DEFAULT_PX = 40.0


def estimate_diameter(density: tf.Tensor) -> tf.Tensor:
    """A first estimate of the red cells' diameter in native pixels, scalar.

    The steps, on a small copy: a flood fill from the border closes the pale centres. Erosions give
    the distance of each foreground pixel to the slide. Each local maximum of this distance is an
    inscribed radius and votes with its square. The result is twice the median radius.

    Args:
        density: (H, W, 3) optical density.
    """
    native = tf.cast(tf.shape(density)[:2], tf.float32)
    scale = tf.minimum(1.0, _COARSE_PX / tf.reduce_max(native))
    hw = density.shape[:2].as_list()
    canvas = None if None in hw else [round(n * min(1.0, _COARSE_PX / max(hw))) for n in hw]
    small = optics.resampled(
        density[..., _GREEN : _GREEN + 1], tf.round(native * scale), canvas=canvas
    )[..., 0]
    otsu = optics.otsu(small)
    # Beside a large, dark nucleus Otsu's threshold lies above most red cells. Half the density of a
    # usual stained pixel does not: the red cells have more pixels than the nucleus.
    usual = optics.median_above(small, tf.maximum(_STAINED * otsu, _LEAST_STAINED))
    cut = tf.maximum(tf.minimum(0.85 * otsu, 0.5 * usual), 0.015)
    # Slide that the flood fill reaches from the border is background. The rest is cells with their
    # pale centres. Gaps between touching cells are filled too, but they are small or few.
    solid = 1.0 - flood_fill(tf.cast(small <= cut, tf.float32))
    distance = tf.while_loop(
        lambda layer, distance, step: (step < _MAX_RADIUS) & (tf.reduce_max(layer) > 0.0),
        lambda layer, distance, step: (_eroded(layer, step), distance + layer, step + 1),
        [solid, tf.zeros_like(solid), 0],
    )[1]
    # The highest of 5x5: max_pool2d takes ten times as long for one channel.
    around = _dilated(_dilated(distance))
    votes = tf.where((distance >= around) & (distance > 1.5), distance**2, 0.0)
    by_radius = tf.math.unsorted_segment_sum(votes, tf.cast(distance, tf.int32), _MAX_RADIUS + 1)
    total = tf.reduce_sum(by_radius)
    # The votes of a radius are spread evenly over one pixel. Otherwise the median would be a whole
    # number of pixels.
    below = tf.cumsum(by_radius)
    at = tf.minimum(tf.reduce_sum(tf.cast(below < total / 2, tf.int32)), _MAX_RADIUS)
    too_many = (tf.gather(below, at) - total / 2) / tf.maximum(tf.gather(by_radius, at), 1e-6)
    radius = tf.cast(at, tf.float32) + 0.5 - too_many
    # An erosion removes a whole pixel, and touching cells have a smaller inscribed radius. The
    # factor of 1.2 comes from the cells of 36 fields of benchmarks/invariance.py; the standard
    # deviation of the error is 3 %.
    return tf.where(total > 0, 1.2 * (2 * radius - 0.5) / scale, _DEFAULT_PX)


def flood_fill(slide: tf.Tensor) -> tf.Tensor:
    """The flood fill from the border over the 1s of (H, W), 8-connected; a float mask of 0 and 1.

    Each round fills whole runs of rows, then of columns, and then one pixel in all directions.
    Winding paths need several rounds.
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
    """A function that fills each horizontal run of slide that has a 1."""
    # Each run of equal values in a row gets a number.
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
    """One erosion, by a cross and a square in turn, which approximates a disc by an octagon."""
    framed = tf.pad(layer, [[1, 1], [1, 1]])
    cross = tf.minimum(_min_of_rows(framed[:, 1:-1]), _min_of_columns(framed[1:-1]))
    return tf.where(step % 2 == 0, cross, _min_of_columns(_min_of_rows(framed)))


def _dilated(layer: tf.Tensor) -> tf.Tensor:
    return -_min_of_columns(_min_of_rows(tf.pad(-layer, [[1, 1], [1, 1]])))


def _min_of_rows(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.minimum(x[:-2], x[1:-1]), x[2:])


def _min_of_columns(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.minimum(x[:, :-2], x[:, 1:-1]), x[:, 2:])
