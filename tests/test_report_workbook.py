"""workbook: numbers are numbers, texts are texts, and no formula begins."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from reporting import HOSTILE, NOTHING, a_field, a_score
from spherodetect.errors import SpherodetectError
from spherodetect.report.extras import Extras
from spherodetect.report.files import CellFiles, write_excel, write_patients, write_scores
from spherodetect.report.results import ResultsFolder
from spherodetect.report.tables import PATIENT_COLUMNS, QUALITY_COLUMNS, TEXT
from spherodetect.score.grades import ICSH2015

openpyxl = pytest.importorskip("openpyxl")

#: The settings of a LibreOffice on a German system.
_GERMAN = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Setup/L10N"><prop oor:name="ooSetupSystemLocale" oor:op="fuse">
<value>de-DE</value></prop></item></oor:items>
"""
FORMULAS = ("=1+1", "+1", "-2", "@SUM(A1)", '=HYPERLINK("http://x")', "\t=1")


def _written(tmp_path: Path) -> Path:
    out, scores = tmp_path / "out", [a_score(grade="3+", hs_score=12.5)]
    scores += [a_score(patient_id=text) for text in (*FORMULAS, HOSTILE)]
    scores += [a_score(patient_id="none", status="field_quality", **NOTHING)]
    with ResultsFolder(out) as results:
        with CellFiles(results) as files:
            files.add(a_field(tmp_path, "p/1.png"))
            files.add(a_field(tmp_path, "p/=2.png", p=(0.9, 0.2), reason="too dense"))
        written = files.written | write_patients(scores, results)
        write_excel(scores, results, written)
    return out


def test_the_sheets_hold_the_tables_with_their_kinds(tmp_path):
    out = _written(tmp_path)
    book = openpyxl.load_workbook(out / "results.xlsx")
    assert book.sheetnames == ["patients", "cells", "quality"]
    for name, columns in (("patients", PATIENT_COLUMNS), ("quality", QUALITY_COLUMNS)):
        head, *rows = book[name].iter_rows()
        assert [cell.value for cell in head] == list(columns)
        with open(out / f"{name}.csv", encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        assert len(rows) == len(table)
        for row, texts in zip(rows, table, strict=True):
            for cell, (column, kind) in zip(row, columns.items(), strict=True):
                if not texts[column]:
                    assert cell.value is None
                elif kind == TEXT:
                    assert cell.data_type == "s" and cell.number_format == "@"
                else:
                    assert cell.data_type == "n" and cell.value == float(texts[column])
    assert book["patients"]["G2"].value == "3+" and book["patients"]["C2"].value == 12.5


def test_no_cell_holds_a_formula(tmp_path):
    book = openpyxl.load_workbook(_written(tmp_path) / "results.xlsx")
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert "f" not in {cell.data_type for cell in cells}
    ids = [cell.value for cell in book["patients"]["A"]][2 : 2 + len(FORMULAS)]
    assert all(text.lstrip("\t").startswith("'") for text in ids)
    assert not any(cell.hyperlink for cell in cells)


def test_the_summary_counts_the_cells_of_each_class(tmp_path):
    out = _written(tmp_path)
    head, *rows = openpyxl.load_workbook(out / "results.xlsx")["cells"].iter_rows(values_only=True)
    found = {row[1]: dict(zip(head, row, strict=True)) for row in rows}
    with open(out / "cells.csv", encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert set(found) == {cell["class_name"] for cell in cells}
    for name, row in found.items():
        own = [cell for cell in cells if cell["class_name"] == name]
        assert row["n_cells"] == len(own)
        assert row["n_countable"] == sum(cell["countable"] == "1" for cell in own)
        assert row["n_field"] == sum(cell["exclusion_reason"] == "field" for cell in own)
        p = [float(cell["p_spherocyte"]) for cell in own]
        assert row["mean_p_spherocyte"] == pytest.approx(sum(p) / len(p), abs=1e-3)


def test_the_same_results_give_the_same_bytes(tmp_path):
    one = (_written(tmp_path / "a") / "results.xlsx").read_bytes()
    assert one == (_written(tmp_path / "b") / "results.xlsx").read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "out" / "results.xlsx") as archive:
        assert b"dcterms" not in archive.read("docProps/core.xml").split(b">", 2)[2]


def test_scores_without_images_have_the_sheet_of_patients(tmp_path):
    write_scores([a_score()], tmp_path, scheme=ICSH2015, problems=(), extras=Extras(excel=True))
    assert openpyxl.load_workbook(tmp_path / "results.xlsx").sheetnames == ["patients"]


def test_without_openpyxl_the_run_does_not_begin(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openpyxl" else find(name)
    )
    with pytest.raises(SpherodetectError, match=r"openpyxl.*spherodetect\[excel\]"):
        Extras(excel=True).check()
    Extras().check()


@pytest.mark.slow
def test_a_german_libreoffice_opens_the_right_values(tmp_path):
    if not (office := shutil.which("soffice")):
        pytest.skip("LibreOffice is not installed: apt-get install libreoffice-calc-nogui")
    settings = tmp_path / "home" / "user" / "registrymodifications.xcu"
    settings.parent.mkdir(parents=True)
    settings.write_text(_GERMAN)
    # Semicolons, UTF-8, cells as they are shown.
    options = "csv:Text - txt - csv (StarCalc):59,34,76,1,,0,true,true"
    command = [office, f"-env:UserInstallation={(tmp_path / 'home').as_uri()}", "--headless"]
    command += ["--convert-to", options, "--outdir", tmp_path, _written(tmp_path) / "results.xlsx"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=120)
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert (rows[0]["grade"], rows[0]["hs_score"]) == ("3+", "12,5000")
    assert rows[1]["patient_id"] == "'=1+1" and rows[-1]["hs_score"] == ""
