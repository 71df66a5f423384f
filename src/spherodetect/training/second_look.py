"""A second look at every cell: a small network that sees the cell itself, beside what the detector
thinks of it.

The detector judges a cell by seven by seven samples of features at an eighth of the resolution, in
which central pallor is a few numbers. Here the cell's own optical density and mask are seen pixel
by pixel, with its size. It is taught by held-out cells, found by detectors that had not seen them,
so that it learns how masks are in use; and what it says of held-out cells comes from a network that
was taught by other folds. The two opinions, as log odds, are averaged: a fitted weight follows the
one or two slides that hold most spherocytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from spherodetect.graph.folding import folded
from spherodetect.graph.optics import network_input
from spherodetect.graph.prevalence import raised_by_field
from spherodetect.graph.second_look import SIZE_GAIN, SPECS, WINDOW, combined
from spherodetect.training.calibrate import HeldOutCells

#: Rounds over all cells, cells in a step, and the highest rate of learning.
EPOCHS, BATCH, RATE = 15, 128, 2e-3
#: Fewer cells of a class teach nothing that lasts.
MIN_CELLS = 500
#: Labels are softened by so much: people disagree about more than that.
_DOUBT = 0.03


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The countable red cells without a label in the fields of held-out cells: they tell what a
    field is made of.

    Attributes:
        log_odds: (M,) of spherocyte against other red cell.
        field: (M,) the field's name.
        seen: (M, WINDOW, WINDOW, 4) float16, see `windows`.
        size: (M, 3) float32, see `sizes`.
    """

    log_odds: np.ndarray
    field: np.ndarray
    seen: np.ndarray
    size: np.ndarray


@dataclass(frozen=True, eq=False)
class SeenCells(HeldOutCells):
    """Held-out cells of one detector, with what a second look sees of them.

    Attributes:
        seen: (N, WINDOW, WINDOW, 4) float16, see `windows`.
        size: (N, 3) float32, see `sizes`.
        neighbours: what lies beside them.
    """

    seen: np.ndarray
    size: np.ndarray
    neighbours: Neighbours


def build() -> tf_keras.Model:
    """The network: windows and sizes to log odds of spherocyte against other red cell, (N,); 53,000
    weights."""
    seen, size = tf_keras.Input([WINDOW, WINDOW, 4]), tf_keras.Input([3])
    x = tf_keras.layers.Lambda(_as_input)(seen)
    for filters, kernel, stride in ((16, 5, 2), (32, 3, 1), (48, 3, 1), (64, 3, 1)):
        if filters > 32:
            x = tf_keras.layers.MaxPool2D()(x)
        x = tf_keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(
            x
        )
        x = tf_keras.layers.BatchNormalization(momentum=0.95)(x)
        x = tf_keras.layers.ReLU()(x)
    pooled = [tf_keras.layers.GlobalAveragePooling2D()(x), tf_keras.layers.GlobalMaxPooling2D()(x)]
    x = tf_keras.layers.Dropout(0.3)(tf_keras.layers.Concatenate()([*pooled, size]))
    x = tf_keras.layers.Dense(32, activation="relu")(x)
    return tf_keras.Model([seen, size], tf_keras.layers.Dense(1)(x)[:, 0])


def _as_input(seen: tf.Tensor) -> tf.Tensor:
    return tf.concat([network_input(seen[..., :3]), seen[..., 3:]], axis=-1)


