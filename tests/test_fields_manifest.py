"""fields.manifest: a table of fields is read as people write it; what is not read is said."""

from __future__ import annotations

import sys
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.fields.find import find_fields
from spherodetect.fields.hints import alike_patients


@pytest.fixture
def read(tmp_path):
    """Reads a manifest beside f1.jpg and f2.jpg."""

    def read(*lines: str, encoding: str = "utf-8", name: str = "manifest.csv"):
        for image in ("f1.jpg", "f2.jpg"):
            (tmp_path / image).write_bytes(b"not read here")
        path = tmp_path / name
        path.write_bytes("\r\n".join(lines).encode(encoding))
        return find_fields(path)

    return read


def _patients(found) -> list[str]:
    return [field.patient_id for field in found]


@pytest.mark.parametrize("first", ['="007"', '"=""007"""', "007", " 007 ", "\u200b007\u00a0"])
def test_one_patient_however_the_id_is_written(read, first):
    found = read("patient_id,field", f"{first},f1.jpg", "007,f2.jpg")
    assert _patients(found) == ["007", "007"]
    assert not found.problems


def test_accents_in_either_form_are_one_patient_and_one_file(read, tmp_path):
    forms = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    (tmp_path / forms[1]).mkdir()
    (tmp_path / forms[1] / "f3.jpg").write_bytes(b"")
    found = read("patient_id,field", f"{forms[0]},f1.jpg", f"{forms[1]},{forms[0]}/f3.jpg")
    assert _patients(found) == [forms[0]] * 2
    assert found.fields[1].path == tmp_path / forms[1] / "f3.jpg"


def test_whole_numbers_written_as_decimals_are_said(read, caplog):
    assert _patients(read("patient_id,field", "7.0,f1.jpg", "7,f2.jpg")) == ["7", "7"]
    assert "'7.0' is read as '7'" in caplog.text
    caplog.clear()
    assert _patients(read("patient_id,field", "1.0,f1.jpg", "1.1,f2.jpg")) == ["1.0", "1.1"]
    assert not caplog.text


def test_patients_that_differ_in_case_or_blanks_are_said(read):
    found = read("patient_id,field", "P 1,f1.jpg", "p1,f2.jpg")
    assert len(found.patients) == 2
    assert "'P 1', 'p1'" in next(alike_patients(found))


def test_remarks_in_unnamed_columns_are_passed_over(read):
    found = read(
        "patient_id;field;um_per_px;;", "1;f1.jpg;0,193;;", "1;f2.jpg;0,2;;checked", "", ";;;;old"
    )
    assert [field.um_per_px for field in found] == [0.193, 0.2]
    assert len(found.problems) == 1, "a row with a remark alone names no field"


def test_a_torn_decimal_comma_is_no_remark(read):
    found = read("patient_id,field,um_per_px", "1,f1.jpg,0,193", "1,f2.jpg,0.193")
    assert [field.um_per_px for field in found] == [0.193]
    assert "line 2" in found.problems[0]


def test_other_names_titles_units_and_encodings(read):
    found = read(
        "Smears of November;;",
        "Patient ID;Field;Pixel size (µm)",
        "1;f1.jpg;0,193 µm",
        "1;f2.jpg;193 nm",
        encoding="utf-16-le",
    )
    assert [field.um_per_px for field in found] == pytest.approx([0.193, 0.193])


def test_a_name_in_another_case_or_without_suffix_is_found_if_it_is_one_file(read, tmp_path):
    found = read("patient_id,field", "1,F1.JPG", "1,f2")
    assert [field.path.name for field in found] == ["f1.jpg", "f2.jpg"]
    (tmp_path / "f2.png").write_bytes(b"")
    found = read("patient_id,field", "1,f1.jpg", "1,f2")
    assert "no such file" in found.problems[0]


def test_an_excel_workbook_is_read_or_named(read, tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    read("patient_id,field", "1,f1.jpg")
    book = openpyxl.Workbook()
    for row in (["patient_id", "field", "um_per_px"], [7, "f1.jpg", 0.193], ["007", "f2.jpg"]):
        book.active.append(row)
    for name in ("m.xlsx", "m.csv"):
        book.save(tmp_path / name)
        found = find_fields(tmp_path / name)
        assert [(f.patient_id, f.um_per_px) for f in found] == [("7", 0.193), ("007", None)]
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(SpherodetectError, match=r"save it as CSV.*spherodetect\[excel\]"):
        find_fields(tmp_path / "m.xlsx")


@pytest.mark.parametrize("data", [b"PK\3\4" + bytes(500), b"PK\3\4"])
def test_a_damaged_workbook_is_named(tmp_path: Path, data):
    pytest.importorskip("openpyxl")
    (tmp_path / "m.xlsx").write_bytes(data)
    with pytest.raises(SpherodetectError, match=r"m\.xlsx': expected a CSV or an Excel workbook"):
        find_fields(tmp_path / "m.xlsx")


def test_dates_as_people_write_them(read, caplog):
    found = read("patient_id,field,date", "a,f1.jpg,2026-11-30T09:05", "b,f2.jpg,03/04/26")
    assert [field.taken for field in found] == [datetime(2026, 11, 30, 9, 5), None]
    assert "expected a date such as 2026-11-30, got '03/04/26'" in caplog.text
    assert not found.problems
