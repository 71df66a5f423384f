"""pdf: a page is printed by the browser of the machine; without one the message says what to do."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest

from reporting import HOSTILE, a_field, a_score
from spherodetect.errors import SpherodetectError
from spherodetect.report import pdf
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.patient import write_patient_report


def _program(tmp_path, monkeypatch, script: str) -> None:
    """Let a shell script take the browser's place; $page is the PDF to write."""
    program = tmp_path / "browser"
    find = 'for one in "$@"; do case "$one" in --print-to-pdf=*) page="${one#*=}";; esac; done\n'
    program.write_text(f"#!/bin/sh\n{find}{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(pdf.BROWSER_VARIABLE, str(program))


def test_without_a_browser_the_run_does_not_begin(monkeypatch):
    monkeypatch.delenv(pdf.BROWSER_VARIABLE, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SpherodetectError, match=r"Chromium, Chrome or Edge.*apt-get install"):
        Extras(pdf=True).check()
    Extras().check()


def test_the_pdf_states_no_time_of_its_own(tmp_path, monkeypatch):
    script = "printf '%%PDF /CreationDate (D:20261130091500+00'\"'00')\"' end' > \"$page\""
    _program(tmp_path, monkeypatch, script)
    pdf.write_pdf(tmp_path / "p.html", tmp_path / "p.pdf")
    content = (tmp_path / "p.pdf").read_bytes()
    assert content == b"%PDF /CreationDate (D:20000101000000+00'00') end"


def test_a_browser_that_prints_nothing_is_one_sentence(tmp_path, monkeypatch):
    _program(tmp_path, monkeypatch, "exit 3")
    with pytest.raises(SpherodetectError, match=r"p\.html.*did not print it \(exit code 3\)"):
        pdf.write_pdf(tmp_path / "p.html", tmp_path / "p.pdf")
    assert not (tmp_path / "p.pdf").exists()


@pytest.mark.browser
def test_a_printed_page_carries_patient_date_and_page_number(tmp_path):
    if pdf.find_browser() is None:
        pytest.skip("no Chromium, Chrome or Edge")
    page, context = tmp_path / "p.html", FhirContext("", "2026-11-30T09:00:00+01:00")
    fields = [a_field(tmp_path, f"p/{HOSTILE[:20]}{k}.png".replace("/", "_")) for k in range(9)]
    write_patient_report(page, a_score(), fields, provenance={"model": "m"}, context=context)
    for name in ("a.pdf", "b.pdf"):
        pdf.write_pdf(page, tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    if not (to_text := shutil.which("pdftotext")):
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    text = subprocess.run(
        [to_text, "-layout", tmp_path / "a.pdf", "-"], capture_output=True, check=True, text=True
    ).stdout
    pages = text.split("\f")[:-1]
    assert len(pages) > 1
    for number, one in enumerate(pages, 1):
        assert "patient 07" in one and "2026-11-30 09:00 +01:00" in one
        assert f"{number}/{len(pages)}" in one.replace(" ", "") and "For Research Use Only" in one
