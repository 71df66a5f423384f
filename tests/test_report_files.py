"""files: every program finds its file, and all files hold the same cells."""

from __future__ import annotations

import csv
import json

import numpy as np
import tifffile
from PIL import Image

from reporting import HOSTILE, a_field, a_score
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
        features = json.loads((out / "geojson" / f"{field.field_id}.geojson").read_text())[
            "features"
        ]
        assert features == [f for f in together if f["properties"]["field_id"] == field.field_id]
        assert [f["properties"]["classification"]["name"] for f in features] == [
            row["class_name"] for row in mine
        ]
        labels = tifffile.imread(out / "masks" / f"{field.field_id}.tif")
        assert set(np.unique(labels)) == {0, *(int(row["cell_id"]) for row in mine)}
        with Image.open(out / "masks" / f"{field.field_id}_spherocyte.png") as mask:
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
