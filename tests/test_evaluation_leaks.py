"""leaks: a model is held to what its model.json says it was trained on."""

from __future__ import annotations

import json

import pytest

from spherodetect.evaluation.leaks import HELD_OUT, NOT_KNOWN, TRAINED_ON, descent
from spherodetect.evaluation.truth import Truth


def truth(**changes: object) -> Truth:
    values = {
        "name": "chula",
        "split": "val",
        "n_fields": 3,
        "digests": frozenset({"v1", "v2", "v3"}),
        "patients": frozenset(),
        "read": lambda only: iter(()),
    }
    return Truth(**(values | changes))


def manifest(name: str = "chula", *, digests: bool = True, **patients: list[str]) -> dict:
    parts = {"train": ["t1", "t2"], "val": ["v1", "v2", "v3"]}
    return {
        "checksums": {
            f"{name}-{split}-00000-of-00001.tfrecord": f"sum-{name}-{split}" for split in parts
        },
        "splits": {
            split: {
                "images": len(fields),
                "patients": patients.get(split, []),
                "fields": fields if digests else [],
            }
            for split, fields in parts.items()
        },
    }


def card(
    train: object, *, validation: object = "", initial: dict | None = None, **data: dict
) -> dict:
    params = {
        "task": {"train_data": {"input_path": train}, "validation_data": {"input_path": validation}}
    }
    provenance = {"data": data, "params": params} | ({"initial": initial} if initial else {})
    return json.loads(json.dumps({"provenance": provenance}))


TRAIN, ALL = "records/chula/chula-train-*.tfrecord", "records/chula/chula-*.tfrecord"


@pytest.mark.parametrize("train", [TRAIN, [TRAIN], {"chula": TRAIN}])
def test_a_split_that_did_not_teach_is_held_out(train):
    assert descent(truth(), card(train, chula=manifest())).status == HELD_OUT
    # The validation records are in the same manifest, and were not trained on.
    calibrated = descent(
        truth(), card(train, validation="x/chula-val-*.tfrecord", chula=manifest())
    )
    assert (calibrated.status, calibrated.calibrated) == (HELD_OUT, True)
    assert not descent(truth(), card(train, chula=manifest())).calibrated


def test_a_model_that_was_trained_on_all_is_found_out():
    found = descent(truth(), card({"chula": ALL}, chula=manifest()))
    assert found.status == TRAINED_ON
    assert found.reason == "the model was trained on 3 of the 3 images of split 'val'"


def test_fields_are_known_under_whatever_name_they_come():
    other = truth(name="my_own_recipe", split="test", digests=frozenset({"t2", "x"}), n_fields=2)
    found = descent(other, card(TRAIN, chula=manifest()))
    assert (found.status, found.reason) == (
        TRAINED_ON,
        "the model was trained on 1 of the 2 images of split 'test'",
    )
    # The other way round: the name says so, but the files are others.
    same_name = truth(split="train", digests=frozenset({"x", "y"}))
    assert descent(same_name, card(TRAIN, chula=manifest())).status == HELD_OUT


def test_records_are_known_by_their_checksums():
    records = truth(name="x", digests=frozenset(), checksums=frozenset({"sum-chula-train"}))
    found = descent(records, card(TRAIN, chula=manifest(digests=False)))
    assert (found.status, found.reason) == (
        TRAINED_ON,
        "the model was trained on the records of split 'val'",
    )
    validation = truth(digests=frozenset(), checksums=frozenset({"sum-chula-val"}))
    assert descent(validation, card(TRAIN, chula=manifest(digests=False))).status == HELD_OUT


def test_other_fields_of_the_same_patients_leak_too():
    known = manifest(train=["patient_01", "patient_02"])
    found = descent(
        truth(patients=frozenset({"patient_02", "patient_09"})), card(TRAIN, chula=known)
    )
    assert found.status == TRAINED_ON
    assert "other fields of 1 of its patients ('patient_02')" in found.reason
    # Another data set's patient_02 is somebody else.
    elsewhere = truth(name="other", patients=frozenset({"patient_02"}))
    assert descent(elsewhere, card(TRAIN, chula=known)).status == HELD_OUT


def test_a_model_of_before_digests_is_judged_by_names():
    old = manifest(digests=False)
    assert descent(truth(), card({"chula": TRAIN}, chula=old)).status == HELD_OUT
    leaky = descent(truth(), card({"chula": ALL}, chula=old))
    assert (leaky.status, leaky.reason) == (
        TRAINED_ON,
        "the model was trained on split 'val' of 'chula'",
    )
    unknown = descent(truth(name="chula_b"), card({"chula": TRAIN}, chula=old))
    assert unknown.status == NOT_KNOWN
    assert "which fields of 'chula-train-*.tfrecord'" in unknown.reason


def test_records_without_a_manifest_are_known_by_name_alone():
    pattern = {"chula": "records/chula_b/chula_b-train-*.tfrecord"}
    assert descent(truth(), card(pattern)).status == NOT_KNOWN
    assert descent(truth(name="chula_b"), card(pattern)).status == HELD_OUT
    assert descent(truth(name="chula_b", split="train"), card(pattern)).status == TRAINED_ON


@pytest.mark.parametrize("empty", [{}, {"provenance": {}}, {"provenance": None}, card([])])
def test_nothing_said_is_nothing_known(empty):
    assert descent(truth(), empty).status == NOT_KNOWN


def test_weights_carry_what_they_were_trained_on():
    first = card({"chula": ALL}, chula=manifest())["provenance"]
    second = card(
        {"synthetic": "s/synthetic-train-*.tfrecord"},
        synthetic=manifest("synthetic"),
        initial=first,
    )
    assert descent(truth(), second).status == TRAINED_ON


def test_what_a_second_look_was_taught_by_is_held_out_no_longer():
    model = card({"chula": "r/chula-train-*.tfrecord"}, chula=manifest())
    assert descent(truth(), model).status == HELD_OUT
    fold = card({"chula": "r/chula-val-*.tfrecord"}, chula=manifest())["provenance"]
    model["provenance"]["second_look"] = [fold]
    assert descent(truth(), model).status == TRAINED_ON
