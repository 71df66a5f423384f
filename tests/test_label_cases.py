"""Exports as public bug reports describe them: read rightly, or refused in one sentence."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherodetect import cli
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.labels.annotations import Finding
from spherodetect.labels.check.beside import misread_conventions
from spherodetect.labels.check.lint import lint
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.labels.splits import assign_splits, spare_copies
from spherodetect.pipeline.run import score_patients
from spherodetect.records.convert import convert, prepare

HEIGHT, WIDTH = 240, 320
#: x, y, radius, class
Cell = tuple[float, float, float, str]
NAMES = ("rbc", "spherocyte")


def smear(seed: int, *, n: int = 20) -> tuple[np.ndarray, list[Cell]]:
    """A drawn field of n separate cells, about every third a spherocyte."""
    rng = np.random.default_rng(seed)
    image = np.array([232.0, 226, 222]) + rng.normal(0, 2, (HEIGHT, WIDTH, 3))
    cells: list[Cell] = []
    while len(cells) < n:
        x, y, r = rng.uniform(14, WIDTH - 14), rng.uniform(14, HEIGHT - 14), rng.uniform(9, 11)
        if any(math.hypot(x - a, y - b) < r + c + 3 for a, b, c, _ in cells):
            continue
        name = NAMES[int(rng.random() < 0.3)]
        top, left = int(y - r) - 1, int(x - r) - 1
        window = image[top : top + 26, left : left + 26]
        rows, columns = np.mgrid[top : top + 26, left : left + 26] + 0.5
        distance = np.hypot(rows - y, columns - x)[: window.shape[0], : window.shape[1], None]
        pallor = 0 if name == "spherocyte" else 40 * np.clip(1 - distance / (0.55 * r), 0, 1)
        inside = np.clip(r - distance + 0.5, 0, 1)
        window[:] = window * (1 - inside) + (np.array([188.0, 118, 128]) + pallor) * inside
        cells.append((x, y, r, name))
    return np.clip(image, 0, 255).astype(np.uint8), cells


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def polygon(x: float, y: float, r: float) -> list[float]:
    turn = 2 * np.pi * np.arange(16) / 16
    return np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1).ravel().tolist()


def coco(fields: dict[str, list[Cell]]) -> dict[str, Any]:
    """A whole COCO data set: file name to the cells of the image."""
    images, annotations = [], []
    for number, (name, cells) in enumerate(fields.items(), 1):
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for x, y, r, kind in cells:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": NAMES.index(kind) + 1,
                    "iscrowd": 0,
                    "bbox": [x - r, y - r, 2 * r, 2 * r],
                    "segmentation": [polygon(x, y, r)],
                }
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def dump(data: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def one_field(
    folder: Path, *, name: str = "f.jpg", n: int = 20
) -> tuple[dict[str, Any], list[Cell]]:
    """The image of a field, and its COCO labels that are still to be written."""
    image, cells = smear(1, n=n)
    save(image, folder / name)
    return coco({name: cells}), cells


def codes(findings: list[Finding]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for finding in findings:
        counted[finding.code] += finding.count
    return counted


def n_annotations(folder: Path) -> int:
    return sum(len(f.annotations) for f in read_unmapped(recipe_for(folder)).fields)


# Which file is which


@pytest.mark.parametrize("kind", ["box", "outline", "darknet"])
def test_score_takes_a_yolo_export_as_labels(tmp_path, kind):
    for number in (1, 2):
        image, cells = smear(number)
        stem = tmp_path / "train" / "images" / f"patient_01_{number}_jpg.rf.{number:032x}"
        if kind == "darknet":
            stem = tmp_path / f"patient_01_{number}"
        save(image, stem.with_suffix(".jpg"))
        lines = []
        for x, y, r, name in cells:
            values = [x, y, 2 * r, 2 * r] if kind != "outline" else polygon(x, y, r)
            parts = [v / (WIDTH, HEIGHT)[k % 2] for k, v in enumerate(values)]
            lines.append(" ".join(map(str, [NAMES.index(name), *parts])))
        text = Path(str(stem).replace("images", "labels")).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(lines))
    if kind == "darknet":
        (tmp_path / "obj.names").write_text("rbc\nspherocyte\n")
    else:
        (tmp_path / "data.yaml").write_text(
            "train: ../train/images\nnames: ['rbc', 'spherocyte']\n"
        )
    n_spherocytes = sum(c[3] == "spherocyte" for k in (1, 2) for c in smear(k)[1])
    for source in [tmp_path, *tmp_path.glob("data.yaml")]:
        (patient,) = score_patients(source).scores
        assert (patient.n_fields, patient.n_countable, patient.n_spherocytes) == (
            2,
            40,
            n_spherocytes,
        )
        assert patient.model == "labels"


def test_names_of_yolo_are_those_of_the_nearest_export(tmp_path):
    for folder, names in ("a", "[rbc, spherocyte]"), ("b", "[spherocyte, rbc]"):
        save(smear(1)[0], tmp_path / folder / "images" / "1.jpg")
        (tmp_path / folder / "labels").mkdir()
        (tmp_path / folder / "labels" / "1.txt").write_text("0 0.5 0.5 0.1 0.1")
        (tmp_path / folder / "data.yaml").write_text(f"names: {names}")
    labels = read_unmapped(recipe_for(tmp_path))
    assert [f.annotations[0].name for f in labels.fields] == ["rbc", "spherocyte"]


def test_yolo_key_points_are_no_outline(tmp_path):
    save(smear(1)[0], tmp_path / "1.jpg")
    (tmp_path / "1.txt").write_text("0 0.5 0.5 0.1 0.2 0.5 0.5 2 0.4 0.4 2")
    (tmp_path / "data.yaml").write_text("names: [rbc]\nkpt_shape: [2, 3]")
    (label,) = read_unmapped(recipe_for(tmp_path)).fields[0].annotations
    assert not label.polygons
    assert label.box_yxyx == pytest.approx((0.4 * HEIGHT, 0.45 * WIDTH, 0.6 * HEIGHT, 0.55 * WIDTH))


FOREIGN = {
    "CreateML": ("_annotations.createml.json", '[{"image": "a.jpg", "annotations": []}]'),
    "Label Studio": ("project.json", '[{"id": 1, "data": {"image": "x"}, "annotations": []}]'),
    "TensorFlow": ("_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_score_names_a_format_that_is_not_read(tmp_path, kind):
    name, text = FOREIGN[kind]
    (tmp_path / name).write_text(text)
    save(smear(1)[0], tmp_path / "a.jpg")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(BadLabelsError, match=rf"{name}.*{kind}.*COCO"):
            score_patients(source)


def test_notes_beside_photographs_are_no_labels(tmp_path):
    from spherodetect.labels.formats import is_label_source

    save(smear(1)[0], tmp_path / "patient_01" / "a.jpg")
    (tmp_path / "stains.csv").write_text("filename,stain\na.jpg,MGG\n")
    (tmp_path / "notes.txt").write_text("312 200 are good fields\n")
    (tmp_path / "camera.xml").write_text("<camera><gain>2</gain></camera>")
    dump({"images": [], "categories": [], "annotations": [{"score": 0.9}]}, tmp_path / "coco.json")
    assert not is_label_source(tmp_path)


# Which image is which


@pytest.mark.parametrize(
    ("stated", "there"),
    [
        (r"..\..\label-studio\media\upload\4\cb0618f6-a.png", "images/cb0618f6-a.png"),
        ("/data/upload/1/942a5a02-a.jpg", "images/942a5a02-a.jpg"),
        ("images/1/942a5a02-a.jpg", "images/942a5a02-a.jpg"),
        ("images/Abstrich%20M%C3%BCller%2001.jpg", "images/Abstrich Müller 01.jpg"),
        ("images/Abstrich Müller 01.jpg", "images/Abstrich%20M%C3%BCller%2001.jpg"),
        ("/data/local-files/?d=smears/a.jpg", "images/a.jpg"),
        (r"C:\Users\lab\smears\a.jpg", "images/a.jpg"),
        ("https://host/bucket/a.jpg?X-Amz-Signature=abc", "images/a.jpg"),
        ("IMG_0001.jpg", "IMG_0001.JPG"),
        ("IMG_0001.png", "IMG_0001.jpg"),
        ("IMG_0001", "IMG_0001.jpg"),
        ("M\u00fcller_01.jpg", "Mu\u0308ller_01.jpg"),
        (" IMG 01.jpg", "IMG 01.jpg"),
        ("smear🩸 01.jpg", "smear🩸 01.jpg"),
        ("patient_01/field_01.jpg", "images/default/patient_01/field_01.jpg"),
    ],
)  # fmt: skip
def test_the_image_is_found(tmp_path, stated, there):
    image, cells = smear(1, n=3)
    save(image, tmp_path / there)
    dump(coco({stated: cells}), tmp_path / "result.json")
    (field,) = read_unmapped(recipe_for(tmp_path)).fields
    assert field.path == tmp_path / there
    assert len(field.annotations) == 3


def test_an_image_of_a_similar_name_is_named_and_not_taken(tmp_path):
    image, cells = smear(1, n=3)
    save(image, tmp_path / "IMG_0012.jpg")
    dump(coco({"IMG_0013.jpg": cells}), tmp_path / "result.json")
    (finding,) = lint(tmp_path, segmentation=False)
    assert (finding.code, finding.severity) == ("labels-without-image", "error")
    assert "IMG_0012.jpg" in finding.message


@pytest.mark.parametrize("form", ["voc", "yolo", "points", "labelme"])
def test_label_files_find_their_image_whatever_its_case(tmp_path, form):
    image, cells = smear(1, n=3)
    save(image, tmp_path / "images" / "IMG_1.JPG")
    x, y, r, _ = cells[0]
    corners = [[x - r, y - r], [x + r, y + r]]
    shape = {"label": "rbc", "shape_type": "rectangle", "points": corners}
    suffix, text = {
        "voc": ("xml", voc(cells[:1])),
        "yolo": ("txt", f"0 {x / WIDTH} {y / HEIGHT} 0.06 0.08"),
        "points": ("txt", f"{x} {y} rbc"),
        "labelme": ("json", json.dumps({"imagePath": "img_1.jpg", "shapes": [shape]})),
    }[form]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"img_1.{suffix}").write_text(text)
    labels = read_unmapped(Recipe("mine", form, tmp_path))
    assert [len(f.annotations) for f in labels.fields if f.path] == [1]
    assert not labels.unread


def test_a_zip_of_a_folder_is_its_folder(tmp_path):
    import shutil

    export = tmp_path / "whole" / "my smears"
    data, _ = one_field(export / "patient_01", name="f.jpg", n=3)
    data["images"][0]["file_name"] = "patient_01/f.jpg"
    dump(data, export / "result.json")
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "whole")
    (field,) = read_unmapped(recipe_for(tmp_path / "export.zip")).fields
    assert (field.file, field.patient_id, len(field.annotations)) == (
        "patient_01/f.jpg",
        "patient_01",
        3,
    )


# What a copy is


def named_alike(folder: Path, *, seeds: tuple[int, ...], mirrored: bool = False) -> None:
    """Photographs, or copies of one, that share the name field_01."""
    fields = {}
    for number, seed in enumerate(seeds):
        image, cells = smear(seed, n=30)
        if mirrored and number:
            image = image[:, ::-1]
            cells = [(WIDTH - x, y, r, name) for x, y, r, name in cells]
        name = f"field_01_jpg.rf.{number:032x}.jpg"
        save(np.ascontiguousarray(image), folder / "train" / name)
        fields[name] = cells
    dump(coco(fields), folder / "train" / "_annotations.coco.json")


def test_photographs_that_only_share_a_name_all_count(tmp_path):
    named_alike(tmp_path, seeds=(1, 2))
    result = score_patients(tmp_path)
    assert sum(p.n_fields for p in result.scores) == 2
    assert sum(p.n_countable for p in result.scores) == 60
    assert not result.problems
    (finding,) = lint(tmp_path, segmentation=False)
    assert (finding.code, finding.severity, finding.count) == ("same-name-images", "warning", 2)
    fields = read_unmapped(recipe_for(tmp_path)).fields
    assert not spare_copies(fields, {f.file: "val" for f in fields})


def test_copies_of_one_photograph_count_once(tmp_path):
    named_alike(tmp_path, seeds=(1, 1, 1), mirrored=True)
    result = score_patients(tmp_path)
    assert [(p.n_fields, p.n_countable) for p in result.scores] == [(1, 30)]
    (problem,) = result.problems
    assert "2 images left out" in problem and "field_01_jpg.rf.00" in problem
    assert codes(lint(tmp_path, segmentation=False)) == {"augmented-copies": 1}


def test_a_picture_under_a_second_name_counts_once(tmp_path):
    image, cells = smear(1)
    other, more = smear(2)
    for name, pixels in (("a.jpg", image), ("b.png", image), ("c.jpg", other)):
        save(pixels, tmp_path / "patient_01" / name)
    fields = {"a.jpg": cells, "b.png": cells[:9], "c.jpg": more}
    dump(coco({f"patient_01/{k}": v for k, v in fields.items()}), tmp_path / "result.json")
    result = score_patients(tmp_path)
    assert [(p.n_fields, p.n_countable) for p in result.scores] == [(2, 40)]
    assert "b.png" in result.problems[0]


def test_without_images_and_labels_the_name_decides(tmp_path):
    fields = {f"f_jpg.rf.{k:032x}.jpg": smear(k, n=3)[1] for k in (1, 2)}
    dump(coco(fields), tmp_path / "train" / "_annotations.coco.json")
    fields_read = read_unmapped(recipe_for(tmp_path)).fields
    assert len({f.view for f in fields_read}) == 1


def test_roboflow_copies_in_voc_share_a_source_and_stay_in_one_split(tmp_path):
    for split, sources, n_copies in (("train", (1, 2), 2), ("valid", (3,), 1)):
        for source in sources:
            image, cells = smear(source)
            for copy in range(n_copies):
                name = f"patient_0{source}_01_jpg.rf.{10 * source + copy:032x}"
                save(image[:, ::-1] if copy else image, tmp_path / split / f"{name}.jpg")
                objects = "".join(
                    f"<object><name>{kind}</name><bndbox><xmin>{a - r:.0f}</xmin><ymin>{y - r:.0f}"
                    f"</ymin><xmax>{a + r:.0f}</xmax><ymax>{y + r:.0f}</ymax></bndbox></object>"
                    for x, y, r, kind in cells
                    for a in [WIDTH - x if copy else x]
                )
                text = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
                (tmp_path / split / f"{name}.xml").write_text(text)
    assert codes(lint(tmp_path, segmentation=False)) == {"augmented-copies": 2}
    fields = read_unmapped(recipe_for(tmp_path)).fields
    splits = assign_splits(fields, recipe_for(tmp_path))
    assert Counter(splits.values()) == {"train": 4, "val": 1}
    (tmp_path / "r.yaml").write_text("name: m\nformat: voc\nsplit: {by: source, val_fraction: 0.3}")
    splits = assign_splits(fields, load_recipe(tmp_path / "r.yaml"))
    assert len({(f.source_id, splits[f.file]) for f in fields}) == 3


def test_a_folder_is_a_patient_in_a_recipe(tmp_path):
    image, cells = smear(1, n=3)
    for patient in ("Müller", "Meier"):
        save(image, tmp_path / "images" / patient / "1.jpg")
    dump(coco({f"{p}/1.jpg": cells for p in ("Müller", "Meier")}), tmp_path / "result.json")
    for keys in ("patients: folder", "split: {by: patient}"):
        (tmp_path / "r.yaml").write_text(f"name: m\nformat: coco\n{keys}\n")
        fields = read_unmapped(load_recipe(tmp_path / "r.yaml")).fields
        assert sorted(f.patient_id or "" for f in fields) == ["Meier", "Müller"]


# What a value means


@pytest.mark.parametrize("value", [0, "0", "False", False, None, "none"])
def test_no_crowd_in_whatever_form(tmp_path, value):
    data, _ = one_field(tmp_path, n=4)
    for annotation in data["annotations"]:
        annotation["iscrowd"] = value
    dump(data, tmp_path / "result.json")
    (field,) = read_unmapped(recipe_for(tmp_path)).fields
    assert [a.iscrowd for a in field.annotations] == [False] * 4


@pytest.mark.parametrize("as_id", [float, str, lambda n: f"{n}"])
def test_ids_in_whatever_form(tmp_path, as_id):
    data, _ = one_field(tmp_path, n=4)
    for annotation in data["annotations"]:
        for key in ("id", "image_id", "category_id"):
            annotation[key] = as_id(annotation[key])
    dump(data, tmp_path / "result.json")
    labels = read_unmapped(recipe_for(tmp_path))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1", "2", "3", "4"]
    assert not labels.findings


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "x"])
def test_a_list_that_is_none_is_named_with_its_type(tmp_path, key, value):
    data, _ = one_field(tmp_path, n=1)
    data[key] = value
    dump(data, tmp_path / "_annotations.coco.json")
    got = {type(None): "null", dict: "keys and values", str: "text"}[type(value)]
    (message,) = {f.message for f in read_unmapped(recipe_for(tmp_path)).findings
                  if f.code == "malformed"}  # fmt: skip
    assert message.endswith(f"got {got} for {key}")


@pytest.mark.parametrize(
    ("entries", "key", "value", "named"),
    [
        ("annotations", "image_id", None, r"expected image_id .* images, got null"),
        ("annotations", "image_id", 77, r"image_id .* images"),
        ("annotations", "category_id", [1], r"expected category_id .* categories, got a list"),
        ("annotations", "category_id", 77, r"category_id .* categories"),
        ("annotations", "bbox", [1, 2, "3", 4], r"bbox"),
        ("images", "file_name", 5, r"images\[0\]: expected file_name .* got a number"),
        ("images", "id", None, r"images\[0\]: expected id .* got null"),
        ("categories", "name", None, r"categories\[0\]: expected name .* got null"),
    ],
)
def test_a_wrong_value_is_named_by_its_list_key_and_type(tmp_path, entries, key, value, named):
    data, _ = one_field(tmp_path, n=1)
    data["annotations"][0]["category_id"] = 1
    data[entries][0][key] = value
    dump(data, tmp_path / "result.json")
    messages = [f.message for f in read_unmapped(recipe_for(tmp_path)).findings
                if f.code == "malformed"]  # fmt: skip
    assert any(re.search(named, message) for message in messages), messages


def column_runs(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.ravel(order="F").astype(int)])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0, append=mask.size).tolist()


@pytest.mark.parametrize("box", ["right", "none", "zero"])
def test_run_lengths_along_rows_are_noticed_and_read(tmp_path, box):
    data, cells = one_field(tmp_path, n=6)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    masks = [np.hypot(columns - x, rows - y) < r for x, y, r, _ in cells]
    for annotation, mask in zip(data["annotations"], masks, strict=True):
        annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": column_runs(mask.T)}
        if box == "none":
            del annotation["bbox"]
        if box == "zero":
            annotation["bbox"] = [0, 0, 0, 0]
    dump(data, tmp_path / "result.json")
    labels = read_unmapped(recipe_for(tmp_path))
    for annotation, mask in zip(labels.fields[0].annotations, masks, strict=True):
        assert (np.asarray(annotation.mask) == mask).all()
    (finding,) = labels.findings
    assert (finding.code, finding.count) == ("box-polygon-mismatch", 6)
    assert "along rows" in finding.message


def test_run_lengths_of_a_swapped_size_are_refused_by_name(tmp_path):
    data, _ = one_field(tmp_path, n=1)
    runs = [5, 20, HEIGHT * WIDTH - 25]
    data["annotations"][0]["segmentation"] = {"size": [WIDTH, HEIGHT], "counts": runs}
    dump(data, tmp_path / "result.json")
    (finding,) = (f for f in read_unmapped(recipe_for(tmp_path)).findings if f.code == "malformed")
    assert "width and height are swapped" in finding.message


# Labels beside cells


def boxes_only(data: dict[str, Any], convention: str) -> None:
    """Boxes in another convention than COCO's, and no outlines."""
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = []
        annotation["bbox"] = {
            "right": [x, y, w, h],
            "corners": [x, y, x + w, y + h],
            "centre": [x + w / 2, y + h / 2, w, h],
            "percent": [100 * x / WIDTH, 100 * y / HEIGHT, 100 * w / WIDTH, 100 * h / HEIGHT],
            "fractions": [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT],
        }[convention]


