"""Lint: each trap by itself in labels made for it, and all of Dataset A's by their exact counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hostile_exports import zipped
from spherodetect import cli
from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.check.lint import findings_json, lint, lint_labels
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe, load_recipe

REPOSITORY = Path(__file__).parents[1]
DATASET_A = REPOSITORY.parent / "shared/data/dataset-a-roboflow"
RECIPE = Recipe("mine", "coco", Path("."))
ROUND = np.stack([np.sin(np.linspace(0, 6, 12)), np.cos(np.linspace(0, 6, 12))], axis=1)


def outline(
    number: int, *, at: tuple[float, float] = (20, 20), radius: tuple[float, float] = (8, 8)
) -> Annotation:
    polygon = ROUND * radius + at
    (y0, x0), (y1, x1) = polygon.min(axis=0), polygon.max(axis=0)
    return Annotation(str(number), "rbc", (y0, x0, y1, x1), polygons=(polygon,))


def field(
    *annotations: Annotation,
    file: str = "a.jpg",
    size_hw: tuple[int, int] = (480, 640),
    **more: Any,
) -> LabelledField:
    more = {"source_id": file} | more
    return LabelledField(file, None, size_hw, annotations, **more)


def found(*fields: LabelledField, recipe: Recipe = RECIPE, groups: Any = ()) -> list[Finding]:
    labels = LabelSet(fields, label_files=dict.fromkeys([f.file for f in fields], "labels.json"))
    return lint_labels(labels, recipe, duplicate_groups=groups)


def test_clean_labels_have_no_findings():
    cells = [outline(k, at=(30 + 20 * (k // 20), 30 + 20 * (k % 20))) for k in range(60)]
    assert found(field(*cells)) == []


def test_boxes_that_stick_out_are_counted_with_how_far():
    cells = [
        replace(outline(1), box_yxyx=(10, 10, 480.4, 20), polygons=()),
        replace(outline(2, at=(40, 40)), box_yxyx=(0, -2.5, 9, 9), polygons=()),
        replace(outline(3), box_yxyx=(0, 0, 480, 640), polygons=()),
        outline(4, at=(476, 60)),
    ]
    (finding,) = (f for f in found(field(*cells)) if f.code == "box-outside-image")
    assert (finding.severity, finding.file, finding.count) == ("error", "labels.json", 3)
    assert finding.annotation_ids == ("1", "2", "4")
    assert "3.98 px" in finding.message


def test_boxes_that_differ_from_their_outline():
    cells = [outline(1), outline(2, at=(60, 60))]
    cells[1] = replace(cells[1], box_yxyx=tuple(np.round(cells[1].box_yxyx) + 0.3))
    (finding,) = found(field(*cells))
    assert (finding.code, finding.severity, finding.annotation_ids) == (
        "box-polygon-mismatch",
        "warning",
        ("2",),
    )


def test_rectangles_are_no_outlines():
    box = np.array([[10, 10], [10, 30], [40, 30], [40, 10], [10, 10]], float)
    with_midpoints = np.stack([box[:4], (box[:4] + box[1:]) / 2], axis=1).reshape(-1, 2)
    for polygon in (box, with_midpoints):
        rectangle = Annotation("1", "rbc", (10, 10, 40, 30), polygons=(polygon,))
        (finding,) = found(field(rectangle))
        assert (finding.code, finding.severity, finding.count) == ("rectangle-mask", "error", 1)
    (finding,) = found(field(rectangle, outline(2, at=(99, 99)), outline(3, at=(99, 200))))
    assert (finding.code, finding.severity) == ("rectangle-mask", "warning")
    mask = np.zeros((480, 640), bool)
    mask[10:40, 10:30] = True
    assert [f.code for f in found(field(Annotation("1", "rbc", (10, 10, 40, 30), mask=mask)))] == [
        "rectangle-mask"
    ]
    mask[10, 10] = False
    assert found(field(Annotation("1", "rbc", (10, 10, 40, 30), mask=mask))) == []


def test_a_second_label_on_a_cell():
    boxes = [Annotation(str(k), "rbc", (10, 10, 40, 40 + k)) for k in (0, 1, 20)]
    (finding,) = found(field(*boxes))
    assert (finding.code, finding.annotation_ids) == ("duplicate-box", ("1",))
    points = [Annotation(str(k), "rbc", point_yx=(50, 50 + x)) for k, x in enumerate((0, 10, 30))]
    assert [f.annotation_ids for f in found(field(*points, um_per_px=0.2))] == [("1",)]
    assert found(field(*points)) == []  # without a scale, only points on the same spot


@pytest.mark.parametrize(
    ("radius", "says"),
    [((12, 9), "1.33"), ((9, 12), "4:3"), ((12, 8), "3:2"), ((16, 9), "16:9"), ((9.4, 9), None)],
)
def test_squashed_cells_are_seen(radius, says):
    cells = [
        outline(k, at=(30 + 40 * (k // 10), 30 + 40 * (k % 10)), radius=radius) for k in range(40)
    ]
    findings = found(field(*cells, size_hw=(640, 640)))
    assert [f.code for f in findings] == (["stretched-image"] if says else [])
    if says:
        assert says in findings[0].message
        assert findings[0].severity == "error"


def test_a_stretch_that_the_recipe_undoes_is_a_note_and_needs_no_cells():
    (finding,) = found(field(size_hw=(640, 640), native_size_hw=(1800, 2400)))
    assert (finding.code, finding.severity) == ("stretched-image", "note")
    assert all(part in finding.message for part in ("2400x1800", "640x640", "1.33"))
    assert found(field(size_hw=(480, 640), native_size_hw=(1800, 2400))) == []


def test_few_cells_prove_no_stretch():
    assert (
        found(field(*[outline(k, at=(50, 30 + 40 * k), radius=(12, 9)) for k in range(10)])) == []
    )


def test_copies_are_counted_by_source():
    fields = [field(file=f"{s}{k}.jpg", source_id=s, split="train") for s in "ab" for k in range(3)]
    (finding,) = found(*fields, field(file="c.jpg", split="train"))
    assert (finding.code, finding.count) == ("augmented-copies", 2)
    assert "3 copies each, 6 images" in finding.message


def test_leaks_of_the_export_are_errors_unless_a_recipe_splits_anew():
    fields = [field(file=f"{s}.jpg", patient_id="p", split=s) for s in ("train", "val")]
    fields.append(field(file="other.jpg", patient_id="q", split="train"))
    (finding,) = found(*fields)
    assert (finding.code, finding.severity, finding.count) == ("patient-in-two-splits", "error", 1)
    rule = replace(RECIPE.split, by="patient", val=("q",))
    (finding,) = found(*fields, recipe=replace(RECIPE, split=rule, file=Path("mine.yaml")))
    assert (finding.code, finding.severity, finding.count) == ("patient-in-two-splits", "note", 1)


def test_near_duplicates_warn_and_across_splits_they_are_errors():
    fields = [field(file=f"{k}.jpg", split=s) for k, s in enumerate(["train", "train", "val"])]
    (finding,) = found(*fields, groups=[("0.jpg", "1.jpg")])
    assert (finding.code, finding.severity, finding.count) == (
        "near-duplicate-images",
        "warning",
        2,
    )
    findings = found(*fields, groups=[("0.jpg", "2.jpg")])
    assert [(f.code, f.severity) for f in findings] == [
        ("near-duplicate-images", "error"),
        ("near-duplicate-images", "warning"),
    ]
    copies = [replace(f, source_id="one") for f in fields[:2]]
    assert [f.code for f in found(*copies, groups=[("0.jpg", "1.jpg")])] == ["augmented-copies"]


def export(folder: Path) -> None:
    """A folder with an image that EXIF turns and a label file with a bad line."""
    folder.mkdir()
    image = Image.fromarray(np.full((480, 640, 3), 220, np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(folder / "a.jpg", exif=exif)
    entry = {"id": 0, "file_name": "a.jpg", "height": 640, "width": 480}
    cells = [{"id": k, "image_id": k, "category_id": 1, "bbox": [9, 9, 20, 20]} for k in (0, 1)]
    data = {"images": [entry], "annotations": cells, "categories": [{"id": 1, "name": "RBC"}]}
    (folder / "labels.json").write_text(json.dumps(data))


def test_a_folder_is_linted_with_its_images(tmp_path):
    export(tmp_path / "export")
    findings = lint(tmp_path / "export")
    assert [(f.code, f.severity, f.count) for f in findings] == [
        ("malformed", "error", 1),
        ("exif-rotation", "error", 1),
    ]


def test_the_json_is_as_the_contract_says(tmp_path):
    export(tmp_path / "export")
    data = json.loads(json.dumps(findings_json(lint(tmp_path / "export"))))
    assert set(data) == {"findings"}
    assert set(data["findings"][0]) == {
        "code",
        "severity",
        "file",
        "split",
        "count",
        "annotation_ids",
        "message",
        "mend",
    }
    assert data["findings"][0]["annotation_ids"] == ["1"]


def dataset_a(layout: str, tmp_path: Path) -> Path | Recipe:
    """The labels of Dataset A as they lie here, as a recipe has them, and as Roboflow gives them:
    folders, or a zip."""
    if layout == "here":
        return DATASET_A
    if layout == "recipe":
        return load_recipe(REPOSITORY / "tfrecords/dataset_a.yaml", root=DATASET_A)
    files = {
        f"{split}/_annotations.coco.json": (DATASET_A / f"{split}.json").read_bytes()
        for split in ("train", "valid")
    }
    if layout == "zip":
        (tmp_path / "a.zip").write_bytes(zipped(files))
        return tmp_path / "a.zip"
    for name, data in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.skipif(not DATASET_A.is_dir(), reason="the labels of Dataset A are not here")
@pytest.mark.parametrize(
    "layout",
    [
        "here",
        "zip",
        pytest.param("recipe", marks=pytest.mark.slow),
        pytest.param("folders", marks=pytest.mark.slow),
    ],
)
def test_dataset_a_by_the_exact_counts(layout, tmp_path):
    findings = [f for f in lint(dataset_a(layout, tmp_path)) if f.code != "labels-without-image"]
    counts = {(f.code, f.split): f.count for f in findings}
    assert len(counts) == len(findings)
    assert counts == {
        ("box-outside-image", "train"): 1_192,
        ("box-outside-image", "val"): 70,
        ("rectangle-mask", "train"): 14_667,
        ("rectangle-mask", "val"): 1_228,
        ("box-polygon-mismatch", "train"): 13_682,
        ("box-polygon-mismatch", "val"): 1_143,
        ("stretched-image", "train"): 390,
        ("stretched-image", "val"): 37,
        ("augmented-copies", "train"): 130,
        ("patient-in-two-splits", None): 4,
        ("root-category", "train"): 1,
        ("root-category", "val"): 1,
    }
    assert counts["rectangle-mask", "train"] + counts["rectangle-mask", "val"] == 15_895
    assert all(len(f.annotation_ids) in (0, f.count) for f in findings)
    stretch = next(f for f in findings if f.code == "stretched-image")
    assert "1.30" in stretch.message
    assert "1.33" in stretch.message
    copies = next(f for f in findings if f.code == "augmented-copies")
    assert "130 sources" in copies.message
    assert "3 copies" in copies.message
    torn = next(f for f in findings if f.code == "patient-in-two-splits")
    assert torn.severity == ("note" if layout == "recipe" else "error")
    if layout == "recipe":
        assert {f.severity for f in findings} == {"note"}, "all of it is repaired"
    assert re.findall(r"patient_\d\d", torn.message) == [f"patient_0{k}" for k in (1, 2, 3, 4)]


@pytest.mark.skipif(not DATASET_A.is_dir(), reason="the labels of Dataset A are not here")
def test_the_command_names_the_traps_of_dataset_a(tmp_path, capsys):
    assert cli.main(["lint", str(DATASET_A), "--json", str(tmp_path / "a.json")]) == 1
    counts: Counter[str] = Counter()
    for finding in json.loads((tmp_path / "a.json").read_text())["findings"]:
        counts[finding["code"]] += finding["count"]
    assert (counts["box-outside-image"], counts["rectangle-mask"]) == (1_192 + 70, 15_895)
    assert (counts["augmented-copies"], counts["patient-in-two-splits"]) == (130, 4)
    table = " ".join(capsys.readouterr().out.split())
    assert re.search(r"error box-outside-image 1,262 \S*train.json\S* \(train\) x 1,192:", table)
    assert re.search(r"error rectangle-mask 15,895 \S*train.json\S* \(train\) x 14,667:", table)
    assert re.search(r"\S*valid.json\S* \(val\) x 70:", table)