def varied(seen: tf.Tensor, size: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of windows as other microscopes, stains and scales would show it, and sizes that know
    less.

    See augment.py, which does the like to whole fields.
    """
    n = tf.shape(seen)[0]
    seeds = iter(tf.unstack(tf.random.split(seed, 12)))

    def draw(shape: Sequence[Any], low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, next(seeds), low, high)

    # The pixel size is unknown in half of the fields: then their cells come at the usual size; and
    # it is never exact.
    told = tf.cast(draw([n, 1], 0.0, 1.0) < 0.5, tf.float32)
    unusual = size[:, 1:2] / SIZE_GAIN * size[:, 2:] * (1.0 - told)
    # The box was found a little beside the cell, or a little too large.
    half, shift = 0.5 * tf.exp(unusual + draw([n, 1], -0.08, 0.08)), draw([n, 2], -0.03, 0.03)
    corners = tf.concat([0.5 + shift - half, 0.5 + shift + half], axis=1)
    seen = tf.image.crop_and_resize(seen, corners, tf.range(n), [WINDOW, WINDOW])
    coins = draw([3, n, 1, 1, 1], 0.0, 1.0) < 0.5
    seen = tf.where(coins[0], tf.transpose(seen, [0, 2, 1, 3]), seen)
    seen = tf.where(coins[1], seen[:, ::-1], seen)
    seen = tf.where(coins[2], seen[:, :, ::-1], seen)
    density, mask = seen[..., :3], seen[..., 3:]
    density *= tf.exp(draw([n, 1, 1, 1], -0.25, 0.25) + draw([n, 1, 1, 3], -0.15, 0.15))
    density += draw([n, 1, 1, 1], 0.0, 0.8) * (
        tf.reduce_mean(density, axis=-1, keepdims=True) - density
    )
    # Below 0 it is sharpened, as cameras do.
    density += draw([n, 1, 1, 1], -0.5, 0.8) * (tf.nn.avg_pool2d(density, 3, 1, "SAME") - density)
    noise = tf.random.stateless_normal(tf.shape(density), next(seeds))
    density += draw([n, 1, 1, 3], -0.015, 0.015) + noise * draw([n, 1, 1, 1], 0.0, 0.02)
    slip = tf.random.stateless_normal([n, 1], next(seeds)) * 0.03 * SIZE_GAIN
    size = tf.concat([size[:, :1], (size[:, 1:2] + slip) * told, size[:, 2:] * told], axis=1)
    return tf.concat([density, mask], axis=-1), size


def fit(
    seen: np.ndarray,
    size: np.ndarray,
    spherocyte: np.ndarray,
    *,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tf_keras.Model:
    """Teach a network windows (N, WINDOW, WINDOW, 4) and sizes (N, 3) of labelled cells, (N,)
    bool."""
    tf_keras.utils.set_random_seed(seed)
    model, steps = build(), len(spherocyte) // BATCH
    rate = tf_keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * steps)
    optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=0.01)
    wanted = (spherocyte * (1 - 2 * _DOUBT) + _DOUBT).astype(np.float32)

    @tf.function
    def step(seen: tf.Tensor, size: tf.Tensor, wanted: tf.Tensor, number: tf.Tensor) -> None:
        inputs = varied(tf.cast(seen, tf.float32), size, tf.stack([seed, number]))
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, model(inputs, training=True))
            loss = tf.reduce_mean(losses)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    rng = np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(spherocyte))
        for k in range(steps):
            rows = order[k * BATCH : (k + 1) * BATCH]
            step(seen[rows], size[rows], wanted[rows], tf.constant(epoch * steps + k))
        progress(epoch + 1, EPOCHS)
    return model


def opinion(model: tf_keras.Model, seen: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Log odds of many cells, (N,)."""
    parts = [
        model([seen[k : k + 512].astype(np.float32), size[k : k + 512]], training=False).numpy()
        for k in range(0, len(seen), 512)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(float)


def cross_fit(
    folds: Sequence[SeenCells], *, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Callable[..., tf.Tensor] | None, list[SeenCells]]:
    """A network taught by all held-out cells, and these cells with the log odds that the exported
    graph would give.

    What is said of a fold's cells comes from a network that the other folds taught. With one fold,
    or too few cells to learn from, there is no second look, and the log odds are the detector's
    own; the prior is the field's either way.
    """
    taught = [[other for other in folds if other is not fold] for fold in folds]
    if len(folds) < 2 or not all(map(_enough, taught)):
        return None, [_judged(fold, None) for fold in folds]
    total = (len(folds) + 1) * EPOCHS

    def fit_on(parts: Sequence[SeenCells], number: int) -> tf_keras.Model:
        columns = (
            [getattr(part, name) for part in parts] for name in ("seen", "size", "spherocyte")
        )
        done = number * EPOCHS
        return fit(
            *(np.concatenate(c) for c in columns), progress=lambda n, _: progress(done + n, total)
        )

    judged = [
        _judged(fold, fit_on(others, number))
        for number, (fold, others) in enumerate(zip(folds, taught, strict=True))
    ]
    return as_function(fit_on(folds, len(folds))), judged


def _judged(fold: SeenCells, model: tf_keras.Model | None) -> SeenCells:
    """A fold's cells with the log odds of both networks and of their field."""

    def both(cells: SeenCells | Neighbours) -> np.ndarray:
        return (
            cells.log_odds
            if model is None
            else combined(cells.log_odds, opinion(model, cells.seen, cells.size))
        )

    beside = fold.neighbours
    log_odds = raised_by_field(both(fold), fold.countable, fold.field, both(beside), beside.field)
    return replace(fold, log_odds=log_odds)


def as_function(model: tf_keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """What a network says of windows and sizes, as part of the inference graph: (N,) log odds, N
    may be 0."""

    def look(seen: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        # Convolutions refuse an empty batch: one cell more goes in than comes out.
        one_more = tf.pad(seen, [[0, 1], [0, 0], [0, 0], [0, 0]]), tf.pad(size, [[0, 1], [0, 0]])
        return model(list(one_more), training=False)[:-1]

    return folded(look, *SPECS)


def _enough(parts: Sequence[SeenCells]) -> bool:
    spherocytes = sum(int(part.spherocyte.sum()) for part in parts)
    return min(spherocytes, sum(len(part.spherocyte) for part in parts) - spherocytes) >= MIN_CELLS
