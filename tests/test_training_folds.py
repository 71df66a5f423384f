"""folds: one training without each patient, and one on all, in a folder that export takes whole."""

from __future__ import annotations

import json
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from spherodetect.errors import SpherodetectError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("official") is None, reason="the extra [train] is missing"),
]
CHULA = Path(__file__).parents[1] / "experiments" / "chula.yaml"
COUNTS = {"p 1": {1: 300, 2: 40}, "p2": {1: 200, 2: 9}, "": {1: 50}}


@pytest.fixture
def folds(monkeypatch, tmp_path) -> ModuleType:
    """The module, with trainings that leave a checkpoint's name and nothing else."""
    module = import_module("spherodetect.training.folds")
    counts = {patient: Counter(of) for patient, of in COUNTS.items()}
    monkeypatch.setattr(module, "count_labels", lambda paths: counts)
    return module


def trained(folds, monkeypatch) -> list:
    """Collects the trainings instead of running them."""
    seen: list = []

    def train_settings(params, folder, *, name, hardware, resume, progress):
        seen.append((folder.name, params, resume))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
        (folder / "ckpt-9.index").touch()
        progress(9, 9, "done")
        return folder / "ckpt-9"

    monkeypatch.setattr(folds, "train_settings", train_settings)
    return seen


def test_each_patient_is_left_out_once_and_judged_by_that_training(folds, monkeypatch, tmp_path):
    seen, lines = trained(folds, monkeypatch), []
    folds.train_folds(
        CHULA,
        tmp_path / "run",
        overrides=["trainer.train_steps=9"],
        progress=lambda done, total, line: lines.append((done, total, line)),
    )
    data = {
        name: (list(p.task.train_data.without_patients), list(p.task.validation_data.patients))
        for name, p, _ in seen
    }
    assert data == {
        "all": ([], []),
        "without_p 1": (["p 1"], ["p 1"]),
        "without_p2": (["p2"], ["p2"]),
    }
    for name, params, _ in seen:
        assert params.trainer.validation_interval == 0
        held_out = folds.patterns_of(params.task.validation_data)
        assert bool(any(held_out)) == (name != "all")
        # The validation records of the experiment train too.
        assert any("-val-" in one for one in folds.patterns_of(params.task.train_data))
    # What is to come is told before the first step, and that one patient has too few spherocytes.
    done, total, plan = lines[0]
    assert (done, total) == (0, 27) and "3 trainings of 9 steps" in plan and "minutes" in plan
    assert "uncalibrated" in plan
    assert lines[-1][:2] == (27, 27) and "without p2" in lines[-1][2]
    assert [one.name for one in folds.fold_runs(tmp_path / "run")] == [name for name, *_ in seen]


def test_a_stopped_run_goes_on_and_finished_trainings_stay(folds, monkeypatch, tmp_path):
    seen = trained(folds, monkeypatch)
    options = {"overrides": ["trainer.train_steps=9"]}
    folds.train_folds(CHULA, tmp_path / "run", **options)
    (tmp_path / "run" / "without_p2" / "checkpoint").unlink()
    with pytest.raises(SpherodetectError, match="finished training"):
        folds.fold_runs(tmp_path / "run")
    with pytest.raises(SpherodetectError, match="--resume"):
        folds.train_folds(CHULA, tmp_path / "run", **options)
    folds.train_folds(CHULA, tmp_path / "run", resume=True, **options)
    assert [name for name, *_ in seen[3:]] == ["without_p2"]
    monkeypatch.setattr(folds, "count_labels", lambda paths: {"p3": Counter(), "p4": Counter()})
    with pytest.raises(SpherodetectError, match="got others"):
        folds.train_folds(CHULA, tmp_path / "run", resume=True, **options)


def test_one_patient_or_none_cannot_be_left_out(folds, monkeypatch, tmp_path):
    monkeypatch.setattr(folds, "count_labels", lambda paths: {"p1": Counter(), "": Counter()})
    with pytest.raises(SpherodetectError, match=r"2 patients or more, got 1.*patients:"):
        folds.train_folds(CHULA, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_holds_a_single_run_or_folds_and_not_both(folds, monkeypatch, tmp_path):
    trained(folds, monkeypatch)
    folds.train_folds(CHULA, tmp_path / "run", overrides=["trainer.train_steps=9"])
    folds.check_kind(tmp_path / "run", with_folds=True)
    with pytest.raises(SpherodetectError, match="--folds patient"):
        folds.check_kind(tmp_path / "run", with_folds=False)
    one = tmp_path / "run" / "all"
    folds.check_kind(one, with_folds=False)
    with pytest.raises(SpherodetectError, match="single run"):
        folds.check_kind(one, with_folds=True)
    folds.check_kind(tmp_path / "new", with_folds=True)


@pytest.mark.parametrize("content", [[], {"runs": ["all"]}, {"runs": {"../x": ""}}, {"runs": {}}])
def test_a_strange_folds_file_is_refused(folds, tmp_path, content):
    (tmp_path / "folds.json").write_text(json.dumps(content))
    with pytest.raises(SpherodetectError, match=r"folds\.json"):
        folds.fold_runs(tmp_path)


def test_a_single_run_has_no_folds(folds, tmp_path):
    assert folds.fold_runs(tmp_path) == ()
