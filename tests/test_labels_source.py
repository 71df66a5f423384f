"""Sources: the zip as it was downloaded, folders without a recipe, names that nobody mapped."""

from __future__ import annotations

import gc
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import read_labels, read_unmapped, recipe_for


def write_coco(folder: Path, *, name: str = "RBC") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "patient_03_1_jpg.rf.abcdef.jpg")
    image = {"id": 0, "file_name": "patient_03_1_jpg.rf.abcdef.jpg", "height": 48, "width": 64}
    cell = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}
    data = {"images": [image], "annotations": [cell], "categories": [{"id": 1, "name": name}]}
    (folder / "_annotations.coco.json").write_text(json.dumps(data))


def zipped(folder: Path, path: Path, **more: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
        for name, text in more.items():
            archive.writestr(name, text)
    return path


def test_a_zip_lives_as_long_as_its_labels(tmp_path):
    write_coco(tmp_path / "export/valid")
    labels = read_labels(recipe_for(zipped(tmp_path / "export", tmp_path / "export.zip")))
    (field,) = labels.fields
    path = field.path
    assert (field.split, field.patient_id, field.source_id) == ("val", "patient_03", "patient_03_1")
    assert path.is_file()
    del labels, field
    gc.collect()
    assert not path.exists()


def test_a_zip_that_climbs_out_is_refused(tmp_path):
    write_coco(tmp_path / "export")
    path = zipped(tmp_path / "export", tmp_path / "export.zip", **{"../up.txt": "x"})
    with pytest.raises(BadLabelsError, match=r"export\.zip': .*'\.\./up\.txt'"):
        read_labels(recipe_for(path))
    assert not (tmp_path / "up.txt").exists()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"_annotations.coco.json": "{}"}, ("coco", "", "")),
        ({"train/_annotations.coco.json": "{}", "README.txt": ""}, ("coco", "", "")),
        ({"xml/1.xml": "<annotation/>", "jpg/1.jpg": ""}, ("voc", "jpg", "xml")),
        (
            {"labels/a/1.txt": "", "labels/b/1.txt": "", "images/1.jpg": ""},
            ("points", "images", "labels"),
        ),
        ({"1.csv": "", "1.jpg": ""}, ("points", "", "")),
        (
            {"labels/1.txt": "", "images/1.jpg": "", "README.txt": ""},
            ("points", "images", "labels"),
        ),
    ],
)
def test_the_format_is_told_from_what_lies_there(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    recipe = recipe_for(tmp_path)
    assert (recipe.format, recipe.images, recipe.labels) == expected
    assert recipe.split.by == "export"


def test_errors_name_the_zip_and_not_where_it_was_unpacked(tmp_path):
    (tmp_path / "export").mkdir()
    path = zipped(tmp_path / "export", tmp_path / "export.zip", **{"train/a.jpg": "x"})
    with pytest.raises(BadLabelsError, match=f"'{path}': expected labels"):
        read_labels(recipe_for(path))
    path = zipped(
        tmp_path / "export", tmp_path / "export.zip", **{"train/_annotations.coco.json": "{"}
    )
    (finding,) = read_unmapped(recipe_for(path)).findings
    assert finding.message.startswith("expected JSON")


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(BadLabelsError, match="expected labels"):
        recipe_for(tmp_path)
    with pytest.raises(BadLabelsError, match="no such file"):
        recipe_for(tmp_path / "none.zip")


def test_an_unmapped_name_stops_the_records_but_not_lint(tmp_path):
    write_coco(tmp_path, name="Artefact")
    recipe = Recipe("mine", "coco", tmp_path)
    with pytest.raises(BadLabelsError, match="'Artefact'; known:"):
        read_labels(recipe)
    assert len(read_unmapped(recipe).fields) == 1


def test_a_broken_file_stops_the_records_but_not_lint(tmp_path):
    write_coco(tmp_path / "train")
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid/_annotations.coco.json").write_text('{"images"')
    with pytest.raises(BadLabelsError, match=r"valid/_annotations\.coco\.json"):
        read_labels(Recipe("mine", "coco", tmp_path))
    assert [f.file for f in read_unmapped(recipe_for(tmp_path)).findings] == [
        "valid/_annotations.coco.json"
    ]
