"""The predictive distribution of a classifier's rates against closed forms and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spherodetect.errors import BadModelError
from spherodetect.score.rates import ClassifierRates, labels_table, predictive_quantiles

CENTRAL = np.array([0.025, 0.5, 0.975])


def test_blocks_of_known_slides_predict_the_next_one():
    """With many blocks, the prediction is the distribution from which the slides were drawn."""
    slides, rng = stats.beta(0.9 * 40, 0.1 * 40), np.random.default_rng(3)
    n = np.full(600, 400)
    hits = rng.binomial(n, slides.rvs(600, random_state=rng))
    np.testing.assert_allclose(
        predictive_quantiles(n, hits, CENTRAL), slides.ppf(CENTRAL), atol=0.01
    )


@pytest.mark.parametrize(("mean", "concentration"), [(0.985, 30), (0.985, 100), (0.87, 40)])
def test_95_percent_intervals_from_eight_blocks_contain_about_95_percent_of_new_slides(
    mean, concentration
):
    slides, rng = (
        stats.beta(mean * concentration, (1 - mean) * concentration),
        np.random.default_rng(4),
    )
    held = []
    for _ in range(12):
        n = rng.integers(100, 800, 8)
        hits = rng.binomial(n, slides.rvs(8, random_state=rng))
        low, _, high = predictive_quantiles(n, hits, CENTRAL)
        held.append(slides.cdf(high) - slides.cdf(low))
    assert 0.91 < np.mean(held) < 0.985


def test_equal_blocks_give_a_wider_interval_than_pooled_counts():
    n, hits = np.full(6, 500), np.full(6, 495)
    low, middle, high = predictive_quantiles(n, hits, CENTRAL)
    pooled = stats.beta(0.5 + hits.sum(), 0.5 + (n - hits).sum()).ppf(CENTRAL)
    assert low < pooled[0] and high > pooled[2] and middle == pytest.approx(0.99, abs=0.003)
    wider = predictive_quantiles(n, [500, 500, 500, 500, 490, 480], CENTRAL)
    assert wider[2] - wider[0] > 1.5 * (high - low)


def test_hits_and_misses_are_mirror_images():
    n, hits = np.array([30, 80, 55]), np.array([28, 60, 55])
    mirrored = 1 - predictive_quantiles(n, n - hits, CENTRAL)[::-1]
    np.testing.assert_allclose(predictive_quantiles(n, hits, CENTRAL), mirrored, atol=1e-3)


@pytest.mark.parametrize("blocks", [([], []), ([0, 0], [0, 0])])
def test_without_cells_the_rate_may_have_any_value(blocks):
    low, middle, high = predictive_quantiles(*blocks, CENTRAL)
    assert low < 0.01 and high > 0.99 and middle == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "blocks", [([50], [50]), ([50], [0]), ([5000] * 30, [5000] * 30), ([40_000] * 8, [39_800] * 8)]
)
def test_extreme_blocks_give_rates_in_order(blocks):
    values = predictive_quantiles(*blocks, np.linspace(0.001, 0.999, 99))
    assert (
        np.isfinite(values).all()
        and (values >= 0).all()
        and (values <= 1).all()
        and (np.diff(values) >= 0).all()
    )


def test_reference_blocks_tell_the_spread_between_slides_and_not_the_mean():
    own = ([120, 100], [108, 90])
    alike, apart = ([300] * 4, [150] * 4), ([300] * 4, [60, 280, 120, 220])
    alone = predictive_quantiles(*own, CENTRAL)
    close, wide = (predictive_quantiles(*own, CENTRAL, reference=r) for r in (alike, apart))
    assert np.ptp(close) < np.ptp(alone) < np.ptp(wide)
    # Slides that differ little, whatever their mean is, leave the mean of the own blocks.
    mirrored = predictive_quantiles(*own, CENTRAL, reference=([300] * 4, [270] * 4))
    np.testing.assert_allclose(close, mirrored, atol=0.02)
    assert abs(close[1] - 0.9) < 0.02
    nothing = predictive_quantiles(*own, CENTRAL, reference=((), ()))
    np.testing.assert_array_equal(alone, nothing)


def test_intervals_of_two_blocks_with_a_reference_contain_about_95_percent_of_new_slides():
    rng = np.random.default_rng(4)
    held = []
    for _ in range(60):
        slides = stats.beta(0.9 * 60, 0.1 * 60)
        own, other = (rng.binomial(150, slides.rvs(k, random_state=rng)) for k in (2, 3))
        low, _, high = predictive_quantiles([150, 150], own, CENTRAL, reference=([150] * 3, other))
        held.append(low <= slides.rvs(random_state=rng) <= high)
    assert np.mean(held) >= 0.88


def test_a_block_without_spherocytes_does_not_change_sensitivity():
    some = ClassifierRates((90, 80), (80, 68), (900, 950), (9, 4))
    more = ClassifierRates((90, 0, 80), (80, 0, 68), (900, 0, 950), (9, 0, 4))
    np.testing.assert_array_equal(some.table, more.table)


def test_the_table_is_evenly_spread_and_cannot_be_changed():
    table = ClassifierRates((90, 80), (80, 68), (900, 950), (9, 4)).table
    assert not table.flags.writeable and not labels_table().flags.writeable
    np.testing.assert_allclose(np.diff(table[:, 2]), 1 / 8192)
    ranks = np.argsort(np.argsort(table, axis=0), axis=0) * 8 // len(table)
    cells, counts = np.unique(ranks, axis=0, return_counts=True)
    # Each of the 512 boxes has 16 rows on average.
    assert len(cells) == 8**3 and counts.min() > 8 and counts.max() < 24


def test_model_json_gives_the_rates_and_its_name():
    blocks = [
        {
            "name": "61",
            "true_spherocytes": 9,
            "called_of_true": 8,
            "true_others": 99,
            "called_of_others": 1,
        }
    ] * 2
    rates = ClassifierRates.from_model_json({"name": "m1", "rates": {"blocks": blocks}})
    assert rates == ClassifierRates((9, 9), (8, 8), (99, 99), (1, 1), name="m1")
    assert ClassifierRates.from_model_json({"rates": {"blocks": blocks}}, name="m2").name == "m2"


@pytest.mark.parametrize(
    "rates",
    [
        None,
        {},
        {"blocks": 3},
        {"blocks": [{}]},
        {
            "blocks": [
                {
                    "true_spherocytes": 9,
                    "called_of_true": 10,
                    "true_others": 99,
                    "called_of_others": 1,
                }
            ]
        },
    ],
)
def test_a_model_json_without_rates_is_a_bad_model(rates):
    with pytest.raises(BadModelError, match=r"model\.json.*rates\.blocks"):
        ClassifierRates.from_model_json({"rates": rates})


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        (((5,), (6,), (9,), (1,)), "n_spherocyte_called"),
        (((5,), (1, 1), (9,), (1,)), "n_spherocyte_called"),
        (((5,), (1,), (9, 9), (1, 1)), "n_other"),
        (((-5,), (-6,), (9,), (1,)), "n_spherocyte"),
        (((5,), (1,), (9,), (float("nan"),)), "n_other_called"),
    ],
)
def test_invalid_counts_are_refused(counts, name):
    with pytest.raises(ValueError, match=f"expected.*{name}|{name}.*expected"):
        ClassifierRates(*counts)
