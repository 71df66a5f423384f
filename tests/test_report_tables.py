"""tables: columns and decimals are the contract, every run gives the same bytes, texts are
harmless."""

from __future__ import annotations

import csv
import dataclasses
import enum

import numpy as np
import pandas as pd
import pytest

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.report import tables

#: The contract: the columns in order, each with text, count (a whole number) or its decimals.
CELLS = {
    "patient_id": "text", "field_id": "text", "cell_id": "count", "class_name": "text",
    "confidence": 4, "p_spherocyte": 4, "x_px": 2, "y_px": 2, "xmin_px": 2, "ymin_px": 2,
    "xmax_px": 2, "ymax_px": 2, "area_px": 1, "diameter_px": 2, "diameter_um": 3,
    "relative_diameter": 4, "circularity": 4, "solidity": 4, "aspect_ratio": 4,
    "perimeter_px": 2, "major_axis_px": 2, "minor_axis_px": 2, "integrated_od": 2,
    "nearest_px": 2, "pallor_fraction": 4, "center_rim_ratio": 4, "mean_od": 4, "relative_od": 4,
    "countable": "count", "exclusion_reason": "text",
}  # fmt: skip
PATIENTS = {
    "patient_id": "text", "status": "text", "hs_score": 4, "hs_score_low": 4, "hs_score_high": 4,
    "raw_percent": 4, "grade": "text", "grade_scheme": "text", "p_above_5_percent": 4,
    "p_above_20_percent": 4, "n_fields": "count", "n_fields_rejected": "count",
    "n_cells": "count", "n_countable": "count", "n_spherocytes": "count", "model": "text",
    "version": "text", "basis": "text", "n_reviewed": "count",
    "n_reviewed_spherocytes": "count", "model_score": 4, "model_score_low": 4,
    "model_score_high": 4,
}  # fmt: skip
QUALITY = {
    "patient_id": "text", "field_id": "text", "accepted": "count", "reason": "text",
    "n_cells": "count", "focus": 4, "exposure": 4, "density": 4, "um_per_px": 5,
    "um_per_px_source": "text", "um_per_px_error_percent": 1, "rbc_diameter_px": 2,
}  # fmt: skip
COUNTS = {
    "patient_id": "text", "field_id": "text", "class_name": "text", "n_cells": "count",
    "n_countable": "count", "mean_area_px": 1,
}  # fmt: skip
OBJECTS = {
    "File": "text", "Class": "text", "Object Number": "count", "Area": "count",
    "Centroid": "text", "BoundingBox": "text",
}  # fmt: skip
#: A value of each kind, and how the CSV file has it.
WRITTEN = {
    "text": ("abc", "abc"), "count": (7, "7"), 1: (12.3456789, "12.3"), 2: (12.3456789, "12.35"),
    3: (12.3456789, "12.346"), 4: (12.3456789, "12.3457"), 5: (12.3456789, "12.34568"),
}  # fmt: skip


def _cells(**changes) -> Cells:
    """A red cell, a spherocyte at the border, a platelet, and a red cell that overlaps."""
    box = [[10, 20, 40.25, 50.123], [0, 0, 30, 30], [50, 50, 60, 60], [60, 60, 90, 90]]
    masks = [np.ones((31, 31), bool)] * 4
    cells = Cells.from_labels(
        box, [1, 2, 4, 1], masks, image_size_hw=(100, 120), field_id="=p/1.jpg", um_per_px=0.1
    )
    options = {
        "countable": np.array([True, False, False, False]),
        "measurements": {
            "diameter_px": np.array([30.0, 29.0, np.nan, 70.126]),
            "mean_od": np.array([-1e-9, 1, np.inf, 2]),
        },
    }
    return dataclasses.replace(cells, **(options | changes))


def _written(frame: pd.DataFrame, tmp_path) -> list[dict[str, str]]:
    tables.write_csv(frame, tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("columns", "contract"),
    [
        (tables.CELL_COLUMNS, CELLS),
        (tables.PATIENT_COLUMNS, PATIENTS),
        (tables.QUALITY_COLUMNS, QUALITY),
        (tables.COUNT_COLUMNS, COUNTS),
        (tables.OBJECT_COLUMNS, OBJECTS),
    ],
)
def test_columns_and_decimals_are_the_contract(columns, contract, tmp_path):
    assert list(columns) == list(contract)
    frame = pd.DataFrame({name: [WRITTEN[kind][0]] for name, kind in contract.items()})
    (row,) = _written(frame, tmp_path)
    assert row == {name: WRITTEN[kind][1] for name, kind in contract.items()}