@pytest.mark.parametrize(
    ("convention", "fits"),
    [
        ("corners", "corners x1, y1, x2, y2 in pixels"),
        ("centre", "centre x, centre y, width, height in pixels"),
        ("percent", "x, y, width, height in percent of the image"),
        ("fractions", "x, y, width, height in fractions of the image"),
        ("right", ""),
    ],
)
def test_boxes_in_another_convention_meet_no_cells(tmp_path, convention, fits):
    data, _ = one_field(tmp_path)
    boxes_only(data, convention)
    dump(data, tmp_path / "result.json")
    recipe = recipe_for(tmp_path)
    found = [f for f in lint(tmp_path) if f.code == "box-beside-cell"]
    assert [f.message.endswith(fits) for f in found] == [True] * bool(fits)
    if not fits:
        assert prepare(recipe).labels.n_read == 20
        return
    (finding,) = found
    assert (finding.severity, finding.count, finding.file) == ("error", 20, "result.json")
    with pytest.raises(BadLabelsError, match=rf"result\.json'.*{fits}.*--force"):
        prepare(recipe)
    assert prepare(recipe, force=True).forced


def test_outlines_of_other_units_meet_no_cells(tmp_path):
    data, _ = one_field(tmp_path)
    for annotation in data["annotations"]:
        points = np.reshape(annotation["segmentation"][0], (-1, 2))
        annotation["segmentation"] = [points[:, ::-1].ravel().tolist()]
        del annotation["bbox"]
    dump(data, tmp_path / "result.json")
    recipe = recipe_for(tmp_path)
    (finding,) = misread_conventions(read_unmapped(recipe))
    assert finding.message.endswith("corners y1, x1, y2, x2 in pixels")


