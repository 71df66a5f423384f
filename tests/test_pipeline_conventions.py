"""A patient's convention: which one the fields give, and the rates and status that follow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spherodetect.cells import UNSEEN, Cells
from spherodetect.detect.detector import identity_of, with_convention
from spherodetect.detect.model import Model
from spherodetect.detect.model_folder import ErrorRates, ModelCard, Thresholds
from spherodetect.detect.provenance import Provenance
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.pipeline.notes import convention_notes
from spherodetect.pipeline.patient import convention_of, score_patient
from spherodetect.quality import FieldQuality


def blocks(called_of_others: int) -> list[dict[str, int | str]]:
    return [
        {
            "name": f"block {k}",
            "true_spherocytes": 100,
            "called_of_true": 90,
            "true_others": 900,
            "called_of_others": called_of_others,
        }
        for k in range(8)
    ]


@pytest.fixture
def model() -> Model:
    card = ModelCard(
        name="a model",
        class_names=("rbc", "spherocyte", "wbc", "platelet"),
        rbc_px=32.0,
        thresholds=Thresholds(),
        rates=ErrorRates(tuple(blocks(9)), 3),
        stains_seen=("drawn",),
        provenance=Provenance(),
        checksums={},
        conventions={
            "rows": {"north": {}, "south": {}, UNSEEN: {}},
            "rates": {
                "north": blocks(9),
                "south": blocks(2),
                UNSEEN: blocks(9)[:4] + blocks(200)[:4],
            },
            "healthy": {"south": blocks(0)},
            "look_threshold": 5.0,
        },
    )
    return Model(Path("model"), card, SimpleNamespace())


def field(convention: str, *, countable: int = 90, spherocytes: int = 9) -> Examined:
    cells = Cells.from_labels(
        np.tile([10.0, 10.0, 40.0, 40.0], (countable, 1)),
        np.where(np.arange(countable) < spherocytes, 2, 1),
        [np.ones((30, 30), bool)] * countable,
        image_size_hw=(480, 640),
    )
    cells = dataclasses.replace(
        cells, convention=convention, look_distance=2.0, countable=np.ones(countable, bool)
    )
    figures = {f.name: 1.0 for f in dataclasses.fields(FieldQuality)}
    figures |= {"accepted": True, "reason": "", "n_cells": countable}
    return Examined("p1", cells, FieldQuality(**figures))


def test_a_patient_has_the_convention_of_most_countable_cells():
    fields = [field("north", countable=30), field("north", countable=30), field("south")]
    assert convention_of(fields) == "south"
    assert convention_of([]) == ""


def test_a_score_rests_on_the_rates_of_its_convention(model):
    scores = {name: score_patient([field(name)] * 12, model) for name in ("north", "south", UNSEEN)}
    assert scores["south"].hs_score > scores["north"].hs_score, "fewer false calls are taken off"
    assert scores["north"].status == scores["south"].status == "ok"
    assert scores[UNSEEN].status == "unseen_stain"
    assert scores[UNSEEN].grade == ""
    width = {name: s.hs_score_high - s.hs_score_low for name, s in scores.items()}
    assert width[UNSEEN] > width["north"]
    assert scores[UNSEEN].hs_score == scores[UNSEEN].raw_percent


def test_the_limit_of_blank_rests_on_healthy_blood_where_it_is_known(model):
    few = [field("south", spherocytes=1)] * 12
    assert score_patient(few, model).status == "ok"
    same = [field("north", spherocytes=1)] * 12
    assert score_patient(same, model).status == "at_or_below_limit_of_blank"


def test_a_stated_convention_has_its_rates_and_an_identity_of_its_own(model):
    stated = with_convention(model, "south")
    assert stated.convention == "south"
    assert stated.rates.n_other_called == (2,) * 8
    assert identity_of(stated) != identity_of(model)
    assert with_convention(model, None) is model
    assert convention_notes(stated, [field("south")]) == [
        "Cells were called spherocytes by the stated convention: south."
    ]


def test_an_unknown_convention_names_the_known_ones(model):
    with pytest.raises(SpherodetectError, match=r"taught \('north', 'south'\), got 'east'"):
        with_convention(model, "east")
    with pytest.raises(SpherodetectError, match="expected a model folder"):
        with_convention(SimpleNamespace(detect=None), "north")


def test_a_page_says_which_convention_was_chosen_and_how_far_the_look_lies(model):
    (note,) = convention_notes(model, [field("north"), field("north"), field(UNSEEN)])
    assert "north in 2 fields, unseen in 1 field" in note
    assert "distance of the fields' look 2.0; from 5.0 on" in note
    assert convention_notes(SimpleNamespace(), [field("north")]) == []


def test_model_json_keeps_conventions(model):
    again = ModelCard.from_json(model.card.to_json())
    assert again.conventions == model.card.conventions
    assert again.convention_names == ("north", "south")
    assert again.rates_of("nobody's").n_other_called == (9,) * 8
    assert again.healthy_rates_of("north") is None


def test_a_review_does_the_run_again_with_its_convention(tmp_path):
    from spherodetect.fields.field import FieldList
    from spherodetect.pipeline.review_draw import reviewed_run
    from spherodetect.pipeline.run_file import RunSettings, save_run
    from spherodetect.score.grades import ICSH2015

    (tmp_path / ".spherodetect").mkdir()
    settings = RunSettings(FieldList(()), {}, None, False, None, ICSH2015, None, False, "dataset-a")
    save_run(tmp_path, settings)
    again, detector = reviewed_run(tmp_path, None)
    assert again.convention == detector.convention == "dataset-a"
