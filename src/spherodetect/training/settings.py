"""Checks the settings of an experiment before anything is built.

Model Garden takes a value of any type and any combination of values; the mistake then shows as a
failure deep in TensorFlow. Here it is one sentence that names the setting.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

logger = logging.getLogger(__name__)

#: Settings that may be a text, a list or a mapping.
_ANY_TYPE = frozenset({"input_path", "init_checkpoint_modules", "weights"})
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "keys and values",
}


def typed(layer: Any, known: Any, *, source: str, key: str = "") -> Any:
    """The settings of a layer with the types of the known ones.

    A text that is a number becomes one where a number is expected: YAML reads 1e-4 as a text.

    Args:
        layer: nested keys and values.
        known: the settings before this layer. A key that it lacks, and one that is None, may have
            any value.
        source: of the layer, for messages.
        key: where the layer is, as a dotted path.

    Raises:
        SpherodetectError: a value has another type than the known one.
    """
    if isinstance(known, Mapping) and isinstance(layer, Mapping):
        return {
            name: value
            if name not in known or name in _ANY_TYPE
            else typed(value, known[name], source=source, key=f"{key}.{name}".lstrip("."))
            for name, value in layer.items()
        }
    if known is None or layer is None:
        return layer
    if isinstance(known, float) and isinstance(layer, str | int) and not isinstance(layer, bool):
        try:
            return float(layer)
        except ValueError:
            pass
    kind = next(one for one in _KINDS if isinstance(known, (list, tuple) if one is list else one))
    fits = isinstance(layer, list | tuple) if kind is list else type(layer) is kind
    if not fits:
        example = f", such as {quoted(known)}" if known and kind is not dict else ""
        raise SpherodetectError(
            f"{source}: {key}: expected {_KINDS[kind]}{example}, got {quoted(layer)}"
        )
    return layer


def check_settings(params: Any) -> None:
    """Raise if settings contradict each other.

    Raises:
        SpherodetectError: the first contradiction; the message names the settings.
    """
    trainer, task = params.trainer, params.task
    for name, value in (
        ("trainer.train_steps", trainer.train_steps),
        ("trainer.steps_per_loop", trainer.steps_per_loop),
        ("task.train_data.global_batch_size", task.train_data.global_batch_size),
        ("task.validation_data.global_batch_size", task.validation_data.global_batch_size),
    ):
        if value < 1:
            raise SpherodetectError(f"{name}: expected 1 or more, got {value}")
    loop, summary = trainer.steps_per_loop, trainer.summary_interval
    if summary < 1 or summary % loop:
        raise SpherodetectError(
            "trainer.summary_interval: expected a multiple of trainer.steps_per_loop, which is "
            f"{loop}, got {summary}; change one of the two"
        )
    height, width = task.model.input_size[:2]
    coarsest = 2**task.model.max_level
    if height != width or height < 1 or height % coarsest:
        raise SpherodetectError(
            f"task.model.input_size: expected two equal sides that are multiples of {coarsest} "
            f"(2 to the power of max_level), got {list(task.model.input_size)}"
        )
    names = list(task.class_names)
    if not names or len(set(names)) < len(names):
        raise SpherodetectError(
            f"task.class_names: expected names that all differ, got {quoted(names)}"
        )
    if task.init_checkpoint:
        checkpoint_prefix(task.init_checkpoint)


@contextlib.contextmanager
def built_from(name: str) -> Iterator[None]:
    """Turn a failure to build a network into one sentence; the log has the rest.

    Args:
        name: of the experiment, for the message.

    Raises:
        SpherodetectError: the block raised what Model Garden and TensorFlow raise for settings that
            do not fit together.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, tf.errors.OpError) as error:
        logger.debug("building the network of %s", name, exc_info=True)
        reason = " ".join(str(error).split())
        raise SpherodetectError(
            f"{quoted(name)}: expected settings that fit together, got {quoted(reason)} while the "
            "network was built; change the experiment or --set"
        ) from error


def checkpoint_prefix(path: str | Path) -> str:
    """The checkpoint that a setting names: itself, or the latest of a folder.

    Raises:
        SpherodetectError: there is none.
    """
    named = str(path)
    found = tf.train.latest_checkpoint(named) if tf.io.gfile.isdir(named) else named
    if not found or not tf.io.gfile.exists(f"{found}.index"):
        raise SpherodetectError(
            f"task.init_checkpoint: expected a run folder or a checkpoint such as "
            f"'runs/mine/best/ckpt-400', got {quoted(named)}, which has none; check the path"
        )
    return str(found)


__all__ = ["built_from", "check_settings", "checkpoint_prefix", "typed"]
