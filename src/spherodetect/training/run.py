"""One execution of an experiment: a YAML in experiments/ becomes a run folder with checkpoints, curves and provenance.

A run folder holds params.yaml (every setting as it was used), provenance.json, checkpoints and TensorBoard's files. A
run that was killed goes on from its last checkpoint; the order of the data is drawn anew from the step it resumes at,
because the checkpoint does not hold the data's position.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf
import yaml
from official.core import exp_factory, task_factory, train_lib
from official.modeling import hyperparams

from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted, read_yaml
from spherodetect.training import experiment as _experiment
from spherodetect.training import task as _task  # noqa: F401  (importing registers the task)

logger = logging.getLogger(__name__)


def load_experiment(path: Path, *, hardware: str | None = None, overrides: Sequence[str] = ()) -> Any:
    """An experiment's settings: Model Garden's defaults, ours, the hardware's, the YAML's, then key=value overrides.

    Raises:
        SpherodetectError: an unknown key, or an override that is not key=value.
    """
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise SpherodetectError(f"{quoted(path)}: expected keys and values; see experiments/README.md")
    params = exp_factory.get_exp_config(settings.pop("experiment", _experiment.EXPERIMENT))
    layers: list[tuple[str, Any]] = []
    if hardware:
        layers.append((f"--hardware {hardware}", read_yaml(path.parent / "hardware" / f"{hardware}.yaml")))
    layers.append((quoted(path), settings))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise SpherodetectError(f"--set {quoted(override)}: expected key=value, as in trainer.train_steps=100")
        nested: Any = yaml.safe_load(value)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        layers.append((f"--set {quoted(override)}", nested))
    for source, layer in layers:
        try:
            params = hyperparams.override_params_dict(params, layer, is_strict=True)
        except (KeyError, ValueError, TypeError) as error:
            raise SpherodetectError(f"{source}: expected settings that the experiment has, got {error}") from error
    return params


def train(path: Path, run: Path, *, hardware: str = "cpu", overrides: Sequence[str] = (), resume: bool = False) -> Path:
    """Train an experiment and return the last checkpoint's path.

    Raises:
        SpherodetectError: the run folder holds another run and resume is not given, or there are no records.
    """
    params = load_experiment(path, hardware=hardware, overrides=overrides)
    _require_records(params)
    last = tf.train.latest_checkpoint(str(run))
    if last and not resume:
        raise SpherodetectError(
            f"{quoted(run)}: expected an empty run folder, got one with checkpoints; "
            "go on with it by --resume, or name another"
        )
    # Model Garden wants the folder to exist.
    run.mkdir(parents=True, exist_ok=True)
    step = int(last.rsplit("-", 1)[1]) if last else 0
    params.task.train_data.seed = 1 + step
    _write_provenance(run, path, params)
    logger.info("training %s from step %d to %d in %s", path.name, step, params.trainer.train_steps, run)
    strategy = _strategy(hardware)
    if params.runtime.mixed_precision_dtype != "float32":
        from official.modeling import performance

        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    with strategy.scope():
        task = task_factory.get_task(params.task, logging_dir=str(run))
    train_lib.run_experiment(
        distribution_strategy=strategy, task=task, mode="train", params=params, model_dir=str(run), run_post_eval=False
    )
    return Path(tf.train.latest_checkpoint(str(run)))


def _strategy(hardware: str) -> tf.distribute.Strategy:
    if hardware == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    if hardware == "gpu":
        if not tf.config.list_physical_devices("GPU"):
            raise SpherodetectError("--hardware gpu: expected a GPU that TensorFlow sees, got none; use --hardware cpu")
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def _require_records(params: Any) -> None:
    patterns = params.task.train_data.input_path
    patterns = list(patterns.as_dict().values()) if hasattr(patterns, "as_dict") else patterns
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not tf.io.gfile.glob(pattern):
            raise SpherodetectError(
                f"{quoted(pattern)}: expected records to train on, got none; write them with `spherodetect tfrecords`"
            )


def _write_provenance(run: Path, path: Path, params: Any) -> None:
    hyperparams.save_params_dict_to_yaml(params, str(run / "params.yaml"))
    manifests = {}
    patterns = params.task.train_data.input_path
    patterns = list(patterns.as_dict().values()) if hasattr(patterns, "as_dict") else [patterns]
    for pattern in patterns:
        for manifest in Path(pattern).parent.glob("manifest.json"):
            content = json.loads(manifest.read_bytes())
            manifests[content["name"]] = {
                "checksums": content["checksums"], "splits": content["splits"], "forced": content["forced"],
            }  # fmt: skip
    versions = {name: metadata.version(name) for name in ("tensorflow", "tf-models-official", "tf_keras", "numpy")}
    provenance = {
        "experiment": path.stem, "data": manifests, "versions": versions, "python": platform.python_version(),
        "params": params.as_dict(),
    }  # fmt: skip
    with atomic_write(run / "provenance.json") as file:
        file.write(json.dumps(provenance, indent=1, sort_keys=True, default=str).encode())
