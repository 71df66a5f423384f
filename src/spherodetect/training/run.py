"""Runs an experiment: a YAML in experiments/ becomes a run folder.

A run folder has params.yaml (all settings as they were used), provenance.json, the last
checkpoints, best/ (the checkpoint with the highest held-out average precision) and TensorBoard's
files. A run that was killed continues from its last checkpoint, with the same step, learning rate
and position in the data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf
import yaml
from official.core import exp_factory, task_factory
from official.modeling import hyperparams

from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted, read_yaml
from spherodetect.training import experiment as _experiment
from spherodetect.training import task as _task  # noqa: F401  (importing registers the task)
from spherodetect.training.progress import EarlyStop, Observer, Runner
from spherodetect.training.settings import built_from, check_settings, typed

logger = logging.getLogger(__name__)

#: Settings of the hardware, for an experiment without a folder hardware/ beside it. They are those
#: of experiments/hardware/.
_HARDWARE: dict[str, dict[str, Any]] = {
    "cpu": {"runtime": {"mixed_precision_dtype": "float32"}},
    "gpu": {"runtime": {"mixed_precision_dtype": "float32"}},
    "tpu": {
        "runtime": {"mixed_precision_dtype": "bfloat16"},
        "task": {"train_data": {"dtype": "bfloat16", "drop_remainder": True}},
    },
}


def load_experiment(
    path: str | Path,
    *,
    hardware: str | None = None,
    overrides: Sequence[str] = (),
    tuning: bool = False,
) -> Any:
    """The settings of an experiment.

    In this order, each changes the ones before: Model Garden's defaults, those of experiment.py,
    those of the hardware, the YAML, those of tuning, and the overrides.

    Args:
        path: the YAML.
        hardware: cpu, gpu or tpu.
        overrides: key=value, where the key is a path such as trainer.train_steps.
        tuning: the run goes on from the weights of a model: `experiment.TUNING`, and the learning
            rate falls until the last step.

    Raises:
        SpherodetectError: an unknown key, a value of another type, or an override that is not
            key=value.
    """
    path = Path(path)
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise SpherodetectError(
            f"{quoted(path)}: expected keys and values; see experiments/README.md"
        )
    params = exp_factory.get_exp_config(settings.pop("experiment", _experiment.EXPERIMENT))
    layers: list[tuple[str, Any]] = []
    if hardware:
        file = path.parent / "hardware" / f"{hardware}.yaml"
        layers.append(
            (f"--hardware {hardware}", read_yaml(file) if file.is_file() else _HARDWARE[hardware])
        )
    layers.append((quoted(path), settings))
    if tuning:
        layers.append(("--from", _experiment.TUNING))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise SpherodetectError(
                f"--set {quoted(override)}: expected key=value, as in trainer.train_steps=100"
            )
        nested: Any = yaml.safe_load(value)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        layers.append((f"--set {quoted(override)}", nested))
    for source, layer in layers:
        layer = typed(layer, params.as_dict(), source=source)
        try:
            params = hyperparams.override_params_dict(params, layer, is_strict=True)
        except (KeyError, ValueError, TypeError) as error:
            raise SpherodetectError(
                f"{source}: expected settings that the experiment has, got {error}"
            ) from error
    rate = params.trainer.optimizer_config.learning_rate
    if tuning and rate.type == "cosine":
        rate.cosine.decay_steps = params.trainer.train_steps
    # The head has one output for the background and one for each class.
    params.task.model.num_classes = 1 + len(params.task.class_names)
    return params


def train(
    path: str | Path,
    run: str | Path,
    *,
    hardware: str = "cpu",
    overrides: Sequence[str] = (),
    start: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, line: None,
) -> Path:
    """Train an experiment and return its best checkpoint, or the last without held-out data.

    Args:
        path: the YAML of the experiment.
        run: the run folder.
        hardware: cpu, gpu or tpu.
        overrides: key=value, see `load_experiment`.
        start: folder of a checkpoint from `start.start_checkpoint`, from which the run goes on.
        resume: continue the run in the folder.
        progress: called with the number of steps done and in total, and a line of text.

    Raises:
        SpherodetectError: settings that contradict each other, a folder with a run where `resume`
            is false, no records, or an initial checkpoint of another network.
    """
    params = load_experiment(path, hardware=hardware, overrides=overrides, tuning=start is not None)
    if start is not None:
        params.task.init_checkpoint = str(start)
    name = Path(path).stem
    return train_settings(
        params, run, name=name, hardware=hardware, resume=resume, progress=progress
    )


def train_settings(
    params: Any,
    run: str | Path,
    *,
    name: str,
    hardware: str = "cpu",
    resume: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, line: None,
) -> Path:
    """`train` of settings that were loaded; `name` is that of the experiment."""
    run = Path(run)
    check_settings(params)
    require_records(params)
    last = tf.train.latest_checkpoint(str(run))
    if last and not resume:
        raise SpherodetectError(
            f"{quoted(run)}: expected an empty run folder, got one with checkpoints; "
            "go on with it by --resume, or name another"
        )
    # Model Garden needs an existing folder.
    run.mkdir(parents=True, exist_ok=True)
    step = int(last.rsplit("-", 1)[1]) if last else 0
    total = params.trainer.train_steps
    params.task.train_data.first_example = step * params.task.train_data.global_batch_size
    _write_provenance(run, name, params)
    if params.runtime.mixed_precision_dtype != "float32":
        from official.modeling import performance

        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    strategy = _strategy(hardware)
    with strategy.scope(), built_from(name):
        task = task_factory.get_task(params.task, logging_dir=str(run))
    # At an interval of 0 the held-out records serve export alone, and the last checkpoint is used.
    validates = params.trainer.validation_interval > 0 and bool(held_out_records(params))
    logger.info("training %s from step %d to %d in %s", name, step, total, run)
    progress(
        step,
        total,
        "building the graph, which takes a minute or two; the time left comes with the first steps",
    )
    observer = Observer(total, step=step, patience=params.trainer.patience, progress=progress)
    with built_from(name):
        runner: Runner = Runner(
            strategy,
            task,
            "train_and_eval" if validates else "train",
            params,
            str(run),
            train_actions=[
                lambda output: observer.after_loop(int(runner.trainer.global_step), output)
            ],
            eval_actions=[observer.after_validation],
        )
    try:
        # Orbit prints its progress to the log; the user sees `progress`.
        with (run / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
            runner.run()
    except EarlyStop:
        logger.info(
            "held-out average precision no longer improves: stopped at step %d",
            int(runner.trainer.global_step),
        )
        runner.checkpoint_manager.save(checkpoint_number=int(runner.trainer.global_step))
    return Path(str(chosen_checkpoint(run, params)))


def chosen_checkpoint(run: Path, params: Any) -> str | None:
    """The checkpoint of a run: the best if the run has it, or the last; None without any."""
    folder = params.trainer.best_checkpoint_export_subdir
    best = tf.train.latest_checkpoint(str(run / folder)) if folder else None
    return best or tf.train.latest_checkpoint(str(run))


def _strategy(hardware: str) -> tf.distribute.Strategy:
    if hardware == "tpu":
        try:
            # On a machine with its own TPU, such as Colab's, TPU_NAME is not needed.
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
                os.environ.get("TPU_NAME") or "local"
            )
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, OSError, tf.errors.OpError) as error:
            expected = "--hardware tpu: expected a TPU that TensorFlow sees, got none"
            raise SpherodetectError(
                f"{expected}; use --hardware cpu, or a machine with one (TPU_NAME says which)"
            ) from error
        return tf.distribute.TPUStrategy(resolver)
    if hardware == "gpu":
        if not tf.config.list_physical_devices("GPU"):
            raise SpherodetectError(
                "--hardware gpu: expected a GPU that TensorFlow sees, got none; use --hardware cpu"
            )
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def patterns_of(data: Any) -> list[str]:
    """The patterns of a data set's records: input_path is one, a list, or one of both a name."""
    paths = data.input_path
    parts = list(paths.as_dict().values()) if hasattr(paths, "as_dict") else [paths]
    return [p for part in parts for p in ([part] if isinstance(part, str) else part)]


