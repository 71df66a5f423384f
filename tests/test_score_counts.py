"""The HS score against closed forms, invariants, and simulated patients whose truth is known."""

from __future__ import annotations

import dataclasses
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import coverage
from benchmarks.pseudo_patients import pseudo_patients
from spherodetect.cells import touches_border
from spherodetect.safety import read_json
from spherodetect.score import interval, rates
from spherodetect.score.blank import limit_of_blank
from spherodetect.score.counts import PatientScore, more_fields_needed, score_counts
from spherodetect.score.grades import GradeScheme
from spherodetect.score.rates import ClassifierRates, labels_table

COLUMNS = """patient_id, status, hs_score, hs_score_low, hs_score_high, raw_percent, grade,
grade_scheme, p_above_5_percent, p_above_20_percent, n_fields, n_fields_rejected, n_cells,
n_countable, n_spherocytes, model, version, basis, n_reviewed, n_reviewed_spherocytes, model_score,
model_score_low, model_score_high"""

# Rates of a fair classifier: sensitivity 0.82 to 0.93, specificity 0.98 to 0.997 between ten
# blocks.
GOOD = ClassifierRates(
    (100,) * 10,
    (82, 93, 88, 85, 91, 87, 90, 84, 89, 86),
    (600,) * 10,
    (12, 2, 5, 8, 3, 4, 9, 2, 6, 3),
    name="good",
)
HEALTHY = ClassifierRates((0,) * 10, (0,) * 10, (600,) * 10, (0, 1) * 5, name="healthy")


def known(sensitivity: float, specificity: float) -> ClassifierRates:
    """A classifier whose rates are known from 20 blocks of a million cells."""
    million, n = 10**6, 20
    columns = (
        (million,),
        (round(sensitivity * million),),
        (million,),
        (round((1 - specificity) * million),),
    )
    return ClassifierRates(*(column * n for column in columns))


field_counts = st.lists(
    st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=20,
).filter(lambda fields: sum(n for _, n in fields) > 0)


def test_patient_score_has_the_fields_of_patients_csv_in_order():
    assert [f.name for f in dataclasses.fields(PatientScore)] == COLUMNS.replace("\n", " ").replace(
        ",", ""
    ).split()


@pytest.mark.parametrize(
    ("true", "apparent"), [(0, 2.0), (1, 2.88), (5, 6.4), (10, 10.8), (20, 19.6), (60, 54.8)]
)
def test_a_known_classifier_is_corrected_to_the_true_percentage(true, apparent):
    score = score_counts([round(apparent * 100)] * 10, [10_000] * 10, model=known(0.90, 0.98))
    assert score.raw_percent == pytest.approx(apparent)
    assert score.hs_score == pytest.approx(true, abs=0.02)


def test_human_labels_are_not_corrected():
    score = score_counts([1, 30, 9] * 4, [50, 100, 90] * 4)
    # The ratio of the sums, not the mean of the fields' percentages.
    assert score.hs_score == score.raw_percent == pytest.approx(100 * 160 / 960)
    counts = (score.n_cells, score.n_countable, score.n_spherocytes)
    assert (score.model, *counts) == ("labels", 960, 960, 160)


def test_a_model_stands_for_its_rates():
    model = SimpleNamespace(rates=GOOD)
    assert score_counts([9, 12] * 6, [90] * 12, model=model) == score_counts(
        [9, 12] * 6, [90] * 12, model=GOOD
    )
    assert limit_of_blank(1080, model=model) == limit_of_blank(1080, model=GOOD)
    assert more_fields_needed([12] * 4, [100] * 4, model=model) == more_fields_needed(
        [12] * 4, [100] * 4, model=GOOD
    )


def test_draws_without_error_or_overdispersion_are_jeffreys_posterior():
    sizes, dofs = np.array([40.0, 300.0, 1000.0]), np.full(3, 1e9)
    draws = interval.corrected_draws(np.array([0.0, 0.1, 0.97]), sizes, dofs, labels_table())
    for (k, n), row in zip([(0, 40), (30, 300), (970, 1000)], draws, strict=True):
        exact = stats.beta(k + 0.5, n - k + 0.5).ppf([0.025, 0.5, 0.975])
        np.testing.assert_allclose(np.quantile(row, [0.025, 0.5, 0.975]), exact, atol=2e-4)


