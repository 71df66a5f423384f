"""Optical density as the network and the exported graph see it: one TensorFlow implementation for both.

Images are float32 (H, W, 3), 0 to 255. The method is that of segment.py (a quadratic background surface, fitted to what
is not cell), in operations that a SavedModel carries.
"""

from __future__ import annotations

import tensorflow as tf

#: The long side of the copy that the background is fitted on.
COARSE_PX = 160
_GREEN = 1
_BINS = 128


def optical_density(image: tf.Tensor, *, window: tf.Tensor | None = None) -> tf.Tensor:
    """-log10(I / background), (H, W, 3) float32; about 0 on the empty slide.

    With a window, (4,) int32 (y0, x0, y1, x1), only that part of the image: the values are the same.
    """
    light = background(image, window=window)
    if window is not None:
        image = image[window[0] : window[2], window[1] : window[3]]
    return -_log10(tf.maximum(image, 1.0) / light)


def background(image: tf.Tensor, *, window: tf.Tensor | None = None) -> tf.Tensor:
    """The empty slide's intensity at every pixel of the image, or of a window of it, (H, W, 3) float32."""
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    step = tf.maximum(1, tf.maximum(height, width) // COARSE_PX)
    coarse = image[::step, ::step]
    y, x = _position(height)[::step], _position(width)[::step]
    values = tf.maximum(tf.reshape(coarse, [-1, 3]), 1.0)
    terms = tf.reshape(_quadratic(y, x), [-1, 6])
    level = tf.sort(values, axis=0)[tf.shape(values)[0] * 95 // 100]
    flat = tf.concat([level[tf.newaxis], tf.zeros([5, 3])], axis=0)
    coefficients = flat
    ridge = tf.linalg.diag([1e-6, 1.0, 1.0, 1.0, 1.0, 1.0]) * 0.002
    for _ in range(4):
        density = -_log10(values / tf.maximum(terms @ coefficients, 1.0))
        cut = otsu(density[:, _GREEN])
        empty = (density[:, _GREEN] < 0.5 * cut) & tf.reduce_all(tf.abs(density) < tf.maximum(cut, 0.06), axis=1)
        weight = tf.cast(empty, tf.float32)[:, tf.newaxis]
        count = tf.reduce_sum(weight)
        weighted = terms * weight
        normal = tf.matmul(weighted, terms, transpose_a=True) / tf.maximum(count, 1.0) + ridge
        fitted = tf.linalg.solve(normal, tf.matmul(weighted, values, transpose_a=True) / tf.maximum(count, 1.0))
        # With next to no empty slide in the field, the brightest pixels stand in.
        enough = count > 0.02 * tf.cast(tf.shape(values)[0], tf.float32)
        coefficients = tf.where(enough, fitted, coefficients)
    y, x = _position(height), _position(width)
    if window is not None:
        y, x = y[window[0] : window[2]], x[window[1] : window[3]]
    surface = _quadratic(y, x) @ coefficients
    return tf.clip_by_value(surface, 1.0, 400.0)


def otsu(values: tf.Tensor) -> tf.Tensor:
    """Otsu's threshold (1979) of densities, scalar; values are clipped to [-0.05, 0.45]."""
    low, high = -0.05, 0.45
    counts = tf.cast(tf.histogram_fixed_width(values, [low, high], _BINS), tf.float32)
    centres = low + (tf.range(_BINS, dtype=tf.float32) + 0.5) * (high - low) / _BINS
    below, total = tf.cumsum(counts), tf.reduce_sum(counts)
    moment = tf.cumsum(counts * centres)
    above = total - below
    mean_below = moment / tf.maximum(below, 1e-6)
    mean_above = (moment[-1] - moment) / tf.maximum(above, 1e-6)
    return centres[tf.argmax(below * above * (mean_above - mean_below) ** 2)]


def network_input(density: tf.Tensor) -> tf.Tensor:
    """Densities as the network wants them: the slide at -0.5, a red cell's rim near 1.5."""
    return tf.clip_by_value(density, -0.2, 1.0) * 6.0 - 0.5


def _position(size: tf.Tensor) -> tf.Tensor:
    return tf.range(size, dtype=tf.int32) / tf.maximum(size - 1, 1) - 0.5


def _quadratic(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    y, x = tf.meshgrid(tf.cast(y, tf.float32), tf.cast(x, tf.float32), indexing="ij")
    return tf.stack([tf.ones_like(y), y, x, y * y, x * y, x * x], axis=-1)


def _log10(x: tf.Tensor) -> tf.Tensor:
    return tf.math.log(x) * 0.4342944819