def test_one_box_on_empty_slide_is_dropped_by_name(tmp_path):
    data, cells = one_field(tmp_path)
    y, x = next(
        (y, x)
        for y in range(20, HEIGHT - 20, 4)
        for x in range(20, WIDTH - 20, 4)
        if min(math.hypot(x - a, y - b) for a, b, _, _ in cells) > 26
    )
    box = {"bbox": [x - 9, y - 9, 18, 18], "segmentation": [polygon(x, y, 9)]}
    data["annotations"].append(data["annotations"][0] | {"id": 99} | box)
    dump(data, tmp_path / "result.json")
    (finding,) = (f for f in lint(tmp_path) if f.code == "box-beside-cell")
    assert (finding.severity, finding.annotation_ids) == ("error", ("99",))
    recipe = recipe_for(tmp_path)
    one = convert(recipe, prepare(recipe).labels.fields[0])
    assert [(u.annotation_id, u.reason) for u in one.found.dropped] == [("99", "box-beside-cell")]
    assert len(one.found.instances) == 20


# Nothing is lost in silence


def voc(cells: list[Cell], objects: str = "") -> str:
    objects += "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x - r}</xmin><ymin>{y - r}</ymin>"
        f"<xmax>{x + r}</xmax><ymax>{y + r}</ymax></bndbox></object>"
        for x, y, r, name in cells
    )
    return f"<annotation><filename>f.jpg</filename>{objects}</annotation>"


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-16", '<?xml version="1.0" encoding="utf-8"?>'),
        ("utf-16", ""),
        ("latin-1", '<?xml version="1.0" encoding="utf-8"?>'),
        ("latin-1", ""),
        ("utf-8-sig", '<?xml version="1.0"?>'),
    ],
)
def test_xml_of_another_encoding_is_read(tmp_path, encoding, head):
    image, cells = smear(1, n=4)
    save(image, tmp_path / "f.jpg")
    text = head + voc([(x, y, r, "Sphärozyt") for x, y, r, _ in cells])
    (tmp_path / "f.xml").write_bytes(text.encode(encoding))
    (field,) = read_unmapped(recipe_for(tmp_path)).fields
    assert [a.name for a in field.annotations] == ["Sphärozyt"] * 4


