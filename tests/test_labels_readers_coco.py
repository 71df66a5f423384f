"""COCO exports: what is read, what is repaired, what is refused, and that nothing gets lost on the
way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.readers.coco import read_coco
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.rle import run_lengths

REPOSITORY = Path(__file__).parents[1]
DATASET_A = REPOSITORY.parent / "shared/data/dataset-a-roboflow"
CATEGORIES = [
    {"id": 0, "name": "cells", "supercategory": "none"},
    {"id": 1, "name": "RBC", "supercategory": "cells"},
    {"id": 2, "name": "Spherocyte", "supercategory": "cells"},
]
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]


def cell(number: int = 1, **changes: Any) -> dict[str, Any]:
    entry = {
        "id": number,
        "image_id": 0,
        "category_id": 1,
        "bbox": [10, 5, 20, 20],
        "segmentation": [SQUARE],
    }
    return {key: value for key, value in (entry | changes).items() if value != "left out"}


def export(cells: list[Any], **changes: Any) -> dict[str, Any]:
    image = {"id": 0, "file_name": "a.jpg", "height": 48, "width": 64}
    return {"images": [image], "annotations": cells, "categories": CATEGORIES} | changes


def read(
    tmp_path: Path, data: Any, *, name: str = "train/_annotations.coco.json", image: bool = True
) -> LabelSet:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    if image:
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path.parent / "a.jpg")
    return read_coco(Recipe("mine", "coco", tmp_path))


def codes(labels: LabelSet) -> set[str]:
    return {f.code for f in labels.findings} - {"root-category"}


def test_x_and_width_come_first_in_the_file_and_y_first_here(tmp_path):
    labels = read(tmp_path, export([cell(7, category_id=2)]))
    (field,) = labels.fields
    (annotation,) = field.annotations
    assert (field.file, field.size_hw, field.split) == ("train/a.jpg", (48, 64), "train")
    assert field.path == tmp_path / "train/a.jpg"
    assert (annotation.annotation_id, annotation.name) == ("7", "Spherocyte")
    assert annotation.box_yxyx == annotation.outline_box_yxyx == (5, 10, 25, 30)
    assert annotation.polygons[0].tolist() == [[5, 10], [5, 30], [25, 30], [25, 10]]
    assert not codes(labels)


def test_parts_masks_and_crowds_arrive(tmp_path):
    runs = [48 * 10, 20, 48 * 54 - 20]
    labels = read(
        tmp_path,
        export(
            [
                cell(1, segmentation=[SQUARE, [40, 5, 50, 5, 50, 15]]),
                cell(
                    2,
                    segmentation={"size": [48, 64], "counts": runs},
                    bbox=[10, 0, 1, 20],
                    iscrowd=1,
                ),
                cell(3, segmentation="left out"),
                cell(4, bbox="left out"),
                cell(5, segmentation=SQUARE),
            ]
        ),
    )
    parts, mask, box, outline, flat = labels.fields[0].annotations
    assert len(parts.polygons) == 2
    assert parts.outline_box_yxyx == (5, 10, 25, 50)
    assert mask.iscrowd
    assert np.asarray(mask.mask)[:20, 10].all()
    assert np.asarray(mask.mask).sum() == 20
    assert box.polygons == ()
    assert box.box_yxyx == (5, 10, 25, 30)
    assert outline.box_yxyx is None
    assert outline.outline_box_yxyx == flat.outline_box_yxyx == (5, 10, 25, 30)
    assert not codes(labels)


def test_the_box_of_a_mask_is_the_masks_own(tmp_path):
    mask = {"size": [48, 64], "counts": [48 * 10, 20, 48 * 54 - 20]}
    labels = read(tmp_path, export([cell(3, segmentation=mask, bbox=[0, 0, 60, 40])]))
    assert labels.fields[0].annotations[0].box_yxyx == (0, 10, 20, 11)
    assert [(f.code, f.annotation_ids) for f in labels.findings[1:]] == [
        ("box-polygon-mismatch", ("3",))
    ]


BAD = {
    "no mapping": [1, 2],
    "nothing": None,
    "image id to nowhere": cell(2, image_id=9),
    "image id a list": cell(2, image_id=[0]),
    "image id true": cell(2, image_id=True),
    "category to nowhere": cell(2, category_id=9),
    "category left out": cell(2, category_id="left out"),
    "box of three": cell(2, bbox=[1, 2, 3]),
    "box of text": cell(2, bbox="1 2 3 4"),
    "box not finite": cell(2, bbox=[1, 2, float("nan"), 4]),
    "box far away": cell(2, bbox=[1e300, 2, 3, 4]),
    "box inside out": cell(2, bbox=[10, 10, -5, 5]),
    "nothing drawn": cell(2, bbox="left out", segmentation=[]),
    "box of no size": cell(2, bbox=[5, 5, 0, 9], segmentation=[]),
    "odd polygon": cell(2, segmentation=[[1, 2, 3, 4, 5]]),
    "polygon of text": cell(2, segmentation=[["a", "b", "c", "d", "e", "f"]]),
    "polygon not finite": cell(2, segmentation=[[1, 2, 3, float("inf"), 5, 6]]),
    "segmentation text": cell(2, segmentation="1 2 3 4 5 6"),
    "mask of another size": cell(2, segmentation={"size": [4, 4], "counts": [16]}),
    "mask that lies": cell(2, segmentation={"size": [48, 64], "counts": [1, 2]}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_annotation_is_named_and_the_others_stay(tmp_path, bad):
    labels = read(tmp_path, export([cell(1), bad, cell(3)]))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1", "3"]
    (lost,) = labels.unread
    (finding,) = (f for f in labels.findings if f.code == "malformed")
    assert lost.reason == "malformed"
    assert finding.annotation_ids == (lost.annotation_id,)
    assert (finding.file, finding.split, finding.severity) == (
        "train/_annotations.coco.json",
        "train",
        "error",
    )
    assert labels.n_read == 3


def test_an_outline_that_encloses_nothing_leaves_its_box_or_is_named(tmp_path):
    flat = [[1, 1, 5, 5], [1, 1, 5, 5, 9, 9]]
    labels = read(
        tmp_path, export([cell(1, segmentation=flat), cell(2, segmentation=flat, bbox="left out")])
    )
    assert [(a.annotation_id, a.polygons) for a in labels.fields[0].annotations] == [("1", ())]
    assert [(u.annotation_id, u.reason) for u in labels.unread] == [("2", "degenerate-polygon")]
    assert [f.annotation_ids for f in labels.findings if f.code == "degenerate-polygon"] == [
        ("1", "2")
    ]


def test_ids_given_twice_are_told_apart(tmp_path):
    labels = read(tmp_path, export([cell(5), cell(5, category_id=2), cell(6), cell("left out")]))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["5", "5#2", "6", "at 3"]
    assert [(f.code, f.annotation_ids) for f in labels.findings[:1]] == [
        ("duplicate-annotation-id", ("5#2",))
    ]
    labels = read(tmp_path, export([cell("5#2"), cell(5), cell("5"), cell(5)]))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["5#2", "5", "5#3", "5#4"]


def test_the_root_category_is_named_only_where_it_marks_nothing(tmp_path):
    assert "root-category" in {f.code for f in read(tmp_path, export([cell()])).findings}
    marked = read(tmp_path, export([cell(category_id=0)]))
    assert "root-category" not in {f.code for f in marked.findings}
    assert marked.fields[0].annotations[0].name == "cells"


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ((1, 2, 3), False),
        ((0, 1, 2), True),
        ((1, 2, 4), True),
        ((3, 7, 1), True),
        ((3, 2, 1), False),
    ],
)
def test_gaps_in_category_ids(tmp_path, ids, found):
    categories = [{"id": key, "name": f"kind {key}"} for key in ids]
    labels = read(tmp_path, export([cell(category_id=ids[0])], categories=categories))
    assert ("gapped-category-ids" in codes(labels)) == found


@pytest.mark.parametrize(
    "name",
    [
        "../up.jpg",
        "/etc/passwd",
        "..\\up.jpg",
        "C:\\up.jpg",
        "a/../../up.jpg",
        "\0.jpg",
        "x" * 5000,
    ],
)
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    images = [
        {"id": 0, "file_name": name, "height": 48, "width": 64},
        {"id": 1, "file_name": "a.jpg"},
    ]
    labels = read(tmp_path, export([cell(1), cell(2, image_id=1)], images=images))
    assert [f.file for f in labels.fields] == ["train/a.jpg"]
    assert [u.annotation_id for u in labels.unread] == ["1"]
    assert all("\n" not in f.message and "\0" not in f.message for f in labels.findings)


@pytest.mark.parametrize(
    "image",
    [
        None,
        {},
        {"id": 0},
        {"id": 0, "file_name": 5},
        {"id": 0, "file_name": "a.jpg", "height": -1, "width": 64},
        {"id": 0, "file_name": "a.jpg", "height": 10**9, "width": 10**9},
        {"id": 0, "file_name": "a.jpg", "height": "48", "width": "64"},
        {"id": 0, "file_name": "a.jpg", "height": 60_000, "width": 60_000},
    ],
)
def test_an_image_entry_that_cannot_be_used_loses_no_label_in_silence(tmp_path, image):
    labels = read(tmp_path, export([cell(1)], images=[image]))
    assert not labels.fields
    assert [u.annotation_id for u in labels.unread] == ["1"]
    assert codes(labels) == {"malformed"}


def test_labels_of_another_size_than_the_image_are_not_trusted(tmp_path):
    image = {"id": 0, "file_name": "a.jpg", "height": 480, "width": 640}
    labels = read(tmp_path, export([cell(1)], images=[image]))
    assert [(u.file, u.annotation_id) for u in labels.unread] == [
        ("train/_annotations.coco.json", "1")
    ]
    assert not labels.fields[0].labelled
    (finding,) = (f for f in labels.findings if f.code == "malformed")
    assert (finding.file, finding.annotation_ids) == ("train/a.jpg", ("1",))
    assert all(part in finding.message for part in ("640x480", "64x48", "resized"))
    image["width"] = 500
    labels = read(tmp_path, export([cell(1)], images=[image]))
    (finding,) = (f for f in labels.findings if f.code == "malformed")
    assert "500x480" in finding.message
    assert "cropped" in finding.message


def test_labels_of_an_image_that_exif_turns_turn_with_it(tmp_path):
    """The labels state the size that the file has unturned, so they were drawn on that; all kinds
    come along."""
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    image.getexif()[0x0112] = 8
    image.save(tmp_path / "a.jpg", exif=image.getexif())
    mask = {"size": [48, 64], "counts": [48 * 10, 20, 48 * 54 - 20]}
    labels = read(
        tmp_path, export([cell(1), cell(2, segmentation=mask)]), name="labels.json", image=False
    )
    (field,) = labels.fields
    assert field.size_hw == (64, 48)
    polygon, packed = field.annotations
    assert polygon.outline_box_yxyx == (64 - 30, 5, 64 - 10, 25)
    assert packed.box_yxyx == (64 - 11, 0, 64 - 10, 20)
    assert np.asarray(packed.mask)[64 - 11, :20].all()
    assert [f.file for f in labels.findings if f.code == "exif-rotation"] == ["a.jpg"]
    assert not labels.unread


def test_an_export_of_makesense(tmp_path):
    """One file beside the images: open polygons, ids from 0, no supercategory; a label without a
    class has no key."""
    drawn = [12.5, 8.25, 30.1, 9.0, 28.0, 27.5, 14.0, 25.0]
    cells = [
        {
            "id": 0,
            "iscrowd": 0,
            "image_id": 1,
            "category_id": 2,
            "segmentation": [drawn],
            "bbox": [12.5, 8.25, 17.6, 19.25],
            "area": 279.4,
        },
        {
            "id": 1,
            "iscrowd": 0,
            "image_id": 1,
            "segmentation": [drawn],
            "bbox": [12.5, 8.25, 17.6, 19.25],
            "area": 279.4,
        },
    ]
    data = {
        "info": {"description": "my-project-name"},
        "images": [{"id": 1, "width": 64, "height": 48, "file_name": "a.jpg"}],
        "annotations": cells,
        "categories": [{"id": 1, "name": "Neutrophil"}, {"id": 2, "name": "Red Blood Cells"}],
    }
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "nobody_labelled_this.png")
    labels = read(tmp_path, data, name="labels_my-project-name_2024-05-01-10-30-00.json")
    (field,) = labels.fields
    (annotation,) = field.annotations
    assert (field.file, field.split, annotation.annotation_id, annotation.name) == (
        "a.jpg",
        None,
        "0",
        "Red Blood Cells",
    )
    assert annotation.outline_box_yxyx == pytest.approx((8.25, 12.5, 27.5, 30.1))
    meaning = Recipe("mine", "coco", tmp_path).meaning(annotation.name)
    assert (meaning.class_name, meaning.fine_name) == ("rbc", "Red Blood Cells")
    assert [(f.code, f.file, f.annotation_ids) for f in labels.findings] == [
        ("malformed", "labels_my-project-name_2024-05-01-10-30-00.json", ("1",)),
        ("image-without-labels", "nobody_labelled_this.png", ()),
    ]


def test_an_id_for_two_images_spoils_both(tmp_path):
    images = [{"id": 0, "file_name": f"{name}.jpg", "height": 48, "width": 64} for name in "ab"]
    labels = read(tmp_path, export([cell(1)], images=images))
    assert [f.labelled for f in labels.fields] == [False, False]
    assert [u.annotation_id for u in labels.unread] == ["1"]


def test_an_image_listed_twice_keeps_all_its_labels(tmp_path):
    images = [{"id": key, "file_name": "a.jpg", "height": 48, "width": 64} for key in (0, "b")]
    labels = read(tmp_path, export([cell(1), cell(2, image_id="b")], images=images))
    assert [len(f.annotations) for f in labels.fields] == [2]


def test_images_and_labels_without_each_other(tmp_path):
    images = [
        {"id": k, "file_name": name, "height": 48, "width": 64}
        for k, name in enumerate(["a.jpg", "gone.jpg"])
    ]
    labels = read(tmp_path, export([cell(1, image_id=1)], images=images))
    assert [(f.code, f.file) for f in labels.findings[1:]] == [
        ("labels-without-image", "train/gone.jpg"),
        ("image-without-labels", "train/a.jpg"),
    ]
    assert [(f.file, f.path is None, len(f.annotations)) for f in labels.fields] == [
        ("train/a.jpg", False, 0),
        ("train/gone.jpg", True, 1),
    ]


@pytest.mark.parametrize(
    ("name", "picture", "split"),
    [
        ("train/_annotations.coco.json", "train/a.jpg", "train"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "val"),
        ("export/test/_annotations.coco.json", "export/test/a.jpg", "test"),
        ("_annotations.coco.json", "a.jpg", None),
        ("labels.json", "a.jpg", None),
        ("train.json", "train/a.jpg", "train"),
        ("trainees.json", "a.jpg", None),
        ("my-validation.json", "a.jpg", "val"),
        ("annotations/instances_val2017.json", "images/a.jpg", "val"),
        ("annotations/instances_val2017.json", "pictures/of/mine/a.jpg", "val"),
    ],
)
def test_images_are_found_where_exports_put_them(tmp_path, name, picture, split):
    path = tmp_path / picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    (field,) = read(tmp_path, export([cell()]), name=name, image=False).fields
    assert (field.file, field.path, field.split) == (picture, path, split)


def test_two_files_about_one_image_are_not_added_up(tmp_path):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "one.json").write_text(json.dumps(export([cell(1)])))
    labels = read(tmp_path, export([cell(2)]), name="two.json")
    assert [[a.annotation_id for a in f.annotations] for f in labels.fields] == [["1"]]
    assert [(u.file, u.annotation_id) for u in labels.unread] == [("two.json", "2")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "\0",
        "[" * 100_000,
        '{"images": []}',
        '{"images": {}, "annotations": [], "categories": []}',
    ],
)
def test_a_file_that_is_no_coco_is_broken(tmp_path, text):
    labels = read(tmp_path, text)
    assert labels.broken == ("train/_annotations.coco.json",)
    assert codes(labels) == {"malformed"}


def test_no_file_at_all(tmp_path):
    with pytest.raises(BadLabelsError, match="--root"):
        read_coco(Recipe("mine", "coco", tmp_path))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
numbers = st.lists(st.floats(-100, 200) | st.sampled_from([0, 48, 64, 1e300]), max_size=9)
cells = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(0, 3) | anything,
        "image_id": st.integers(0, 2) | anything,
        "category_id": st.integers(0, 3) | anything,
        "bbox": numbers | anything,
        "segmentation": st.lists(numbers, max_size=2)
        | st.fixed_dictionaries(
            {"size": st.just([48, 64]), "counts": st.lists(st.integers(-1, 3072), max_size=4)}
        )
        | anything,
        "iscrowd": st.integers(0, 1) | anything,
    },
)
pictures = st.fixed_dictionaries(
    {
        "id": st.integers(0, 2),
        "file_name": st.sampled_from(["a.jpg", "b.jpg", "../c.jpg"]) | st.text(max_size=8),
    },
    optional={"height": st.just(48) | anything, "width": st.just(64) | anything},
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(cells | anything, max_size=5),
    st.lists(pictures | anything, max_size=3),
    st.just(CATEGORIES) | st.lists(anything, max_size=3),
)
def test_whatever_the_file_says_every_annotation_is_accounted_for(
    tmp_path, entries, images, categories
):
    labels = read(tmp_path, {"images": images, "annotations": entries, "categories": categories})
    assert labels.n_read == len(entries)
    placed = [a.annotation_id for f in labels.fields for a in f.annotations]
    assert len({*placed, *(u.annotation_id for u in labels.unread)}) == len(entries)
    for field in labels.fields:
        for annotation in field.annotations:
            assert annotation.outline_box_yxyx is not None
            assert np.isfinite(annotation.outline_box_yxyx).all()


@pytest.mark.skipif(not DATASET_A.is_dir(), reason="the labels of Dataset A are not here")
def test_dataset_a_is_read_whole():
    labels = read_coco(load_recipe(REPOSITORY / "tfrecords/dataset_a.yaml", root=DATASET_A))
    counts = {
        split: sum(len(f.annotations) for f in labels.fields if f.split == split)
        for split in ("train", "val")
    }
    assert counts == {"train": 14_667, "val": 1_228}
    assert not labels.unread
    train = [f for f in labels.fields if f.split == "train"]
    assert len(train) == 390
    assert len({f.source_id for f in train}) == 130
    assert {f.patient_id for f in train} == {f"patient_0{k}" for k in range(1, 6)}
    assert all(f.path is None for f in labels.fields)
    assert {a.name for f in labels.fields for a in f.annotations} == {
        "RBC",
        "Spherocyte",
        "WBC",
        "Platelets",
    }


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        (0, False),
        ("0", False),
        ("False", False),
        (False, False),
        (None, False),
        (1, True),
        ("1", True),
    ],
)
def test_iscrowd_is_read_in_every_form(tmp_path, value, crowd):
    labels = read(tmp_path, export([cell(1, iscrowd=value)]))
    assert [a.iscrowd for f in labels.fields for a in f.annotations] == [crowd]


def test_another_iscrowd_is_malformed(tmp_path):
    labels = read(tmp_path, export([cell(1, iscrowd="maybe")]))
    assert [u.reason for u in labels.unread] == ["malformed"]


def test_a_polygon_may_be_written_as_pairs(tmp_path):
    pairs = [[[10, 5], [30, 5], [30, 25]]]
    labels = read(tmp_path, export([cell(1, segmentation=pairs)]))
    (annotation,) = labels.fields[0].annotations
    np.testing.assert_array_equal(annotation.polygons[0], [(5, 10), (5, 30), (25, 30)])


def test_cvats_images_are_found_in_their_sub_folders(tmp_path):
    for patient in ("p1", "p2"):
        folder = tmp_path / "images" / "default" / patient
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.jpg")
    images = [
        {"id": k, "file_name": f"{p}/a.jpg", "height": 48, "width": 64}
        for k, p in enumerate(("p1", "p2"))
    ]
    data = export([cell(1), cell(2, image_id=1)], images=images)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_default.json").write_text(json.dumps(data))
    labels = read_coco(Recipe("mine", "coco", tmp_path))
    assert [(f.file, len(f.annotations)) for f in labels.fields] == [
        ("images/default/p1/a.jpg", 1),
        ("images/default/p2/a.jpg", 1),
    ]
    assert all(f.path for f in labels.fields)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ({"size": [64, 48], "counts": [3072]}, "swapped"),
        ({"size": [48, 64], "counts": "b'abc'"}, "bytes"),
        ({"counts": [3072]}, "no size"),
    ],
)
def test_a_wrong_run_length_mask_is_explained(tmp_path, segmentation, says):
    labels = read(tmp_path, export([cell(1, segmentation=segmentation)]))
    (finding,) = (f for f in labels.findings if f.code == "malformed")
    assert says in finding.message


def test_run_lengths_may_be_floats_and_in_a_list(tmp_path):
    counts = [48.0, 24, 3000.0]
    for segmentation in (
        {"size": [48.0, 64.0], "counts": counts},
        [{"size": [48, 64], "counts": counts}],
    ):
        labels = read(tmp_path, export([cell(1, segmentation=segmentation)]))
        assert [a.mask.area_px for a in labels.fields[0].annotations] == [24]


def test_run_lengths_along_rows_are_recognised_by_the_box(tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[5:25, 10:30] = True
    along_rows = run_lengths(mask.T).runs.tolist()
    segmentation = {"size": [48, 64], "counts": along_rows}
    labels = read(tmp_path, export([cell(1, segmentation=segmentation)]))
    (annotation,) = labels.fields[0].annotations
    np.testing.assert_array_equal(np.asarray(annotation.mask), mask)
    (finding,) = (f for f in labels.findings if f.code == "box-polygon-mismatch")
    assert "rows" in finding.message and finding.annotation_ids == ("1",)
