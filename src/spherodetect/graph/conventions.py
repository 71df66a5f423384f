"""What a laboratory calls a spherocyte, by name: odds, cut, and how its films look.

Laboratories draw the line between a spherocyte and another small, dark cell at different places.
The networks rank cells; a convention turns their log odds and the evidence relative to the field
into the probability that this laboratory would name the cell a spherocyte, by a logistic
regression, and it has a cut of its own. A film of unknown origin takes the convention whose taught
films look alike: the smallest Mahalanobis distance between descriptors of the field. Beyond a
threshold the film is unseen, and the row `UNSEEN`, fitted on all conventions together, judges it.

Log odds are natural; densities are optical densities at the network's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from spherodetect.cells import UNSEEN
from spherodetect.graph import evidence, optics

#: What a convention weighs, in this order.
FEATURES = ("log_odds", "log_diameter_over_field", *evidence.COLUMNS)
#: What tells how a field looks, in this order; medians over its countable red cells.
LOOK = (
    "log_density",
    "log_red_over_green",
    "log_blue_over_green",
    "pallor_fraction",
    "center_rim_ratio",
    "log_sharpness",
    "log_red_light",
    "log_blue_light",
)
_LEAST_DENSITY = 0.01


@dataclass(frozen=True, eq=False)
class Conventions:
    """The conventions of a model, as the graph holds them.

    Attributes:
        names: the laboratories' conventions.
        weights: (C + 1, F) in the order of FEATURES, (C + 1,) intercept and cut; the last row is
            UNSEEN.
        looks: (K,) the place in names of each taught look; a convention may have several.
        means: (K, D) of the descriptors in the order of LOOK.
        whitening: (K, D, D); the distance is the length of the whitened difference.
        threshold: distances above it are unseen.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    intercept: np.ndarray
    cut: np.ndarray
    looks: np.ndarray
    means: np.ndarray
    whitening: np.ndarray
    threshold: float

    def distances(self, look: tf.Tensor) -> tf.Tensor:
        """(K,) from a field's descriptors (D,) to each taught look."""
        means = tf.constant(self.means, tf.float32)
        whitening = tf.constant(self.whitening, tf.float32)
        return tf.norm(tf.linalg.matvec(whitening, look - means), axis=1)

    def chosen(self, look: tf.Tensor, told: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The row that judges a field, int32, and the distance to the nearest taught look.

        Args:
            look: (D,) descriptors of the field.
            told: int32, the row that the user stated, or below 0.
        """
        distances = self.distances(look)
        nearest = tf.argmin(distances, output_type=tf.int32)
        row = tf.gather(tf.constant(self.looks, tf.int32), nearest)
        distance = tf.reduce_min(distances)
        row = tf.where(distance <= self.threshold, row, len(self.names))
        return tf.where(told >= 0, tf.minimum(told, len(self.names)), row), distance

    def judged(
        self, log_odds: tf.Tensor, numbers: tf.Tensor, row: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Probabilities (N,) and the cut of a row, from log odds (N,) and numbers (N, F - 1)."""
        features = tf.concat([log_odds[:, None], numbers], axis=1)
        weights = tf.gather(tf.constant(self.weights, tf.float32), row)
        intercept = tf.gather(tf.constant(self.intercept, tf.float32), row)
        p = tf.sigmoid(tf.linalg.matvec(features, weights) + intercept)
        return p, tf.gather(tf.constant(self.cut, tf.float32), row)

    def as_json(self) -> dict[str, Any]:
        """For model.json; `from_json` reads it."""
        rows = zip([*self.names, UNSEEN], self.weights, self.intercept, self.cut, strict=True)
        return {
            "rows": {
                name: {
                    "weights": dict(zip(FEATURES, map(float, weights), strict=True)),
                    "intercept": float(intercept),
                    "cut": float(cut),
                }
                for name, weights, intercept, cut in rows
            },
            "looks": [
                {"convention": self.names[k], "mean": mean.tolist(), "whitening": white.tolist()}
                for k, mean, white in zip(self.looks, self.means, self.whitening, strict=True)
            ],
            "look_columns": list(LOOK),
            "look_threshold": float(self.threshold),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conventions:
        """What `as_json` wrote."""
        rows = dict(data["rows"])
        unseen = rows.pop(UNSEEN)
        names = tuple(rows)
        ordered = [*rows.values(), unseen]
        looks = data["looks"]
        return cls(
            names=names,
            weights=np.array([[row["weights"][name] for name in FEATURES] for row in ordered]),
            intercept=np.array([row["intercept"] for row in ordered]),
            cut=np.array([row["cut"] for row in ordered]),
            looks=np.array([names.index(one["convention"]) for one in looks], int),
            means=np.array([one["mean"] for one in looks]).reshape(-1, len(LOOK)),
            whitening=np.array([one["whitening"] for one in looks]).reshape(
                -1, len(LOOK), len(LOOK)
            ),
            threshold=float(data["look_threshold"]),
        )


def look_of(
    windows: tf.Tensor, measurements: tf.Tensor, light: tf.Tensor, among: tf.Tensor
) -> tf.Tensor:
    """How a field looks, (D,) in the order of LOOK; zeros for the cells' part of a field without.

    Args:
        windows: (N, S, S, 4) of second_look.py.
        measurements: (N, 5) of evidence.measured.
        light: (3,) mean intensity of the empty slide in red, green and blue.
        among: (N,) bool, the countable red cells.
    """
    weight = tf.cast(windows[..., 3:] >= 0.5, tf.float32)
    area = tf.maximum(tf.reduce_sum(weight, axis=[1, 2]), 1.0)
    colours = tf.reduce_sum(windows[..., :3] * weight, axis=[1, 2]) / area
    colours = tf.math.log(tf.maximum(colours, _LEAST_DENSITY))
    green = windows[..., 1:2]
    detail = tf.abs(green - optics.mean_of_3x3(green)) * weight
    sharpness = tf.reduce_sum(detail, axis=[1, 2, 3]) / area[:, 0]
    sharpness = tf.math.log(tf.maximum(sharpness, 1e-4)) - measurements[:, 0]
    columns = [
        measurements[:, 0],
        colours[:, 0] - colours[:, 1],
        colours[:, 2] - colours[:, 1],
        measurements[:, 1],
        measurements[:, 2],
        sharpness,
    ]
    cast = tf.math.log(tf.maximum(light, 1.0))
    return tf.stack(
        [evidence.median(column, among) for column in columns]
        + [cast[0] - cast[1], cast[2] - cast[1]]
    )


__all__ = ["FEATURES", "LOOK", "Conventions", "look_of"]
