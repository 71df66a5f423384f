"""leaks: whether a split was held out, by the provenance in model.json."""

from __future__ import annotations

import json

import pytest

from spherodetect.detect.provenance import Provenance
from spherodetect.evaluation.leaks import HELD_OUT, NOT_KNOWN, TRAINED_ON, check_held_out
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


def provenance(
    train: object, *, validation: object = "", initial: dict | None = None, **data: dict
) -> Provenance:
    params = {
        "task": {"train_data": {"input_path": train}, "validation_data": {"input_path": validation}}
    }
    content = {"data": data, "params": params} | ({"initial": initial} if initial else {})
    return Provenance(json.loads(json.dumps(content)))


TRAIN, ALL = "records/chula/chula-train-*.tfrecord", "records/chula/chula-*.tfrecord"


@pytest.mark.parametrize("train", [TRAIN, [TRAIN], {"chula": TRAIN}])
def test_a_split_outside_of_the_training_records_is_held_out(train):
    assert check_held_out(truth(), provenance(train, chula=manifest())).status == HELD_OUT
    # The manifest lists the validation records too. They calibrated the model.
    calibrated = check_held_out(
        truth(), provenance(train, validation="x/chula-val-*.tfrecord", chula=manifest())
    )
    assert (calibrated.status, calibrated.calibrated) == (HELD_OUT, True)
    assert not check_held_out(truth(), provenance(train, chula=manifest())).calibrated


def test_a_model_that_was_trained_on_all_splits_has_a_leak():
    found = check_held_out(truth(), provenance({"chula": ALL}, chula=manifest()))
    assert found.status == TRAINED_ON
    assert found.reason == "the model was trained on 3 of the 3 images of split 'val'"


def test_fields_are_recognised_by_their_digests_under_another_name():
    other = truth(name="my_own_recipe", split="test", digests=frozenset({"t2", "x"}), n_fields=2)
    found = check_held_out(other, provenance(TRAIN, chula=manifest()))
    assert (found.status, found.reason) == (
        TRAINED_ON,
        "the model was trained on 1 of the 2 images of split 'test'",
    )
    # The same name with other files is not a leak.
    same_name = truth(split="train", digests=frozenset({"x", "y"}))
    assert check_held_out(same_name, provenance(TRAIN, chula=manifest())).status == HELD_OUT


def test_records_are_recognised_by_their_checksums():
    records = truth(name="x", digests=frozenset(), checksums=frozenset({"sum-chula-train"}))
    found = check_held_out(records, provenance(TRAIN, chula=manifest(digests=False)))
    assert (found.status, found.reason) == (
        TRAINED_ON,
        "the model was trained on the records of split 'val'",
    )
    validation = truth(digests=frozenset(), checksums=frozenset({"sum-chula-val"}))
    assert (
        check_held_out(validation, provenance(TRAIN, chula=manifest(digests=False))).status
        == HELD_OUT
    )


def test_other_fields_of_the_same_patients_are_a_leak():
    known = manifest(train=["patient_01", "patient_02"])
    found = check_held_out(
        truth(patients=frozenset({"patient_02", "patient_09"})), provenance(TRAIN, chula=known)
    )
    assert found.status == TRAINED_ON
    assert "other fields of 1 of its patients ('patient_02')" in found.reason
    # patient_02 of another data set is another person.
    elsewhere = truth(name="other", patients=frozenset({"patient_02"}))
    assert check_held_out(elsewhere, provenance(TRAIN, chula=known)).status == HELD_OUT


def test_a_model_without_digests_is_judged_by_names():
    old = manifest(digests=False)
    assert check_held_out(truth(), provenance({"chula": TRAIN}, chula=old)).status == HELD_OUT
    leaky = check_held_out(truth(), provenance({"chula": ALL}, chula=old))
    assert (leaky.status, leaky.reason) == (
        TRAINED_ON,
        "the model was trained on split 'val' of 'chula'",
    )
    unknown = check_held_out(truth(name="chula_b"), provenance({"chula": TRAIN}, chula=old))
    assert unknown.status == NOT_KNOWN
    assert "which fields of 'chula-train-*.tfrecord'" in unknown.reason


def test_records_without_a_manifest_are_judged_by_names():
    pattern = {"chula": "records/chula_b/chula_b-train-*.tfrecord"}
    assert check_held_out(truth(), provenance(pattern)).status == NOT_KNOWN
    assert check_held_out(truth(name="chula_b"), provenance(pattern)).status == HELD_OUT
    assert (
        check_held_out(truth(name="chula_b", split="train"), provenance(pattern)).status
        == TRAINED_ON
    )


@pytest.mark.parametrize("empty", [Provenance(), Provenance({"params": None}), provenance([])])
def test_without_training_records_the_status_is_not_known(empty):
    assert check_held_out(truth(), empty).status == NOT_KNOWN


def test_the_data_of_the_initial_checkpoint_count_as_training_data():
    first = provenance({"chula": ALL}, chula=manifest()).content
    second = provenance(
        {"synthetic": "s/synthetic-train-*.tfrecord"},
        synthetic=manifest("synthetic"),
        initial=first,
    )
    assert check_held_out(truth(), second).status == TRAINED_ON


def test_the_fields_of_the_second_look_count_as_training_data():
    model = provenance({"chula": "r/chula-train-*.tfrecord"}, chula=manifest())
    assert check_held_out(truth(), model).status == HELD_OUT
    fold = provenance({"chula": "r/chula-val-*.tfrecord"}, chula=manifest()).content
    with_fold = Provenance({**model.content, "second_look": [fold]})
    assert check_held_out(truth(), with_fold).status == TRAINED_ON
