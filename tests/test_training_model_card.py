"""card: says what the provenance says, of whichever data the model was taught by."""

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
    taught: str = "tfrecords/mgg-train-*.tfrecord",
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
    block = {"called_of_true": 5, "called_of_others": 1}
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
                {"name": "q", "true_spherocytes": 7, "true_others": 90, **block},
                {"name": "silent", "true_spherocytes": 0, "true_others": 0, **block},
            ],
        },
        "provenance": {
            "data": {"mgg": {"splits": splits, "forced": False, "stain": stain}},
            "params": {"task": {"train_data": {"input_path": taught}}},
        },
    }


def test_it_says_which_stain_the_model_saw_and_that_it_never_saw_mgg_only_where_that_is_so(text_of):
    assert "- Stains seen: May-Grünwald-Giemsa." in text_of()
    assert "It never saw May-Grünwald-Giemsa stain. Stains seen: Leishman." in text_of(
        stain="Leishman"
    )


def test_it_counts_patients_where_they_are_known_and_says_so_where_they_are_not(text_of):
    assert "- mgg: spherocytes of 3 patients." in text_of()
    assert "no patient ids exist" in text_of(patients=0)
    assert "All real spherocytes come from one data set, mgg." in text_of()
    assert "All real" not in text_of(stain="drawn")


def test_what_taught_is_training_data_and_the_rest_evaluation_data(text_of):
    def rows(text: str, heading: str) -> str:
        return text.partition(f"## {heading}\n")[2].partition("\n##")[0].strip()

    assert rows(text_of(), "Training data") == "- mgg: 12 fields; 90 rbc, 40 spherocyte"
    assert rows(text_of(), "Evaluation data") == "- mgg: 5 fields; 90 rbc, 7 spherocyte"
    everything = text_of(taught="mgg-*.tfrecord")
    assert rows(everything, "Training data") == "- mgg: 17 fields; 180 rbc, 47 spherocyte"
    assert rows(everything, "Evaluation data").startswith("- none")


def test_blocks_that_say_nothing_have_no_row(text_of):
    text = text_of()
    assert "| q | 7 | 5 | 90 | 1 |" in text and "silent" not in text
