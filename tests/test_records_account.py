"""account: every label that is read is written or dropped, once, by split, class and patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.readers.ledger import LabelSet, Unread
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import FieldInstances, Instance
from spherodetect.records.account import Account, Part, file_digest
from spherodetect.records.convert import Converted

RECIPE = Recipe(
    "mine", "points", Path("."), red_cells=frozenset({"cell"}), unknown=frozenset({"?"})
)
HW = (40, 60)


def field(
    file: str, *names: str, patient: str | None = None, path: Path | None = Path("x.png")
) -> LabelledField:
    labels = tuple(Annotation(str(k), name, point_yx=(5.0, 5.0)) for k, name in enumerate(names))
    return LabelledField(file, path, HW, labels, source_id=file, patient_id=patient)


def instance(name: str, number: int) -> Instance:
    meaning = RECIPE.meaning(name) if name else None
    bits = (
        31
        if meaning is None or not meaning.red_cell
        else 6
        if not meaning.class_id
        else 1 << meaning.class_id
    )
    label = str(number) if name else ""
    return Instance(
        np.array([0, 0, 9, 9.0]), None, bits, meaning.class_id if meaning else 0, name, label
    )


def converted(
    labelled: LabelledField, *unlabelled: str, dropped: int = 0, problem: str = ""
) -> Converted:
    """All labels but the last few become instances."""
    kept = labelled.annotations[: len(labelled.annotations) - dropped]
    lost = tuple(
        Unread(labelled.file, a.annotation_id, "outside-image")
        for a in labelled.annotations[len(kept) :]
    )
    cells = tuple(instance(a.name, k) for k, a in enumerate(kept)) + tuple(
        instance("", 0) for _ in unlabelled
    )
    found = FieldInstances(cells, 20.0, lost, Counter({"box-to-mask": len(kept)}), clipped=1)
    return Converted(labelled, None if problem else b"png", HW, found, problem)


def part(split: str, *fields: Converted) -> Part:
    added = Part(split)
    for one in fields:
        added.add(one, RECIPE)
    return added


def test_a_part_adds_up():
    a = field("a.png", "rbc", "spherocyte", "cell", "?", "rbc", patient="p1")
    b = field("b.png", "rbc", patient="p2")
    bad = Converted(
        field("c.png", "rbc"),
        None,
        HW,
        FieldInstances((), 20.0, (Unread("c.png", "0", "bad-image"),)),
        "no",
    )
    added = part("train", converted(a, "x", "y", dropped=1), converted(b), bad)
    assert (added.images, added.written, added.clipped, added.unlabelled) == (2, 5, 2, 2)
    assert added.repaired == {"box-to-mask": 5}
    assert added.classes == {
        "p1": {"rbc": 1, "spherocyte": 1, "red cell of unknown kind": 1, "unknown": 1},
        "p2": {"rbc": 1},
    }
    assert added.dropped == [
        {"file": "a.png", "annotation_id": "4", "reason": "outside-image"},
        {"file": "c.png", "annotation_id": "0", "reason": "bad-image"},
    ]
    assert added.problems == ["no"]


@pytest.fixture
def labels(tmp_path) -> LabelSet:
    path = tmp_path / "x.png"
    path.write_bytes(b"image")
    fields = (
        field("a.png", "rbc", "spherocyte", patient="p1", path=path),
        field("b.png", "rbc", patient="p1", path=path),
        field("copy.png", "rbc", "rbc", path=path),
        field("lost.png", "rbc", path=None),
    )
    return LabelSet(fields, (), (Unread("a.txt", "9", "malformed"),))


def test_the_manifest_accounts_for_every_label(labels):
    a, b, *_ = labels.fields
    account = Account(RECIPE, labels, {"a.png": "train", "b.png": "val", "lost.png": "train"})
    account.add(part("train", converted(a, "x")))
    account.add(part("val", converted(b)))
    finding = Finding(
        "malformed", "error", "a.txt", None, 1, ("9",), "expected x y class", "mend it"
    )
    manifest = account.manifest([finding], forced=True)
    assert manifest["annotations"] == {
        "read": 7,
        "written": 3,
        "clipped": 2,
        "repaired": {"box-to-mask": 3},
        "dropped": {"augmented-copy": 2, "labels-without-image": 1, "malformed": 1},
    }
    assert (
        len(manifest["dropped_items"]) == 4
        and manifest["forced"]
        and manifest["unlabelled_cells"] == 1
    )
    assert manifest["splits"]["train"] == {
        "images": 1,
        "patients": ["p1"],
        "sources": 2,
        "fields": [hashlib.sha256(b"image").hexdigest()[:12]],
        "classes": {"rbc": 1, "spherocyte": 1},
        "classes_by_patient": {"p1": {"rbc": 1, "spherocyte": 1}},
        "unlabelled_cells": 1,
    }
    assert manifest["splits"]["val"]["classes"] == {"rbc": 1}
    assert manifest["findings"][0]["code"] == "malformed"


def test_a_label_that_is_nowhere_is_an_error_of_ours(labels):
    account = Account(RECIPE, labels, {"a.png": "train", "b.png": "val"})
    account.add(part("train", converted(labels.fields[0])))
    with pytest.raises(AssertionError, match=r"7 .*2 written, 4 dropped"):
        account.manifest([], forced=False)


def test_a_file_is_known_by_its_content(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 12
