"""Trains the second look: a small network that classifies each cell from its own pixels.

The Mask R-CNN classifies a cell from seven by seven samples of features at an eighth of the
resolution. Central pallor is a few numbers there. The second look gets the optical density and the
mask of the cell pixel by pixel, and its size.

It is trained on held-out cells, detected by networks that were not trained on their fields. So its
masks are like those in use. To evaluate held-out cells, each fold is classified by a network that
was trained on the other folds.

The log odds of both networks are averaged with equal weights. A fitted weight would depend on the
one or two slides that have most of the spherocytes.
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
from spherodetect.graph.prevalence import with_field_prior
from spherodetect.graph.second_look import SIZE_GAIN, SPECS, WINDOW, mean_log_odds
from spherodetect.training.calibrate import HeldOutCells

#: Passes over all cells, cells in a step, and the highest learning rate.
EPOCHS, BATCH, RATE = 15, 128, 2e-3
#: Fewer cells of a class are too few to train on.
MIN_CELLS = 500
#: Label smoothing. People disagree about more labels than this.
_LABEL_SMOOTHING = 0.03


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Countable red cells without a label, in the fields of labelled cells.

    They count for the prevalence of spherocytes in their field.

    Attributes:
        log_odds: (M,) of spherocyte against other red cell.
        field: (M,) the field's name.
        window: (M, WINDOW, WINDOW, 4) float16, see `graph.second_look.windows`.
        size: (M, 3) float32, see `graph.second_look.sizes`.
    """

    log_odds: np.ndarray
    field: np.ndarray
    window: np.ndarray
    size: np.ndarray


@dataclass(frozen=True, eq=False)
class SecondLookCells(HeldOutCells):
    """Held-out cells of one detector, with the inputs of the second look.

    Attributes:
        window: (N, WINDOW, WINDOW, 4) float16, see `graph.second_look.windows`.
        size: (N, 3) float32, see `graph.second_look.sizes`.
        neighbours: the unlabelled cells of the same fields.
    """

    window: np.ndarray
    size: np.ndarray
    neighbours: Neighbours


def build() -> tf_keras.Model:
    """The network: windows and sizes to log odds of spherocyte against other red cell, (N,).

    It has 53,000 weights.
    """
    window = tf_keras.Input([WINDOW, WINDOW, 4])
    size = tf_keras.Input([3])
    x = tf_keras.layers.Lambda(_normalised)(window)
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
    return tf_keras.Model([window, size], tf_keras.layers.Dense(1)(x)[:, 0])


def _normalised(window: tf.Tensor) -> tf.Tensor:
    return tf.concat([network_input(window[..., :3]), window[..., 3:]], axis=-1)


