"""Every code of lint: a drawn export that has the trap shows it, and one that has none shows
nothing."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.check.lint import CODES, lint
from spherodetect.labels.coco_writer import to_coco
from spherodetect.labels.readers.drawn import outline_annotations
from spherodetect.synthetic import draw_field

SIZE_HW = (240, 320)
Splits = dict[str, "Split"]


@dataclass
class Split:
    """One folder of a Roboflow export: what its label file says, its images, and how EXIF has them
    turned."""

    coco: dict[str, Any]
    images: dict[str, np.ndarray]
    orientation: int = 1

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "_annotations.coco.json").write_text(json.dumps(self.coco))
        for name, pixels in self.images.items():
            image = Image.fromarray(pixels)
            exif = image.getexif()
            exif[0x0112] = self.orientation
            image.save(folder / name, "PNG", exif=exif)

    def add_copy(self, name: str, *, mirrored: bool) -> None:
        """The first image a second time, with its labels, as it is or left to right."""
        pixels, first = next(iter(self.images.values())), self.coco["images"][0]
        self.images[name] = pixels[:, ::-1] if mirrored else pixels
        self.coco["images"].append(first | {"id": 99, "file_name": name})
        for cell in [a for a in self.coco["annotations"] if a["image_id"] == first["id"]]:
            again = copy.deepcopy(cell) | {"id": 1000 + cell["id"], "image_id": 99}
            if mirrored:
                x, y, w, h = cell["bbox"]
                again["bbox"] = [SIZE_HW[1] - x - w, y, w, h]
                again["segmentation"] = [np.array(p) for p in cell["segmentation"]]
                for part in again["segmentation"]:
                    part[::2] = SIZE_HW[1] - part[::2]
                again["segmentation"] = [part.tolist() for part in again["segmentation"]]
            self.coco["annotations"].append(again)

    def rename(self, name: str) -> None:
        """Give the first image another name."""
        old = self.coco["images"][0]["file_name"]
        self.coco["images"][0]["file_name"] = name
        self.images = {name if key == old else key: pixels for key, pixels in self.images.items()}


@pytest.fixture(scope="module")
def drawn() -> Splits:
    """Four fields of two patients, every cell with its outline."""
    rng, splits = np.random.default_rng(11), {}
    for folder, patient in ("train", 1), ("valid", 2):
        fields, images = [], {}
        for number in (1, 2):
            name = f"patient_{patient:02d}_{number}.png"
            one = draw_field(
                rng,
                size_hw=SIZE_HW,
                n_cells=26,
                n_white=0,
                n_platelets=2,
                overlap_fraction=0,
                touching_fraction=0,
            )
            fields.append(LabelledField(name, None, SIZE_HW, outline_annotations(one), name))
            images[name] = one.image
        splits[folder] = Split(to_coco(fields), images)
    return splits


def findings_of(splits: Splits, tmp_path: Path) -> list[Finding]:
    for name, split in splits.items():
        split.write(tmp_path / "export" / name)
    return lint(tmp_path / "export")


def cells(splits: Splits) -> list[dict[str, Any]]:
    return splits["train"].coco["annotations"]


def sticking_out(splits: Splits) -> None:
    for cell in cells(splits)[:3]:
        x, y, w, _ = cell["bbox"]
        cell.update(segmentation=[], bbox=[x, y, w, SIZE_HW[0] - y + 0.4])


def mismatch(splits: Splits) -> None:
    inner = [
        c
        for c in cells(splits)
        if c["bbox"][0] > 2 and c["bbox"][0] + c["bbox"][2] < SIZE_HW[1] - 2
    ]
    for cell in inner[:4]:
        cell["bbox"][0] += 0.4


def rectangles(splits: Splits) -> None:
    for cell in cells(splits):
        x, y, w, h = cell["bbox"]
        cell["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h, x, y]]


def squashed(splits: Splits) -> None:
    split = splits["train"]
    width = SIZE_HW[1] * 3 // 4
    for image in split.coco["images"]:
        image["width"] = width
    for cell in cells(splits):
        cell["bbox"] = [v * f for v, f in zip(cell["bbox"], (0.75, 1, 0.75, 1), strict=True)]
        cell["segmentation"] = [
            [v * (0.75, 1)[k % 2] for k, v in enumerate(p)] for p in cell["segmentation"]
        ]
    split.images = {
        name: np.asarray(Image.fromarray(pixels).resize((width, SIZE_HW[0])))
        for name, pixels in split.images.items()
    }


def copies(splits: Splits) -> None:
    splits["train"].rename("slide_png.rf.aaaa.png")
    splits["train"].add_copy("slide_png.rf.bbbb.png", mirrored=True)


def source_torn(splits: Splits) -> None:
    copies(splits)
    train, valid = splits["train"], splits["valid"]
    valid.coco["images"].append(train.coco["images"].pop() | {"id": 77})
    valid.images["slide_png.rf.bbbb.png"] = train.images.pop("slide_png.rf.bbbb.png")
    moved = [a for a in cells(splits) if a["image_id"] == 99]
    train.coco["annotations"] = [a for a in cells(splits) if a["image_id"] != 99]
    valid.coco["annotations"] += [a | {"image_id": 77} for a in moved]


def patient_torn(splits: Splits) -> None:
    splits["valid"].rename("patient_01_9.png")


def same_picture(splits: Splits) -> None:
    splits["train"].add_copy("patient_01_7.png", mirrored=False)


def root_category(splits: Splits) -> None:
    categories = splits["train"].coco["categories"]
    for category in categories:
        category["supercategory"] = "smears"
    categories.insert(0, {"id": 0, "name": "smears", "supercategory": "none"})


def gaps(splits: Splits) -> None:
    last = splits["train"].coco["categories"][-1]
    for cell in cells(splits):
        cell["category_id"] += 4 * (cell["category_id"] == last["id"])
    last["id"] += 4


def repeated_ids(splits: Splits) -> None:
    for cell in cells(splits)[:5]:
        cell["id"] = 1


def labelled_twice(splits: Splits) -> None:
    splits["train"].coco["annotations"] += [c | {"id": 500 + c["id"]} for c in cells(splits)[:2]]


def two_point_outlines(splits: Splits) -> None:
    for cell in cells(splits)[:2]:
        cell["segmentation"] = [cell["segmentation"][0][:4]]


def half_labelled(splits: Splits) -> None:
    splits["train"].coco["annotations"] = cells(splits)[::2]


def unlisted_image(splits: Splits) -> None:
    splits["train"].images["extra.png"] = np.full((*SIZE_HW, 3), 225, np.uint8)


def lost_image(splits: Splits) -> None:
    del splits["train"].images["patient_01_2.png"]


def turned(splits: Splits) -> None:
    splits["train"].orientation = 6


def not_numbers(splits: Splits) -> None:
    for cell, value in zip(cells(splits), (float("nan"), -5, "12"), strict=False):
        cell["bbox"][2] = value


def odd_name(splits: Splits) -> None:
    for split in splits.values():
        for category in split.coco["categories"]:
            if category["name"] == "rbc":
                category["name"] = "Zelle"


def box_on_slide(splits: Splits) -> None:
    y, x = _empty_spot(splits["train"].images["patient_01_1.png"])
    box = {"id": 900, "segmentation": [], "bbox": [max(0, x - 8), max(0, y - 8), 8, 8]}
    cells(splits).append(cells(splits)[0] | box)


def one_name(splits: Splits) -> None:
    split = splits["train"]
    split.rename("slide_png.rf.aaaa.png")
    second = split.coco["images"][1]
    split.images["slide_png.rf.bbbb.png"] = split.images.pop(second["file_name"])
    second["file_name"] = "slide_png.rf.bbbb.png"


#: Code: how an export comes by it, its severity, and its count over all findings.
TRAPS: dict[str, tuple[Callable[[Splits], None], str, int | None]] = {
    "box-outside-image": (sticking_out, "error", 3),
    "box-polygon-mismatch": (mismatch, "warning", 4),
    "rectangle-mask": (rectangles, "error", None),
    "stretched-image": (squashed, "error", 2),
    "augmented-copies": (copies, "warning", 1),
    "source-in-two-splits": (source_torn, "error", 1),
    "patient-in-two-splits": (patient_torn, "error", 1),
    "near-duplicate-images": (same_picture, "warning", 2),
    "root-category": (root_category, "warning", 1),
    "gapped-category-ids": (gaps, "warning", 1),
    "duplicate-annotation-id": (repeated_ids, "error", 4),
    "duplicate-box": (labelled_twice, "warning", 2),
    "degenerate-polygon": (two_point_outlines, "error", 2),
    "unlabelled-cells": (half_labelled, "error", None),
    "image-without-labels": (unlisted_image, "warning", 1),
    "labels-without-image": (lost_image, "error", 1),
    "box-beside-cell": (box_on_slide, "error", 1),
    "same-name-images": (one_name, "warning", 2),
    "exif-rotation": (turned, "error", 2),
    "malformed": (not_numbers, "error", 3),
    "unknown-class": (odd_name, "error", None),
}


def test_every_code_has_its_trap():
    assert {*TRAPS, "point-beside-cell"} == set(CODES)
    assert len(CODES) == 22


def test_an_export_without_a_trap_has_no_finding(drawn, tmp_path):
    assert findings_of(drawn, tmp_path) == []


@pytest.mark.parametrize("code", TRAPS)
def test_a_trap_is_found_and_nothing_else(drawn, tmp_path, code):
    spring, severity, count = TRAPS[code]
    splits = copy.deepcopy(drawn)
    spring(splits)
    found = findings_of(splits, tmp_path)
    counts: Counter[str] = Counter()
    for finding in found:
        counts[finding.code] += finding.count
    assert set(counts) == {code}, [(f.code, f.message) for f in found]
    assert {f.severity for f in found} == {severity}
    assert count is None or counts[code] == count


def test_points_beside_cells(drawn, tmp_path):
    """Points name the cells that they lie on; one that lies on the slide is found, and nothing else
    is."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, pixels in drawn["train"].images.items():
        Image.fromarray(pixels).save(tmp_path / "images" / name)
        image_id = next(i["id"] for i in drawn["train"].coco["images"] if i["file_name"] == name)
        boxes = [a["bbox"] for a in cells(drawn) if a["image_id"] == image_id]
        lines = [f"{x + w / 2} {y + h / 2} rbc" for x, y, w, h in boxes]
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    assert lint(tmp_path) == []
    label_file = tmp_path / "labels" / "patient_01_1.txt"
    y, x = _empty_spot(drawn["train"].images["patient_01_1.png"])
    label_file.write_text(f"{x} {y} rbc\n{label_file.read_text()}")
    (finding,) = lint(tmp_path)
    assert (finding.code, finding.severity, finding.annotation_ids) == (
        "point-beside-cell",
        "warning",
        ("1",),
    )
    assert finding.file == "labels/patient_01_1.txt"


def _empty_spot(image: np.ndarray) -> tuple[int, int]:
    """The place that is farthest from anything dark."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    green = gaussian_filter(image[..., 1].astype(float), 2)
    clear = distance_transform_edt(green > np.percentile(green, 90) - 15)
    y, x = np.unravel_index(clear.argmax(), clear.shape)
    return int(y), int(x)
