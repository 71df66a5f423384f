"""Two readers of the same cells: the shift, the hull and kappa, against simulated readers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.reviewed import simulated
from spherodetect.score.readers import two_readers
from spherodetect.score.review import review_order, reviewed_score
from test_score_review import answered, example


def compared(first_labels, second_labels, p, ids, fields, n=100, n2=60, seed=1):
    order = review_order(p, ids, seed)
    first, second = (
        answered(order, ids, labels, m) for labels, m in ((first_labels, n), (second_labels, n2))
    )
    return reviewed_score(p, ids, fields, first, seed), two_readers(
        p, ids, fields, first, second, seed
    )


def test_readers_who_agree_widen_little():
    p, ids, fields, truth = example(np.random.default_rng(1), 800, 0.2)
    score, both = compared(truth, truth, p, ids, fields)
    assert (both.n, both.n_apart, both.shift, both.kappa) == (60, 0, 0, pytest.approx(1))
    assert 0.5 < both.kappa_low < both.kappa_high <= 1
    assert both.patient_low <= score.patient_low
    assert score.patient_high <= both.patient_high < score.patient_high + 3


def test_the_second_reader_moves_the_hull():
    rng = np.random.default_rng(2)
    p, ids, fields, truth = example(rng, 800, 0.2)
    more = truth | (rng.random(800) < 0.15)
    score, both = compared(truth, more, p, ids, fields)
    assert both.shift > 5
    assert both.second_score == pytest.approx(score.score + both.shift)
    assert both.cells_low <= score.cells_low
    assert both.cells_high > score.cells_high + both.shift
    assert both.kappa < 0.8


def test_excluded_cells_of_either_are_left_out():
    p, ids, fields, truth = example(np.random.default_rng(3), 800, 0.2)
    order = review_order(p, ids, 1)
    first, second = (answered(order, ids, truth, n) for n in (100, 60))
    first[ids[order[0]]], second[ids[order[1]]] = "excluded", "unsure"
    assert two_readers(p, ids, fields, first, second, 1).n == 58


def test_kappa_is_that_of_the_population():
    """The plain kappa of a sample that seeks the difficult cells is another figure."""
    rng = np.random.default_rng(4)
    kappas, plain, inside = [], [], []
    for seed in range(40):
        patient = simulated(rng, share=0.2, n_cells=1500, classifier="good", excluded=0)
        ids = [str(i) for i in range(1500)]
        fields = [str(f) for f in patient.field]
        # Readers differ in cells that are hard to tell, and there alone.
        hard = np.abs(patient.p - 0.5) < 0.4
        second = np.where(hard & (rng.random(1500) < 0.5), ~patient.spherocyte, patient.spherocyte)
        _, both = compared(patient.spherocyte, second, patient.p, ids, fields, 150, 150, seed)
        truth = _kappa(patient.spherocyte, second)
        first = review_order(patient.p, ids, seed)[:150]
        kappas.append(both.kappa - truth)
        plain.append(_kappa(patient.spherocyte[first], second[first]) - truth)
        inside.append(both.kappa_low <= truth <= both.kappa_high)
    assert abs(np.mean(kappas)) < 0.015 < abs(np.mean(plain))
    assert np.mean(inside) >= 0.85


def _kappa(a, b):
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return (np.mean(a == b) - chance) / (1 - chance)


def test_cells_all_named_alike_have_no_kappa():
    p, ids, fields, _ = example(np.random.default_rng(5), 300, 0)
    _, both = compared(np.zeros(300, bool), np.zeros(300, bool), p, ids, fields)
    assert math.isnan(both.kappa) and math.isnan(both.kappa_low)


def test_a_careful_second_reader_restores_the_coverage():
    rng = np.random.default_rng(6)
    alone, corrected = [], []
    for seed in range(150):
        patient = simulated(rng, share=0.2, n_cells=1500, classifier="good", excluded=0)
        ids = [str(i) for i in range(1500)]
        truth, chance = patient.spherocyte, rng.random(1500)
        careless = np.where(truth, chance > 0.1, chance < 0.02)
        fields = [str(f) for f in patient.field]
        score, both = compared(careless, truth, patient.p, ids, fields, 200, 50, seed)
        percent = patient.cells_percent
        alone.append(score.cells_low <= percent <= score.cells_high)
        corrected.append(both.cells_low <= percent <= both.cells_high)
    assert np.mean(corrected) >= 0.95
    assert np.mean(alone) < np.mean(corrected)


def test_readers_who_cannot_be_compared_are_refused():
    p, ids, fields, truth = example(np.random.default_rng(7), 300)
    order = review_order(p, ids, 1)
    first = answered(order, ids, truth, 50)
    with pytest.raises(ValueError, match="at most the 50"):
        two_readers(p, ids, fields, first, answered(order, ids, truth, 75), 1)
    with pytest.raises(ValueError, match="both"):
        two_readers(p, ids, fields, first, dict.fromkeys(first, "unsure"), 1)
    with pytest.raises(ValueError, match="first 1"):
        two_readers(p, ids, fields, first, {ids[order[7]]: "other"}, 1)
