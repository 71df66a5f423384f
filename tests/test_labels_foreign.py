"""Formats that are not read are recognised by content, with the next step."""

from __future__ import annotations

import json

import pytest

from spherodetect.errors import BadLabelsError
from spherodetect.labels.foreign import foreign_format
from spherodetect.labels.source import recipe_for

VIA = {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": [], "file_attributes": {}}}
FOREIGN = {
    "CreateML": ("_annotations.createml.json", [{"image": "a.jpg", "annotations": []}]),
    "Label Studio": ("project-1.json", [{"id": 1, "data": {"image": "x"}, "annotations": []}]),
    "VIA": ("via_region_data.json", VIA),
    "VIA project": ("via.json", {"_via_settings": {}, "_via_img_metadata": VIA}),
    "TensorFlow": ("_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n"),
    "multi-class": ("_classes.csv", "filename, rbc, spherocyte\na.jpg,1,1\n"),
    "CVAT": ("annotations.xml", "<annotations><image id='1' name='a.jpg'></image></annotations>"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_format_is_named_with_the_next_step(tmp_path, kind):
    name, content = FOREIGN[kind]
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "train").mkdir()
    for place in (tmp_path / name, tmp_path / "train" / name):
        place.write_text(text)
        with pytest.raises(BadLabelsError, match=rf"{name}.*{kind.split()[0]}.*COCO"):
            recipe_for(tmp_path)
        place.unlink()
    (tmp_path / name).write_text(text)
    if name.endswith(".json"):
        with pytest.raises(BadLabelsError, match=kind.split()[0]):
            recipe_for(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "[]"), ("a.json", "[1]"), ("a.json", '{"images": []}'),
     ("a.csv", "X,Y,Counter\n"), ("a.csv", ""), ("a.xml", "<annotation/>"), ("a.txt", "1 2 0")],
)  # fmt: skip
def test_other_files_are_not(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert foreign_format(tmp_path / name) is None
