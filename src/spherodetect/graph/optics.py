"""Optical density and resizing in TensorFlow, the same code in training and in the exported graph.

Images are float32 (H, W, 3), 0 to 255. The method is that of segment: a quadratic surface of the
background light is fitted to the empty slide. All operations can be part of a SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

#: Longest side of the copy on which the background is fitted.
COARSE_PX = 160
_GREEN = 1
_BINS = 128
#: Densities of `otsu` and `median_above`; others are clipped.
_LOWEST, _HIGHEST = -0.05, 0.45
_LOG10_E = 0.4342944819
#: The powers of y and x in a quadratic surface.
_POWERS = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])


def optical_density(image: tf.Tensor, *, window: tf.Tensor | None = None) -> tf.Tensor:
    """-log10(I / background), (H, W, 3) float32; about 0 on the empty slide.

    With a window, (4,) int32 (y0, x0, y1, x1), the result is only that part, with the same values.
    """
    light = background(image, window=window)
    if window is not None:
        image = image[window[0] : window[2], window[1] : window[3]]
    return -_log10(tf.maximum(image, 1.0) / light)


def background(image: tf.Tensor, *, window: tf.Tensor | None = None) -> tf.Tensor:
    """The intensity of empty slide at each pixel of the image or of a window, (H, W, 3)."""
    height, width = tf.unstack(tf.shape(image)[:2])
    y, x = _powers(height), _powers(width)
    step = tf.maximum(1, tf.maximum(height, width) // COARSE_PX)
    coefficients = _fit(tf.maximum(image[::step, ::step], 1.0), y[::step], x[::step])
    if window is not None:
        y, x = y[window[0] : window[2]], x[window[1] : window[3]]
    return tf.clip_by_value(_surface(coefficients, y, x), 1.0, 400.0)


def _fit(values: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The quadratic surface of each channel through the empty slide, (3, 3, 3) for `_surface`.

    Args:
        values: (h, w, 3) of a small copy.
        y, x: (h, 5) and (w, 5), see `_powers`.
    """
    pixels = tf.size(values) // 3
    counts = tf.stack([_histogram(values[..., c], low=0.0, high=256.0, bins=256) for c in range(3)])
    below = tf.cumsum(counts, axis=1) <= pixels * 95 // 100
    level = tf.cast(tf.reduce_sum(tf.cast(below, tf.int32), axis=1), tf.float32)
    coefficients = tf.pad(level[:, tf.newaxis, tf.newaxis], [[0, 0], [0, 2], [0, 2]])
    for _ in range(4):
        surface = tf.maximum(_surface(coefficients, y, x), 1.0)
        density = -_log10(values[..., _GREEN] / surface[..., _GREEN])
        cut = otsu(density)
        far = tf.exp(tf.maximum(cut, 0.06) / _LOG10_E)
        empty = (density < 0.5 * cut) & tf.reduce_all(
            (values < far * surface) & (far * values > surface), axis=-1
        )
        weight = tf.cast(empty, tf.float32)
        count = tf.reduce_sum(weight)
        # With hardly any empty slide in the field, the surface stays at the brightest pixels.
        enough = count > 0.02 * tf.cast(pixels, tf.float32)
        fitted = _least_squares(values, weight / tf.maximum(count, 1.0), y, x)
        coefficients = tf.where(enough, fitted, coefficients)
    return coefficients


