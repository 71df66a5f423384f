"""Measurements of each cell against the field's own red cells: evidence that travels between
laboratories.

A stain, a lamp and a camera change the density of all cells alike. A spherocyte is smaller and
darker than its neighbours and lacks their pallor, whatever the laboratory. The measurements are
those of measure.py in a form without a distance transform: places in a cell are counted in the
ellipse of the mask's second moments, from 0 at the centre to 1 at the outline.

Density is the green optical density in the windows of second_look.py. The reference of a field is
the median over its countable red cells. With few of them a difference from the reference says
little: each difference is multiplied by n / (n + FEW). A cell alone then counts as a usual one, and
the decision is left to the cell's own pallor and shape and to the two networks.
"""

from __future__ import annotations

import math

import tensorflow as tf

#: Columns of `relative`, in this order.
COLUMNS = (
    "log_density_over_field",
    "pallor_fraction",
    "pallor_over_field",
    "center_rim_ratio",
    "center_rim_over_field",
    "aspect_ratio",
    "fullness",
)
#: So many countable red cells tell half of what many tell of a field.
FEW = 4.0
#: The green channel of a window, and the mask behind the three colours.
_GREEN, _MASK = 1, 3
#: The radius of a centre, the ring of a rim and all but the outline; cf. the depths of measure.py.
_CENTRE, _RIM, _INNER = 0.28, (0.5, 0.8), 0.87
#: Less dense than this share of the rim is pallor, as in measure.py.
_PALE = 0.7
#: Densities below this are noise.
_LEAST_DENSITY = 0.01


def measured(look: tf.Tensor, masks: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    """(N, 5): log mean density, pallor fraction, centre over rim, aspect ratio and fullness.

    Fullness is the mask's area over that of the ellipse of the same second moments: 1 for an
    ellipse, less for an outline with bites, spikes or a waist.

    Args:
        look: (N, S, S, 4) windows of second_look.py.
        masks: (N, m, m), which fill the boxes.
        extent: (N, 2) height and width of the boxes.
    """
    density, weight = look[..., _GREEN], tf.cast(look[..., _MASK] >= 0.5, tf.float32)
    area, center, spread = _moments(weight)
    at = tf.range(look.shape[1], dtype=tf.float32)
    dy, dx = at[:, None] - center[:, 0, None, None], at[None, :] - center[:, 1, None, None]
    yy, xx, xy = (spread[:, k, None, None] for k in range(3))
    determinant = tf.maximum(yy * xx - xy * xy, 1e-3)
    squared = (xx * dy * dy - 2.0 * xy * dy * dx + yy * dx * dx) / determinant
    # A filled ellipse with half axis a has a variance of a^2 / 4.
    radius = 0.5 * tf.sqrt(tf.maximum(squared, 0.0))
    mean = tf.reduce_sum(density * weight, axis=[1, 2]) / area
    rim = _mean_where(density, weight * _between(radius, *_RIM), mean)
    centre = _mean_where(density, weight * _between(radius, 0.0, _CENTRE), mean)
    inner = weight * _between(radius, 0.0, _INNER)
    rim = tf.maximum(rim, _LEAST_DENSITY)
    pale = inner * tf.cast(density < _PALE * rim[:, None, None], tf.float32)
    pallor = tf.reduce_sum(pale, axis=[1, 2]) / tf.maximum(tf.reduce_sum(inner, axis=[1, 2]), 1.0)
    aspect, fullness = shape(masks, extent)
    log_mean = tf.math.log(tf.maximum(mean, _LEAST_DENSITY))
    center_rim = tf.clip_by_value(centre / rim, 0.0, 2.0)
    return tf.stack([log_mean, pallor, center_rim, aspect, fullness], axis=1)


def relative(measurements: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """(N, 7) in the order of COLUMNS: measurements beside the medians of the field's cells.

    Args:
        measurements: (N, 5), see `measured`.
        among: (N,) bool, the countable red cells.
    """
    count = tf.reduce_sum(tf.cast(among, tf.float32))
    trust = count / (count + FEW)
    log_mean, pallor, center_rim, aspect, fullness = tf.unstack(measurements, num=5, axis=1)

    def over_field(values: tf.Tensor) -> tf.Tensor:
        return trust * (values - median(values, among))

    columns = [
        over_field(log_mean),
        pallor,
        over_field(pallor),
        center_rim,
        over_field(center_rim),
        aspect,
        fullness,
    ]
    return tf.stack(columns, axis=1)


def shape(masks: tf.Tensor, extent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Aspect ratio and fullness (N,) of masks (N, m, m) that fill boxes of (N, 2) pixels."""
    area, _, moments = _moments(tf.cast(masks >= 0.5, tf.float32))
    height, width = tf.unstack(tf.maximum(extent, 1e-3) / masks.shape[1], num=2, axis=1)
    yy, xx, xy = tf.unstack(moments, num=3, axis=1)
    yy, xx, xy = yy * height**2, xx * width**2, xy * height * width
    half, spread = (yy + xx) / 2, tf.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    major, minor = tf.maximum(half + spread, 1e-6), tf.maximum(half - spread, 1e-6)
    fullness = area * height * width / (4 * math.pi * tf.sqrt(major * minor))
    return tf.sqrt(minor / major), tf.clip_by_value(fullness, 0.0, 1.2)


def median(values: tf.Tensor, among: tf.Tensor, default: float = 0.0) -> tf.Tensor:
    """The median of some of the values; the default where there are none."""
    count = tf.reduce_sum(tf.cast(among, tf.int32))
    ordered = tf.concat([tf.sort(tf.where(among, values, math.inf)), [default]], axis=0)
    low, high = tf.gather(ordered, tf.maximum(count - 1, 0) // 2), tf.gather(ordered, count // 2)
    return tf.where(count > 0, 0.5 * (low + high), default)


def _moments(weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Area (N,), centre (N, 2) and second moments yy, xx, xy (N, 3) of (N, H, W) weights."""
    rows, columns = tf.reduce_sum(weight, axis=2), tf.reduce_sum(weight, axis=1)
    area = tf.maximum(tf.reduce_sum(rows, axis=1), 1.0)
    y, x = (tf.range(n, dtype=tf.float32) for n in (weight.shape[1], weight.shape[2]))
    center_y, center_x = tf.linalg.matvec(rows, y) / area, tf.linalg.matvec(columns, x) / area
    yy = tf.linalg.matvec(rows, y * y) / area - center_y**2
    xx = tf.linalg.matvec(columns, x * x) / area - center_x**2
    across = tf.linalg.matvec(tf.linalg.matvec(weight, x), y)
    xy = across / area - center_y * center_x
    # A sample is a square of unit side, not a point.
    yy, xx = tf.maximum(yy, 0.0) + 1 / 12, tf.maximum(xx, 0.0) + 1 / 12
    return area, tf.stack([center_y, center_x], axis=1), tf.stack([yy, xx, xy], axis=1)


def _between(values: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.cast((values >= low) & (values < high), tf.float32)


def _mean_where(values: tf.Tensor, weight: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
    """The weighted mean of (N, S, S) values, (N,); the default (N,) where the weights are all 0."""
    total = tf.reduce_sum(weight, axis=[1, 2])
    mean = tf.reduce_sum(values * weight, axis=[1, 2]) / tf.maximum(total, 1.0)
    return tf.where(total > 0, mean, default)