def test_few_degrees_of_freedom_give_the_quantiles_of_t():
    draws = interval.corrected_draws(
        np.array([0.5]), np.array([4e4]), np.array([4.0]), labels_table()
    )[0]
    np.testing.assert_allclose(
        (np.quantile(draws, [0.05, 0.975]) - 0.5) / 0.0025, stats.t(4).ppf([0.05, 0.975]), rtol=0.01
    )


def test_many_patients_at_once_are_each_patient_alone():
    shares, sizes, dofs = (
        np.array([0.0, 0.02, 0.3]),
        np.array([90.0, 1000.0, 250.0]),
        np.array([4.0, 13.0, 11.0]),
    )
    together = interval.corrected_draws(shares, sizes, dofs, GOOD.table)
    alone = [
        interval.corrected_draws(*(v[i : i + 1] for v in (shares, sizes, dofs)), GOOD.table)[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-9)


@given(field_counts, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=40, deadline=None)
def test_order_and_empty_fields_change_nothing_and_the_interval_holds_the_score(
    fields, random, corrected
):
    model = GOOD if corrected else None
    score = score_counts(*zip(*fields, strict=True), model=model)
    shuffled = random.sample(fields, len(fields))
    assert score == score_counts(*zip(*shuffled, strict=True), model=model)
    padded = score_counts(*zip(*fields, (0, 0), strict=True), model=model)
    assert dataclasses.replace(padded, n_fields=score.n_fields) == score
    assert 0 <= score.hs_score_low <= score.hs_score <= score.hs_score_high <= 100
    assert 0 <= score.p_above_20_percent <= score.p_above_5_percent <= 1
    s, n = np.array(fields, float).T
    assert interval.summarise(s, n).design_effect >= 1


def test_the_score_is_the_same_at_every_run():
    again = ClassifierRates(
        GOOD.n_spherocyte, GOOD.n_spherocyte_called, GOOD.n_other, GOOD.n_other_called, name="good"
    )
    before = GOOD.table
    rates._table_of.cache_clear()  # equal rates share a table
    assert again.table is not before
    assert score_counts([9, 12] * 6, [90] * 12, model=again) == score_counts(
        [9, 12] * 6, [90] * 12, model=GOOD
    )


def test_no_cells_is_not_zero():
    for fields in ([], [0, 0, 0]):
        score = score_counts(fields, fields, model=GOOD)
        figures = [
            score.hs_score,
            score.hs_score_low,
            score.hs_score_high,
            score.raw_percent,
            score.p_above_5_percent,
        ]
        assert all(math.isnan(figure) for figure in figures)
        assert (score.status, score.grade, score.n_fields) == (
            "insufficient_cells",
            "",
            len(fields),
        )
        assert "no countable cells" in str(score)
    assert math.isnan(limit_of_blank(0, model=GOOD))


@pytest.mark.parametrize(
    ("spherocytes", "countable", "parts"),
    [
        ([1, -1], [5, 5], ("spherocytes:", "at least 0", "got -1 in field 1")),
        ([1, 6], [5, 5], ("spherocytes:", "at most the 5 of countable", "field 1, got 6")),
        ([1], [5, 5], ("spherocytes", "countable, 2, got 1")),
        ([1, 1], [5, np.nan], ("countable:", "got nan in field 1")),
        ([1, 0.5], [5, 5], ("spherocytes:", "got 0.5 in field 1")),
        ([[1, 1]], [[5, 5]], ("spherocytes:", "1-D array", "got shape (1, 2)")),
        (["many"], [5], ("spherocytes:", "got ['many']")),
    ],
)
def test_an_error_about_counts_names_the_argument_the_field_and_the_value(
    spherocytes, countable, parts
):
    with pytest.raises(ValueError) as caught:
        score_counts(spherocytes, countable)
    assert not [part for part in parts if part not in str(caught.value)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_cells": 9}, "n_cells >= 10"),
        ({"n_fields_rejected": -1}, "n_fields_rejected >= 0"),
        ({"status_hint": "uncalibrated"}, "status_hint out_of_domain or field_quality"),
        ({"status_hint": "ok"}, "status_hint out_of_domain or field_quality or unseen_stain"),
    ],
)
def test_invalid_options_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        score_counts([1], [10], **options)


