"""truth: the labels of a recipe and of its records, and fully labelled fields."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import SpherodetectError
from spherodetect.evaluation.truth import RED_CELL, UNKNOWN, Labelled, Truth, open_truth
from spherodetect.labels.recipe import load_recipe
from spherodetect.records.account import file_digest
from spherodetect.records.tfrecords import build
from spherodetect.synthetic import SyntheticField, draw_field

coco_masks = pytest.importorskip("pycocotools.mask", reason="the extra [train] is not installed")

POINTS = """
name: points
format: points
root: points
images: images
labels: labels
classes: {"0": rbc, "3": spherocyte}
fine_classes: {"0": normal, "3": spherocyte, "10": uncategorised, "11": pale}
red_cells: ["11"]
unknown: ["10"]
unlabelled_cells: unknown
split: {by: number-run, val: [[2, 4]]}
"""


def drawn(seed: int) -> SyntheticField:
    return draw_field(
        np.random.default_rng(seed),
        size_hw=(240, 320),
        n_cells=14,
        spherocyte_fraction=0.3,
        n_white=0,
        n_platelets=0,
        overlap_fraction=0,
        touching_fraction=0,
        um_per_px=0.193,
    )


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> Path:
    """Four fields: 1 is for training, 2 is fully labelled, 3 has a label on every third cell, and 4
    has no label file."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "labels"):
        (folder / "points" / kind).mkdir(parents=True)
    for number in (1, 2, 3, 4):
        field = drawn(number)
        Image.fromarray(field.image).save(folder / "points" / "images" / f"{number}.png")
        if number == 4:
            continue
        codes = np.where(field.cells.names == "spherocyte", 3, 0)
        codes[:2] = (10, 11)
        centre = (field.cells.box_yxyx[:, :2] + field.cells.box_yxyx[:, 2:]) / 2
        lines = [f"{x:.1f} {y:.1f} {code}" for (y, x), code in zip(centre, codes, strict=True)]
        (folder / "points" / "labels" / f"{number}.txt").write_text(
            "\n".join(lines[:: 3 if number == 3 else 1])
        )
    (folder / "points.yaml").write_text(POINTS)
    return folder / "points.yaml"


def read(truth: Truth, only: set[str] | None = None) -> dict[str, Labelled]:
    return {labelled.field: labelled for labelled in truth.read(only)}


def test_points_of_a_recipe(points):
    truth = open_truth(points, "val")
    fields = read(truth)
    assert (truth.name, truth.split, truth.n_fields, list(fields)) == (
        "points",
        "val",
        2,
        ["images/2.png", "images/3.png"],
    )
    whole, partial = fields.values()
    cells = drawn(2).cells
    assert whole.points_yx == pytest.approx(
        (cells.box_yxyx[:, :2] + cells.box_yxyx[:, 2:]) / 2, abs=0.06
    )
    assert whole.classes.tolist()[:2] == [UNKNOWN, RED_CELL] and whole.fine.tolist()[:2] == [
        "uncategorised",
        "pale",
    ]
    assert whole.classes.tolist()[2:] == cells.names.tolist()[2:]
    assert (whole.full, partial.full) == (True, False)
    assert partial.n_unlabelled > 0.5 * partial.n_cells > 0
    assert partial.outlines == () and truth.no_boxes == truth.no_masks == "the labels are points"
    assert truth.digests == {
        file_digest(points.parent / "points" / "images" / f"{k}.png") for k in (2, 3)
    }
    assert list(read(truth, {"images/3.png"})) == ["images/3.png"]


def test_records_equal_their_recipe(points, tmp_path):
    build(load_recipe(points), tmp_path)
    truth, recipe = open_truth(tmp_path, "val"), open_truth(points, "val")
    assert (truth.name, truth.no_boxes, truth.no_masks) == (
        recipe.name,
        recipe.no_boxes,
        recipe.no_masks,
    )
    # The field without a label file is in the records too, with cells of unknown class.
    assert len(truth.digests - recipe.digests) == 1 and recipe.digests < truth.digests
    checksums = json.loads((tmp_path / "manifest.json").read_bytes())["checksums"]
    assert (
        truth.checksums
        == {checksums["points-val-00000-of-00001.tfrecord"]}
        < set(checksums.values())
    )
    by_record, by_file = read(truth), read(recipe)
    for name, labelled in by_file.items():
        record = by_record[name]
        order, expected = (np.lexsort(x.points_yx.T) for x in (record, labelled))
        assert record.points_yx[order] == pytest.approx(labelled.points_yx[expected], abs=1e-3)
        assert record.classes[order].tolist() == labelled.classes[expected].tolist()
        assert record.fine[order].tolist() == labelled.fine[expected].tolist()
        assert record.full == labelled.full
    assert set(by_record) == set(by_file)


