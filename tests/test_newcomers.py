"""The mistakes of new users: each gets one line that names the file and the next step."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect import cli
from spherodetect.errors import SpherodetectError
from spherodetect.fields.image import read_image
from spherodetect.pipeline import run as pipeline
from spherodetect.score.counts import RESEARCH_USE
from spherodetect.synthetic import SmearStyle, draw_patient

ROOT = Path(__file__).resolve().parents[1]
PHONE_HW, ORIENTATION, TURNED = (1700, 2268), 0x0112, 6


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    (drawn,) = draw_patient(
        3,
        spherocyte_fraction=0.3,
        n_fields=1,
        n_cells=40,
        size_hw=(320, 400),
        style=SmearStyle(),
        patient_id="p",
    )
    return Image.fromarray(drawn.image)


@pytest.fixture
def photographs(tmp_path, picture):
    """Saves the same small photograph under many names."""

    def save(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, "JPEG")
        return tmp_path

    return save


def full(*_, **__):
    """Stands for a call that finds the disk full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def one_line(said: str, *parts: object) -> bool:
    """Whether a line of a message has all these parts."""
    return any(all(str(part) in line for part in parts) for line in said.splitlines())


@pytest.fixture
def found_fields(monkeypatch) -> list[list[tuple[str, str]]]:
    """Stops each run where detection would begin; holds its patients and fields."""
    runs: list[list[tuple[str, str]]] = []

    def stop(found, *_, **__):
        runs.append([(field.patient_id, field.field_id) for field in found])
        raise SpherodetectError("stopped here")

    monkeypatch.setattr(pipeline, "as_detector", lambda model: None)
    monkeypatch.setattr(pipeline, "examine", stop)
    return runs


@pytest.fixture
def run(tmp_path, capsys, caplog):
    """Runs a command with --out in the test's folder; returns stderr and the log."""

    def command(*words: object, expect: int) -> str:
        assert cli.main([*map(str, words), "--out", str(tmp_path / "out")]) == expect
        said = capsys.readouterr().err + "".join(f"{message}\n" for message in caplog.messages)
        assert "Traceback" not in said
        return said

    return command


def test_a_flat_folder_of_several_patients_is_named(photographs, found_fields, run):
    folder = photographs("flat/patient_01_a.jpg", "flat/patient_02_a.jpg")
    said = run("score", folder / "flat", expect=2)
    pattern = "--patient-regex '(?i)(patient_[0-9]+)'"
    assert one_line(said, "'flat'", "one patient", "'patient_01', 'patient_02'", pattern)
    run("score", folder / "flat", "--patient-regex", "(?i)(patient_[0-9]+)", expect=2)
    assert [patient for patient, _ in found_fields[1]] == ["patient_01", "patient_02"]


def test_a_folder_of_folders_of_folders_is_named(photographs, found_fields, run):
    folder = photographs("all/2024/lab/anna/a.jpg", "all/2024/lab/bert/a.jpg")
    said = run("score", folder / "all", expect=2)
    folders = "'2024/lab/anna', '2024/lab/bert'"
    better = f"score '{folder / 'all' / '2024' / 'lab'}'"
    assert one_line(said, "'2024'", "one patient", folders, better)


@pytest.mark.parametrize(
    "names",
    [
        ("s/patient_01/patient_01_1.jpg", "s/patient_02/patient_02_1.jpg"),
        ("s/anna/slide_1/a.jpg", "s/anna/slide_2/a.jpg", "s/bert/slide_1/a.jpg"),
        ("s/anna/slide_1/a.jpg", "s/anna/b.jpg"),
        ("s/a.jpg", "s/b.jpg"),
    ],
)
def test_the_right_folders_get_no_hint(names, photographs, found_fields, run):
    assert "one patient" not in run("score", photographs(*names) / "s", expect=2)


def test_a_folder_without_images_is_named(tmp_path, run):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.docx").write_text("Dear")
    said = run("score", tmp_path / "letters", expect=2)
    assert one_line(said, "letters'", "expected JPEG, PNG, TIFF, BMP, WebP", "got none")
    assert not (tmp_path / "out").exists()


def test_extensions_in_capitals_are_images(photographs, found_fields, run):
    run("score", photographs("s/P1/A.JPG", "s/P2/B.JPEG") / "s", expect=2)
    assert found_fields == [[("P1", "P1/A.JPG"), ("P2", "P2/B.JPEG")]]


def test_a_manifest_from_excel_is_read(photographs, found_fields, run):
    folder = photographs("smears/01/a.jpg", "smears/02/a.jpg")
    rows = (
        "patient_id;field;um_per_px\r\n01;smears\\01\\a.jpg;0,193\r\n02;smears\\02\\a.jpg;0,193\r\n"
    )
    (folder / "manifest.csv").write_bytes(rows.encode("utf-8-sig"))
    run("score", folder / "manifest.csv", expect=2)
    assert found_fields == [[("01", "smears/01/a.jpg"), ("02", "smears/02/a.jpg")]]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("patient_id;field\r\n01;C:\\Users\\me\\a.jpg\r\n", ("expected a path inside", "a.jpg")),
        ("patient_id;field\r\n01;smears\\01\\b.jpg\r\n", ("no such file", "b.jpg", "relative")),
        ("Who;File name\r\n01;a.jpg\r\n", ("expected columns", "Who", "first line")),
    ],
)
def test_a_manifest_that_names_no_photograph_says_what_is_expected(rows, parts, photographs, run):
    folder = photographs("smears/01/a.jpg")
    (folder / "manifest.csv").write_bytes(rows.encode("utf-8-sig"))
    assert one_line(run("score", folder / "manifest.csv", expect=2), *parts)


