"""run: settings are checked before training, and a killed run continues."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from spherodetect.errors import SpherodetectError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
ROOT = Path(__file__).parents[1]
CHULA = ROOT / "experiments" / "chula.yaml"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return import_module("spherodetect.training.run")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.name
)
@pytest.mark.parametrize("hardware", [None, "cpu", "gpu", "tpu"])
def test_every_experiment_loads_on_every_hardware(run, path, hardware):
    params = run.load_experiment(path, hardware=hardware)
    assert params.task.model.num_classes == 1 + len(params.task.class_names)
    assert params.task.train_data.parser.max_num_instances >= 180


@pytest.mark.parametrize("hardware", ["cpu", "gpu", "tpu"])
def test_an_experiment_in_another_folder_has_the_same_hardware_settings(run, tmp_path, hardware):
    (tmp_path / "mine.yaml").write_text(CHULA.read_text())
    assert run.load_experiment(tmp_path / "mine.yaml", hardware=hardware).as_dict() == (
        run.load_experiment(CHULA, hardware=hardware).as_dict()
    )


def test_overrides_are_applied_last(run):
    overrides = ["trainer.train_steps=7", "task.model.input_size=[64, 64, 3]"]
    params = run.load_experiment(CHULA, hardware="cpu", overrides=overrides)
    assert params.trainer.train_steps == 7
    assert list(params.task.model.input_size) == [64, 64, 3]


@pytest.mark.parametrize(
    "override", ["trainer.train_stepz=7", "task.train_data.parser.no_such=1", "steps"]
)
def test_an_unknown_setting_is_refused_by_name(run, override):
    with pytest.raises(SpherodetectError, match=override.split("=")[0]) as caught:
        run.load_experiment(CHULA, overrides=[override])
    assert "expected" in str(caught.value) and "\n" not in str(caught.value)


def test_an_experiment_with_a_wrong_key_is_named(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("trainer:\n  train_step: 5\n")
    with pytest.raises(SpherodetectError, match=r"mine\.yaml"):
        run.load_experiment(path)
    path.write_text("- 1\n")
    with pytest.raises(SpherodetectError, match="expected keys and values"):
        run.load_experiment(path)


def test_without_records_training_is_refused(run, tmp_path):
    with pytest.raises(SpherodetectError, match="spherodetect tfrecords"):
        run.train(
            CHULA,
            tmp_path / "run",
            overrides=[f"task.train_data.input_path={tmp_path}/no-*.tfrecord"],
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("checkpoint", ["first", "first/ckpt-9", "first/best/ckpt-5"])
def test_the_provenance_of_the_initial_checkpoint_is_kept(run, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    task = {"train_data": {"input_path": "a-train-*.tfrecord"}, "model": {"many": "settings"}}
    known = {"data": {"a": {"splits": {}}}, "params": {"task": task}, "initial": {"data": {}}}
    (tmp_path / "first" / "provenance.json").write_text(json.dumps(known))
    assert run._initial(checkpoint) == {
        "data": known["data"],
        "params": {"task": {"train_data": task["train_data"]}},
        "initial": {"data": {}},
    }
    assert run._initial("elsewhere/ckpt-1") is run._initial(None) is run._initial("") is None


@pytest.mark.slow
def test_a_run_continues_from_its_last_checkpoint(run, tmp_path):
    from spherodetect.labels.recipe import Recipe
    from spherodetect.records.tfrecords import build

    records = tmp_path / "records"
    build(Recipe("drawn", "synthetic", tmp_path, n_fields=2, seed=1, um_per_px=0.4), records)
    overrides = [
        f"task.train_data.input_path={records}/drawn-*.tfrecord",
        "task.train_data.weights=null",
        "task.model.input_size=[128, 128, 3]",
        "task.train_data.global_batch_size=2",
        "trainer.steps_per_loop=2",
        "trainer.checkpoint_interval=2",
        "trainer.summary_interval=2",
        "task.validation_data.input_path=''",
    ]
    folder = tmp_path / "run"
    first = run.train(CHULA, folder, overrides=[*overrides, "trainer.train_steps=2"])
    assert first.name == "ckpt-2"
    provenance = json.loads((folder / "provenance.json").read_bytes())
    assert (
        provenance["data"]["drawn"]["checksums"]
        == json.loads((records / "manifest.json").read_bytes())["checksums"]
    )
    assert (folder / "params.yaml").is_file()
    with pytest.raises(SpherodetectError, match="--resume"):
        run.train(CHULA, folder, overrides=[*overrides, "trainer.train_steps=4"])
    second = run.train(CHULA, folder, overrides=[*overrides, "trainer.train_steps=4"], resume=True)
    assert second.name == "ckpt-4"
