"""The account of a reading, and the headers of images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.readers.files import header_size_hw, listed, read_header
from spherodetect.labels.readers.ledger import Ledger


def field(file: str, *ids: str) -> LabelledField:
    return LabelledField(
        file, None, (9, 9), tuple(Annotation(i, "rbc", (0, 0, 1, 1)) for i in ids), file
    )


def test_equal_notes_become_one_finding_that_counts_them():
    ledger = Ledger()
    for number in "123":
        ledger.malformed("a.json", [number], "wrong", split="train")
    ledger.malformed("b.json", ["1"], "wrong", split="train")
    labels = ledger.close()
    assert [(f.file, f.count, f.annotation_ids) for f in labels.findings] == [
        ("a.json", 3, ("1", "2", "3")),
        ("b.json", 1, ("1",)),
    ]
    assert labels.n_read == len(labels.unread) == 4


def test_fields_come_in_natural_order_and_each_file_once():
    ledger = Ledger()
    for name, ids in (("10.jpg", "a"), ("9.jpg", "b"), ("10.jpg", "c")):
        ledger.add(field(name, ids), label_file="x.json")
    labels = ledger.close()
    assert [f.file for f in labels.fields] == ["9.jpg", "10.jpg"]
    assert [u.annotation_id for u in labels.unread] == ["c"]
    assert labels.n_read == 3


def test_a_message_names_the_first_few_of_many():
    assert listed(["a\n", 2], most=2) == "'a\\n', '2'"
    assert listed(range(20), most=2) == "'0', '1' and 18 more"


@pytest.mark.parametrize(
    ("orientation", "size_hw"), [(None, (30, 40)), (1, (30, 40)), (3, (30, 40)), (6, (40, 30))]
)
def test_an_images_size_is_its_size_upright(tmp_path, orientation, size_hw):
    image = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg") == (size_hw, orientation or 1)


def test_what_is_no_image_has_no_header(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert header_size_hw(tmp_path / "a.jpg") is None
    assert header_size_hw(tmp_path / "none.jpg") is None
