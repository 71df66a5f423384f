"""calibrate: calibrated probabilities, cross-validation by run, and blocks with biased labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.evaluation.metrics import average_precision, expected_calibration_error
from spherodetect.score.rates import ClassifierRates
from spherodetect.training.calibrate import CUT, HeldOutCells, calibrate, platt, shortfall


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def held_out(
    *,
    n: int = 400,
    runs: int = 4,
    share: float = 0.2,
    separation: float = 4.0,
    labelled: float = 1.0,
    seed: int = 0,
) -> HeldOutCells:
    """Runs of two blocks, with n cells in each block; blocks are 1, 2, ... 10, ..."""
    rng = np.random.default_rng(seed)
    block = np.repeat([str(k) for k in range(1, 2 * runs + 1)], n)
    run = np.repeat([f"run{k}" for k in range(runs)], 2 * n)
    truth = rng.random(len(block)) < share
    log_odds = rng.normal(0, 1.5, len(block)) + separation * (truth - 0.5)
    fine = np.where(truth, "spherocyte", rng.choice(["normal", "burr cell"], len(block)))
    seen = {name: int(n / labelled) for name in np.unique(block)}
    field = np.char.add(block, [f"/{k % 20}" for k in range(len(block))])
    return HeldOutCells(
        log_odds, truth, block, run, rng.random(len(block)) < 0.9, fine, field, seen
    )


def test_platt_recovers_slope_and_intercept():
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, 40_000)
    slope, intercept = platt(x, rng.random(len(x)) < sigmoid(0.6 * x - 0.8))
    assert (slope, intercept) == (pytest.approx(0.6, abs=0.03), pytest.approx(-0.8, abs=0.05))


@pytest.mark.parametrize(
    "positive", [np.array([0, 0, 1, 1], bool), np.zeros(4, bool), np.ones(4, bool)]
)
def test_platt_is_finite_for_separable_labels(positive):
    assert np.isfinite(platt(np.array([-30.0, -2.0, 2.0, 30.0]), positive)).all()


def test_error_rates_need_two_groups_with_ten_labelled_spherocytes_each():
    cells = held_out(runs=2)
    assert shortfall(cells) == ""
    alone = replace(cells, run=np.full(len(cells.run), "patient_02"))
    n = int(cells.spherocyte.sum())
    for part in ("2 or more held-out groups", "got 1 such", f"{n} in 'patient_02'", "--folds"):
        assert part in shortfall(alone)
    # Nine of the second group are too few, however many the first one has.
    second = np.flatnonzero((cells.run == "run1") & cells.spherocyte)
    few = cells.spherocyte.copy()
    few[second[9:]] = False
    assert "9 in 'run1'" in shortfall(replace(cells, spherocyte=few))
    assert "and 0 other cells" in shortfall(replace(cells, spherocyte=np.ones(len(few), bool)))
    assert "none" in shortfall(None)


def test_probabilities_are_calibrated():
    cells = held_out(n=2000)
    cells = replace(cells, log_odds=3 * cells.log_odds + 4)  # an overconfident, biased network
    fitted = calibrate(cells)
    p = sigmoid(fitted.slope * cells.log_odds + fitted.intercept)
    assert expected_calibration_error(p, cells.spherocyte) < 0.01
    assert expected_calibration_error(sigmoid(cells.log_odds), cells.spherocyte) > 0.1
    assert fitted.figures["ece"] < 0.02
    assert fitted.figures["brier"] < 0.1


def test_the_threshold_does_not_depend_on_the_labels():
    cells = held_out()
    wrong = np.where(cells.run == "run1", ~cells.spherocyte, cells.spherocyte)
    before, after = calibrate(cells), calibrate(replace(cells, spherocyte=wrong))
    assert abs(before.slope - after.slope) > 0.1, "the probabilities depend on the labels"
    for fitted in (before, after):
        assert fitted.threshold == pytest.approx(sigmoid(fitted.slope * CUT + fitted.intercept))

    def called(fitted) -> list[int]:
        return [
            sum(kind["called"] for kind in block["fine_classes"].values()) for block in fitted.rates
        ]

    assert called(before) == called(after), "the called cells do not depend on the labels"


def test_joined_detectors_count_a_block_once():
    cells = held_out(runs=2)
    later = {block: f"{int(block) + 3}" for block in cells.n_countable}
    other = replace(
        cells,
        block=np.array([later[b] for b in cells.block], object),
        n_countable={later[b]: n for b, n in cells.n_countable.items()},
    )
    joined = HeldOutCells.join([cells, other])
    assert set(joined.block) == {str(k) for k in range(1, 8)}
    assert (joined.block == "4").sum() == 400
    np.testing.assert_array_equal(joined.log_odds[: len(cells.log_odds)], cells.log_odds)
    assert set(joined.n_countable) == set(joined.block)


def test_rates_count_the_countable_cells_of_each_block():
    cells = held_out(runs=6)
    rates = calibrate(cells).rates
    assert [r["name"] for r in rates] == [str(k) for k in range(1, 13)], "in natural order"
    for block in rates:
        here = (cells.block == block["name"]) & cells.countable
        assert block["true_spherocytes"] == (here & cells.spherocyte).sum()
        assert block["true_others"] == (here & ~cells.spherocyte).sum()
        assert 0 < block["called_of_true"] <= block["true_spherocytes"]
        assert block["called_of_others"] < 0.2 * block["true_others"]
        fine = block["fine_classes"]
        assert set(fine) == {"normal", "burr cell", "spherocyte"}
        assert sum(kind["n"] for kind in fine.values()) == here.sum()
        assert len(block["fields"]) == 20
        assert np.sum(block["fields"], axis=0).tolist() == [
            here.sum(),
            sum(kind["called"] for kind in fine.values()),
        ]
        assert (
            sum(kind["called"] for kind in fine.values())
            == block["called_of_true"] + block["called_of_others"]
        )
        assert block["labelled_share"] == pytest.approx(here.sum() / 400, abs=1e-3)
    assert ClassifierRates.from_model_json({"rates": {"blocks": rates}}).specificity > 0.9


@pytest.mark.parametrize(
    ("labelled", "share", "spherocytes_count", "others_count"),
    [
        (1.0, 0.3, True, True),
        (0.2, 0.3, True, False),
        (1.0, 0.8, True, False),
        (1.0, 0.04, False, True),
    ],
)
def test_a_class_of_a_block_counts_only_with_a_fair_sample(
    labelled, share, spherocytes_count, others_count
):
    cells = held_out(labelled=labelled, share=share, n=1000)
    for block in calibrate(cells).rates:
        assert (block["true_spherocytes"] > 0) == spherocytes_count
        assert (block["true_others"] > 0) == others_count
        assert block["called_of_true"] <= block["true_spherocytes"]
        assert block["called_of_others"] <= block["true_others"]


def test_spherocytes_in_one_run_only_are_no_error():
    cells = held_out()
    cells = replace(cells, spherocyte=cells.spherocyte & (cells.run == "run2"))
    fitted = calibrate(cells)
    assert np.isfinite([fitted.slope, fitted.intercept, fitted.threshold]).all()
    assert {r["name"] for r in fitted.rates if r["true_spherocytes"]} == {"5", "6"}


def test_average_precision_equals_scikit_learns():
    metrics = pytest.importorskip(
        "sklearn.metrics", reason="scikit-learn, of the extra [train], is not installed"
    )
    rng = np.random.default_rng(4)
    for n, share in ((10, 0.5), (500, 0.03), (2000, 0.4)):
        positive = rng.random(n) < share
        positive[0] = True
        score = rng.normal(size=n) + positive
        assert average_precision(score, positive) == pytest.approx(
            metrics.average_precision_score(positive, score)
        )


def test_average_precision_at_its_limits():
    positive = np.array([True, True, False, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), positive) == 1
    assert average_precision(np.array([1.0, 2, 3, 4]), positive) == pytest.approx(
        (1 / 3 + 2 / 4) / 2
    )
    assert average_precision(np.array([]), np.array([], bool)) == 0


def test_expected_calibration_error_in_closed_form():
    assert expected_calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == 0
    assert expected_calibration_error(np.ones(4), np.array([True, True, False, False])) == 0.5
    assert expected_calibration_error(
        np.array([0.05, 0.95]), np.array([True, True])
    ) == pytest.approx((0.95 + 0.05) / 2)
