"""A patient's score with a review as its basis: figures, status, grade, readers and looks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.reviewed import simulated
from spherodetect.score.counts import score_counts
from spherodetect.score.grades import ICSH2015
from spherodetect.score.patient_review import patient_review, reviewed_patient
from spherodetect.score.rates import ClassifierRates
from spherodetect.score.review import review_order

RATES = ClassifierRates((90, 60), (80, 58), (900, 950), (9, 40), name="example")


def reviewed(n, *, share=0.2, n_cells=1500, change=None, second=0, seed=1, hint=None):
    """Score and review of a simulated patient, whose truth answers."""
    patient = simulated(
        np.random.default_rng(seed), share=share, n_cells=n_cells, classifier="good", excluded=0
    )
    ids, fields = [str(i) for i in range(n_cells)], [str(f) for f in patient.field]
    order = review_order(patient.p, ids, seed)
    said = {ids[i]: "spherocyte" if patient.spherocyte[i] else "other" for i in order[:n]}
    answers = {"AB": said}
    if second:
        answers["CD"] = {cell: (change or str)(said[cell]) for cell in list(said)[:second]}
    batches = [*range(50, n, 25), n]
    review = patient_review(patient.p, ids, fields, answers, seed, batches=batches)
    n_fields = int(patient.field.max()) + 1
    counts = [np.bincount(patient.field, m, n_fields) for m in (patient.p > 0.5, np.ones(n_cells))]
    alone = score_counts(*counts, model=RATES, patient_id="p1", status_hint=hint)
    after = reviewed_patient(alone, review, scheme=ICSH2015, n_fields=n_fields)
    return patient, alone, after, review


def test_the_score_moves_to_the_review_and_the_model_s_stays_beside_it():
    patient, alone, after, review = reviewed(150)
    assert (after.basis, alone.basis) == ("reviewed", "model")
    assert (after.hs_score, after.hs_score_low, after.hs_score_high) == (
        review.score.score, review.patient_low, review.patient_high,
    )  # fmt: skip
    assert after.hs_score_low < patient.cells_percent < after.hs_score_high
    assert (after.model_score, after.model_score_low, after.model_score_high) == (
        alone.hs_score, alone.hs_score_low, alone.hs_score_high,
    )  # fmt: skip
    assert (after.n_reviewed, after.n_reviewed_spherocytes) == (150, review.score.n_spherocytes)
    assert (after.raw_percent, after.n_spherocytes, after.model) == (
        alone.raw_percent, alone.n_spherocytes, alone.model,
    )  # fmt: skip


def test_probabilities_and_grade_come_from_the_same_distribution():
    _, _, after, review = reviewed(150)
    percent = review.percent_draws()
    assert after.p_above_20_percent == pytest.approx(np.mean(percent > 20))
    assert after.p_above_5_percent > 0.99
    assert after.grade == ICSH2015.grade(percent) and after.grade


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"n": 250, "share": 0.05}, "ok"),
        ({"n": 50, "share": 0.5}, "low_confidence"),
        ({"n": 60, "share": 0.0, "n_cells": 180}, "insufficient_cells"),
        ({"n": 100, "share": 0.0}, "ok"),
        ({"n": 250, "share": 0.05, "hint": "out_of_domain"}, "out_of_domain"),
    ],
)
def test_the_status_rests_on_the_review(options, status):
    _, _, after, review = reviewed(**options)
    assert after.status == status, review
    assert bool(after.grade) == (status in ("ok", "low_confidence"))
    if status == "ok":
        assert after.hs_score_high - after.hs_score_low <= 10


def test_looks_end_with_the_review_and_narrow():
    _, _, _, review = reviewed(150)
    assert [look.n for look in review.looks] == [50, 75, 100, 125, 150]
    last = review.looks[-1]
    assert (last.score, last.patient_low) == (review.score.score, review.score.patient_low)
    widths = [look.cells_high - look.cells_low for look in review.looks]
    assert widths[-1] < 0.7 * widths[0]


def test_more_cells_lead_to_ten_points():
    _, _, after, review = reviewed(50, share=0.1, seed=3)
    assert after.status == "low_confidence" and review.more_cells
    _, _, then, _ = reviewed(50 + review.more_cells, share=0.1, seed=3)
    assert then.hs_score_high - then.hs_score_low == pytest.approx(10, abs=2.5)


def test_a_second_reader_widens_and_the_first_gives_the_score():
    _, _, alone, one = reviewed(150)
    swap = {"spherocyte": "spherocyte", "other": "other"}
    count = iter(range(10**6))

    def differs(answer):
        return "spherocyte" if next(count) % 7 == 0 else swap[answer]

    _, _, both, two = reviewed(150, second=100, change=differs)
    assert two.readers == (("AB", 150), ("CD", 100))
    assert both.hs_score == alone.hs_score
    assert both.hs_score_high > alone.hs_score_high
    assert both.hs_score_low <= alone.hs_score_low
    (compared,) = two.compared
    assert compared.n == 100 and compared.shift > 0
    assert np.mean(two.percent_draws() > 20) > np.mean(one.percent_draws() > 20)


def test_a_second_reader_who_is_sure_of_nothing_changes_nothing():
    _, _, alone, _ = reviewed(100)
    _, _, both, two = reviewed(100, second=50, change=lambda answer: "unsure")
    assert not two.compared and both == alone
