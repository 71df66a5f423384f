"""example: the drawn export has the faults it claims, its labels are true of its pictures, its
recipe mends them."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from spherodetect.labels import assign_splits, leaks, read_labels
from spherodetect.labels.check.lint import lint
from spherodetect.labels.example import example_recipe, write_example
from spherodetect.records.view import labelled_cells


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_example(
        tmp_path_factory.mktemp("export") / "export.zip", n_patients=2, n_fields=2, n_cells=30
    )


def test_it_has_the_faults_of_an_export_of_roboflow(export):
    codes = {finding.code for finding in lint(export, segmentation=False)}
    assert codes == {
        "rectangle-mask",
        "stretched-image",
        "augmented-copies",
        "patient-in-two-splits",
        "root-category",
    }


def test_its_recipe_holds_out_a_patient_and_leaks_nothing(export):
    recipe = example_recipe(export)
    fields = read_labels(recipe).fields
    assert [f.split for f in fields].count("train") == 6 and len(fields) == 8
    splits = assign_splits(fields, recipe)
    assert set(splits.values()) == {"train", "val"} and not leaks(fields, splits)


def test_every_copy_has_its_cells_where_its_labels_are(export):
    recipe = example_recipe(export)
    labels = read_labels(recipe)  # the unpacked images live as long as it
    for field in labels.fields:
        image, cells = labelled_cells(field, recipe, repaired=False)
        red = cells[np.isin(cells.names, ["rbc", "spherocyte"])]
        green = image[..., 1].astype(float)
        y, x = ((red.box_yxyx[:, :2] + red.box_yxyx[:, 2:]) / 2).astype(int).T
        box = red.box_yxyx.astype(int)
        corners = green[np.clip(box[:, 0], 0, 639), np.clip(box[:, 1], 0, 639)]
        assert np.mean(green[y, x] < np.median(green) - 8) > 0.9, (
            f"{field.file}: cells are darker than the slide"
        )
        assert np.median(corners) > np.median(green[y, x]) + 10, (
            f"{field.file}: boxes end beside their cells"
        )


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    a, b, c = (
        write_example(
            tmp_path / f"{k}.zip", n_patients=1, n_fields=1, n_cells=10, seed=seed
        ).read_bytes()
        for k, seed in enumerate((1, 1, 2))
    )
    assert a == b != c


def test_category_0_marks_nothing(export):
    with zipfile.ZipFile(export) as archive:
        labels = json.loads(archive.read("train/_annotations.coco.json"))
    assert labels["categories"][0]["id"] == 0
    assert {a["category_id"] for a in labels["annotations"]} <= {1, 2, 3, 4}
    assert [a["id"] for a in labels["annotations"]] == list(range(len(labels["annotations"])))
