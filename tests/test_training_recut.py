"""recut: a model gets another cut of one convention, with the rates that belong to it."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest

from spherodetect.detect.model_folder import BUNDLED, read_card
from spherodetect.errors import SpherodetectError

pytestmark = pytest.mark.train
FIGURES = {"f1": 0.8, "n_cells": 100}
BLOCK = {
    "name": "1-20",
    "true_spherocytes": 20,
    "called_of_true": 19,
    "true_others": 80,
    "called_of_others": 2,
    "fine_classes": {},
}


@pytest.fixture(scope="module")
def recut():
    return import_module("spherodetect.training.recut")


def test_the_file_is_read_as_it_was_written(recut, tmp_path):
    one = recut.Recut(1.5, FIGURES, (BLOCK,), ("joint", "joint_b"))
    file = tmp_path / "recut.json"
    file.write_text(one.as_json())
    assert recut.Recut.load(file) == one


@pytest.mark.parametrize(
    "change",
    [
        {"odds": 0},
        {"odds": "many"},
        {"rates": 3},
        {"rates": ["1-20"]},
        {"figures": None},
        {"runs": []},
        None,
    ],
    ids=lambda change: str(change),
)
def test_another_file_is_refused_by_name(recut, tmp_path, change):
    good = {"odds": 1.5, "figures": FIGURES, "rates": [BLOCK], "runs": ["joint"]}
    file = tmp_path / "recut.json"
    file.write_text(json.dumps(good | change if change else [good]))
    with pytest.raises(SpherodetectError, match=r"recut\.json.*expected odds"):
        recut.Recut.load(file)


def test_the_cut_is_the_probability_at_the_odds_and_nothing_else_changes(recut):
    card = read_card(BUNDLED)
    one = recut.Recut(2.0, FIGURES, (BLOCK,), ("joint", "joint_b"))
    new = one.applied(card, "chula")
    p = new.thresholds.p_spherocyte
    odds = np.exp((np.log(p / (1 - p)) - card.thresholds.intercept) / card.thresholds.slope)
    assert odds == pytest.approx(2.0)
    before, after = dict(card.conventions), dict(new.conventions)
    assert after["rows"]["chula"]["cut"] == p
    assert after["rows"]["chula"]["weights"] == before["rows"]["chula"]["weights"]
    for name in ("dataset-a", "unseen"):
        assert after["rows"][name] == before["rows"][name]
        assert after["rates"][name] == before["rates"][name]
    assert after["looks"] == before["looks"] and after["healthy"] == before["healthy"]
    assert list(after["rates"]["chula"]) == list(new.rates.blocks) == [BLOCK]
    assert after["figures"]["chula"] == new.held_out_figures == FIGURES
    assert new.rates.folds == 2
    assert new.thresholds.slope == card.thresholds.slope
    assert read_card(BUNDLED).conventions["rows"]["chula"]["cut"] != p, "a copy was changed"


def test_a_model_without_the_convention_is_refused(recut):
    one = recut.Recut(2.0, FIGURES, (BLOCK,), ("joint",))
    with pytest.raises(SpherodetectError, match=r"expected a model with the convention north"):
        one.applied(read_card(BUNDLED), "north")
