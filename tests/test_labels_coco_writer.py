"""COCO from labels, as other readers take it; that ours gives the same labels back stands in
test_labels_hostile."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.coco_writer import to_coco

SQUARE = np.array([[5, 10], [5, 30], [25, 30], [25, 10]], float)


def field(*annotations: Annotation, file: str = "a.jpg") -> LabelledField:
    return LabelledField(file, None, (48, 64), annotations, file)


def test_the_box_is_the_outlines_and_x_comes_first():
    label = Annotation("7", "RBC", (5, 10, 25.4, 30), polygons=(SQUARE,), iscrowd=True)
    data = to_coco([field(label)])
    assert data["annotations"] == [
        {
            "id": 7,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 5, 20, 20],
            "iscrowd": 1,
            "area": 400,
            "segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]],
        }
    ]
    assert data["images"] == [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
    assert [c["name"] for c in data["categories"]] == ["RBC"]


def test_ids_that_two_files_share_are_numbered_anew():
    labels = [Annotation("1", "RBC", (0, 0, 9, 9)), Annotation("x", "WBC", (0, 0, 9, 9))]
    data = to_coco([field(*labels), field(*labels, file="b.jpg")])
    assert [a["id"] for a in data["annotations"]] == [1, 2, 3, 4]
    assert [a["id"] for a in to_coco([field(*labels)])["annotations"]] == [1, "x"]


def test_a_point_is_refused_not_lost():
    with pytest.raises(ValueError, match=r"a\.jpg: .*the point 3"):
        to_coco([field(Annotation("3", "0", point_yx=(1, 2)))])


def test_pycocotools_reads_it(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    mask = np.zeros((48, 64), bool)
    mask[3:20, 40:50] = True
    box = Annotation("3", "WBC", (1, 2, 3, 4))
    labels = [
        Annotation("1", "RBC", (5, 10, 25, 30), polygons=(SQUARE,)),
        Annotation("2", "RBC", (3, 40, 20, 50), mask=mask),
    ]
    (tmp_path / "labels.json").write_text(json.dumps(to_coco([field(*labels, box)])))
    read = coco.COCO(str(tmp_path / "labels.json"))
    square, packed, _ = read.loadAnns([1, 2, 3])
    assert read.annToMask(square).sum() == square["area"] == 400
    np.testing.assert_array_equal(read.annToMask(packed), mask)
    assert packed["area"] == mask.sum()