def test_a_name_has_one_kind_in_all_tables():
    kinds: dict[str, set] = {}
    for contract in (CELLS, PATIENTS, QUALITY, COUNTS, OBJECTS):
        for name, kind in contract.items():
            kinds.setdefault(name, set()).add(kind)
    assert all(len(found) == 1 for found in kinds.values())


def test_cells_csv(tmp_path):
    rows = _written(tables.cells_frame(_cells(), patient_id="-07"), tmp_path)
    assert list(rows[0]) == list(CELLS)
    assert {
        name: rows[0][name] for name in ("patient_id", "field_id", "cell_id", "class_name")
    } == {"patient_id": "'-07", "field_id": "'=p/1.jpg", "cell_id": "1", "class_name": "rbc"}
    box = [rows[0][name] for name in ("xmin_px", "ymin_px", "xmax_px", "ymax_px")]
    assert box == ["20.00", "10.00", "50.12", "40.25"]
    assert [row["diameter_px"] for row in rows] == ["30.00", "29.00", "", "70.13"]
    assert [row["diameter_um"] for row in rows] == ["3.000", "2.900", "", "7.013"]
    assert [row["mean_od"] for row in rows] == ["0.0000", "1.0000", "", "2.0000"]
    assert [row["solidity"] for row in rows] == [""] * 4
    assert [row["countable"] for row in rows] == ["1", "0", "0", "0"]
    assert [row["exclusion_reason"] for row in rows] == ["", "border", "not_rbc", "overlap"]


def test_no_cell_of_a_rejected_field_is_countable(tmp_path):
    rows = _written(tables.cells_frame(_cells(), patient_id="7", accepted=False), tmp_path)
    assert [row["countable"] for row in rows] == ["0"] * 4
    assert [row["exclusion_reason"] for row in rows] == ["field", "border", "not_rbc", "overlap"]


def test_without_a_scale_there_are_no_micrometres():
    assert tables.cells_frame(_cells(um_per_px=None), patient_id="7")["diameter_um"].isna().all()


def test_nothing_of_the_cells_is_changed():
    cells = _cells()
    before = {name: values.copy() for name, values in cells.measurements.items()}
    tables.cells_frame(cells, patient_id="7", accepted=False)
    assert list(cells.countable) == [True, False, False, False]
    assert list(cells.exclusion_reason) == ["", "border", "not_rbc", "overlap"]
    for name, values in before.items():
        np.testing.assert_array_equal(cells.measurements[name], values)


def test_tables_without_rows_have_typed_columns(tmp_path):
    full = tables.cells_frame(_cells(), patient_id="7")
    empty = tables.cells_frame(Cells.empty(field_id="a", image_size_hw=(9, 9)), patient_id="7")
    assert list(empty.dtypes) == list(full.dtypes)
    assert list(pd.concat([empty, full], ignore_index=True).dtypes) == list(full.dtypes)
    for frame, columns in [
        (empty, CELLS),
        (tables.patients_frame([]), PATIENTS),
        (tables.quality_frame([]), QUALITY),
    ]:
        assert _written(frame, tmp_path) == []
        assert (tmp_path / "t.csv").read_text() == ",".join(columns) + "\n"


def test_patients_csv_from_mappings_and_objects(tmp_path):
    class Status(enum.Enum):
        FEW = "insufficient_cells"

    values = {
        "patient_id": "Müller; @x",
        "status": Status.FEW,
        "hs_score": 12.34567,
        "hs_score_low": -0.00001,
        "hs_score_high": 20,
        "raw_percent": None,
        "grade": None,
        "grade_scheme": "icsh2015",
        "p_above_5_percent": 0.99996,
        "p_above_20_percent": float("nan"),
        "n_fields": 3,
        "n_fields_rejected": 0,
        "n_cells": np.int64(7),
        "n_countable": 5.0,
        "n_spherocytes": None,
        "model": "bundled",
        "version": "0.1",
        "basis": "reviewed",
        "n_reviewed": 100,
        "n_reviewed_spherocytes": 20,
        "model_score": 30.0,
        "model_score_low": 10.5,
        "model_score_high": float("nan"),
        "more": 1,
    }
    score = dataclasses.make_dataclass("Score", values)(**values)
    first, second = _written(tables.patients_frame([values, score]), tmp_path)
    assert first == second
    assert list(first) == list(PATIENTS)
    assert list(first.values()) == [
        "Müller;' @x",
        "insufficient_cells",
        "12.3457",
        "0.0000",
        "20.0000",
        "",
        "",
        "icsh2015",
        "1.0000",
        "",
        "3",
        "0",
        "7",
        "5",
        "",
        "bundled",
        "0.1",
        "reviewed",
        "100",
        "20",
        "30.0000",
        "10.5000",
        "",
    ]
    with pytest.raises(KeyError, match="n_cells"):
        tables.patients_frame(
            [{name: value for name, value in values.items() if name != "n_cells"}]
        )