def held_out_records(params: Any) -> list[str]:
    """The files of an experiment's validation records, in order."""
    return [
        file
        for pattern in patterns_of(params.task.validation_data)
        for file in sorted(_records(pattern))
    ]


def _records(pattern: str) -> list[str]:
    return tf.io.gfile.glob(pattern) if pattern else []


def require_records(params: Any) -> None:
    """Check that there are records to train on.

    Raises:
        SpherodetectError: a pattern of the training data matches no file.
    """
    for pattern in patterns_of(params.task.train_data):
        if not _records(pattern):
            raise SpherodetectError(
                f"{quoted(pattern)}: expected records to train on, got none; write them with "
                "`spherodetect tfrecords`"
            )


def _write_provenance(run: Path, name: str, params: Any) -> None:
    hyperparams.save_params_dict_to_yaml(params, str(run / "params.yaml"))
    manifests = {}
    for pattern in patterns_of(params.task.train_data):
        for manifest in Path(pattern).parent.glob("manifest.json"):
            content = json.loads(manifest.read_bytes())
            manifests[content["name"]] = {
                "checksums": content["checksums"],
                "splits": content["splits"],
                "forced": content["forced"],
                "stain": content.get("stain", ""),
            }
    versions = {
        name: metadata.version(name)
        for name in ("tensorflow", "tf-models-official", "tf_keras", "numpy")
    }
    provenance = {
        "experiment": name,
        "data": manifests,
        "versions": versions,
        "python": platform.python_version(),
        "params": params.as_dict(),
        "initial": _initial(params.task.init_checkpoint),
    }
    with atomic_write(run / "provenance.json") as file:
        file.write(json.dumps(provenance, indent=1, sort_keys=True, default=str).encode())


def _initial(checkpoint: str | None) -> dict[str, Any] | None:
    """Provenance of the initial checkpoint; None without a checkpoint, or if it has none.

    The training data of that run are not held out from this one.
    """
    if not checkpoint:
        return None
    path = Path(checkpoint).absolute()
    files = [folder / "provenance.json" for folder in (path, path.parent, path.parent.parent)]
    for file in filter(Path.is_file, files):
        known = json.loads(file.read_bytes())
        pattern = known["params"]["task"]["train_data"]["input_path"]
        task = {"train_data": {"input_path": pattern}}
        return {
            "data": known["data"],
            "params": {"task": task},
            "initial": known.get("initial"),
            **({"model": known["model"]} if "model" in known else {}),
        }
    return None
