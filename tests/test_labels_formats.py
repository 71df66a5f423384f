"""Label sources are told from folders of photographs, by content."""

from __future__ import annotations

import zipfile

import pytest

from spherodetect.labels.formats import is_label_source

COCO = '{"images": [], "annotations": [], "categories": []}'
VOC = '<?xml version="1.0"?><annotation><object/></annotation>'


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [
        ("", {"_annotations.coco.json": "{}"}, True),
        ("", {"train/_annotations.coco.json": ""}, True),
        ("labels.JSON", {"labels.JSON": "{}"}, True),
        ("", {"annotations/instances_default.json": COCO}, True),
        ("", {"camera.json": '{"gain": 2}', "a.jpg": ""}, False),
        ("", {"a.json": '{"shapes": [], "imagePath": "a.jpg"}'}, True),
        ("", {"data.yaml": "names: [rbc]"}, True),
        ("data.yaml", {"data.yaml": "names: [rbc]"}, True),
        ("", {"a.txt": "0 0.5 0.5 0.1 0.1"}, True),
        ("", {"a.txt": "312 200 3"}, False),
        ("", {"a.xml": VOC}, True),
        ("", {"a.xml": "<camera/>"}, False),
        ("", {"a.jpg": ""}, False),
        ("a.jpg", {"a.jpg": ""}, False),
        ("none.json", {}, False),
    ],
)
def test_labels_are_told_from_photographs(tmp_path, source, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert is_label_source(tmp_path / source) is expected


@pytest.mark.parametrize(("name", "expected"), [("x/result.json", True), ("x/a.jpg", False)])
def test_a_zip_of_labels_is_told_from_one_of_photographs(tmp_path, name, expected):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "{}")
        archive.writestr("__MACOSX/._b.json", "")
    assert is_label_source(tmp_path / "a.zip") is expected
