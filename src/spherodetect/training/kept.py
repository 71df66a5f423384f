"""An exported model as a detector again, so that its networks can be saved in a changed graph.

Batch normalisation is folded into the weights of an exported network, so that it cannot be trained
on, and a run folder is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tensorflow as tf
from official.core import exp_factory
from official.modeling import hyperparams

from spherodetect.detect.model_folder import ModelCard, read_card
from spherodetect.detect.provenance import Provenance
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.conventions import Conventions
from spherodetect.graph.detector import Detector
from spherodetect.graph.folder import write_folder
from spherodetect.graph.network import KeptNetwork, kept
from spherodetect.training import experiment
from spherodetect.training.model_card import model_card


def kept_detector(folder: Path) -> tuple[ModelCard, Detector]:
    """The record and the detector of a model folder, with the graph of this version around it."""
    card = read_card(folder)
    saved = tf.saved_model.load(str(folder / "saved_model"))
    params = exp_factory.get_exp_config(experiment.EXPERIMENT)
    told = card.provenance.content["params"]["task"]["model"]
    model = hyperparams.override_params_dict(params.task.model, told, is_strict=False)
    detector = Detector(
        KeptNetwork(saved.detector.network, model),
        rbc_px=card.rbc_px,
        class_names=card.class_names,
        second=_second_look(saved),
        conventions=Conventions.from_json(card.conventions) if card.conventions else None,
    )
    detector.assign(card.thresholds)
    return card, detector


def export_kept(
    folder: Path,
    out: Path,
    *,
    conventions: Conventions | None = None,
    told: Mapping[str, Any] | None = None,
    name: str | None = None,
    thresholds: Mapping[str, float] = MappingProxyType({}),
    changed: Callable[[ModelCard], ModelCard] = lambda card: card,
    canvas: Canvas | None,
) -> Path:
    """Write a model folder again, with the graph of this version, and return the new path.

    Args:
        folder: the model folder.
        out: the new model folder.
        conventions: what laboratories call a spherocyte, by default as before.
        told: what model.json says of them.
        name: the model's name in tables, by default as before.
        thresholds: those of `Thresholds` that change.
        changed: gives the record with other rates or another cut.
        canvas: the fixed shapes of serving_static; None leaves that signature out.
    """
    card, detector = kept_detector(folder)
    card = changed(card)
    if conventions is None and card.conventions:
        conventions, told = Conventions.from_json(card.conventions), card.conventions
    if conventions is not None:
        detector = detector.replace(conventions=conventions)
        card = replace(card, conventions=dict(told or conventions.as_json()))
    kept_from = {"name": card.name, "checksums": dict(card.checksums)}
    card = replace(
        card,
        name=name or card.name,
        provenance=Provenance({**card.provenance.content, "kept_from": kept_from}),
        thresholds=replace(card.thresholds, **thresholds),
        checksums={},
    )
    detector.assign(card.thresholds)
    return write_folder(out, detector, card, canvas=canvas, text=model_card(card))


def kept_second_look(folder: Path) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    """The second look of a model folder, or None if it has none."""
    return _second_look(tf.saved_model.load(str(folder / "saved_model")))


def _second_look(saved: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    second = getattr(saved.detector, "second", None)
    # Version 0.5 of the bundled model keeps it one level deeper.
    return None if second is None else kept(getattr(second, "_restored", second))


__all__ = ["export_kept", "kept_detector", "kept_second_look"]
