"""outlines: label images told from photographs, paired with them, and their cells named by the
model's detections."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.find import find_fields
from spherodetect.pipeline import run as pipeline
from spherodetect.pipeline.label_images import (
    boxes_of,
    outlined_fields,
    paired,
    read_label_image,
    separate,
    with_outlines,
)
from spherodetect.report.interop import to_label_tiff
from spherodetect.score.rates import ClassifierRates
from spherodetect.synthetic import draw_field


@pytest.fixture(scope="module")
def drawn():
    return draw_field(
        np.random.default_rng(4), spherocyte_fraction=0.4, n_cells=30, size_hw=(240, 320)
    )


def photograph(path: Path, drawn) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn.image).save(path)
    return path


def test_a_label_image_is_told_from_photographs_and_goes_with_its_own(tmp_path, drawn):
    photographs = [
        photograph(tmp_path / name, drawn) for name in ("p1/a.png", "p1/a_2.tif", "p2/a.tif")
    ]
    # A field as a camera saves it without processing.
    grey = np.random.default_rng(0).integers(0, 60_000, (240, 320)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p2" / "raw.tif", grey)
    for name in ("p1/a_cp_masks.tif", "p1/a_2_masks.tif", "p2/lost_masks.tif"):
        to_label_tiff(drawn.cells, tmp_path / name)
    fields, outlines = outlined_fields(find_fields(tmp_path))
    assert outlines == {
        photographs[0]: tmp_path / "p1" / "a_cp_masks.tif",
        photographs[1]: tmp_path / "p1" / "a_2_masks.tif",
    }
    assert [f.patient_id for f in fields] == ["p1", "p1"]
    assert len(fields.problems) == 3 and all("left out" in problem for problem in fields.problems)


def test_score_counts_the_cells_of_the_label_images(tmp_path, drawn, monkeypatch):
    """The model is stood in for by one that sees everything; in the label image every second cell
    is missing."""
    rates = ClassifierRates((100,) * 6, (90,) * 6, (600,) * 6, (6,) * 6, name="seer")
    seer = SimpleNamespace(
        detect=lambda image, um_per_px: replace(drawn.cells, measurements={}),
        rates=rates,
        name="seer",
    )
    photograph(tmp_path / "smears" / "p1" / "a.png", drawn)
    to_label_tiff(drawn.cells[::2], tmp_path / "smears" / "p1" / "a_cp_masks.tif")
    result = pipeline.score_patients(tmp_path / "smears", model=seer, out=tmp_path / "out")
    (patient,) = result.scores
    assert (patient.patient_id, patient.model, patient.n_cells) == (
        "p1",
        "seer",
        len(drawn.cells[::2]),
    )
    with open(tmp_path / "out" / "cells.csv", encoding="utf-8", newline="") as file:
        boxes = {(row["ymin_px"], row["xmin_px"]) for row in csv.DictReader(file)}
    assert len(boxes) == patient.n_cells


def test_fields_without_label_images_are_what_they_were(tmp_path, drawn):
    photograph(tmp_path / "p1" / "a.tif", drawn)
    found = find_fields(tmp_path)
    assert outlined_fields(found) == (found, {})


def test_label_images_alone_say_nothing_of_classes(tmp_path, drawn):
    to_label_tiff(drawn.cells, tmp_path / "a.tif")
    with pytest.raises(SpherodetectError, match=r"^'a\.tif': .*class_name"):
        outlined_fields(find_fields(tmp_path))


def test_the_longest_name_that_a_label_image_begins_with_is_its_photograph():
    images = {
        "p/f1.png.tif": Path("1"),
        "p/f1_b-labels.tif": Path("2"),
        "p/f12.tif": Path("3"),
        "q/f1.tif": Path("4"),
    }
    assert paired(["p/f1.png", "p/f1_b.jpg", "p/f.png"], images) == {
        "p/f1.png": Path("1"),
        "p/f1_b.jpg": Path("2"),
    }


def test_labels_come_back_as_they_were_written(tmp_path):
    labels = np.zeros((20, 30), np.uint32)
    labels[2:5, 3:9], labels[10:, 25:] = 7, 4_000_000_000
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    read = read_label_image(tmp_path / "labels.tif")
    np.testing.assert_array_equal(read, labels)
    assert boxes_of(read) == {7: (2, 3, 5, 9), 4_000_000_000: (10, 25, 20, 30)}
    assert boxes_of(np.zeros((4, 4), int)) == {}


def test_what_is_no_label_image_is_refused_in_one_sentence(tmp_path):
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((8, 8, 3), np.uint8))
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((8, 8), np.float32))
    (tmp_path / "text.tif").write_text("no image")
    for name in ("colour", "float", "text", "absent"):
        with pytest.raises(BadImageError, match=f"{name}.tif': expected a label image") as caught:
            read_label_image(tmp_path / f"{name}.tif")
        assert "\n" not in str(caught.value)


def test_separate_boxes_keep_clear_of_the_border_and_of_each_other():
    box = [
        [10, 10, 50, 50],
        [10, 46, 50, 86],
        [55, 20, 95, 60],
        [55, 30, 95, 70],
        [60, 70, 99.5, 98],
    ]
    assert separate(np.array(box), (100, 100)).tolist() == [True, True, False, False, False]
    assert separate(np.zeros((0, 4)), (100, 100)).shape == (0,)
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 3000, (1200, 2))  # more than one batch, against every pair at once
    many = np.concatenate([corner, corner + 40], axis=1)
    gap = np.abs(corner[:, None] - corner[None]).clip(max=40)
    shared = np.prod(40 - gap, axis=2)
    overlap = shared / (2 * 1600 - shared) - np.eye(1200)
    inside = (many[:, :2] >= 1).all(axis=1) & (many[:, 2:] <= 3099).all(axis=1)
    assert (separate(many, (3100, 3100)) == inside & (overlap.max(axis=1) < 0.12)).all()


def test_outlines_take_the_class_of_the_detection_there(drawn):
    truth = drawn.cells
    labels = np.zeros(truth.image_size_hw, np.int32)
    for i, (mask, (y0, x0)) in enumerate(truth.pixel_masks()):
        window = labels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
        window[mask & (window == 0)] = 10 * (i + 1)
    missed = truth[1:]  # the detector did not see the first cell
    cells = with_outlines(missed, labels)
    assert len(cells) == len(missed)
    assert (cells.names == missed.names).mean() > 0.95
    assert [len(mask) for mask in cells.masks] == [int(y1 - y0) for y0, _, y1, _ in cells.box_yxyx]
    assert (
        cells.countable.any()
        and not (cells.countable & ~np.isin(cells.names, ["rbc", "spherocyte"])).any()
    )
    with pytest.raises(BadImageError, match=r"320x240.*240x240"):
        with_outlines(truth, labels[:, :240])
    assert len(with_outlines(Cells.empty(field_id="a", image_size_hw=(240, 320)), labels)) == 0
