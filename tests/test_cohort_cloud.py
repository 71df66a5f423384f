"""cohort.cloud: photographs from, and results to, cloud storage. Folders stand in for buckets."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from pyarrow import fs

from cohort_stub import Grid, results_of, write_smears
from spherodetect.cli.options import place
from spherodetect.cohort import cloud, score_cohort
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.run import score_patients
from spherodetect.report.results import HIDDEN, MARKER


@pytest.fixture
def buckets(tmp_path, monkeypatch) -> Path:
    """A folder whose sub-folders are buckets, and an empty cache."""
    root = tmp_path / "buckets"
    root.mkdir()
    system = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
    monkeypatch.setattr(cloud, "_opened", lambda a: (system, a.partition("://")[2].rstrip("/")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cloud, "_SPARE_BYTES", 0)
    return root


def _portable(files: dict[str, bytes]) -> dict[str, bytes]:
    """The results without the record of the run, which has the paths of the photographs."""
    kept = {n: b for n, b in files.items() if n not in (f"{HIDDEN}/run.json", f"{HIDDEN}/lock")}
    assert kept
    return kept


def test_addresses_are_told_from_paths():
    assert place("s3://lab/a") == "s3://lab/a" and place("gs://lab/a") == "gs://lab/a"
    assert place("s3/a") == Path("s3/a")
    assert not cloud.is_cloud("C:/s3://a") and not cloud.is_cloud("s3:///a")


def test_results_from_and_to_a_bucket_are_those_of_a_folder(buckets, tmp_path):
    write_smears(buckets / "lab" / "smears")
    here = score_patients(buckets / "lab" / "smears", model=Grid(), out=tmp_path / "out")
    steps: list[str] = []
    away = score_cohort(
        "s3://lab/smears",
        ray=None,
        out="s3://lab/results/out",
        model=Grid(),
        progress=lambda done, total, label: steps.append(label),
    )
    assert repr(away.scores) == repr(here.scores) and away.problems == here.problems
    assert away.cells.equals(here.cells) and not away.tables
    there = results_of(buckets / "lab" / "results" / "out")
    assert _portable(there) == _portable(results_of(tmp_path / "out"))
    assert MARKER not in there
    assert "copying f0.png" in steps and "copying patients.csv" in steps
    assert not list((tmp_path / "cache").rglob("*.png")), "the working folder is removed"


def test_a_second_run_takes_finished_fields_and_removes_what_is_gone(
    buckets, tmp_path, monkeypatch
):
    smears = write_smears(buckets / "lab" / "smears")
    out = buckets / "lab" / "out"
    for _ in range(2):
        score_cohort("s3://lab/smears", ray=None, out="s3://lab/out", model=Grid())
        first = results_of(out)
        # The second run examines nothing.
        monkeypatch.setattr(Grid, "detect", lambda *_: pytest.fail("a field was examined again"))
    assert (out / "overlays" / "p1" / "f2.png").is_file()
    (out / "mine.txt").write_text("mine")
    (smears / "p1" / "f2.png").unlink()
    score_cohort("s3://lab/smears", ray=None, out="s3://lab/out", model=Grid())
    gone = set(first) - set(results_of(out))
    assert "overlays/p1/f2.png" in gone and "cells.csv" not in gone
    assert (out / "mine.txt").read_text() == "mine"


def test_a_run_that_ended_goes_on_with_its_copies(buckets, tmp_path, monkeypatch):
    write_smears(buckets / "lab" / "smears")
    n_seen = []

    class Ends(Grid):
        def detect(self, image, um_per_px=None):
            n_seen.append(1)
            if len(n_seen) == 3:
                raise KeyboardInterrupt
            return super().detect(image, um_per_px)

    with pytest.raises(KeyboardInterrupt):
        score_cohort("s3://lab/smears", ray=None, out="s3://lab/out", model=Ends())
    assert not (buckets / "lab" / "out").exists()
    copied: list[str] = []
    score_cohort(
        "s3://lab/smears",
        ray=None,
        out="s3://lab/out",
        model=Ends(),
        progress=lambda done, total, label: copied.append(label),
    )
    assert len(n_seen) == 3 + 4, "two fields were finished, and the third is done again"
    assert "copying f0.png" not in copied
    assert (buckets / "lab" / "out" / "patients.csv").is_file()


def test_a_manifest_brings_what_lies_beside_it(buckets):
    smears = write_smears(buckets / "lab" / "smears")
    (smears / "manifest.csv").write_text("patient_id,field\nx,p0/f0.png\ny,p1/f1.png\n")
    result = score_cohort("gs://lab/smears/manifest.csv", ray=None, model=Grid())
    assert [score.patient_id for score in result.scores] == ["x", "y"]


def test_foreign_and_hidden_files_are_not_copied(buckets, monkeypatch):
    smears = write_smears(buckets / "lab" / "smears")
    (smears / "p1" / "slide.svs").write_bytes(b"x" * 5000)
    (smears / "p1" / ".DS_Store").write_bytes(b"x")
    with cloud.nearby(["s3://lab/smears"], None, progress=lambda *_: None) as (paths, out):
        sizes = {path.name: path.stat().st_size for path in paths[0].rglob("*.*")}
        assert out is None
    assert sizes["slide.svs"] == 0 and ".DS_Store" not in sizes and sizes["f0.png"] > 0


def test_an_address_with_nothing_and_a_full_disk_are_one_sentence(buckets, monkeypatch):
    (buckets / "lab").mkdir()
    with pytest.raises(SpherodetectError, match="'s3://lab/none': expected photographs, got"):
        score_cohort("s3://lab/none", ray=None, model=Grid())
    write_smears(buckets / "lab" / "smears")
    monkeypatch.setattr(cloud, "_SPARE_BYTES", 2**60)
    with pytest.raises(SpherodetectError, match="GiB of free space for the copies; name another"):
        score_cohort("s3://lab/smears", ray=None, model=Grid())


def test_a_copy_that_fails_leaves_no_half_object_and_the_notice(buckets, tmp_path, monkeypatch):
    write_smears(buckets / "lab" / "smears")
    chunks = cloud._chunks

    def torn(path: Path):
        yield from chunks(path)
        if path.name == "patients.csv":
            raise OSError("the line is down")

    monkeypatch.setattr(cloud, "_chunks", torn)
    with pytest.raises(SpherodetectError, match="'s3://lab/out': cannot be reached"):
        score_cohort("s3://lab/smears", ray=None, out="s3://lab/out", model=Grid())
    out = buckets / "lab" / "out"
    assert not (out / "patients.csv").exists() and (out / MARKER).is_file()
    monkeypatch.setattr(cloud, "_chunks", chunks)
    score_cohort("s3://lab/smears", ray=None, out="s3://lab/out", model=Grid())
    assert (out / "patients.csv").is_file() and not (out / MARKER).exists()


def test_google_addresses_are_opened_with_a_limit_of_time(monkeypatch):
    monkeypatch.delenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", raising=False)
    system, path = cloud._opened("gs://anonymous@lab/smears/")
    assert path == "lab/smears"
    assert system == fs.GcsFileSystem(anonymous=True, retry_time_limit=cloud._GOOGLE_RETRIES)
    system, path = cloud._opened("gs://lab/smears")
    assert path == "lab/smears"
    assert system == fs.GcsFileSystem(retry_time_limit=cloud._GOOGLE_RETRIES)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_results_from_and_to_an_emulator_of_google_cloud_storage(tmp_path, monkeypatch):
    emulator = shutil.which("gcp-storage-emulator")
    if emulator is None:
        pytest.skip("needs gcp-storage-emulator, in an environment of its own, on PATH")
    port = _free_port()
    server = subprocess.Popen(
        [emulator, "start", f"--port={port}", "--in-memory", "--default-bucket=lab"],
        stderr=subprocess.DEVNULL,
    )
    try:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://localhost:{port}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        write_smears(tmp_path / "smears")
        here = score_patients(tmp_path / "smears", model=Grid(), out=tmp_path / "out")
        bucket = fs.GcsFileSystem(anonymous=True)
        fs.copy_files(str(tmp_path / "smears"), "lab/smears", destination_filesystem=bucket)
        away = score_cohort("gs://lab/smears", ray=None, out="gs://lab/out", model=Grid())
        assert repr(away.scores) == repr(here.scores) and away.problems == here.problems
        (tmp_path / "there").mkdir()
        fs.copy_files("lab/out", str(tmp_path / "there"), source_filesystem=bucket)
        there, local = results_of(tmp_path / "there"), results_of(tmp_path / "out")
        assert _portable(there) == _portable(local)
    finally:
        server.terminate()
        server.wait()
