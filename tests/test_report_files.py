"""files: every program finds its file, and all files hold the same cells."""

from __future__ import annotations

import csv
import json

import numpy as np
import tifffile
from PIL import Image

from reporting import HOSTILE, a_field, a_score
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.report.files import CellFiles, write_patients
from spherodetect.report.results import ResultsFolder


def _rows(path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_tell_of_the_same_cells(tmp_path):
    fields = [
        a_field(tmp_path, "p/1.png"),
        a_field(tmp_path, "p/2.png", p=(0.9, 0.2), reason="too dense"),
    ]
    out = tmp_path / "out"
    with ResultsFolder(out) as results, CellFiles(results) as files:
        for field in fields:
            files.add(field)
    written = files.written
    assert all(path.is_file() for path in written.values())
    cells, coco = _rows(written["cells.csv"]), json.loads(written["coco.json"].read_text())
    together = json.loads(written["cells.geojson"].read_text())["features"]
    assert (
        len(cells)
        == len(coco["annotations"])
        == len(together)
        == len(_rows(written["objects.csv"]))
        == 5
    )
    for field in fields:
        mine = [row for row in cells if row["field_id"] == field.field_id]
        name = field.field_id.removesuffix(".png")
        features = json.loads((out / "geojson" / f"{name}.geojson").read_text())["features"]
        of_field = [
            f for f in together if f["properties"]["metadata"]["field_id"] == field.field_id
        ]
        assert features == of_field
        assert [f["properties"]["measurements"]["countable"] for f in features] == [
            float(row["countable"]) for row in mine
        ]
        assert [f["properties"]["classification"]["name"] for f in features] == [
            row["class_name"] for row in mine
        ]
        labels = tifffile.imread(out / "masks" / f"{name}.tif")
        assert set(np.unique(labels)) == {0, *(int(row["cell_id"]) for row in mine)}
        with Image.open(out / "masks" / f"{name}_spherocyte.png") as mask:
            ids = [int(row["cell_id"]) for row in mine if row["class_name"] == "spherocyte"]
            np.testing.assert_array_equal(np.asarray(mask) == 255, np.isin(labels, ids))
        counts = [row for row in _rows(written["counts.csv"]) if row["field_id"] == field.field_id]
        assert {row["class_name"]: int(row["n_cells"]) for row in counts} == {
            name: sum(row["class_name"] == name for row in mine) for name in field.cells.class_names
        }
        assert sum(int(row["n_countable"]) for row in counts) == sum(
            int(row["countable"]) for row in mine
        )
    first, second = _rows(written["quality.csv"])
    assert (first["accepted"], second["accepted"], second["reason"]) == ("1", "0", "too dense")
    results_ = json.loads((out / "coco_results.json").read_text())
    assert [r["image_id"] for r in results_] == [a["image_id"] for a in coco["annotations"]]
    countable = [a["attributes"]["countable"] for a in coco["annotations"]]
    assert countable == [int(row["countable"]) for row in cells]
    assert "QuPath" in json.loads(written["cells.geojson"].read_text())["description"]


def test_a_field_that_cannot_be_read_has_its_row(tmp_path):
    unread = Examined.unreadable(Field("p", "p/3.png", tmp_path / "3.png"), "'p/3.png': damaged")
    with ResultsFolder(tmp_path / "out") as results, CellFiles(results) as files:
        files.add(a_field(tmp_path, "p/1.png"))
        files.add_unreadable(unread)
    rows = _rows(files.written["quality.csv"])
    assert [(row["field_id"], row["accepted"]) for row in rows] == [
        ("p/1.png", "1"),
        ("p/3.png", "0"),
    ]
    assert "damaged" in rows[1]["reason"]


def test_each_patient_has_an_observation_in_a_harmless_place(tmp_path):
    with ResultsFolder(tmp_path) as results:
        written = write_patients(
            [a_score(), a_score(patient_id="../../x"), a_score(patient_id=HOSTILE)], results
        )
    assert set(written) == {"patients.csv", "patients.parquet"}
    assert len(_rows(written["patients.csv"])) == 3
    observations = [json.loads(path.read_text()) for path in (tmp_path / "fhir").iterdir()]
    assert {o["subject"]["identifier"]["value"] for o in observations} == {
        "patient 07",
        "../../x",
        HOSTILE,
    }
