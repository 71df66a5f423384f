"""Conventions in the graph: choice by look, odds of a row, and what model.json keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from spherodetect.graph.conventions import FEATURES, LOOK, Conventions, look_of  # noqa: E402

D, F = len(LOOK), len(FEATURES)


@pytest.fixture
def conventions() -> Conventions:
    weights = np.zeros((3, F))
    weights[:, 0] = [1.0, 2.0, 0.5]
    weights[1, 2] = 3.0
    return Conventions(
        names=("north", "south"),
        weights=weights,
        intercept=np.array([0.0, -1.0, -2.0]),
        cut=np.array([0.5, 0.6, 0.7]),
        looks=np.array([0, 1, 1]),
        means=np.stack([np.zeros(D), np.full(D, 2.0), np.full(D, -4.0)]),
        whitening=np.stack([np.eye(D)] * 3),
        threshold=3.0,
    )


@pytest.mark.parametrize(
    ("place", "told", "row"),
    [(0.1, -1, 0), (1.8, -1, 1), (-4.0, -1, 1), (9.0, -1, 2), (9.0, 0, 0), (0.1, 1, 1)],
)
def test_a_field_takes_the_convention_of_the_nearest_look(conventions, place, told, row):
    chosen, distance = conventions.chosen(tf.fill([D], place), tf.constant(told))
    assert int(chosen) == row
    near = min(abs(place - mean) for mean in (0, 2, -4)) * np.sqrt(D)
    assert float(distance) == pytest.approx(near, rel=1e-5)


def test_a_row_is_a_logistic_regression(conventions):
    numbers = np.zeros((2, F - 1), np.float32)
    numbers[1, 1] = 1.0
    p, cut = conventions.judged(tf.constant([0.5, 0.5]), tf.constant(numbers), tf.constant(1))
    np.testing.assert_allclose(p, 1 / (1 + np.exp([0.0, -3.0])), rtol=1e-5)
    assert float(cut) == pytest.approx(0.6)


def test_model_json_keeps_everything(conventions):
    again = Conventions.from_json(json.loads(json.dumps(conventions.as_json())))
    assert again.names == conventions.names
    for name in ("weights", "intercept", "cut", "looks", "means", "whitening"):
        np.testing.assert_allclose(getattr(again, name), getattr(conventions, name))
    assert again.threshold == conventions.threshold


def test_a_look_is_the_median_of_countable_cells():
    rng = np.random.default_rng(1)
    windows = np.zeros((3, 48, 48, 4), np.float32)
    windows[:, 12:36, 12:36, 3] = 1
    for k, density in enumerate((0.2, 0.3, 5.0)):
        windows[k, 12:36, 12:36, :3] = density * np.array([0.5, 1.0, 0.8])
    measurements = rng.normal(size=(3, 5)).astype(np.float32)
    measurements[:, 0] = np.log([0.2, 0.3, 5.0])
    light = tf.constant([200.0, 220.0, 210.0])
    look = look_of(
        tf.constant(windows), tf.constant(measurements), light, tf.constant([True, True, False])
    ).numpy()
    assert look[0] == pytest.approx(np.log(0.06) / 2, rel=1e-5)
    np.testing.assert_allclose(look[1:3], np.log([0.5, 0.8]), atol=1e-4)
    np.testing.assert_allclose(look[6:], np.log([200 / 220, 210 / 220]), rtol=1e-5)


def test_a_field_without_cells_has_a_look():
    look = look_of(tf.zeros([0, 48, 48, 4]), tf.zeros([0, 5]), tf.ones([3]), tf.zeros([0], tf.bool))
    np.testing.assert_allclose(look, 0)
