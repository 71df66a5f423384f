"""Writes a model folder: the SavedModel, model.json with the checksums, and MODEL_CARD.md."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from spherodetect.cells import UNSEEN
from spherodetect.detect.model_folder import ErrorRates, ModelCard, Thresholds
from spherodetect.detect.provenance import Provenance
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.detector import Detector
from spherodetect.graph.serving import SmearModule
from spherodetect.safety import atomic_write, file_sha256


def card_of(name: str, detector: Detector) -> ModelCard:
    """The record of a detector of which nothing is measured and nothing is known."""
    return ModelCard(
        name=name,
        class_names=detector.class_names,
        rbc_px=detector.rbc_px,
        thresholds=Thresholds(**{key: float(value) for key, value in detector.tuned.items()}),
        rates=ErrorRates(),
        stains_seen=(),
        provenance=Provenance(),
    )


def write_folder(
    out: Path, detector: Detector, card: ModelCard, *, canvas: Canvas | None, text: str
) -> Path:
    """Write a model folder and return its path.

    The folder is written under another name and then renamed, so that an interrupted export leaves
    no incomplete model.

    Args:
        out: the folder; one that exists is replaced.
        detector: with its weights and thresholds.
        card: the content of model.json; checksums are added.
        canvas: the fixed shapes of serving_static; None leaves that signature out.
        text: the content of MODEL_CARD.md.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        assets = temporary / "assets"
        assets.mkdir()
        (assets / "class_names.txt").write_text("\n".join(card.class_names) + "\n")
        (assets / "model.json").write_bytes(_as_bytes(card.to_json()))
        table = _tables(card) if detector.conventions else card.classifier_rates().table
        module = SmearModule(detector, table, canvas=canvas, assets=sorted(assets.iterdir()))
        tf.saved_model.save(module, str(temporary / "saved_model"), signatures=module.signatures())
        shutil.rmtree(assets)
        (temporary / "MODEL_CARD.md").write_text(text)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        checksums = {path.relative_to(temporary).as_posix(): file_sha256(path) for path in files}
        complete = dataclasses.replace(card, checksums=checksums)
        with atomic_write(temporary / "model.json") as file:
            file.write(_as_bytes(complete.to_json()))
        temporary.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _tables(card: ModelCard) -> np.ndarray:
    """(C + 1, 2, M, 3): the tables of each convention's rates and of its limit of blank."""
    tables = []
    for name in (*card.convention_names, UNSEEN):
        own, healthy = card.rates_of(name), card.healthy_rates_of(name)
        tables.append([own.table, (healthy or own).table])
    return np.array(tables)


def _as_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