def test_xml_with_a_namespace_is_read(tmp_path):
    image, cells = smear(1, n=4)
    save(image, tmp_path / "f.jpg")
    text = voc(cells).replace(
        "<annotation>", '<v:annotation xmlns:v="http://voc" xmlns="http://x">'
    )
    (tmp_path / "f.xml").write_text(text.replace("</annotation>", "</v:annotation>"))
    assert n_annotations(tmp_path) == 4


@pytest.mark.parametrize("form", ["corners", "points"])
def test_polygons_of_voc_are_read(tmp_path, form):
    image, cells = smear(1, n=1)
    save(image, tmp_path / "f.jpg")
    x, y, r, _ = cells[0]
    pairs = np.reshape(polygon(x, y, r), (-1, 2)).tolist()
    inner = "".join(
        f"<x{k}>{a}</x{k}><y{k}>{b}</y{k}>"
        if form == "corners"
        else f"<pt><x>{a}</x><y>{b}</y></pt>"
        for k, (a, b) in enumerate(pairs, 1)
    )
    text = voc([], f"<object><name>rbc</name><polygon>{inner}</polygon></object>")
    (tmp_path / "f.xml").write_text(text)
    (label,) = read_unmapped(recipe_for(tmp_path)).fields[0].annotations
    assert label.polygons[0] == pytest.approx(np.array(pairs)[:, ::-1])


