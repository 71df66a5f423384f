"""YOLO and YOLO-seg in the layouts of Roboflow, Ultralytics and darknet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.readers.points import read_points
from spherodetect.labels.readers.yolo import is_yolo_line, read_yolo
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import read_labels, read_unmapped, recipe_for

ROBOFLOW = "patient_01_1_jpg.rf.{}"
BOX = "0 0.5 0.25 0.125 0.25\n"
TRIANGLE = "1 0.25 0.5 0.5 0.5 0.5 0.75\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    """Text files, and an image of 64x48 for each name with the suffix of one."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".jpg", ".png"}:
            Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
        else:
            path.write_text(text)
    return folder


def roboflow(folder: Path, names: str = "names: ['RBC', 'Spherocyte']\n") -> Path:
    files = {"data.yaml": f"train: ../train/images\nnc: 2\n{names}"}
    for split, digests in (("train", "abc"), ("valid", "d")):
        for digest in digests:
            stem = ROBOFLOW.format(digest)
            files[f"{split}/images/{stem}.jpg"] = ""
            files[f"{split}/labels/{stem}.txt"] = BOX + TRIANGLE
    return write(folder, files)


@pytest.mark.parametrize(
    "names", ["names: ['RBC', 'Spherocyte']\n", "names: {0: RBC, 1: Spherocyte}\n"]
)
def test_roboflows_layout(tmp_path, names):
    labels = read_labels(recipe_for(roboflow(tmp_path, names)))
    assert [(f.split, f.source_id, f.patient_id) for f in labels.fields] == [
        *[("train", "patient_01_1", "patient_01")] * 3,
        ("val", "patient_01_1", "patient_01"),
    ]
    assert labels.n_read == 8
    assert not labels.findings
    box, triangle = labels.fields[0].annotations
    assert (box.name, box.annotation_id, box.box_yxyx) == ("RBC", "1", (6, 28, 18, 36))
    assert not box.polygons
    assert (triangle.name, triangle.annotation_id) == ("Spherocyte", "2")
    np.testing.assert_allclose(triangle.polygons[0], [(24, 16), (24, 32), (36, 32)])
    assert triangle.box_yxyx == (24, 16, 36, 32)


@pytest.mark.parametrize(
    "files",
    [
        {"f1.jpg": "", "f1.txt": BOX, "classes.txt": "rbc\nspherocyte\n"},
        {"obj.names": "rbc\n", "obj_train_data/f1.jpg": "", "obj_train_data/f1.txt": BOX,
         "train.txt": "obj_train_data/f1.jpg\n"},
        {"data.yaml": "names: [rbc]\n", "images/train/f1.jpg": "", "labels/train/f1.txt": BOX},
    ],
    ids=["beside", "darknet", "ultralytics"],
)  # fmt: skip
def test_other_layouts(tmp_path, files):
    labels = read_labels(recipe_for(write(tmp_path, files)))
    assert [[a.name for a in f.annotations] for f in labels.fields] == [["rbc"]]
    assert not labels.findings


def test_data_yaml_names_its_export(tmp_path):
    recipe = recipe_for(roboflow(tmp_path) / "data.yaml")
    assert (recipe.format, recipe.root) == ("yolo", tmp_path)


@pytest.mark.parametrize(
    "line",
    ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 0.1 0.2", "0 320 240 20 20", "rbc 0.5 0.5 0.1 0.1",
     "0 0.5 0.5 0 0.1", "0 nan 0.5 0.1 0.1", "1 0.1 0.1 0.2 0.2 0.3 0.3", "0"],
)  # fmt: skip
def test_a_line_that_is_no_label_is_named(tmp_path, line):
    labels = read_yolo(
        Recipe("mine", "yolo", write(tmp_path, {"a.jpg": "", "a.txt": f"{BOX}\n{line}\n{BOX}"}))
    )
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1", "4"]
    assert [(u.file, u.annotation_id, u.reason) for u in labels.unread] == [
        ("a.txt", "3", "malformed")
    ]
    assert labels.n_read == 3


def test_labels_without_an_image_and_images_without_labels(tmp_path):
    labels = read_yolo(
        Recipe(
            "mine", "yolo", write(tmp_path, {"a.txt": BOX, "b.jpg": "", "c.jpg": "", "c.txt": ""})
        )
    )
    assert [(f.file, f.labelled) for f in labels.fields] == [("b.jpg", False), ("c.jpg", True)]
    assert [(u.file, u.reason) for u in labels.unread] == [("a.txt", "labels-without-image")]
    assert sorted(f.code for f in labels.findings) == [
        "image-without-labels", "image-without-labels", "labels-without-image",
    ]  # fmt: skip


def test_classes_without_names_keep_their_number(tmp_path):
    root = write(tmp_path, {"a.jpg": "", "a.txt": BOX})
    with pytest.raises(BadLabelsError, match="got '0'; known:"):
        read_labels(recipe_for(root))
    assert read_unmapped(recipe_for(root)).fields[0].annotations[0].name == "0"


def test_yolo_is_never_read_as_points(tmp_path):
    assert is_yolo_line(BOX) and is_yolo_line(TRIANGLE)
    assert not is_yolo_line("312 200 3") and not is_yolo_line("0.5 0.5 0")
    labels = read_points(Recipe("mine", "points", write(tmp_path, {"a.jpg": "", "a.txt": BOX})))
    assert not labels.fields[0].annotations
    (finding,) = (f for f in labels.findings if f.code == "malformed")
    assert "format: yolo" in finding.message