def _least_squares(values: tf.Tensor, weight: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The coefficients of a weighted least-squares fit, (3, 3, 3).

    The normal equations need only the moments of the weights and of the values.
    """
    shape = tf.shape(values)
    moments = tf.matmul(y, tf.matmul(weight, x), transpose_a=True)
    normal = (
        tf.gather_nd(moments, _POWERS[:, None] + _POWERS[None])
        + tf.linalg.diag([1e-6, *[1.0] * 5]) * 0.002
    )
    weighted = tf.reshape(values * weight[..., tf.newaxis], [shape[0], -1])
    right = tf.reshape(tf.matmul(y[:, :3], weighted, transpose_a=True), [3, shape[1], 3])
    right = tf.gather_nd(tf.einsum("iwc,wj->ijc", right, x[:, :3]), _POWERS)
    return tf.transpose(tf.scatter_nd(_POWERS, _solved(normal, right), [3, 3, 3]), [2, 0, 1])


def _solved(normal: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The solution of positive definite equations, (n, n) and (n, m), by Gauss-Jordan elimination.

    LiteRT has no solver of its own.
    """
    n = len(_POWERS)  # `normal` may have no static shape
    rows = tf.concat([normal, right], axis=1)
    for k in range(n):
        pivot = rows[k : k + 1] / rows[k, k]
        rows = tf.where(tf.range(n)[:, tf.newaxis] == k, pivot, rows - rows[:, k : k + 1] * pivot)
    return rows[:, n:]


def _surface(coefficients: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The surface (H, W, 3) of coefficients (3, 3, 3) and the powers of y and x, (H, 5), (W, 5)."""
    across = tf.einsum("cij,wj->iwc", coefficients, x[:, :3])
    surface = tf.matmul(y[:, :3], tf.reshape(across, [3, -1]))
    return tf.reshape(surface, [tf.shape(y)[0], tf.shape(x)[0], 3])


def _powers(size: tf.Tensor) -> tf.Tensor:
    """Powers 0 to 4 of the position along a side, (size, 5); the position is -0.5 to 0.5."""
    position = tf.cast(tf.range(size, dtype=tf.int32) / tf.maximum(size - 1, 1), tf.float32) - 0.5
    return tf.stack([position**power for power in range(5)], axis=-1)


def otsu(values: tf.Tensor) -> tf.Tensor:
    """Otsu's threshold (1979) of densities, scalar; values are clipped to [-0.05, 0.45]."""
    counts, centers = _spectrum(values)
    below, total = tf.cumsum(counts), tf.reduce_sum(counts)
    moment = tf.cumsum(counts * centers)
    above = total - below
    mean_below = moment / tf.maximum(below, 1e-6)
    mean_above = (moment[-1] - moment) / tf.maximum(above, 1e-6)
    # XLA would take the index of a slice for a constant, and compile anew for each photograph.
    return tf.gather(centers, tf.argmax(below * above * (mean_above - mean_below) ** 2))


def median_above(values: tf.Tensor, low: tf.Tensor) -> tf.Tensor:
    """The median of the densities above `low`, scalar; values are clipped to [-0.05, 0.45]."""
    counts, centers = _spectrum(values)
    counts = tf.where(centers > low, counts, 0.0)
    half = tf.cumsum(counts) < 0.5 * tf.reduce_sum(counts)
    return tf.gather(centers, tf.minimum(tf.reduce_sum(tf.cast(half, tf.int32)), _BINS - 1))


def _spectrum(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """How many densities lie in each of _BINS bins, and the centres of the bins."""
    counts = tf.cast(_histogram(values, low=_LOWEST, high=_HIGHEST, bins=_BINS), tf.float32)
    step = (_HIGHEST - _LOWEST) / _BINS
    return counts, _LOWEST + (tf.range(_BINS, dtype=tf.float32) + 0.5) * step


def _histogram(values: tf.Tensor, *, low: float, high: float, bins: int) -> tf.Tensor:
    """The result of tf.histogram_fixed_width, (bins,) int32, by operations that XLA compiles."""
    place = tf.cast((tf.reshape(values, [-1]) - low) * (bins / (high - low)), tf.int32)
    place = tf.clip_by_value(place, 0, bins - 1)
    return tf.math.unsorted_segment_sum(tf.ones_like(place), place, bins)


def resampled(
    image: tf.Tensor,
    size: tf.Tensor,
    *,
    origin: tf.Tensor | None = None,
    canvas: tf.Tensor | Sequence[int] | None = None,
) -> tf.Tensor:
    """A float32 (H, W, C) image at another size (2,): averaged to shrink, cubic to enlarge.

    Linear interpolation blurs the pallor of a cell of few pixels. In the fields of
    benchmarks/invariance.py at half their size, it changed the number of spherocytes by 10 %, and
    cubic interpolation by 2.5 %.

    Args:
        image: float32 (H, W, C).
        size: (2,), height and width of the image in the result; may be fractions.
        origin: position of the image's corner in the result, by default (0, 0); may be fractions.
        canvas: height and width of the result, by default the size. Pixels outside of the image are
            0. If these are Python numbers, the work is done by matrix products, which XLA compiles.
    """
    origin = tf.zeros([2]) if origin is None else origin
    scale = size / tf.cast(tf.shape(image)[:2], tf.float32)
    grows = tf.reduce_min(scale) > 1.0
    if canvas is None or isinstance(canvas, tf.Tensor):
        room = tf.cast(tf.round(size), tf.int32) if canvas is None else canvas

        def by(kernel: str) -> Callable[[], tf.Tensor]:
            return lambda: tf.raw_ops.ScaleAndTranslate(
                images=image[tf.newaxis],
                size=room,
                scale=scale,
                translation=origin,
                kernel_type=kernel,
            )[0]

        return tf.ensure_shape(
            tf.cond(grows, by("keyscubic"), by("triangle")), [None, None, image.shape[-1]]
        )
    rows, columns = (
        _shares(scale[axis], origin[axis], image.shape[axis], canvas[axis], cubic=grows)
        for axis in (0, 1)
    )
    return tf.einsum("xw,ywc->yxc", columns, tf.tensordot(rows, image, 1))


def _shares(
    scale: tf.Tensor, origin: tf.Tensor, n_in: int, n_out: int, *, cubic: tf.Tensor
) -> tf.Tensor:
    """Weights of the old pixels in each new pixel along one axis, (n_out, n_in).

    The kernel is centred on the new pixel: Keys' cubic one, or a triangle that averages.
    """
    center = (tf.range(n_out, dtype=tf.float32) + 0.5 - origin) / scale
    away = tf.abs(tf.range(n_in, dtype=tf.float32) + 0.5 - center[:, tf.newaxis])
    near = 1.0 + away * away * (1.5 * away - 2.5)  # Keys 1981, a = -0.5
    far = 2.0 + away * (away * (2.5 - 0.5 * away) - 4.0)
    keys = tf.where(away < 1.0, near, tf.where(away < 2.0, far, 0.0))
    share = tf.where(cubic, keys, tf.maximum(1.0 - away * tf.minimum(scale, 1.0), 0.0))
    share /= tf.maximum(tf.reduce_sum(share, axis=1, keepdims=True), 1e-6)
    return tf.where(((center >= 0.0) & (center <= n_in))[:, tf.newaxis], share, 0.0)


def softened(density: tf.Tensor, softness: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Optical density (H, W, C), mixed with its means over 3x3 pixels.

    A softness of 0 is no change, and 1 gives the means.
    """
    return density + softness * (mean_of_3x3(density) - density)


def mean_of_3x3(images: tf.Tensor) -> tf.Tensor:
    """The means over 3x3 pixels of (..., H, W, C), over fewer at the border; H and W are 2 or more.

    The result of avg_pool2d, which takes seven times as long for few channels.
    """
    # At the border the third value is the mean of the other two.
    first = 0.5 * (images[..., :1, :, :] + images[..., 1:2, :, :])
    last = 0.5 * (images[..., -1:, :, :] + images[..., -2:-1, :, :])
    images = tf.concat([first, images, last], axis=-3)
    images = images[..., :-2, :, :] + images[..., 1:-1, :, :] + images[..., 2:, :, :]
    first = 0.5 * (images[..., :1, :] + images[..., 1:2, :])
    last = 0.5 * (images[..., -1:, :] + images[..., -2:-1, :])
    images = tf.concat([first, images, last], axis=-2)
    return (images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]) / 9.0


def network_input(density: tf.Tensor) -> tf.Tensor:
    """Densities scaled for the network: the slide is -0.5, the rim of a red cell about 1.5."""
    return tf.clip_by_value(density, -0.2, 1.0) * 6.0 - 0.5


def _log10(x: tf.Tensor) -> tf.Tensor:
    return tf.math.log(x) * _LOG10_E
