"""othercells: COCO results and tables of cells, whoever made them, as scores; what cannot be used
in one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.fields.patients import patient_pattern
from spherodetect.pipeline.from_cells import is_cell_source, score_cells
from spherodetect.report.interop import to_coco, to_label_tiff
from spherodetect.report.tables import cells_frame, write_csv
from spherodetect.score.grades import load_grade_scheme
from spherodetect.score.rates import ClassifierRates
from spherodetect.synthetic import draw_patient

RATES = ClassifierRates(
    (100,) * 6, (90, 85, 88, 92, 86, 90), (600,) * 6, (6, 9, 3, 12, 5, 8), name="theirs"
)
OURS = SimpleNamespace(rates=RATES, class_names=("rbc", "spherocyte", "wbc", "platelet"))
CATEGORIES = [
    {"id": 3, "name": "Red_Blood Cells"},
    {"id": 8, "name": "Spherocytes"},
    {"id": 9, "name": "Platelet"},
]
IMAGES = [
    {"id": i, "file_name": f"p{i // 2}/f{i}.png", "width": 640, "height": 480} for i in range(4)
]


def score(tmp_path: Path, *paths: Path, **options):
    return score_cells(paths, tmp_path / "out", scheme=load_grade_scheme("icsh2015"), **options)


def written(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def results(*, images: int = 4, red: int = 6, spherocytes: int = 2) -> list[dict]:
    """In each image a row of cells, a platelet, a cell at the border, and one that the detector
    hardly believes in."""
    cells = []
    for image in range(images):
        kinds = [3] * red + [8] * spherocytes + [9]
        cells += [
            {
                "image_id": image,
                "category_id": kind,
                "bbox": [20 + 60 * k, 100, 40, 40],
                "score": 0.9,
            }
            for k, kind in enumerate(kinds)
        ]
        cells.append(
            {"image_id": image, "category_id": 8, "bbox": [600.5, 300, 39.5, 40], "score": 0.9}
        )
        cells.append({"image_id": image, "category_id": 8, "bbox": [20, 300, 40, 40], "score": 0.2})
    return cells


def counts(result) -> dict[str, tuple[int, int, int]]:
    return {s.patient_id: (s.n_fields, s.n_countable, s.n_spherocytes) for s in result.scores}


def test_results_are_told_from_labels_and_tables_from_manifests(tmp_path):
    assert is_cell_source(written(tmp_path / "results.json", results()))
    scored = {"images": IMAGES, "categories": CATEGORIES, "annotations": results()}
    assert is_cell_source(written(tmp_path / "scored.json", scored))
    labels = scored | {
        "annotations": [{k: v for k, v in cell.items() if k != "score"} for cell in results()]
    }
    assert not is_cell_source(written(tmp_path / "labels.json", labels))
    (tmp_path / "cells.csv").write_text("Patient_ID;field_id;class_name\n")
    (tmp_path / "manifest.csv").write_text("patient_id,field\np1,a.png\n")
    assert is_cell_source(tmp_path / "cells.csv") and not is_cell_source(tmp_path / "manifest.csv")
    assert not is_cell_source(tmp_path)


def test_a_list_of_results_with_the_file_of_its_images(tmp_path):
    listed = written(tmp_path / "results.json", results())
    data_set = {
        "images": IMAGES,
        "categories": CATEGORIES,
        "annotations": [],
        "info": {"description": "a data set"},
    }
    result = score(tmp_path, listed, written(tmp_path / "instances.json", data_set))
    # The platelet and the cell at the border do not count.
    assert counts(result) == {"p0": (2, 16, 4), "p1": (2, 16, 4)}
    assert {s.model for s in result.scores} == {"labels"}
    assert all(s.hs_score == s.raw_percent == pytest.approx(25.0) for s in result.scores)
    assert result.problems == (f"{str(listed)!r}: 4 detections left out, their score is below 0.5",)
    with open(result.tables["patients.csv"], encoding="utf-8", newline="") as file:
        assert [row["patient_id"] for row in csv.DictReader(file)] == ["p0", "p1"]


def test_scored_annotations_carry_their_own_images_and_the_tools_name(tmp_path):
    data_set = {
        "images": IMAGES,
        "categories": CATEGORIES,
        "annotations": results(),
        "info": {"description": "CellNet"},
    }
    source = written(tmp_path / "theirs.json", data_set)
    result = score(tmp_path, source)
    assert counts(result) == {"p0": (2, 16, 4), "p1": (2, 16, 4)}
    assert {s.model for s in result.scores} == {"CellNet"}
    by_field = score(tmp_path, source, patient_regex=patient_pattern(r"(f\d)"))
    assert list(counts(by_field)) == ["f0", "f1", "f2", "f3"]


def test_a_list_alone_must_say_what_its_categories_mean(tmp_path):
    names = {3: "RBC", 8: "spherocyte", 9: "PLT"}
    named = [cell | {"category_name": names[cell["category_id"]]} for cell in results()]
    result = score(tmp_path, written(tmp_path / "slide7.json", named))
    assert counts(result) == {"slide7": (4, 36, 12)}  # nobody knows where the right border is
    assert "no image sizes" in " ".join(result.problems)
    ours = [cell | {"category_id": {3: 1, 8: 2, 9: 4}[cell["category_id"]]} for cell in results()]
    source = written(tmp_path / "ours.json", ours)
    (patient,) = score(tmp_path, source, detector=OURS).scores
    assert (patient.n_countable, patient.n_spherocytes, patient.model) == (36, 12, "theirs")
    with pytest.raises(SpherodetectError, match=r"categories.*ids.*--model"):
        score(tmp_path, source)


def test_cells_that_lie_on_each_other_do_not_count(tmp_path):
    cells = results(images=1)
    cells[1]["bbox"] = [40, 100, 40, 40]  # a third of the first cell's box is shared
    data_set = {"images": IMAGES, "categories": CATEGORIES, "annotations": cells}
    assert counts(score(tmp_path, written(tmp_path / "a.json", data_set)))["p0"] == (2, 6, 2)


@pytest.fixture(scope="module")
def drawn():
    return draw_patient(
        3, n_fields=3, spherocyte_fraction=0.4, n_cells=30, size_hw=(240, 320), patient_id="p1"
    )


def expected(drawn) -> dict[str, tuple[int, int, int]]:
    cells = [field.cells for field in drawn]
    called = sum(int((c.countable & (c.names == "spherocyte")).sum()) for c in cells)
    return {"p1": (len(cells), sum(int(c.countable.sum()) for c in cells), called)}


def test_our_own_files_come_back_as_they_were_counted(tmp_path, drawn):
    import pandas as pd

    frames = [cells_frame(field.cells, patient_id="p1") for field in drawn]
    rejected = cells_frame(drawn[0].cells, patient_id="p1", accepted=False).assign(
        field_id="blurred.png"
    )
    write_csv(pd.concat([*frames, rejected], ignore_index=True), tmp_path / "cells.csv")
    coco = to_coco([field.cells for field in drawn], patient_ids=["p1"] * 3)
    from_csv, from_coco = (
        score(tmp_path, tmp_path / "cells.csv"),
        score(tmp_path, written(tmp_path / "coco.json", coco)),
    )
    assert counts(from_csv) == counts(from_coco) == expected(drawn)
    assert (from_csv.scores[0].n_fields_rejected, from_csv.scores[0].model) == (1, "labels")
    (corrected,) = score(tmp_path, tmp_path / "cells.csv", detector=OURS).scores
    assert corrected.model == "theirs" and corrected.hs_score != corrected.raw_percent


def table(path: Path, drawn) -> Path:
    """The least that a table of cells can be, as European Excel writes it."""
    lines = ["patient_id;field_id;cell_id;class_name"]
    for field in drawn:
        lines += [
            f"p1;{field.cells.field_id};{i};{name}" for i, name in enumerate(field.cells.names, 1)
        ]
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    return path


def test_a_minimal_table_counts_its_red_cells(tmp_path, drawn):
    (patient,) = score(tmp_path, table(tmp_path / "cells.csv", drawn)).scores
    red = [np.isin(field.cells.names, ["rbc", "spherocyte"]).sum() for field in drawn]
    assert (patient.n_countable, patient.n_fields, patient.n_fields_rejected) == (sum(red), 3, 0)


def test_label_images_say_where_the_cells_of_a_table_lie(tmp_path, drawn):
    for field in drawn:
        to_label_tiff(field.cells, tmp_path / "masks" / f"{field.cells.field_id}.tif")
    source = table(tmp_path / "cells.csv", drawn)
    with_masks, without = (
        score(tmp_path, *paths).scores[0] for paths in ([source, tmp_path / "masks"], [source])
    )
    at_border = expected(drawn)["p1"][1]
    assert (
        with_masks.n_countable
        <= at_border
        < without.n_countable
        < with_masks.n_cells
        == without.n_cells
    )


def test_pseudonyms_leave_no_name_behind(tmp_path, drawn):
    result = score(tmp_path, table(tmp_path / "cells.csv", drawn), pseudonymise=True)
    assert [s.patient_id for s in result.scores] == ["patient_001"]
    assert result.key == tmp_path / "out_pseudonym_key.csv", "beside the folder, not in it"
    assert result.key.read_text() == "pseudonym,patient_id\npatient_001,p1\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "[1, 2]", "expected COCO results as a list of detections, got something else"),
        ("a.json", '{"score": 1}', "expected COCO results or their images, got something else"),
        ("a.json", "[", "expected JSON, got something else"),
        ("a.json", "[]", "expected cells, got none"),
        (
            "a.csv",
            "field_id,class_name\na,rbc\n",
            "expected the columns patient_id, field_id, class_name, got none of",
        ),
        ("a.csv", "patient_id,field_id,class_name\n", "expected cells, got none"),
        ("a.csv", "patient_id,field_id,class_name\np,f,Zelle\n", "got 'Zelle'; known:"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(SpherodetectError) as caught:
        score(tmp_path, tmp_path / name)
    assert said in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_detections_that_cannot_be_are_named_and_the_others_count(tmp_path):
    cells = results()
    cells[0]["bbox"], cells[1]["image_id"], cells[2]["score"] = [0, 0, -5, 3], 77, "high"
    cells[3]["segmentation"] = {"size": [480, 640], "counts": "0" * 50}
    data_set = {"images": [*IMAGES, 5], "categories": CATEGORIES, "annotations": cells}
    result = score(tmp_path, written(tmp_path / "a.json", data_set))
    assert counts(result)["p0"] == (2, 13, 4) and len(result.problems) >= 3


def test_the_labels_of_dataset_a_as_if_a_detector_had_found_them(tmp_path, shared_data):
    source = shared_data / "dataset-a-roboflow" / "train.json"
    data = json.loads(source.read_text(encoding="utf-8"))
    kept = ("image_id", "category_id", "bbox")
    listed = [{key: a[key] for key in kept} | {"score": 0.9} for a in data["annotations"]]
    result = score(tmp_path, written(tmp_path / "results.json", listed), source)
    percent = {s.patient_id: s.raw_percent for s in result.scores}
    # The shares of the labels, 15.5 and 22.0 %, of which some cells lie on each other.
    assert percent["patient_01"] == pytest.approx(15.8, abs=0.2)
    assert percent["patient_04"] == pytest.approx(21.5, abs=0.2)
    assert sum(s.n_fields for s in result.scores) == 130
