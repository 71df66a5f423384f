"""prevalence: a field with many spherocytes raises log odds, a field with few leaves them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def prevalence() -> ModuleType:
    return import_module("spherodetect.graph.prevalence")


def drawn(rng: np.random.Generator, share: float, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Log odds of a field's cells by a classifier that is right at even odds: (n,), and which are
    spherocytes."""
    truth = rng.random(n) < share
    return rng.normal(np.where(truth, 2.0, -2.0), 2.0), truth


def test_few_spherocytes_change_nothing(prevalence):
    rng = np.random.default_rng(0)
    for share in (0.0, 0.05, 0.15):
        log_odds, _ = drawn(rng, share)
        assert float(prevalence.estimate_raise(log_odds, np.ones(120, bool))) == 0.0


def test_many_spherocytes_raise_all_cells_up_to_a_limit(prevalence, monkeypatch):
    """Closed form: log odds that are right at the usual share are off by the difference of the
    shares' log odds in another field."""
    rng = np.random.default_rng(1)
    usual = np.log(prevalence.USUAL / (1 - prevalence.USUAL))
    truth = rng.random(20_000) < 0.8
    # Two normal distributions of means 2 and -2 and standard deviation 2: their log likelihood
    # ratio at x is x.
    log_odds = rng.normal(np.where(truth, 2.0, -2.0), 2.0) + usual
    everybody = np.ones(len(truth), bool)
    by = float(prevalence.estimate_raise(log_odds, everybody))
    np.testing.assert_allclose(by, prevalence.MAX_RAISE, atol=1e-9)
    monkeypatch.setattr(prevalence, "MAX_RAISE", 10.0)
    by = float(prevalence.estimate_raise(log_odds, everybody))
    np.testing.assert_allclose(by, np.log(0.8 / 0.2) - usual, atol=0.1)


def test_a_rich_field_misses_fewer_spherocytes_and_a_single_cell_raises_little(prevalence):
    rng = np.random.default_rng(2)
    log_odds, truth = drawn(rng, 0.85, 400)
    raised = log_odds + prevalence.estimate_raise(log_odds, np.ones(400, bool)).numpy()
    assert (raised > 0)[truth].mean() > (log_odds > 0)[truth].mean() + 0.05
    assert ((raised > 0) == truth).mean() > ((log_odds > 0) == truth).mean()
    assert float(prevalence.estimate_raise(np.array([3.0]), np.array([True]))) < 0.5
    assert float(prevalence.estimate_raise(np.zeros(0), np.zeros(0, bool))) == 0.0


def test_cells_outside_of_among_do_not_count(prevalence):
    rng = np.random.default_rng(3)
    log_odds, _ = drawn(rng, 0.9)
    among = np.arange(120) < 60
    by, alone = (
        prevalence.estimate_raise(log_odds, among),
        prevalence.estimate_raise(log_odds[:60], among[:60]),
    )
    assert 0 < float(alone) == pytest.approx(float(by))


def test_each_field_has_its_own_prior_with_its_other_cells(prevalence):
    rng = np.random.default_rng(4)
    rich, poor = drawn(rng, 0.9)[0], drawn(rng, 0.05)[0]
    labelled = np.r_[rich[:30], poor[:30]]
    field = np.repeat(np.array(["a", "b"], object), 30)
    others = np.r_[poor[30:], rich[30:]]
    others_field = np.repeat(np.array(["b", "a"], object), 90)
    judged = prevalence.with_field_prior(labelled, np.ones(60, bool), field, others, others_field)
    np.testing.assert_allclose(
        judged[:30], rich[:30] + float(prevalence.estimate_raise(rich, np.ones(120, bool)))
    )
    np.testing.assert_array_equal(judged[30:], poor[:30])