@pytest.mark.parametrize("form", ["voc", "labelme"])
def test_a_cut_label_file_is_named_and_the_others_are_read(tmp_path, form):
    for number in (1, 2, 3):
        image, cells = smear(number, n=4)
        save(image, tmp_path / f"f{number}.jpg")
        text = voc(cells)
        if form == "labelme":
            shapes = [{"label": c[3], "points": np.reshape(polygon(*c[:3]), (-1, 2)).tolist()}
                      for c in cells]  # fmt: skip
            text = json.dumps({"imagePath": f"f{number}.jpg", "shapes": shapes})
        suffix = {"voc": "xml", "labelme": "json"}[form]
        end = len(text) // 2 if number == 2 else len(text)
        (tmp_path / f"f{number}.{suffix}").write_text(text[:end])
    ready = prepare(Recipe("mine", form, tmp_path))
    assert ready.labels.n_read == 8
    assert set(ready.splits) == {"f1.jpg", "f3.jpg"}, "the image must not become an empty field"
    (line,) = ready.labels.unreadable
    assert f"f2.{suffix}" in line and "left out" in line
    (finding,) = (f for f in lint(tmp_path, segmentation=False) if f.code == "malformed")
    assert (finding.severity, finding.file) == ("error", f"f2.{suffix}")


