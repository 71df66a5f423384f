"""labelme's files: every kind of shape, and images that are named by foreign paths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.readers.labelme import read_labelme
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import recipe_for

SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def write(
    folder: Path, *shapes: dict, image: str = "f1.jpg", path: str = "f1.jpg", **more
) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / image)
    data = {"imagePath": path, "imageHeight": 48, "imageWidth": 64, "shapes": list(shapes), **more}
    (folder / "f1.json").write_text(json.dumps(data))
    return Recipe("mine", "labelme", folder)


def shape(points: object, kind: str = "polygon", label: object = "RBC") -> dict:
    return {"label": label, "points": points, "shape_type": kind}


def test_every_kind_of_shape(tmp_path):
    recipe = write(
        tmp_path,
        shape(SQUARE),
        shape([[10, 5], [30, 25]], "rectangle"),
        shape([[20, 15], [20, 25]], "circle"),
        shape([[20, 15]], "point"),
    )
    polygon, rectangle, circle, point = read_labelme(recipe).fields[0].annotations
    assert polygon.box_yxyx == rectangle.box_yxyx == (5, 10, 25, 30)
    assert not rectangle.polygons
    assert circle.box_yxyx == pytest.approx((5, 10, 25, 30), abs=0.05)
    assert point.point_yx == (15, 20)
    assert [a.annotation_id for a in (polygon, rectangle, circle, point)] == list("1234")


@pytest.mark.parametrize(
    "path", ["f1.jpg", "..\\smears\\f1.jpg", "C:\\lab\\f1.jpg", "/data/f1.jpg"]
)
def test_the_image_is_found_by_its_name(tmp_path, path):
    labels = read_labelme(write(tmp_path, shape(SQUARE), path=path))
    assert [(f.file, len(f.annotations)) for f in labels.fields] == [("f1.jpg", 1)]
    assert not labels.findings


@pytest.mark.parametrize(
    "bad",
    [shape(SQUARE, "line"), shape([[1, 2]]), shape("x"), shape([[1, "a"]]), shape(SQUARE, label=3),
     shape([[5, 5], [5, 9]], "rectangle"), None, shape([[float("nan"), 1], [2, 2], [3, 1]])],
)  # fmt: skip
def test_a_shape_that_is_no_cell_is_named(tmp_path, bad):
    labels = read_labelme(write(tmp_path, shape(SQUARE), bad))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1"]
    assert [(u.annotation_id, u.reason) for u in labels.unread] == [("2", "malformed")]


def test_labels_that_cannot_be_placed_are_lost_by_name(tmp_path):
    labels = read_labelme(write(tmp_path / "a", shape(SQUARE), path="other.jpg"))
    assert [u.reason for u in labels.unread] == ["labels-without-image"]
    labels = read_labelme(write(tmp_path / "b", shape(SQUARE), imageHeight=480))
    assert [u.reason for u in labels.unread] == ["malformed"]
    assert not labels.fields[0].labelled


def test_a_folder_and_a_file_of_labelme_are_recognised(tmp_path):
    write(tmp_path, shape(SQUARE))
    assert recipe_for(tmp_path).format == recipe_for(tmp_path / "f1.json").format == "labelme"
