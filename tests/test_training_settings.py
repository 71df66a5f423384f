"""Settings that do not fit are one sentence that names them, before anything is built."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from spherodetect.errors import SpherodetectError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
BCCD = Path(__file__).parents[1] / "experiments" / "bccd.yaml"


def load(*overrides: str):
    return import_module("spherodetect.training.run").load_experiment(BCCD, overrides=overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.train_steps=many", "a whole number"),
        ("trainer.train_steps=2.5", "a whole number"),
        ("task.model.class_names=1", "expected settings"),
        ("task.class_names=rbc", "a list"),
        ("task.model.detection_head.class_agnostic_bbox_pred=1", "true or false"),
        ("task.train_data.parser.scale_jitter=wide", "a number"),
        ("trainer=5", "keys and values"),
        ("trainer.best_checkpoint_eval_metric=[1]", "a text"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(override, expected):
    with pytest.raises(SpherodetectError, match=expected) as caught:
        load(override)
    key = override.partition("=")[0]
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_a_number_that_yaml_reads_as_a_text_is_a_number():
    rate = "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate"
    params = load(f"{rate}=1e-4", "task.train_data.parser.rbc_px=30")
    assert params.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate == 1e-4
    assert isinstance(params.task.train_data.parser.rbc_px, float)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["trainer.train_steps=0"], "trainer.train_steps"),
        (["trainer.steps_per_loop=30"], "trainer.summary_interval"),
        (["task.model.input_size=[100, 100, 3]"], "task.model.input_size"),
        (["task.model.input_size=[128, 64, 3]"], "task.model.input_size"),
        (["task.class_names=[rbc, rbc]"], "task.class_names"),
        (["task.class_names=[]"], "task.class_names"),
        (["task.train_data.global_batch_size=0"], "task.train_data.global_batch_size"),
        (["task.init_checkpoint=nowhere/ckpt-1"], "task.init_checkpoint"),
    ],
)
def test_settings_that_contradict_each_other_are_named(overrides, named):
    settings = import_module("spherodetect.training.settings")
    settings.check_settings(load())
    with pytest.raises(SpherodetectError, match=f"^{named}: expected"):
        settings.check_settings(load(*overrides))


def test_a_folder_without_a_checkpoint_is_no_start(tmp_path):
    settings = import_module("spherodetect.training.settings")
    with pytest.raises(SpherodetectError, match="has none"):
        settings.checkpoint_prefix(tmp_path)
    (tmp_path / "ckpt-7.index").touch()
    assert settings.checkpoint_prefix(tmp_path / "ckpt-7") == str(tmp_path / "ckpt-7")


def test_a_failure_to_build_is_one_sentence():
    settings = import_module("spherodetect.training.settings")
    with (
        pytest.raises(SpherodetectError, match=r"'mine'.*two shapes.*--set") as caught,
        settings.built_from("mine"),
    ):
        raise ValueError("two shapes\n  differ")
    assert "\n" not in str(caught.value)