@pytest.mark.parametrize(
    ("name", "next_step"),
    [("smears.zip", "expected a folder"), ("list.xlsx", "CSV"), ("a.pdf", "as PNG, JPEG")],
)
@pytest.mark.parametrize("command", ["score", "detect"])
def test_a_zip_or_a_workbook_in_place_of_a_folder(
    command, name, next_step, tmp_path, photographs, run
):
    photographs("a.jpg")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.write(tmp_path / "a.jpg", "a.jpg")
    said = run(command, tmp_path / name, expect=2)
    assert one_line(said, name, "expected", next_step)


def test_other_files_renamed_to_jpg_are_each_named(tmp_path, photographs, loaded_model, run):
    photographs("s/p1/good.jpg")
    other = {
        "a.jpg": b"%PDF-1.7\n1 0 obj\n",
        "b.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "c.jpg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    }
    for name, data in other.items():
        (tmp_path / "s" / "p1" / name).write_bytes(data)
    said = run("score", tmp_path / "s", expect=3)
    for name, kind in zip(other, ("PDF", "HEIC", "SVG"), strict=True):
        assert one_line(said, f"'p1/{name}'", "expected a JPEG", kind)
    (tmp_path / "s" / "p1" / "good.jpg").unlink()
    said = run("score", tmp_path / "s", expect=2)
    assert one_line(said, "no image could", "'p1/a.jpg'")


def test_a_telephone_photograph_is_turned_upright_and_scored(tmp_path, picture, loaded_model, run):
    height, width = PHONE_HW
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    (tmp_path / "p1").mkdir()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(
        tmp_path / "p1" / "IMG_0001.JPG", "JPEG", quality=92, exif=exif
    )
    assert read_image(tmp_path / "p1" / "IMG_0001.JPG").shape == (width, height, 3)
    run("score", tmp_path / "p1", expect=0)
    cells = (tmp_path / "out" / "cells.csv").read_text().splitlines()
    ymax = cells[0].split(",").index("ymax_px")
    assert len(cells) > 25
    assert height < max(float(row.split(",")[ymax]) for row in cells[1:]) <= width


def test_a_large_photograph_of_something_else_is_refused_at_once(
    tmp_path, loaded_model, run, monkeypatch
):
    from spherodetect.detect.model import Model

    monkeypatch.setattr(
        Model, "detect", lambda *_, **__: pytest.fail("no detection is needed to refuse this")
    )
    height, width = PHONE_HW
    grain = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    oval = np.hypot((y - height / 2) / (0.43 * height), (x - width / 2) / (0.25 * width))[..., None]
    face = np.where(oval < 1, [224, 180, 150], [90, 110, 140]) * (1 - 0.25 * oval.clip(0, 1.5))
    for name, pixels in (("grain", grain), ("face", face.astype(np.uint8))):
        (tmp_path / "s" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "s" / name / "IMG_0002.JPG", quality=85)
    assert not run("score", tmp_path / "s", expect=0).count("cells than")
    rows = list(csv.DictReader((tmp_path / "out" / "patients.csv").open()))
    assert {row["patient_id"]: row["n_cells"] for row in rows} == {"face": "0", "grain": "0"}
    assert all(
        row["status"] in {"out_of_domain", "field_quality"} and not row["grade"] for row in rows
    )


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_says_so_and_what_to_do(photographs, loaded_model, run, monkeypatch):
    folder = photographs("s/p1/a.jpg")
    monkeypatch.setattr(os, "fsync", full)
    reason = f"({os.strerror(errno.ENOSPC)})"
    assert one_line(run("score", folder / "s", expect=2), "cannot be written", reason)
    monkeypatch.setattr(Path, "mkdir", full)
    assert one_line(run("score", folder / "s", expect=2), "cannot be written", reason, "--out")


def test_a_full_disk_while_unpacking_does_not_blame_the_archive(
    tmp_path, photographs, monkeypatch, capsys
):
    photographs("a.jpg")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(tmp_path / "a.jpg", "a.jpg")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert cli.main(["lint", str(tmp_path / "export.zip")]) == 2
    said = capsys.readouterr().err
    assert one_line(said, "export.zip", f"({os.strerror(errno.ENOSPC)})", "TMPDIR")
    assert "download" not in said


def test_a_download_without_a_key_names_the_variable(tmp_path, monkeypatch, run):
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    said = run("roboflow", "my-lab/smears/3", expect=2)
    (line,) = said.splitlines()
    assert one_line(line, "ROBOFLOW_API_KEY is not set", "environment variable")


@pytest.mark.parametrize("python", ["old", "missing"])
def test_an_old_python_is_told_before_anything_is_installed(python, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    fake = tmp_path / "python3.9"
    if python == "old":
        fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.25 && exit 0\nexit 1\n')
        fake.chmod(0o755)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={fake}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    given = "Python 3.9.25" if python == "old" else "python3.9"
    assert one_line(done.stderr, "needs Python", "3.11, 3.12 or 3.13", given)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.train
@pytest.mark.parametrize("hardware", ["gpu", "tpu"])
def test_training_on_hardware_that_is_not_there_says_what_to_use(hardware, monkeypatch):
    pytest.importorskip("official", reason="tf-models-official is not installed")
    import tensorflow as tf

    from spherodetect.training.run import _strategy

    for variable in ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    with pytest.raises(SpherodetectError, match=f"--hardware {hardware}: .*--hardware cpu"):
        _strategy(hardware)


def test_the_commands_of_the_first_day_say_research_use_only(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert RESEARCH_USE in " ".join(capsys.readouterr().out.split())
    done = subprocess.run(
        [sys.executable, "-m", "spherodetect", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("spherodetect ")