def test_names_that_are_no_utf_8_are_written_out(tmp_path):
    cells = dataclasses.replace(_cells(), field_id="M\udcfcller.jpg")
    for frame in (
        tables.cells_frame(cells, patient_id="\udcfc"),
        tables.counts_frame(cells, patient_id="\udcfc"),
    ):
        row = _written(frame, tmp_path)[0]
        assert (row["patient_id"], row["field_id"]) == ("\\udcfc", "M\\udcfcller.jpg")
        tables.write_parquet(frame, tmp_path / "t.parquet")


def test_quality_csv(tmp_path):
    row = {
        "patient_id": "7",
        "field_id": "a",
        "accepted": np.bool_(True),
        "reason": "",
        "n_cells": 40,
        "focus": 1 / 3,
        "exposure": np.float32(0.5),
        "density": 0,
        "um_per_px": 0.1930004,
        "um_per_px_source": "scale bar",
        "um_per_px_error_percent": 0.482,
        "rbc_diameter_px": 38.756,
    }
    (written,) = _written(tables.quality_frame([row]), tmp_path)
    assert (
        ",".join(written.values()) == "7,a,1,,40,0.3333,0.5000,0.0000,0.19300,scale bar,0.5,38.76"
    )


def test_counts_by_class_also_of_what_is_not_there(tmp_path):
    cells = _cells(measurements={"area_px": np.array([900.0, 841.5, np.nan, 1000.0])})
    rows = _written(tables.counts_frame(cells, patient_id="7"), tmp_path)
    assert [tuple(row.values()) for row in rows] == [
        ("7", "'=p/1.jpg", "rbc", "2", "1", "950.0"),
        ("7", "'=p/1.jpg", "spherocyte", "1", "0", "841.5"),
        ("7", "'=p/1.jpg", "wbc", "0", "0", ""),
        ("7", "'=p/1.jpg", "platelet", "1", "0", ""),
    ]
    rejected = _written(tables.counts_frame(_cells(), patient_id="7", accepted=False), tmp_path)
    assert [row["n_countable"] for row in rejected] == ["0"] * 4


def test_objects_are_as_scikit_image_measures_them(tmp_path):
    from skimage.measure import regionprops

    masks = [np.eye(5, 7, dtype=bool) | np.eye(5, 7, k=1, dtype=bool), np.zeros((3, 3), bool)]
    boxes = [[2, 3, 7, 10], [0, 0, 3, 3]]
    cells = Cells.from_labels(boxes, [2, 1], masks, image_size_hw=(20, 30), field_id="a.png")
    first, second = _written(tables.objects_frame(cells), tmp_path)
    assert list(first) == ["File", "Class", "Object Number", "Area", "Centroid", "BoundingBox"]
    frame = np.zeros((20, 30), np.uint8)
    frame[2:7, 3:10] = masks[0]
    (truth,) = regionprops(frame)
    y, x = truth.centroid
    assert list(first.values()) == [
        "a.png",
        "spherocyte",
        "1",
        str(int(truth.area)),
        f"({y:.2f}, {x:.2f})",
        str(truth.bbox),
    ]
    assert list(second.values()) == ["a.png", "rbc", "2", "0", "", ""]


def test_tables_join_whether_they_have_rows_or_not():
    full = tables.cells_frame(_cells(), patient_id="7")
    empty = tables.cells_frame(Cells.empty(field_id="a", image_size_hw=(9, 9)), patient_id="7")
    assert len(tables.joined([empty, full, empty, full])) == 8
    assert list(tables.joined([empty, full]).dtypes) == list(full.dtypes)
    assert list(tables.joined([empty, empty]).dtypes) == list(full.dtypes)


def test_the_same_result_gives_the_same_bytes_every_time(tmp_path):
    frame = tables.cells_frame(_cells(), patient_id="a\nb")
    for name in ("1", "2"):
        tables.write_csv(frame, tmp_path / f"{name}.csv")
        tables.write_parquet(frame, tmp_path / f"{name}.parquet")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert b"\r" not in (tmp_path / "1.csv").read_bytes()


def test_parquet_is_neither_rounded_nor_changed(tmp_path):
    frame = tables.cells_frame(_cells(), patient_id="=7")
    tables.write_parquet(frame, tmp_path / "cells.parquet")
    back = pd.read_parquet(tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(back, frame)
    assert set(back["patient_id"]) == {"=7"}


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (tables.write_csv, tables.write_parquet):
        with pytest.raises(SpherodetectError, match="cannot be written"):
            write(tables.patients_frame([]), tmp_path / "file" / "t")