DRAWN = (
    "name: drawn\nformat: synthetic\nn_fields: 2\nseed: 4\num_per_px: 0.193\nsplit: {by: source}\n"
)


def test_drawn_outlines_are_those_of_the_cells(tmp_path):
    path = tmp_path / "drawn.yaml"
    path.write_text(DRAWN)
    truth = open_truth(path, "train")
    assert truth.no_boxes == truth.no_masks == ""
    for labelled in truth.read(None):
        assert (
            labelled.full and len(labelled.outlines) == len(labelled.box_yxyx) == labelled.n_cells
        )
        y0, x0, y1, x1 = labelled.box_yxyx.T
        areas = np.array([coco_masks.area(outline) for outline in labelled.outlines])
        share = areas / ((y1 - y0) * (x1 - x0))
        assert np.median(share) == pytest.approx(np.pi / 4, abs=0.06)
        for outline, box in zip(labelled.outlines, labelled.box_yxyx, strict=True):
            x, y, w, h = coco_masks.toBbox(outline)
            assert [y, x, y + h, x + w] == pytest.approx(box.tolist(), abs=1.01)


def coco_file(folder: Path, *, rectangles: bool) -> Path:
    """A COCO export of one 60x80 image with two cells, drawn as boxes or as diamonds."""
    (folder / "train").mkdir(parents=True)
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(folder / "train" / "a.png")
    corners = (
        ((0, 0), (20, 0), (20, 20), (0, 20))
        if rectangles
        else ((10, 0), (20, 10), (10, 20), (0, 10))
    )
    labels = {
        "images": [{"id": 0, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [{"id": 1, "name": "RBC"}, {"id": 2, "name": "Spherocyte"}],
        "annotations": [
            {
                "id": k,
                "image_id": 0,
                "category_id": k,
                "bbox": [30 * k, 10, 20, 20],
                "area": 400,
                "iscrowd": 0,
                "segmentation": [[v for x, y in corners for v in (x + 30 * k, y + 10)]],
            }
            for k in (1, 2)
        ],
    }
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(labels))
    recipe = folder / "recipe.yaml"
    recipe.write_text("name: coco\nformat: coco\nroot: .\nsplit: {by: export}\n")
    return recipe


@pytest.mark.parametrize("rectangles", [True, False])
def test_a_rectangle_is_a_box_but_not_a_mask(tmp_path, rectangles):
    truth = open_truth(coco_file(tmp_path / "x", rectangles=rectangles), "train")
    (labelled,) = truth.read(None)
    assert truth.no_boxes == ""
    assert (
        bool(truth.no_masks) is rectangles and ("boxes themselves" in truth.no_masks) is rectangles
    )
    assert labelled.box_yxyx.tolist() == [[10, 30, 30, 50], [10, 60, 30, 80]]
    assert labelled.points_yx.tolist() == [[20, 40], [20, 70]]
    if rectangles:
        assert labelled.outlines == (None, None)
    else:
        assert [int(coco_masks.area(outline)) for outline in labelled.outlines] == pytest.approx(
            [200, 200], abs=25
        )


@pytest.mark.parametrize("split", ["test", "nonsense"])
def test_a_missing_split_is_named(points, tmp_path, split):
    with pytest.raises(SpherodetectError, match=f"labelled fields in split '{split}', got none"):
        open_truth(points, split)
    (tmp_path / "manifest.json").write_text(
        json.dumps(
            {
                "name": "x",
                "splits": {"train": {}},
                "class_names": [],
                "checksums": {},
                "annotations": {"repaired": {}},
            }
        )
    )
    with pytest.raises(
        SpherodetectError, match=f"records of split '{split}', got none; known: train"
    ):
        open_truth(tmp_path, split)


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"name": "x"}', '{"name": "x", "splits": 3, "class_names": []}']
)
def test_an_unusable_manifest_is_refused_in_one_line(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(SpherodetectError, match="expected the manifest of records") as error:
        open_truth(tmp_path, "val")
    assert "\n" not in str(error.value)
