"""Makes the weights of a model folder the initial checkpoint of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.core import task_factory

from spherodetect.detect.model_folder import BUNDLED, BUNDLED_NAME, read_card
from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted, read_json
from spherodetect.training import task as _task  # noqa: F401  (importing registers the task)
from spherodetect.training.weights import restore_weights

_PROVENANCE, _MAX_BYTES = "provenance.json", 50_000_000


def start_checkpoint(folder: Path, model: str | Path, params: Any) -> Path:
    """Write the weights of a model as a checkpoint of the experiment's network; return its folder.

    A checkpoint of the same model and classes that the folder has already is kept.

    Args:
        folder: of the checkpoint; beside it lies the provenance of the model.
        model: a model folder, or "bundled".
        params: the settings of the experiment.

    Raises:
        BadModelError: no model folder, or one whose files changed.
        SpherodetectError: the model has another network, or takes red cells of another size.
    """
    source = BUNDLED if str(model) == BUNDLED_NAME else Path(model)
    card = read_card(source)
    class_names = list(params.task.class_names)
    made_from = {"name": card.name, "checksums": dict(card.checksums), "for_classes": class_names}
    if _is_of(folder, made_from):
        return folder
    rbc_px = params.task.train_data.parser.rbc_px
    if card.rbc_px != rbc_px:
        raise SpherodetectError(
            f"{quoted(source)}: expected a model that takes red cells of {rbc_px:g} px, as the "
            f"experiment does, got one of {card.rbc_px:g} px; set task.train_data.parser.rbc_px "
            "and that of validation_data"
        )
    network = task_factory.get_task(params.task).build_model()
    restore_weights(network, params.task.model, source, class_names=class_names)
    folder.mkdir(parents=True, exist_ok=True)
    # An interruption must not leave an older checkpoint beside this provenance.
    (folder / "checkpoint").unlink(missing_ok=True)
    provenance = card.provenance
    patterns = provenance.record_patterns("train_data")
    content = {
        "model": made_from,
        "data": dict(provenance.data),
        "params": {"task": {"train_data": {"input_path": patterns}}},
        "initial": provenance.content.get("initial"),
    }
    with atomic_write(folder / _PROVENANCE) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode())
    tf.train.Checkpoint(model=network).save(str(folder / "weights"))
    return folder


def _is_of(folder: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether a folder has the complete checkpoint of a model for some classes."""
    file = folder / _PROVENANCE
    if not file.is_file() or not tf.train.latest_checkpoint(str(folder)):
        return False
    known = read_json(file, max_bytes=_MAX_BYTES)
    return isinstance(known, Mapping) and known.get("model") == made_from


__all__ = ["start_checkpoint"]
