"""The mission's own path with the real commands: a Roboflow zip of MGG labels to a patient's score."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from roboflow_fixture import write_export

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.train


def command(*words: object, cwd: Path, expect: int = 0) -> str:
    """Run a spherodetect command and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "spherodetect", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_a_roboflow_zip_becomes_a_score(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("official", reason="tf-models-official is not installed")
    archive = tmp_path / "export.zip"
    counts = write_export(
        shared_data / "dataset-a-roboflow", archive, patients=("patient_01", "patient_02"), sources_each=2
    )

    command("lint", archive, "--json", tmp_path / "lint.json", cwd=tmp_path, expect=1)
    codes = {finding["code"] for finding in json.loads((tmp_path / "lint.json").read_bytes())["findings"]}
    assert {"rectangle-mask", "stretched-image", "augmented-copies", "patient-in-two-splits", "root-category"} <= codes

    recipe = ROOT / "tfrecords" / "dataset_a.yaml"
    records = tmp_path / "records"
    command("tfrecords", recipe, "--root", archive, "--out", records, cwd=tmp_path)
    manifest = json.loads((records / "manifest.json").read_bytes())
    labels = manifest["annotations"]
    assert labels["read"] == sum(counts.values()) == labels["written"] + sum(labels["dropped"].values())
    assert set(labels["dropped"]) <= {"augmented-copy"}
    # Cells that fill their boxes are found in them: boxes became masks, and the stretch was undone.
    assert labels["repaired"]["box-to-mask"] > 0.7 * labels["written"]
    assert labels["repaired"]["unstretched"] == labels["written"]
    assert manifest["splits"]["val"]["patients"] == ["patient_02"]

    settings = [
        f"task.train_data.input_path={records}/dataset_a-train-*.tfrecord",
        f"task.validation_data.input_path={records}/dataset_a-val-*.tfrecord",
        "task.model.input_size=[128, 128, 3]", "task.train_data.global_batch_size=2", "trainer.train_steps=3",
        "trainer.steps_per_loop=3", "trainer.checkpoint_interval=3", "trainer.summary_interval=3",
    ]  # fmt: skip
    options = [word for setting in settings for word in ("--set", setting)]
    command("train", ROOT / "experiments" / "dataset_a.yaml", "--run", tmp_path / "run", *options, cwd=tmp_path)
    command("export", tmp_path / "run", "--out", tmp_path / "model", cwd=tmp_path)

    photographs = tmp_path / "photographs"
    command("demo", "--help", cwd=tmp_path)
    _unpack(archive, photographs)
    # A model that three steps taught finds thousands of cells in each: one photograph a patient is enough.
    for patient in ("patient_01", "patient_02"):
        for spare in sorted(photographs.rglob(f"*{patient}*.jpg"))[1:]:
            spare.unlink()
    command("score", photographs, "--model", tmp_path / "model", "--out", tmp_path / "out",
            "--patient-regex", "(patient_[0-9]+)", cwd=tmp_path)  # fmt: skip
    with (tmp_path / "out" / "patients.csv").open() as file:
        rows = {row["patient_id"]: row for row in csv.DictReader(file)}
    # Three steps teach nothing: what counts is that each patient has a row that says so.
    assert set(rows) == {"patient_01", "patient_02"}
    assert all(row["status"] and row["model"] == "model" for row in rows.values())


def _unpack(archive: Path, into: Path) -> None:
    from spherodetect.safety import extract_zip

    extract_zip(archive, into)
    for labels in into.rglob("*.json"):
        labels.unlink()
