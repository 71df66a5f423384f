"""Pascal VOC boxes: the pixel they begin to count from, wrong boxes, hostile XML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.readers.voc import read_voc
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.labels.splits import leaks

REPOSITORY = Path(__file__).parents[1]
BCCD = REPOSITORY.parent / "shared/data/bccd"
SIZE = "<size><width>64</width><height>48</height><depth>3</depth></size>"


def cell(name: str, *corners: object) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=False))
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def folder(
    tmp_path: Path, files: dict[str, str], *, images: tuple[str, ...] = ("a.jpg",)
) -> Recipe:
    for kind in ("images", "annotations"):
        (tmp_path / kind).mkdir()
    for name in images:
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "images" / name)
    for name, text in files.items():
        (tmp_path / "annotations" / name).write_text(text, encoding="utf-8")
    return Recipe("mine", "voc", tmp_path, "images", "annotations")


def test_the_first_pixel_is_1_and_the_last_belongs_to_the_box(tmp_path):
    xml = f"<annotation>{SIZE}{cell('RBC', 1, 1, 64, 48)}{cell('WBC', 11, 21, 30, 40)}</annotation>"
    (field,) = read_voc(folder(tmp_path, {"a.xml": xml})).fields
    assert [(a.annotation_id, a.name, a.box_yxyx) for a in field.annotations] == [
        ("1", "RBC", (0, 0, 48, 64)),
        ("2", "WBC", (20, 10, 40, 30)),
    ]
    assert field.size_hw == (48, 64)


@pytest.mark.parametrize(
    "bad",
    [
        cell("RBC", 5, 5, 5, 9),
        cell("RBC", 9, 5, 5, 9),
        cell("RBC", 1, 2, 3),
        cell("", 1, 2, 3, 4),
        cell("RBC", "nan", 2, 3, 4),
        cell("RBC", "x", 2, 3, 4),
        "<object/>",
    ],
)
def test_a_bad_box_is_named_and_the_others_stay(tmp_path, bad):
    xml = (
        f"<annotation>{SIZE}{cell('RBC', 1, 1, 9, 9)}{bad}{cell('RBC', 21, 1, 29, 9)}</annotation>"
    )
    labels = read_voc(folder(tmp_path, {"a.xml": xml}))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1", "3"]
    assert [(u.annotation_id, u.reason) for u in labels.unread] == [("2", "malformed")]
    assert labels.findings[0].annotation_ids == ("2",)


USES = "<annotation><filename>&x;</filename></annotation>"
BOMB = f'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY x "&b;&b;">]>{USES}'
LEAK = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{USES}'


@pytest.mark.parametrize("text", [BOMB, LEAK, "", "<annotation>", "<html/>", "no XML", "\0"])
def test_what_is_no_voc_is_one_finding(tmp_path, text):
    labels = read_voc(folder(tmp_path, {"a.xml": text}))
    assert ("malformed", "annotations/a.xml") in [(f.code, f.file) for f in labels.findings]
    # Its image does not become one without cells.
    assert not labels.fields
    assert len(labels.unreadable) == 1


def test_a_file_is_found_by_the_name_it_states(tmp_path):
    xml = f"<annotation><filename>b.jpg</filename>{SIZE}{cell('RBC', 1, 1, 9, 9)}</annotation>"
    labels = read_voc(folder(tmp_path, {"a.xml": xml}, images=("b.jpg",)))
    assert [f.file for f in labels.fields] == ["images/b.jpg"]
    assert not labels.findings


def test_labels_and_images_without_each_other(tmp_path):
    xml = f"<annotation>{SIZE}{cell('RBC', 1, 1, 9, 9)}</annotation>"
    labels = read_voc(
        folder(tmp_path, {"a.xml": xml, "c.xml": xml.replace(SIZE, "")}, images=("b.jpg",))
    )
    assert [f.code for f in labels.findings] == [
        "labels-without-image",
        "labels-without-image",
        "image-without-labels",
    ]
    assert [(f.file, f.path is None, f.labelled) for f in labels.fields] == [
        ("a.jpg", True, True),
        ("images/b.jpg", False, False),
    ]
    assert [(u.file, u.reason) for u in labels.unread] == [
        ("annotations/c.xml", "labels-without-image")
    ]
    assert labels.n_read == 2


def test_another_size_than_the_image_is_an_error(tmp_path):
    xml = f"<annotation>{SIZE.replace('64', '640')}{cell('RBC', 1, 1, 9, 9)}</annotation>"
    labels = read_voc(folder(tmp_path, {"a.xml": xml}))
    assert (labels.findings[0].code, labels.findings[0].severity) == ("malformed", "error")
    assert "640x48" in labels.findings[0].message
    assert [u.reason for u in labels.unread] == ["malformed"]
    assert labels.findings[0].annotation_ids == ("1",)


def test_labels_of_an_image_that_exif_turns_turn_with_it(tmp_path):
    recipe = folder(
        tmp_path, {"a.xml": f"<annotation>{SIZE}{cell('RBC', 11, 6, 30, 20)}</annotation>"}
    )
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "images/a.jpg", exif=image.getexif())
    labels = read_voc(recipe)
    (field,) = labels.fields
    assert field.size_hw == (64, 48)
    assert field.annotations[0].box_yxyx == (10, 48 - 20, 30, 48 - 5)
    assert [(f.code, f.severity, f.file) for f in labels.findings] == [
        ("exif-rotation", "error", "images/a.jpg")
    ]


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD fields are not here")
def test_bccd_is_read_whole():
    labels = read_voc(load_recipe(REPOSITORY / "tfrecords/bccd.yaml", root=BCCD))
    assert len(labels.fields) == 364
    assert labels.n_read == 4888
    assert [(u.file, u.annotation_id) for u in labels.unread] == [
        ("annotations/BloodImage_00338.xml", "13"),
        ("annotations/BloodImage_00343.xml", "4"),
    ]
    boxes = np.array([a.box_yxyx for f in labels.fields for a in f.annotations])
    assert boxes.min() == 0
    assert boxes[:, 2].max() == 480
    assert boxes[:, 3].max() == 640


def test_roboflows_copies_and_split_folders_are_known(tmp_path):
    xml = f"<annotation>{SIZE}{cell('RBC', 1, 1, 9, 9)}</annotation>"
    for split, digest in (("train", "aa"), ("train", "bb"), ("valid", "cc")):
        stem = tmp_path / split / f"patient_01_2_jpg.rf.{digest}"
        stem.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(f"{stem}.jpg")
        Path(f"{stem}.xml").write_text(xml)
    labels = read_voc(Recipe("mine", "voc", tmp_path))
    assert [(f.split, f.source_id) for f in labels.fields] == [
        ("train", "patient_01_2"),
        ("train", "patient_01_2"),
        ("val", "patient_01_2"),
    ]
    assert leaks(labels.fields, {f.file: f.split for f in labels.fields})[0].code == (
        "source-in-two-splits"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize("namespace", ["", ' xmlns="http://example.org/voc"'])
def test_any_declared_encoding_and_a_namespace_are_read(tmp_path, encoding, namespace):
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    xml = f"{head}<annotation{namespace}>{SIZE}{cell('Sphärozyt', 1, 1, 9, 9)}</annotation>"
    recipe = folder(tmp_path, {})
    (tmp_path / "annotations" / "a.xml").write_bytes(xml.encode(encoding))
    assert [a.name for a in read_voc(recipe).fields[0].annotations] == ["Sphärozyt"]


def test_a_cut_file_is_named_and_its_image_is_left_out(tmp_path):
    xml = f"<annotation>{SIZE}{cell('RBC', 1, 1, 9, 9)}</annotation>"
    files = {"a.xml": xml, "b.xml": xml[: len(xml) // 2]}
    labels = read_voc(folder(tmp_path, files, images=("a.jpg", "b.jpg")))
    assert [f.file for f in labels.fields] == ["images/a.jpg"]
    (line,) = labels.unreadable
    assert "annotations/b.xml" in line