@pytest.mark.parametrize(
    ("status", "spherocytes", "countable", "options"),
    [
        ("ok", [11] * 12, [90] * 12, {}),
        ("at_or_below_limit_of_blank", [1] * 12, [90] * 12, {}),
        ("at_or_below_limit_of_blank", [0] * 3, [70] * 3, {}),
        ("low_confidence", [15] * 12, [83] * 12, {}),  # 996 cells
        ("low_confidence", [15] * 9, [200] * 9, {}),
        ("low_confidence", [10, 90] * 6, [100] * 12, {}),  # wide
        ("insufficient_cells", [33] * 3, [66] * 3, {}),
        # A field without cells does not count as a field.
        ("insufficient_cells", [33] * 2 + [0], [1000] * 2 + [0], {}),
        ("field_quality", [], [], {"n_fields_rejected": 4}),
        ("field_quality", [11] * 12, [90] * 12, {"status_hint": "field_quality"}),
        ("out_of_domain", [], [], {"status_hint": "out_of_domain", "n_fields_rejected": 4}),
        ("unseen_stain", [11] * 12, [90] * 12, {"status_hint": "unseen_stain"}),
        # Healthy blood of this stain is called less often than other cells between slides.
        ("ok", [1] * 12, [90] * 12, {"healthy": HEALTHY}),
    ],
)
def test_status(status, spherocytes, countable, options):
    score = score_counts(spherocytes, countable, model=GOOD, **options)
    assert score.status == status
    assert (score.grade == "") == (
        status
        in {
            "insufficient_cells",
            "field_quality",
            "out_of_domain",
            "unseen_stain",
            "at_or_below_limit_of_blank",
        }
    )
    assert math.isnan(score.hs_score) == math.isnan(score.raw_percent) == (not sum(countable))
    assert "positive" not in str(score)


def test_on_an_unseen_stain_the_score_is_what_was_counted_and_nothing_excludes_zero():
    poor = ClassifierRates((50,) * 8, (3, 2, 4, 3, 49, 50, 48, 49), (200,) * 8, (20,) * 8)
    counts = [30] * 12, [100] * 12
    known = score_counts(*counts, model=poor)
    score = score_counts(*counts, model=poor, status_hint="unseen_stain")
    assert score.hs_score == score.raw_percent == pytest.approx(30) != known.hs_score
    assert score.hs_score_low == 0 and score.hs_score_high >= max(known.hs_score_high, 30)
    assert math.isnan(score.p_above_5_percent) and math.isnan(score.p_above_20_percent)
    assert not math.isnan(known.p_above_5_percent)


@pytest.mark.parametrize(
    "rates",
    [((), (), (), ()), ((90, 80), (84, 70), (0, 0), (0, 0)), ((0,), (0,), (900,), (9,))],
    ids=["no block", "spherocytes only", "other cells only"],
)
def test_without_known_rates_there_is_the_raw_percentage_and_nothing_else(rates):
    unknown = ClassifierRates(*rates, name="mine")
    assert not unknown.known and GOOD.known
    score = score_counts([11] * 12, [90] * 12, model=unknown)
    assert (score.status, score.grade, score.basis, score.model) == (
        "uncalibrated",
        "",
        "model",
        "mine",
    )
    assert score.hs_score == score.raw_percent == score.model_score == pytest.approx(100 * 11 / 90)
    limits = (score.hs_score_low, score.hs_score_high, score.model_score_low)
    assert all(map(math.isnan, (*limits, score.p_above_5_percent, score.p_above_20_percent)))
    assert "no interval" in str(score) and "nan" not in str(score)
    assert math.isnan(limit_of_blank(1080, model=unknown))
    assert more_fields_needed([11] * 12, [90] * 12, model=unknown) is None
    # It comes before too few cells, and after what the caller found of the pictures.
    assert score_counts([1], [9], model=unknown).status == "uncalibrated"
    for hint in ("out_of_domain", "field_quality", "unseen_stain"):
        hinted = score_counts([11] * 12, [90] * 12, model=unknown, status_hint=hint)
        assert hinted.status == hint and math.isnan(hinted.hs_score_low)
    empty = score_counts([], [], model=unknown)
    assert empty.status == "uncalibrated" and math.isnan(empty.hs_score)