def augmented(window: tf.Tensor, size: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of windows and sizes with random changes of microscope, stain and scale.

    See augment.py for the same on whole fields. The result is a function of the seed, a (2,) int32.
    """
    n = tf.shape(window)[0]
    seeds = iter(tf.unstack(tf.random.split(seed, 12)))

    def draw(shape: Sequence[Any], low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, next(seeds), low, high)

    # The pixel size is unknown in half of the fields. Their cells are then shown at the usual size.
    known = tf.cast(draw([n, 1], 0.0, 1.0) < 0.5, tf.float32)
    unusual = size[:, 1:2] / SIZE_GAIN * size[:, 2:] * (1.0 - known)
    # A detected box is a little off the centre of the cell, or a little too large.
    half = 0.5 * tf.exp(unusual + draw([n, 1], -0.08, 0.08))
    shift = draw([n, 2], -0.03, 0.03)
    corners = tf.concat([0.5 + shift - half, 0.5 + shift + half], axis=1)
    window = tf.image.crop_and_resize(window, corners, tf.range(n), [WINDOW, WINDOW])
    coins = draw([3, n, 1, 1, 1], 0.0, 1.0) < 0.5
    window = tf.where(coins[0], tf.transpose(window, [0, 2, 1, 3]), window)
    window = tf.where(coins[1], window[:, ::-1], window)
    window = tf.where(coins[2], window[:, :, ::-1], window)
    density, mask = window[..., :3], window[..., 3:]
    # Stain strength and tint, then stain purity: the channels move towards their mean.
    density *= tf.exp(draw([n, 1, 1, 1], -0.25, 0.25) + draw([n, 1, 1, 3], -0.15, 0.15))
    mean = tf.reduce_mean(density, axis=-1, keepdims=True)
    density += draw([n, 1, 1, 1], 0.0, 0.8) * (mean - density)
    # A positive factor blurs; a negative one sharpens, as cameras do.
    density += draw([n, 1, 1, 1], -0.5, 0.8) * (tf.nn.avg_pool2d(density, 3, 1, "SAME") - density)
    noise = tf.random.stateless_normal(tf.shape(density), next(seeds))
    density += draw([n, 1, 1, 3], -0.015, 0.015) + noise * draw([n, 1, 1, 1], 0.0, 0.02)
    # A given pixel size has an error of 3 %.
    slip = tf.random.stateless_normal([n, 1], next(seeds)) * 0.03 * SIZE_GAIN
    size = tf.concat([size[:, :1], (size[:, 1:2] + slip) * known, size[:, 2:] * known], axis=1)
    return tf.concat([density, mask], axis=-1), size


def fit(
    window: np.ndarray,
    size: np.ndarray,
    spherocyte: np.ndarray,
    *,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tf_keras.Model:
    """A network that is trained on labelled cells.

    Args:
        window: (N, WINDOW, WINDOW, 4).
        size: (N, 3).
        spherocyte: (N,) bool, the labels.
        seed: of the weights, the order and the augmentation.
        progress: called with the number of epochs done and in total.
    """
    tf_keras.utils.set_random_seed(seed)
    model = build()
    steps = len(spherocyte) // BATCH
    rate = tf_keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * steps)
    optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=0.01)
    target = spherocyte * (1 - 2 * _LABEL_SMOOTHING) + _LABEL_SMOOTHING
    target = target.astype(np.float32)

    @tf.function
    def step(window: tf.Tensor, size: tf.Tensor, target: tf.Tensor, number: tf.Tensor) -> None:
        inputs = augmented(tf.cast(window, tf.float32), size, tf.stack([seed, number]))
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(target, model(inputs, training=True))
            loss = tf.reduce_mean(losses)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    rng = np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(spherocyte))
        for k in range(steps):
            rows = order[k * BATCH : (k + 1) * BATCH]
            step(window[rows], size[rows], target[rows], tf.constant(epoch * steps + k))
        progress(epoch + 1, EPOCHS)
    return model


def predict(model: tf_keras.Model, window: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Log odds of many cells, (N,) float64; N may be 0."""
    parts = [
        model([window[k : k + 512].astype(np.float32), size[k : k + 512]], training=False).numpy()
        for k in range(0, len(window), 512)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(float)


def cross_fit(
    folds: Sequence[SecondLookCells],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Callable[..., tf.Tensor] | None, list[SecondLookCells]]:
    """A second look for the graph, and the cells with the log odds that the graph would give.

    The log odds of a fold's cells come from a network that was trained on the other folds. The
    second look for the graph is trained on all folds. With one fold, or too few cells, there is
    none, and the log odds are those of the Mask R-CNN. The prior is the field's in both cases.
    """
    training_parts = [[other for other in folds if other is not fold] for fold in folds]
    if len(folds) < 2 or not all(map(_is_enough, training_parts)):
        return None, [_judged(fold, None) for fold in folds]
    total = (len(folds) + 1) * EPOCHS

    def fit_on(parts: Sequence[SecondLookCells], number: int) -> tf_keras.Model:
        columns = (
            [getattr(part, name) for part in parts] for name in ("window", "size", "spherocyte")
        )
        done = number * EPOCHS
        return fit(
            *(np.concatenate(c) for c in columns), progress=lambda n, _: progress(done + n, total)
        )

    judged = [
        _judged(fold, fit_on(others, number))
        for number, (fold, others) in enumerate(zip(folds, training_parts, strict=True))
    ]
    return as_function(fit_on(folds, len(folds))), judged


def _judged(fold: SecondLookCells, model: tf_keras.Model | None) -> SecondLookCells:
    """A fold's cells with the mean log odds of both networks and the prior of their field."""

    def both(cells: SecondLookCells | Neighbours) -> np.ndarray:
        if model is None:
            return cells.log_odds
        return mean_log_odds(cells.log_odds, predict(model, cells.window, cells.size))

    others = fold.neighbours
    log_odds = with_field_prior(both(fold), fold.countable, fold.field, both(others), others.field)
    return replace(fold, log_odds=log_odds)


def as_function(model: tf_keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A network as part of the inference graph: windows and sizes to (N,) log odds; N may be 0."""

    def log_odds(window: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        # Convolutions fail on an empty batch: one cell is added and its result is dropped.
        padded = [tf.pad(window, [[0, 1], [0, 0], [0, 0], [0, 0]]), tf.pad(size, [[0, 1], [0, 0]])]
        return model(padded, training=False)[:-1]

    return folded(log_odds, *SPECS)


def _is_enough(parts: Sequence[SecondLookCells]) -> bool:
    spherocytes = sum(int(part.spherocyte.sum()) for part in parts)
    return min(spherocytes, sum(len(part.spherocyte) for part in parts) - spherocytes) >= MIN_CELLS
