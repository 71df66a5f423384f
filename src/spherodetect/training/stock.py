"""Exports a Mask R-CNN of Model Garden, trained elsewhere, as a model folder.

The run's folder has checkpoints and params.yaml, as Model Garden writes them. The network gets the
input that it was trained on: normalised colours, resized so that a red cell has the same diameter
as in its training data. No held-out fields are known, so the model is exported uncalibrated, and
scores are not corrected for its errors.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.core import exp_factory, task_factory
from official.modeling import hyperparams
from official.vision.configs import maskrcnn as configs
from official.vision.tasks import maskrcnn as _tasks  # noqa: F401  (importing registers the task)

from spherodetect.cells import RED_CELLS
from spherodetect.detect.model_folder import ModelCard
from spherodetect.detect.provenance import Provenance
from spherodetect.errors import SpherodetectError
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.detector import Detector
from spherodetect.graph.folder import card_of, write_folder
from spherodetect.graph.network import Network
from spherodetect.safety import quoted
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE
from spherodetect.training.export import CANVAS
from spherodetect.training.run import chosen_checkpoint

logger = logging.getLogger(__name__)

EXPERIMENT = "maskrcnn_mobilenet_coco"


def wrap(
    run: str | Path,
    out: str | Path,
    *,
    class_names: Sequence[str],
    rbc_px: float,
    experiment: str = EXPERIMENT,
    name: str | None = None,
    canvas: Canvas | None = CANVAS,
) -> Path:
    """Write the model folder of a stock checkpoint and return its path.

    Args:
        run: the folder with the checkpoint.
        out: the model folder.
        class_names: of the ids from 1; see cells.RED_CELLS for the names of red cells.
        rbc_px: diameter of a red cell in the training data, after resizing.
        experiment: Model Garden's name of the experiment. params.yaml, if there is one, changes its
            settings.
        name: the model's name in tables, by default that of `out`.
        canvas: the fixed shapes of serving_static; None leaves that signature out.

    Raises:
        SpherodetectError: no such experiment, no checkpoint, other classes, or a variant that the
            graph does not support.
    """
    run, out = Path(run), Path(out)
    params, detector, checkpoint = restore(run, class_names, rbc_px=rbc_px, experiment=experiment)
    if not RED_CELLS & set(class_names):
        logger.warning(
            "%s: none of its classes is a red cell by name, so no cell will be countable",
            quoted(run),
        )
    settings = json.loads(json.dumps(params.as_dict(), default=str))
    provenance = {"experiment": experiment, "params": settings, "checkpoint": checkpoint}
    card = replace(
        card_of(name or out.name, detector),
        stains_seen=("unknown",),
        provenance=Provenance(provenance),
    )
    return write_folder(out, detector, card, canvas=canvas, text=_text(card))


def restore(
    run: Path, class_names: Sequence[str], *, rbc_px: float, experiment: str
) -> tuple[Any, Detector, str]:
    """The settings, the detector and the name of the checkpoint; see `wrap`."""
    try:
        params = exp_factory.get_exp_config(experiment)
    except LookupError:
        raise SpherodetectError(
            f"expected an experiment of Model Garden, got {quoted(experiment)}"
        ) from None
    if not isinstance(params.task, configs.MaskRCNNTask):
        raise SpherodetectError(f"expected a Mask R-CNN of Model Garden, got {quoted(experiment)}")
    model = params.task.model
    if (run / "params.yaml").is_file():
        params = hyperparams.override_params_dict(params, str(run / "params.yaml"), is_strict=False)
    else:
        model.num_classes = 1 + len(class_names)
    if model.num_classes != 1 + len(class_names):
        raise SpherodetectError(
            f"{quoted(run)}: expected {model.num_classes - 1} classes, got {len(class_names)}: "
            f"{', '.join(class_names)}; name the classes of the checkpoint"
        )
    checkpoint = chosen_checkpoint(run, params)
    if checkpoint is None:
        raise SpherodetectError(
            f"{quoted(run)}: expected a folder with a checkpoint of Model Garden, got none"
        )
    # The backbone is in the checkpoint and need not be read from a pretrained one.
    params.task.init_checkpoint = None
    built = task_factory.get_task(params.task, logging_dir=None).build_model()
    try:
        # Every object must be in the checkpoint. A missing part would be exported with random
        # weights.
        tf.train.Checkpoint(model=built).read(
            checkpoint
        ).expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise SpherodetectError(
            f"{quoted(checkpoint)}: expected the weights of {quoted(experiment)} with "
            f"{model.num_classes - 1} classes, got others: {str(error).splitlines()[0][:200]}"
        ) from error
    network = Network(built, model, finest_only=False)
    return (
        params,
        Detector(network, rbc_px=rbc_px, class_names=class_names, colours=True),
        Path(checkpoint).name,
    )


def _text(card: ModelCard) -> str:
    return "\n".join(
        [
            f"# Model card: {card.name}",
            "",
            f"{RESEARCH_USE} {FIXED_SENTENCE}",
            "",
            f"A Mask R-CNN of TensorFlow Model Garden ({card.provenance.experiment}), trained "
            f"elsewhere. It sees colours at {card.rbc_px:g} px a red cell. "
            f"Classes: {', '.join(card.class_names)}.",
            "",
            "Nothing was measured on held-out fields: its class is uncalibrated, and scores are "
            "not corrected for its errors. Measure it with `spherodetect evaluate` before you use "
            "it.",
            "",
        ]
    )