def test_an_image_without_a_label_file_is_no_field_without_cells(tmp_path):
    for name in ("a", "b", "c"):
        save(smear(ord(name))[0], tmp_path / f"{name}.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "classes.txt").write_text("rbc")
    ready = prepare(Recipe("mine", "yolo", tmp_path))
    assert set(ready.splits) == {"a.jpg", "b.jpg"}
    (line,) = ready.labels.unreadable
    assert "'c.jpg'" in line and "empty label file" in line
    kept = prepare(Recipe("mine", "yolo", tmp_path, unlabelled_cells="unknown"))
    assert len(kept.splits) == 3 and not kept.labels.unreadable


def test_labels_without_any_usable_label_are_no_score(tmp_path):
    data, _ = one_field(tmp_path, n=3)
    for annotation in data["annotations"]:
        annotation["bbox"] = "x"
    dump(data, tmp_path / "result.json")
    with pytest.raises(SpherodetectError, match=r"no label could be counted.*bbox"):
        score_patients(tmp_path)


def test_tfrecords_maps_names_as_lint_and_score_do_and_fails_if_nothing_is_written(
    tmp_path, capsys
):
    data, _ = one_field(tmp_path, n=2)
    for category in data["categories"]:
        category["name"] = f"Zelle {category['id']}"
    dump(data, tmp_path / "result.json")
    (tmp_path / "r.yaml").write_text("name: m\nformat: coco\nlabels: result.json\n")
    (tmp_path / "classes.csv").write_text("Zelle 1,rbc\nZelle 2,spherocyte\n")
    command = ["tfrecords", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "'Zelle" in capsys.readouterr().err
    assert cli.main([*command, "--classes", str(tmp_path / "classes.csv")]) == 0
    for annotation in data["annotations"]:
        annotation["bbox"] = "x"
    dump(data, tmp_path / "result.json")
    assert cli.main([*command, "--classes", str(tmp_path / "classes.csv")]) == 2
    assert "no label of the data set could be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_reader_that_left_changes_no_exit_code(tmp_path, monkeypatch, name, is_closed):
    data, _ = one_field(tmp_path, n=1)
    data["annotations"][0]["bbox"] = "x"
    dump(data, tmp_path / "result.json")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, name, None if is_closed else stream)
        assert cli.main(["lint", str(tmp_path)]) == 1
        assert cli.main(["lint", str(tmp_path / "none")]) == 2
