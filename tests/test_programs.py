"""docs/python.md: each of its programs runs as it stands, in a folder with the files it names."""

from __future__ import annotations

import io
import re
import sys
import types
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest
import tifffile
import yaml
from PIL import Image

from spherodetect.labels.example import write_example
from spherodetect.synthetic import SmearStyle, draw_patient

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path) -> str:
    """Run a program in a folder, and return what it printed."""
    printed = io.StringIO()
    # A dataclass looks for the module of its class. What the program imports stays: TensorFlow
    # cannot be imported twice.
    module = sys.modules["program"] = types.ModuleType("program")
    try:
        with chdir(folder), redirect_stdout(printed):
            exec(compile(program, "docs/python.md", "exec"), vars(module))  # noqa: S102
    finally:
        del sys.modules["program"]
    return printed.getvalue()


@pytest.fixture
def folder(tmp_path, loaded_model) -> Path:
    """Two patients of two small fields, and a file that is no image."""
    for number, patient in enumerate(("patient_01", "patient_02")):
        smear = tmp_path / "smears" / patient
        smear.mkdir(parents=True)
        drawn = draw_patient(
            number,
            spherocyte_fraction=0.5 * number,
            n_fields=2,
            n_cells=20,
            size_hw=(200, 260),
            style=SmearStyle(),
            patient_id=patient,
        )
        for field in drawn:
            Image.fromarray(field.image).save(smear / field.cells.field_id)
    (tmp_path / "smears" / "patient_02" / "torn.png").write_bytes(b"no image")
    return tmp_path


def test_the_page_has_five_programs():
    assert len(PROGRAMS) == 5


def test_a_folder_becomes_a_data_frame(folder):
    printed = run(PROGRAMS[0], folder)
    assert re.search(r"patient_01 +insufficient_cells", printed)
    assert "torn.png" in printed
    assert {path.name for path in folder.iterdir()} == {"smears"}, "nothing is written without out"


def test_a_loop_with_own_quality_control_ends_in_a_report(folder):
    first = run(PROGRAMS[1], folder)
    assert "patient 01, sharp fields" in (folder / "patient_01.html").read_text()
    stored = {path.name for path in (folder / "finished").iterdir()}
    assert len(stored) == 2
    assert run(PROGRAMS[1], folder) == first
    assert {path.name for path in (folder / "finished").iterdir()} == stored


def test_a_detector_of_ones_own_scores_patients(folder):
    printed = run(PROGRAMS[2], folder)
    assert len(re.findall(r"patient_0[12] +dark cells", printed)) == 2


def test_masks_become_a_label_image(folder):
    printed = run(PROGRAMS[3], folder)
    assert "(200, 260) pixels" in printed
    assert tifffile.imread(folder / "countable.tif").max() > 5


@pytest.mark.slow
@pytest.mark.train
def test_an_own_export_becomes_a_model(tmp_path):
    pytest.importorskip("official", reason="tf-models-official is not installed")
    write_example(tmp_path / "export.zip", n_patients=3, n_fields=2, n_cells=30)
    recipe = yaml.safe_load((ROOT / "tfrecords" / "dataset_a.yaml").read_text())
    recipe |= {"name": "own", "native_size_hw": [480, 640], "unlabelled_cells": "none"}
    recipe.pop("root")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"root": "."}))
    experiment = yaml.safe_load((ROOT / "experiments" / "dataset_a.yaml").read_text())
    experiment["task"]["model"] = {"input_size": [128, 128, 3]}
    experiment["task"]["train_data"]["global_batch_size"] = 2
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    printed = run(PROGRAMS[4], tmp_path)
    assert "labels written" in printed
    assert (tmp_path / "model" / "model.json").is_file()
    assert (tmp_path / "evaluation" / "evaluation.html").is_file()
