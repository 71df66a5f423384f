"""funnel_plot: limits narrow around the pooled share, and points lie at their counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherodetect.report.funnel_plot import HEIGHT, WIDTH, funnel_limits, funnel_plot
from spherodetect.score.counts import score_counts


@settings(deadline=None)
@given(share=st.floats(0.0, 1.0), level=st.sampled_from([0.95, 0.998]))
def test_the_funnel_narrows_around_the_pooled_share_and_stays_a_share(share, level):
    n = np.array([10.0, 100.0, 1000.0, 1e6])
    low, high = funnel_limits(share, n, level)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (np.diff(high - low) <= 1e-12).all()
    assert (low <= share + 1e-9).all()
    assert (high >= share - 1e-9).all()
    assert high[-1] - low[-1] < 0.005


def test_the_limits_contain_their_part_of_binomial_counts():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3):
        low, high = funnel_limits(share, np.array([800.0]), 0.95)
        drawn = rng.binomial(800, share, 20_000) / 800
        assert ((drawn >= low) & (drawn <= high)).mean() == pytest.approx(0.95, abs=0.015)


def test_the_points_lie_where_the_counts_are():
    scores = [score_counts([k] * 10, [100] * 10, patient_id=str(k)) for k in (5, 10, 15, 15, 30)]
    plot = funnel_plot([(score, None) for score in scores])
    assert plot["percent"] == pytest.approx(15)
    most, top = 1500, 50
    expected = [(WIDTH * 1000 / most, HEIGHT * (1 - k / top)) for k in (5, 10, 15, 15, 30)]
    assert [point[:2] for point in plot["points"]] == [
        pytest.approx(place, abs=0.1) for place in expected
    ]
    assert plot["x_ticks"][-1] == (WIDTH, "1,500")
    assert plot["y_ticks"][-1] == (0.0, "50")
