"""Conventions from held-out cells: the fit, what is left out, and the threshold of a look."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from spherodetect.graph.conventions import FEATURES, LOOK
from spherodetect.training.conventions import (
    JudgedCells,
    assemble,
    figures,
    fit_looks,
    fit_row,
    left_out,
    look_distances,
    look_threshold,
    pooled_row,
)

D, F = len(LOOK), len(FEATURES)


def cells(rng: np.random.Generator, n: int, *, shift: float, laboratory: str) -> JudgedCells:
    """Cells whose label follows a known logistic regression on log odds and density."""
    features = rng.normal(size=(n, F))
    z = 1.5 * features[:, 0] + 0.8 * features[:, 2] + shift
    truth = rng.random(n) < 1 / (1 + np.exp(-z))
    fold = np.array([f"fold {k % 3}" for k in range(n)], object)
    text = np.full(n, "x", object)
    return JudgedCells(
        features, truth, np.ones(n, bool), np.full(n, laboratory, object), fold, fold, text, text
    )


def test_the_fit_finds_the_weights_that_made_the_labels():
    made = cells(np.random.default_rng(1), 20_000, shift=-1.0, laboratory="a")
    row = fit_row(made.features, made.spherocyte)
    expected = np.zeros(F)
    expected[[0, 2]] = 1.5, 0.8
    np.testing.assert_allclose(row.weights, expected, atol=0.1)
    assert row.intercept == pytest.approx(-1.0, abs=0.1)
    assert row.p(made.features).mean() == pytest.approx(made.spherocyte.mean(), abs=0.005)


def test_a_feature_that_is_not_used_has_no_weight():
    made = cells(np.random.default_rng(1), 500, shift=0.0, laboratory="a")
    row = fit_row(made.features, made.spherocyte, used=("log_odds",))
    assert (row.weights[1:] == 0).all()


def test_left_out_probabilities_are_calibrated_in_each_laboratory():
    rng = np.random.default_rng(2)
    both = JudgedCells.join(
        [cells(rng, 6000, shift=-2, laboratory="a"), cells(rng, 6000, shift=1, laboratory="b")]
    )
    p = left_out(both)
    for name in ("a", "b"):
        told = figures(p[both.laboratory == name], both[both.laboratory == name].spherocyte)
        assert told["ece"] < 0.03
        assert told["average_precision"] > told["labelled_share"]


def test_all_laboratories_count_alike_in_the_row_of_an_unseen_film():
    rng = np.random.default_rng(3)
    few, many = (
        cells(rng, n, shift=shift, laboratory=name)
        for n, shift, name in ((500, -2, "a"), (20_000, 2, "b"))
    )
    row = pooled_row(JudgedCells.join([few, many]))
    assert abs(row.intercept) < 0.5


def test_a_look_is_near_its_own_and_far_from_others():
    rng = np.random.default_rng(4)
    looks = [rng.normal(size=(80, D)), rng.normal(size=(60, D)) + 8]
    blocks = [np.repeat(np.arange(8), 10), np.repeat(np.arange(6), 10)]
    distances = look_distances(looks[0], *fit_looks(looks))
    assert (distances[:, 0] < distances[:, 1]).all()
    threshold = look_threshold(looks, blocks)
    assert np.mean(distances[:, 0] < threshold) > 0.9
    assert look_distances(np.full((1, D), 30.0), *fit_looks(looks)).min() > threshold


def test_rows_and_looks_are_put_together_by_name():
    rng = np.random.default_rng(5)
    rows = {
        name: fit_row(
            *(lambda c: (c.features, c.spherocyte))(cells(rng, 300, shift=0, laboratory=name))
        )
        for name in ("a", "b")
    }
    looks = [("b", rng.normal(size=(30, D))), ("a", rng.normal(size=(30, D)) + 5)]
    found = assemble(rows, rows["a"], looks, threshold=4.0)
    assert found.names == ("a", "b")
    assert found.looks.tolist() == [1, 0]
    assert found.weights.shape == (3, F)
