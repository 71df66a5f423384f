"""From a Roboflow zip of MGG labels to the score of a patient, with the real commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from roboflow_fixture import write_export
from spherodetect.synthetic import draw_field

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.train
FEW_STEPS = (
    "task.model.input_size=[128, 128, 3]",
    "task.train_data.global_batch_size=2",
    "trainer.train_steps=3",
    "trainer.steps_per_loop=3",
    "trainer.checkpoint_interval=3",
    "trainer.summary_interval=3",
)


#: Runs the commands of a JSON list one after the other, and prints their exit codes.
_COMMANDS = """
import json, sys
from spherodetect.cli import main
print(*(main(words) for words in json.loads(sys.argv[1])))
"""


def run(*commands: tuple[object, ...], cwd: Path, expect: tuple[int, ...]) -> None:
    """Run spherodetect commands in one process, which loads TensorFlow once."""
    words = json.dumps([[str(word) for word in one] for one in commands])
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert tuple(map(int, done.stdout.splitlines()[-1].split())) == expect, done.stderr[-3000:]


def test_a_roboflow_zip_becomes_a_score(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("official", reason="tf-models-official is not installed")
    archive = tmp_path / "export.zip"
    counts = write_export(
        shared_data / "dataset-a-roboflow",
        archive,
        patients=("patient_01", "patient_02"),
        sources_each=2,
    )

    photographs = tmp_path / "photographs"
    _unpack(archive, photographs)
    # After three training steps a model finds thousands of cells in each photograph, which takes
    # long. One photograph a patient is enough.
    for patient in ("patient_01", "patient_02"):
        for spare in sorted(photographs.rglob(f"*{patient}*.jpg"))[1:]:
            spare.unlink()
    model, out, name = "models/mine", tmp_path / "out", "(patient_[0-9]+)"
    run(
        ("lint", archive, "--json", tmp_path / "lint.json"),
        ("recipe", archive, "--out", "mine.yaml"),
        ("tfrecords", "mine.yaml", "--out", "records/mine"),
        ("train", "mine_experiment.yaml", "--run", "runs/mine", *_set(FEW_STEPS)),
        ("export", "runs/mine", "--out", model),
        ("score", photographs, "--model", model, "--out", out, "--patient-regex", name),
        cwd=tmp_path,
        expect=(1, 0, 0, 0, 0, 0),
    )

    found = json.loads((tmp_path / "lint.json").read_bytes())["findings"]
    assert {finding["code"] for finding in found} >= {
        "rectangle-mask",
        "stretched-image",
        "augmented-copies",
        "patient-in-two-splits",
        "root-category",
    }
    manifest = json.loads((tmp_path / "records/mine/manifest.json").read_bytes())
    labels = manifest["annotations"]
    assert (
        labels["read"]
        == sum(counts.values())
        == labels["written"] + sum(labels["dropped"].values())
    )
    assert set(labels["dropped"]) <= {"augmented-copy"}
    # Segmentation finds the cell in most boxes, so these became masks. The stretch was undone.
    assert labels["repaired"]["box-to-mask"] > 0.7 * labels["written"]
    assert labels["repaired"]["unstretched"] == labels["written"]
    assert len(manifest["splits"]["val"]["patients"]) == 1
    with (out / "patients.csv").open() as file:
        rows = {row["patient_id"]: row for row in csv.DictReader(file)}
    # The scores mean nothing after three steps; each patient must have a row with a status.
    assert set(rows) == {"patient_01", "patient_02"}
    assert all(row["status"] and row["model"] == "mine" for row in rows.values())


@pytest.mark.slow
def test_two_patients_become_a_model_that_judges_each_by_the_other(
    tmp_path: Path, shared_data: Path
) -> None:
    pytest.importorskip("official", reason="tf-models-official is not installed")
    archive, folds = tmp_path / "export.zip", tmp_path / "runs/mine"
    patients = ("patient_01", "patient_02")
    write_export(shared_data / "dataset-a-roboflow", archive, patients=patients, sources_each=2)
    train = ("train", "mine_experiment.yaml", "--run", "runs/mine")
    train += ("--from", "bundled", "--folds", "patient", *_set(FEW_STEPS))
    run(
        ("recipe", archive, "--out", "mine.yaml"),
        ("tfrecords", "mine.yaml", "--out", "records/mine"),
        train,
        ("export", "runs/mine", "--out", "model"),
        cwd=tmp_path,
        expect=(0, 0, 0, 0),
    )
    model = json.loads((tmp_path / "model" / "model.json").read_bytes())
    assert model["rates"]["folds"] in (0, 2)
    assert {block["name"] for block in model["rates"]["blocks"]} <= set(patients)
    assert "spherodetect" in model["provenance"]["initial"]["model"]["name"]
    for patient in patients:
        provenance = json.loads((folds / f"without_{patient}" / "provenance.json").read_bytes())
        task = provenance["params"]["task"]
        assert task["train_data"]["without_patients"] == [patient]
        assert task["validation_data"]["patients"] == [patient]
        assert task["frozen_norms"] and task["init_checkpoint"].endswith("start")
    # Finished trainings stay as they are.
    before = (folds / "all" / "checkpoint").stat().st_mtime_ns
    run((*train, "--resume"), cwd=tmp_path, expect=(0,))
    assert (folds / "all" / "checkpoint").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_makesense_export_with_hemadetects_six_names_becomes_masks_of_each_class(
    tmp_path: Path,
) -> None:
    pytest.importorskip("official", reason="tf-models-official is not installed")
    names = [
        "erythrocyte",
        "neutrophil",
        "basophil",
        "lymphocyte",
        "basophilic stippling",
        "platelet",
    ]
    export, settings = tmp_path / "export", {"task": {"class_names": names}}
    counts = _drawn_makesense(export, names)
    recipe = yaml.safe_load((ROOT / "tfrecords" / "hemadetect.yaml").read_text())
    recipe |= {"root": str(export), "class_names": names, "classes": {name: name for name in names}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    records = ("tfrecords", tmp_path / "recipe.yaml", "--out", tmp_path / "records")
    run(records, cwd=tmp_path, expect=(0,))
    manifest = json.loads((tmp_path / "records" / "manifest.json").read_bytes())
    written = manifest["splits"]["train"]["classes"]
    assert {name: written[name] for name in names} == dict(counts)

    experiment = yaml.safe_load((ROOT / "experiments" / "hemadetect.yaml").read_text()) | settings
    experiment["task"]["train_data"] = {
        "input_path": f"{tmp_path}/records/hemadetect-train-*.tfrecord"
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    image, run_folder = next(export.glob("*.png")), tmp_path / "run"
    run(
        ("train", tmp_path / "experiment.yaml", "--run", run_folder, *_set(FEW_STEPS)),
        ("export", run_folder, "--out", tmp_path / "model"),
        ("detect", image, "--model", tmp_path / "model", "--out", tmp_path / "out"),
        cwd=tmp_path,
        expect=(0, 0, 0),
    )
    model = json.loads((tmp_path / "model" / "model.json").read_bytes())
    assert model["class_names"] == names and (tmp_path / "out" / "cells.csv").is_file()


def _drawn_makesense(folder: Path, names: list[str]) -> Counter[str]:
    """Write images with one COCO file, as makesense.ai does; return the number of cells a name."""
    from spherodetect.report.interop import to_coco

    folder.mkdir()
    images, annotations, counts = [], [], Counter[str]()
    for number in range(1, 4):
        drawn = draw_field(
            np.random.default_rng(number),
            size_hw=(360, 480),
            n_cells=30,
            spherocyte_fraction=0.2,
            n_white=3,
            n_platelets=3,
        )
        Image.fromarray(drawn.image).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 480, "height": 360})
        white = cycle(names[1:4])
        for name, cell in zip(
            drawn.cells.names, to_coco([drawn.cells])["annotations"], strict=True
        ):
            six = {"rbc": names[0], "spherocyte": names[4], "platelet": names[5]}.get(name) or next(
                white
            )
            x, y, w, h = cell["bbox"]
            cell |= {
                "id": len(annotations),
                "image_id": number,
                "category_id": 1 + names.index(six),
                "iscrowd": 0,
            }
            annotations.append(
                cell
                | {
                    "segmentation": [
                        [x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]
                    ]
                }
            )
            counts[six] += 1
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    labels = {
        "info": {"description": "my-project"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    (folder / "labels_my-project.json").write_text(json.dumps(labels))
    return counts


def _set(settings: Iterable[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _unpack(archive: Path, into: Path) -> None:
    from spherodetect.safety import extract_zip

    extract_zip(archive, into)
    for labels in into.rglob("*.json"):
        labels.unlink()
