"""labelscore: which human labels count, once, and the fractions of the real Dataset A."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from spherodetect.errors import BadLabelsError
from spherodetect.pipeline.from_labels import score_labels
from spherodetect.score.grades import load_grade_scheme

NAMES = ("cells", "RBC", "Spherocyte", "Platelets", "WBC")
Box = tuple[float, float, float, float]


def grid(*names: str, side: int = 40) -> list[tuple[str, Box]]:
    """A row of boxes (x, y, width, height) well inside the image."""
    return [
        (name, (20.0 + 60 * (k % 10), 20.0 + 60 * (k // 10), side, side))
        for k, name in enumerate(names)
    ]


def write_coco(path: Path, images: dict[str, list[tuple[str, Box]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [(i, name, box) for i, drawn in enumerate(images.values()) for name, box in drawn]
    data = {
        "images": [
            {"id": i, "file_name": file, "width": 640, "height": 640}
            for i, file in enumerate(images)
        ],
        "categories": [
            {"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(NAMES)
        ],
        "annotations": [
            {
                "id": k,
                "image_id": i,
                "category_id": NAMES.index(name),
                "bbox": list(box),
                "iscrowd": 0,
                "area": box[2] * box[3],
                "segmentation": [],
            }
            for k, (i, name, box) in enumerate(cells)
        ],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def score(tmp_path: Path, *paths: Path, **options):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return score_labels(paths, out, scheme=load_grade_scheme("icsh2015"), **options)


def test_red_cells_off_the_border_are_the_denominator(tmp_path):
    at_border = [("Spherocyte", (0.0, 300.0, 40.0, 40.0)), ("RBC", (600.5, 300.0, 39.5, 40.0))]
    drawn = grid("RBC", "RBC", "RBC", "Spherocyte", "Platelets", "WBC") + at_border
    source = write_coco(tmp_path / "labels.json", {"patient_07_1_jpg.rf.ab12.jpg": drawn})
    (patient,) = score(tmp_path, source).scores
    assert (patient.n_spherocytes, patient.n_countable, patient.n_cells) == (1, 4, 8)
    assert patient.raw_percent == patient.hs_score == pytest.approx(25.0)
    assert (patient.patient_id, patient.model, patient.status) == (
        "patient_07",
        "labels",
        "insufficient_cells",
    )


def test_of_each_photograph_the_fullest_copy_counts_once(tmp_path):
    copies = {
        "patient_01_1_jpg.rf.aaaa.jpg": grid(*["RBC"] * 5),
        "patient_01_1_jpg.rf.bbbb.jpg": grid(*["RBC"] * 6, *["Spherocyte"] * 3),
        "patient_01_2_jpg.rf.cccc.jpg": grid(*["RBC"] * 8),
    }
    # The other file holds a copy as well, and another patient.
    more = {
        "patient_01_1_jpg.rf.dddd.jpg": grid(*["Spherocyte"] * 8),
        "patient_02_1_jpg.rf.eeee.jpg": grid("RBC", "Spherocyte"),
    }
    paths = [write_coco(tmp_path / "train.json", copies), write_coco(tmp_path / "valid.json", more)]
    first, second = score(tmp_path, *paths).scores
    assert (first.patient_id, first.n_fields, first.n_spherocytes, first.n_countable) == (
        "patient_01",
        2,
        3,
        17,
    )
    assert (second.patient_id, second.n_fields, second.n_spherocytes, second.n_countable) == (
        "patient_02",
        1,
        1,
        2,
    )
    assert score(tmp_path, *paths[::-1]).scores == (first, second), "whichever file comes first"


def test_an_export_folder_is_scored_over_its_splits(tmp_path):
    export = tmp_path / "export"
    write_coco(
        export / "train" / "_annotations.coco.json",
        {"patient_01_1_jpg.rf.aa.jpg": grid("RBC", "RBC")},
    )
    write_coco(
        export / "valid" / "_annotations.coco.json",
        {"patient_01_2_jpg.rf.bb.jpg": grid("Spherocyte", "RBC")},
    )
    (patient,) = score(tmp_path, export).scores
    assert (patient.n_fields, patient.n_spherocytes, patient.n_countable) == (2, 1, 4)


def test_the_tables_and_the_page_are_written(tmp_path):
    source = write_coco(
        tmp_path / "labels.json", {"patient_01_1_jpg.rf.a.jpg": grid("RBC", "Spherocyte")}
    )
    result = score(tmp_path, source)
    with open(result.tables["patients.csv"], encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["patient_id"], row["model"], float(row["raw_percent"])) == (
        "patient_01",
        "labels",
        50.0,
    )
    assert "patient_01" in result.report.read_text(encoding="utf-8")
    assert not result.problems


def test_pseudonyms_leave_no_name_behind(tmp_path):
    images = {f"patient_0{k}_1_jpg.rf.a.jpg": grid("RBC", *["Spherocyte"] * k) for k in (7, 8)}
    result = score(tmp_path, write_coco(tmp_path / "labels.json", images), pseudonymise=True)
    assert [s.patient_id for s in result.scores] == ["patient_001", "patient_002"]
    assert [s.n_spherocytes for s in result.scores] == [7, 8]
    written = (tmp_path / "out" / "patients.csv").read_text() + result.report.read_text(
        encoding="utf-8"
    )
    assert "patient_07" not in written and "patient_08" not in written


def test_labels_that_cannot_be_read_are_named_and_the_others_count(tmp_path):
    source = write_coco(
        tmp_path / "labels.json", {"patient_01_1_jpg.rf.a.jpg": grid("RBC", "Spherocyte")}
    )
    data = json.loads(source.read_text())
    data["annotations"].append({"id": 99, "image_id": 5, "category_id": 1, "bbox": [1, 1, 5, 5]})
    source.write_text(json.dumps(data))
    result = score(tmp_path, source)
    assert result.scores[0].n_countable == 2
    assert len(result.problems) == 1 and "labels.json" in result.problems[0]


def test_the_fractions_of_dataset_a(tmp_path, shared_data):
    folder = shared_data / "dataset-a-roboflow"
    result = score(tmp_path, folder / "train.json", folder / "valid.json")
    percent = {s.patient_id: s.raw_percent for s in result.scores}
    assert sorted(percent) == [f"patient_0{k}" for k in range(1, 6)]
    # Copies counted three times, or cells at the border, would move these by more.
    assert percent["patient_01"] == pytest.approx(15.5, abs=0.3)
    assert percent["patient_04"] == pytest.approx(22.0, abs=0.3)
    assert sum(s.n_fields for s in result.scores) == 167
    assert np.isfinite([s.hs_score for s in result.scores]).all()


def named(path: Path, *names: str) -> Path:
    """A label file with one cell of each name."""
    write_coco(path, {"patient_01_1.jpg": grid(*["RBC"] * len(names))})
    data = json.loads(path.read_text())
    data["categories"] = [{"id": k, "name": name} for k, name in enumerate(names)]
    for k, annotation in enumerate(data["annotations"]):
        annotation["category_id"] = k
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("normal cell", "target cell", "Burr-Cells", "Spherocytes (HS)"),
        ("Erythrozyt", "Echinozyten", "Leukozyt", "Sphärozyt", "Rote Blutkörperchen"),
    ],
)
def test_finer_and_foreign_names_are_red_cells(tmp_path, names):
    (patient,) = score(tmp_path, named(tmp_path / "a.json", *names)).scores
    n_red = len(names) - ("Leukozyt" in names)
    assert (patient.n_spherocytes, patient.n_countable) == (1, n_red)


def test_an_unknown_name_is_an_error_until_it_is_mapped(tmp_path):
    source = named(tmp_path / "a.json", "rbc", "Zelle", "spherocyte", "Dreck")
    with pytest.raises(BadLabelsError, match=r"a\.json'.*'Dreck', 'Zelle'; known: .*--classes"):
        score(tmp_path, source)
    classes = {"Zelle": "rbc", "Dreck": "none"}
    (patient,) = score(tmp_path, source, classes=classes).scores
    assert (patient.n_spherocytes, patient.n_countable) == (1, 3)


def test_outlines_of_groups_are_left_out_and_named(tmp_path):
    source = write_coco(tmp_path / "a.json", {"patient_01_1.jpg": grid("RBC", "RBC", "Spherocyte")})
    data = json.loads(source.read_text())
    data["annotations"][0]["iscrowd"] = 1
    source.write_text(json.dumps(data))
    result = score(tmp_path, source)
    assert [(p.n_spherocytes, p.n_countable) for p in result.scores] == [(1, 2)]
    (problem,) = result.problems
    assert "iscrowd" in problem and "a.json" in problem


def test_tiles_and_photographs_of_other_folders_are_no_copies(tmp_path):
    images = {
        "patient_01/f_jpg.rf.aa_0_0_640_480.jpg": grid("RBC", "RBC"),
        "patient_01/f_jpg.rf.aa_320_0_960_480.jpg": grid("RBC", "Spherocyte"),
        "patient_02/f_jpg.rf.bb.jpg": grid("RBC"),
        "patient_02/f_jpg.rf.cc.jpg": grid("RBC", "RBC"),
    }
    result = score(tmp_path, write_coco(tmp_path / "labels.json", images))
    assert [(p.n_fields, p.n_countable) for p in result.scores] == [(2, 4), (1, 2)]
    (problem,) = result.problems
    assert "f_jpg.rf.bb.jpg" in problem and "copies" in problem
