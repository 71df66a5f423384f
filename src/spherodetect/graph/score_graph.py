"""The score of score/counts.py in TensorFlow operations, for the SavedModel."""

from __future__ import annotations

import math

import tensorflow as tf

from spherodetect.score import counts, interval
from spherodetect.score.blank import BLANK_ROWS


def score_counts(
    spherocytes: tf.Tensor,
    countable: tf.Tensor,
    table: tf.Tensor,
    *,
    healthy: tf.Tensor | None = None,
    unseen: tf.Tensor | bool = False,
) -> dict[str, tf.Tensor]:
    """The score of counts of each field (J,) and of the model's table (M, 3), in the graph.

    It is score.counts.score_counts in TensorFlow; the steps, constants and sources are explained
    there. A test asserts that both agree to 1e-4. `healthy` is the table of the limit of blank,
    `unseen` says that the film looks like none that was taught. A table of NaN has unknown rates.
    """
    unknown = tf.constant(math.nan, tf.float64)
    calibrated = tf.math.logical_not(tf.math.is_nan(table[0, 0]))
    table = tf.where(calibrated, table, tf.ones_like(table))
    some = countable > 0
    s = tf.cast(tf.boolean_mask(spherocytes, some), tf.float64)
    m = tf.cast(tf.boolean_mask(countable, some), tf.float64)
    fields, n, called = tf.cast(tf.size(m), tf.float64), tf.reduce_sum(m), tf.reduce_sum(s)
    safe_n = tf.maximum(n, 1.0)
    p = called / safe_n
    default = 1.0 + (tf.reduce_sum(m * m) / safe_n - 1.0) * interval.DEFAULT_FIELD_ICC
    residual = fields / tf.maximum(fields - 1, 1.0) * tf.reduce_sum((s - p * m) ** 2)
    mixed = (p > 0) & (p < 1)
    estimated = tf.where(mixed, residual / tf.where(mixed, safe_n * p * (1 - p), 1.0), 1.0)
    prior = float(interval.PRIOR_FIELDS)
    blended = tf.maximum((prior * default + (fields - 1) * estimated) / (prior + fields - 1), 1.0)
    effect = tf.where(fields < interval.MIN_FIELDS_FOR_ESTIMATE, default, blended)
    draws = _draws(p, n / effect, fields - 1 + prior, table)
    sensitivity, false_rate = tf.reduce_mean(table[:, 0]), 1 - tf.reduce_mean(table[:, 1])
    useful = sensitivity - false_rate >= interval.MIN_YOUDEN
    corrected = tf.clip_by_value(
        (p - false_rate) / tf.where(useful, sensitivity - false_rate, 1.0), 0.0, 1.0
    )
    percent = 100 * tf.where(useful, corrected, p)
    ordered = tf.sort(draws) * 100
    blank = _is_blank(called, n, table if healthy is None else healthy)
    low = tf.minimum(_quantile(ordered, 0.025), percent)
    low = tf.where(blank | unseen, tf.zeros_like(percent), low)
    high = tf.maximum(_quantile(ordered, 0.975), percent)
    percent = tf.where(unseen, 100 * p, percent)
    high = tf.maximum(high, percent)
    few = (n < counts.MIN_COUNTABLE) | (fields < counts.MIN_FIELDS)
    wide = (n < counts.CONFIDENT_COUNTABLE) | (fields < counts.CONFIDENT_FIELDS)
    wide |= high - low > counts.CONFIDENT_WIDTH_POINTS
    code = tf.where(wide, counts.STATUSES.index("low_confidence"), counts.STATUSES.index("ok"))
    code = tf.where(blank, counts.STATUSES.index("at_or_below_limit_of_blank"), code)
    code = tf.where(few, counts.STATUSES.index("insufficient_cells"), code)
    code = tf.where(calibrated, code, counts.STATUSES.index("uncalibrated"))
    code = tf.where(unseen, counts.STATUSES.index("unseen_stain"), code)
    figures = {
        "raw_percent": 100 * p,
        "hs_score": percent,
        "hs_score_low": tf.where(calibrated, low, unknown),
        "hs_score_high": tf.where(calibrated, high, unknown),
    }
    return {
        name: tf.cast(tf.where(n > 0, value, unknown), tf.float32)
        for name, value in figures.items()
    } | {"status_code": tf.cast(code, tf.int32)}


def _draws(p: tf.Tensor, n: tf.Tensor, nu: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    angle = tf.linspace(
        tf.constant(0.0, tf.float64), tf.constant(math.pi / 2, tf.float64), interval.ANGLE_STEPS
    )
    q = tf.clip_by_value(tf.sin(angle) ** 2, 1e-300, 1 - 1e-16)
    entropy = tf.math.xlogy(p, p) + tf.math.xlogy(1 - p, 1 - p)
    deviance = tf.maximum(2 * n * (entropy - p * tf.math.log(q) - (1 - p) * tf.math.log1p(-q)), 0.0)
    density = tf.exp(-(nu + 1) / 2 * tf.math.log1p(deviance / nu))
    below = tf.pad(tf.cumsum(density[1:] + density[:-1]), [[1, 0]])
    below /= below[-1]
    u = table[:, 2]
    right = tf.clip_by_value(tf.searchsorted(below, u, side="right"), 1, interval.ANGLE_STEPS - 1)
    x0, x1 = tf.gather(below, right - 1), tf.gather(below, right)
    y0, y1 = tf.gather(angle, right - 1), tf.gather(angle, right)
    at = y0 + (u - x0) / tf.maximum(x1 - x0, 1e-300) * (y1 - y0)
    false_rate = 1 - table[:, 1]
    youden = tf.maximum(table[:, 0] - false_rate, 1e-3)
    return tf.clip_by_value((tf.sin(at) ** 2 - false_rate) / youden, 0.0, 1.0)


def _is_blank(called: tf.Tensor, n: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    safe = tf.maximum(called, 1.0)
    below = tf.math.betainc(tf.maximum(n - safe + 1, 1.0), safe, table[:BLANK_ROWS, 1])
    return (called < 1) | (tf.reduce_mean(below) < 0.95)


def _quantile(ordered: tf.Tensor, q: float) -> tf.Tensor:
    """The quantile of sorted values, linear between order statistics, as numpy.quantile."""
    at = q * (tf.cast(tf.size(ordered), tf.float64) - 1)
    low = tf.cast(tf.floor(at), tf.int32)
    high = tf.minimum(low + 1, tf.size(ordered) - 1)
    return ordered[low] + (at - tf.floor(at)) * (ordered[high] - ordered[low])