def test_limit_of_blank_is_the_percentile_of_the_slides_without_spherocytes():
    exact = known(0.9, 0.99)
    assert limit_of_blank(1000, model=exact) == pytest.approx(
        stats.binom(1000, 0.01).ppf(0.95) / 10, abs=0.11
    )
    assert limit_of_blank(1000) == 0
    # 54 of 6000 are called in all, as in GOOD.
    varied = dataclasses.replace(GOOD, n_other_called=(30, 0, 1, 15, 0, 1, 5, 0, 2, 0))
    rng = np.random.default_rng(1)
    blanks = rng.binomial(1080, 1 - rng.choice(varied.table[:, 1], 100_000)) / 10.80
    assert limit_of_blank(1080, model=varied) == pytest.approx(np.quantile(blanks, 0.95), abs=0.15)
    assert limit_of_blank(1080, model=varied) > 1.5 * limit_of_blank(1080, model=GOOD) > 0


def test_at_the_limit_of_blank_the_interval_begins_at_zero_and_above_it_the_status_ends():
    at = round(limit_of_blank(1080, model=GOOD) * 10.80)
    counts = [at // 12 + (i < at % 12) for i in range(12)]
    below = score_counts(counts, [90] * 12, model=GOOD)
    assert (below.status, below.hs_score_low) == ("at_or_below_limit_of_blank", 0.0)
    counts[-1] += 1
    assert score_counts(counts, [90] * 12, model=GOOD).status == "ok"


def width(spherocytes, countable, model=None):
    score = score_counts(spherocytes, countable, model=model)
    return score.hs_score_high - score.hs_score_low


def test_spread_between_fields_and_between_slides_widens_the_interval():
    even, uneven = [11, 12] * 6, [0, 1, 30, 5, 2, 25, 3, 20, 1, 22, 8, 21]
    assert sum(even) == sum(uneven)
    assert width(uneven, [90] * 12) > 1.5 * width(even, [90] * 12)
    same_sum = dataclasses.replace(GOOD, n_other_called=(30, 0, 1, 15, 0, 1, 5, 0, 2, 0))
    assert (
        width(even, [90] * 12, same_sum)
        > 1.3 * width(even, [90] * 12, GOOD)
        > width(even, [90] * 12)
    )
    # With few fields the default design effect applies, and t has few degrees of freedom.
    assert width([110] * 3, [1000] * 3) > 2 * width([11] * 30, [100] * 30)


def test_below_five_fields_the_default_correlation_replaces_the_estimate():
    for s in ([25, 25, 25, 25], [0, 100, 0, 0]):
        assert interval.summarise(
            np.array(s, float), np.full(4, 100.0)
        ).design_effect == pytest.approx(1 + 99 * 0.05)


def test_a_classifier_no_better_than_chance_gives_the_raw_score_and_a_wide_interval():
    chance = ClassifierRates((50,) * 6, (10,) * 6, (500,) * 6, (100,) * 6)
    score = score_counts([20] * 12, [100] * 12, model=chance)
    assert score.hs_score == score.raw_percent == 20.0
    assert width([20] * 12, [100] * 12, chance) > 90


@pytest.mark.parametrize(
    ("percent", "grade"),
    [(0, ""), (1, "below 2+"), (5, "below 2+ or 2+"), (11, "2+"), (20, "2+ or 3+"), (40, "3+")],
)
def test_grade_of_icsh2015(percent, grade):
    score = score_counts([10 * percent] * 12, [1000] * 12)
    assert (score.grade, score.grade_scheme) == (grade, "icsh2015")


def test_a_laboratorys_own_scheme(tmp_path):
    (tmp_path / "ours.yaml").write_text("name: ours\ngrades: {none: 0, 1+: 2, 2+: 8}\n")
    score = score_counts([40] * 12, [1000] * 12, grade_scheme=tmp_path / "ours.yaml")
    assert (score.grade, score.grade_scheme) == ("1+", "ours")
    assert (
        score_counts(
            [90] * 12, [1000] * 12, grade_scheme=GradeScheme("x", ("a", "b"), (0, 2))
        ).grade
        == "b"
    )


def test_the_number_of_further_fields_suffices_and_one_less_does_not():
    for spherocytes, countable in (
        ([12] * 4, [100] * 4),
        ([5] * 5, [30] * 5),
        ([2, 20, 30, 8, 40, 1], [60] * 6),
    ):
        k = more_fields_needed(spherocytes, countable, model=GOOD)
        n_fields, n = len(countable) + k, sum(countable) * (1 + k / len(countable))
        summary = interval.summarise(np.array(spherocytes, float), np.array(countable, float))
        spans = [
            np.subtract(
                *interval.corrected_percent(summary.with_more_fields(j), GOOD.table)[2:0:-1]
            )
            for j in (k, k - 1)
        ]
        assert n_fields >= 10 and n >= 1000 and spans[0] <= 10
        assert n_fields == 10 or n - countable[0] < 1000 or spans[1] > 10
    assert more_fields_needed([11] * 12, [90] * 12, model=GOOD) == 0
    assert more_fields_needed([], [], model=GOOD) == 10
    wild = ClassifierRates((50,) * 6, (45, 10, 30, 50, 20, 40), (500,) * 6, (5, 150, 40, 2, 80, 20))
    assert more_fields_needed([30] * 12, [90] * 12, model=wild) is None


def test_the_text_of_a_score_has_its_figures():
    text = str(score_counts([11] * 12, [90] * 12, model=GOOD, patient_id="p1", n_fields_rejected=2))
    for part in ("p1: ok", "13.0 %", "132 of 1080", "12.2 %", "12 fields (2 rejected)", "; good"):
        assert part in text


@pytest.mark.parametrize(
    ("size_hw", "diameters_px", "share", "counted"),
    [
        ((480, 640), (33.7, 39.1), 0.05, 0.051),
        ((480, 640), (33.7, 39.1), 0.20, 0.203),
        ((480, 640), (33.7, 39.1), 0.50, 0.505),
        ((1800, 2400), (225, 277), 0.05, 0.053),
        ((1800, 2400), (225, 277), 0.20, 0.209),
        ((1800, 2400), (225, 277), 0.50, 0.515),
    ],
)
def test_the_border_favours_small_cells_as_much_as_the_module_states(
    size_hw, diameters_px, share, counted
):
    """Cells at random places, as wide as those of Chula and Dataset A, cut by a field's border."""
    rng, n = np.random.default_rng(5), 2_000_000
    spherocyte = rng.random(n) < share
    diameter = np.where(spherocyte, *diameters_px) * rng.normal(1, 0.07, n)
    center = rng.uniform(-100, np.add(size_hw, 100), (n, 2))
    box = np.concatenate([center - diameter[:, None] / 2, center + diameter[:, None] / 2], axis=1)
    whole = ~touches_border(box, size_hw)
    assert spherocyte[whole].mean() == pytest.approx(counted, abs=0.001)
    # The area in which the centre of a whole cell may lie.
    room = [np.prod(np.subtract(size_hw, 2 + d)) for d in diameters_px]
    assert counted == pytest.approx(
        share * room[0] / (share * room[0] + (1 - share) * room[1]), abs=0.001
    )


def test_intervals_hold_the_label_share_of_real_left_out_runs(bundled_model, capsys):
    """The label share has an error of its own: a person who labels a cell twice may differ."""
    model = read_json(bundled_model / "model.json")
    for whole_runs in (True, False):
        patients = pseudo_patients(model, whole_runs=whole_runs)
        held, within = (
            np.mean([getattr(p, name) for p in patients]) for name in ("held", "held_within_slips")
        )
        with capsys.disabled():
            print(f"\n{len(patients)} pseudo-patients: {held:.2f} hold the label share")
            print(f"{within:.2f} hold it within the errors of labelling")
        assert len(patients) >= 5
        assert within >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("slides", [coverage.bundled_slides, coverage.well_behaved_slides])
def test_intervals_hold_the_truth_of_simulated_patients(slides, capsys):
    """The default detects a broken interval; SPHERODETECT_PATIENTS=1000 gives the full figures.

    The full figures take 7 minutes of one core.
    """
    patients, rng = int(os.environ.get("SPHERODETECT_PATIENTS", "100")), np.random.default_rng(2024)
    result = coverage.simulate(list(slides(rng, patients)), rng=rng)
    with capsys.disabled():
        print(f"\n{result}")
    figures = result.figures()
    # The minimum over 256 conditions lies about 3.5 standard errors below the mean.
    noise = 3.5 * np.sqrt(0.1 * 0.9 / patients) if patients < 1000 else 0
    assert 0.93 <= figures["main, mean coverage"] <= 0.98
    assert figures["main, least coverage"] >= 0.90 - noise
    assert figures["other above 0, least coverage"] >= 0.85 - noise
    assert figures["at 0, interval begins at 0"] >= 0.95
    assert figures["main, width of the oracle's"] <= 1.5
    assert figures["main, mean coverage"] > figures["main, mean coverage uncorrected"] + 0.1
