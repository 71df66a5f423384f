"""Splits: what belongs together stays together, in proportion, the same at every run; leaks are
named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe, SplitRule
from spherodetect.labels.splits import assign_splits, block_of, file_number, leaks, spare_copies


def field(
    file: str,
    *,
    source: str | None = None,
    patient: str | None = None,
    split: str | None = None,
    names: Sequence[str] = ("rbc",),
) -> LabelledField:
    cells = tuple(Annotation(str(k), name, (0, 0, 9, 9)) for k, name in enumerate(names))
    return LabelledField(file, None, (9, 9), cells, source or file, patient, split)


def recipe(by: str, **rule: object) -> Recipe:
    return Recipe("mine", "coco", Path("."), split=SplitRule(by, **rule))


RUNS = recipe("number-run", val=((5, 8), (20, 21)), test=((30, 30),))


def test_runs_of_file_numbers():
    splits = assign_splits([field(f"images/{k}.jpg") for k in range(1, 31)], RUNS)
    assert [file_number(f) for f, s in splits.items() if s == "val"] == [5, 6, 7, 8, 20, 21]
    assert [file_number(f) for f, s in splits.items() if s == "test"] == [30]


def test_a_near_duplicate_follows_validation_and_validation_follows_test():
    fields = [field(f"{k}.jpg") for k in range(1, 31)]
    groups = [
        ("1.jpg", "5.jpg"),
        ("2.jpg", "3.jpg"),
        ("8.jpg", "9.jpg", "30.jpg"),
        ("4.jpg", "gone.jpg"),
    ]
    splits = assign_splits(fields, RUNS, duplicate_groups=groups)
    assert splits["1.jpg"] == splits["5.jpg"] == "val"
    assert splits["2.jpg"] == splits["3.jpg"] == splits["4.jpg"] == "train"
    assert splits["8.jpg"] == splits["9.jpg"] == splits["30.jpg"] == "test"
    assert leaks(fields, splits, duplicate_groups=groups) == []


def test_file_numbers():
    assert file_number("smear2/field_0117.jpg") == 117
    assert file_number("BloodImage_00007.jpg") == 7
    assert file_number("cell.jpg") is None
    with pytest.raises(BadLabelsError, match="number"):
        assign_splits([field("cell.jpg")], RUNS)


def test_by_patient():
    fields = [field(f"{p}_{k}.jpg", patient=p) for p in "abc" for k in range(3)]
    splits = assign_splits(fields, recipe("patient", val=("b",)))
    assert {f.patient_id for f in fields if splits[f.file] == "val"} == {"b"}
    assert leaks(fields, splits) == []


def test_a_patient_that_nobody_knows_is_an_error():
    with pytest.raises(BadLabelsError, match=r"'x\.jpg'.*patients:"):
        assign_splits([field("x.jpg")], recipe("patient", val_fraction=0.5))


def test_a_name_that_no_field_has_is_an_error():
    with pytest.raises(BadLabelsError, match=r"got 'd'.*it has 'a'"):
        assign_splits([field("x.jpg", patient="a")], recipe("patient", val=("d",)))


def test_copies_of_a_source_stay_together_even_against_the_export():
    fields = [
        field("train/a1.jpg", source="a", split="train"),
        field("valid/a2.jpg", source="a", split="val"),
    ]
    assert set(assign_splits(fields, recipe("export")).values()) == {"val"}
    as_exported = {f.file: f.split for f in fields}
    assert [(f.code, f.severity, f.count) for f in leaks(fields, as_exported)] == [
        ("source-in-two-splits", "error", 1)
    ]


def test_the_exports_own_split():
    fields = [field(f"{s}.jpg", split=s) for s in ("train", "val", "test", None)]
    assert list(assign_splits(fields, recipe("export")).values()) == [
        "train",
        "val",
        "test",
        "train",
    ]


def test_leaks_are_counted_and_named():
    fields = [
        field(f"{s}{p}.jpg", patient=f"patient_{p}", split=s)
        for s in ("train", "val")
        for p in (1, 2, 3)
    ]
    fields.append(field("train4.jpg", patient="patient_4", split="train"))
    splits = {f.file: f.split for f in fields}
    groups = [("train1.jpg", "val2.jpg"), ("train1.jpg", "train2.jpg")]
    patients, images = leaks(fields, splits, duplicate_groups=groups)
    assert (patients.code, patients.count) == ("patient-in-two-splits", 3)
    assert "'patient_1', 'patient_2', 'patient_3'" in patients.message
    assert (images.code, images.count) == ("near-duplicate-images", 2)


def test_validation_keeps_one_copy_of_a_source_and_training_all():
    fields = [field(f"{source}{k}.jpg", source=source) for source in "ab" for k in range(3)]
    splits = {f.file: {"a": "train", "b": "val"}[f.source_id] for f in fields}
    assert spare_copies(fields, splits) == {"b1.jpg", "b2.jpg"}


def random_fields(seed: int, n: int) -> list[LabelledField]:
    rng = np.random.default_rng(seed)
    names = [
        ["rbc"] * rng.integers(1, 40)
        + ["spherocyte"] * rng.integers(0, 9)
        + ["wbc"] * rng.integers(0, 2)
        for _ in range(n)
    ]
    return [field(f"{k}.jpg", source=str(k // 2), names=names[k]) for k in range(n)]


@pytest.mark.parametrize("seed", range(3))
def test_a_fraction_keeps_the_classes_in_proportion(seed):
    fields = random_fields(seed, 200)
    splits = assign_splits(fields, recipe("source", val_fraction=0.2))
    total = Counter(a.name for f in fields for a in f.annotations)
    val = Counter(a.name for f in fields if splits[f.file] == "val" for a in f.annotations)
    for name, count in total.items():
        assert val[name] / count == pytest.approx(0.2, abs=0.03)
    assert leaks(fields, splits) == []


def test_order_does_not_change_the_split():
    fields = random_fields(7, 60)
    rule = recipe("source", val_fraction=0.3)
    assert assign_splits(fields[::-1], rule) == assign_splits(fields, rule)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_sources_still_give_both_splits(n):
    splits = assign_splits(
        [field(f"{k}.jpg") for k in range(n)], recipe("source", val_fraction=0.1)
    )
    assert set(splits.values()) == {"train", "val"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_group_is_ever_torn(data):
    n = data.draw(st.integers(1, 20))
    label = st.integers(0, 5).map(str)
    fields = [
        field(
            f"{k}.jpg",
            source=data.draw(label),
            patient=data.draw(label),
            split=data.draw(st.sampled_from(["train", "val", "test"])),
        )
        for k in range(n)
    ]
    groups = data.draw(
        st.lists(st.lists(st.integers(0, n - 1).map("{}.jpg".format), max_size=4), max_size=4)
    )
    by = data.draw(st.sampled_from(["patient", "source", "export"]))
    rule = recipe(by) if by == "export" else recipe(by, val_fraction=0.3)
    splits = assign_splits(fields, rule, duplicate_groups=groups)
    assert set(splits) == {f.file for f in fields}
    found = {f.code for f in leaks(fields, splits, duplicate_groups=groups)}
    assert found <= (set() if by == "patient" else {"patient-in-two-splits"})


def test_a_block_is_twenty_numbers_or_the_patient():
    names = [
        "images/0.png",
        "images/1.jpg",
        "20.jpg",
        "images/21.jpg",
        "p1_0100.jpg",
        "nameless.jpg",
    ]
    assert [block_of(name) for name in names] == [
        "1-20",
        "1-20",
        "1-20",
        "21-40",
        "81-100",
        "nameless.jpg",
    ]
    assert block_of("images/21.jpg", "patient 7") == "patient 7"
