"""model_card: stains, patients, data and blocks as the provenance states them."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from spherodetect.detect.model_folder import MODEL_FORMAT, ModelCard, Thresholds

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def text_of() -> Any:
    module: ModuleType = import_module("spherodetect.training.model_card")
    return lambda **changes: module.model_card(ModelCard.from_json(card(**changes)))


def card(
    *,
    pattern: str = "tfrecords/mgg-train-*.tfrecord",
    stain: str = "May-Grünwald-Giemsa",
    patients: int = 3,
) -> Any:
    def part(images: int, spherocytes: int, names: list[str]) -> dict[str, Any]:
        return {
            "images": images,
            "classes": {"rbc": 90, "spherocyte": spherocytes},
            "patients": names,
        }

    splits = {
        "train": part(12, 40, [f"p{k}" for k in range(patients)]),
        "val": part(5, 7, ["q"] if patients else []),
    }
    counts = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")
    return {
        "format": MODEL_FORMAT,
        "name": "mine",
        "class_names": ["rbc", "spherocyte"],
        "rbc_px": 32.0,
        "thresholds": asdict(Thresholds()),
        "stains_seen": [stain],
        "held_out_figures": {"f1": 0.9, "n_cells": 97},
        "rates": {
            "folds": 1,
            "blocks": [
                {"name": "q", **dict(zip(counts, (7, 5, 90, 1), strict=True))},
                {"name": "silent", **dict.fromkeys(counts, 0)},
            ],
        },
        "provenance": {
            "data": {"mgg": {"splits": splits, "forced": False, "stain": stain}},
            "params": {"task": {"train_data": {"input_path": pattern}}},
        },
    }


def test_it_names_the_stains_and_warns_of_missing_mgg(text_of):
    never = "never saw May-Grünwald-Giemsa"
    assert "seen: May-Grünwald-Giemsa." in text_of() and never not in text_of()
    other = text_of(stain="Leishman")
    assert "seen: Leishman." in other and never in other
    assert never not in text_of(stain="not stated")


def test_it_counts_patients_where_they_are_known(text_of):
    assert "mgg: spherocytes of 3 patients" in text_of()
    assert "mgg: no patient ids" in text_of(patients=0)
    assert "one data set, mgg." in text_of()
    assert "one data set" not in text_of(stain="drawn")


def test_training_splits_are_training_data_and_the_others_evaluation_data(text_of):
    def rows(text: str, heading: str) -> str:
        return text.partition(f"## {heading}\n")[2].partition("\n##")[0].strip()

    assert rows(text_of(), "Training data") == "- mgg: 12 fields; 90 rbc, 40 spherocyte"
    assert rows(text_of(), "Evaluation data") == "- mgg: 5 fields; 90 rbc, 7 spherocyte"
    everything = text_of(pattern="mgg-*.tfrecord")
    assert rows(everything, "Training data") == "- mgg: 17 fields; 180 rbc, 47 spherocyte"
    assert rows(everything, "Evaluation data").startswith("- none")


def test_blocks_without_used_cells_have_no_row(text_of):
    text = text_of()
    assert "| q | 7 | 5 | 90 | 1 |" in text and "silent" not in text


def test_a_tuned_model_says_whose_figures_it_has():
    model_card = import_module("spherodetect.training.model_card").model_card
    content = card()
    before = {"data": content["provenance"]["data"], "params": content["provenance"]["params"]}
    content["provenance"] |= {"checkpoint": "ckpt-600", "initial": before}
    assert "tuned" not in model_card(ModelCard.from_json(content))
    content["provenance"]["tuned_from"] = {"name": "earlier", "checksums": {}}
    text = model_card(ModelCard.from_json(content))
    assert "tuned from earlier, which was trained on mgg" in text
    assert "scale of earlier" not in text
    content["thresholds"]["spherocyte_prior"] = 1.5
    assert "scale of earlier" in model_card(ModelCard.from_json(content))
    content["provenance"]["judged_by"] = {"runs": ["a", "b"], "odds": 1.5}
    text = model_card(ModelCard.from_json(content))
    assert "2 other trainings, which held them out (a, b)" in text and "odds of 1.5." in text
    assert "trained on mgg" in text and "are those of earlier" not in text
