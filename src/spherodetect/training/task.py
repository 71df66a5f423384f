"""Model Garden's Mask R-CNN task for labels that are known in part.

Each loss uses the known part of a label. All cells train proposals and boxes, and cells with a mask
train the mask head. The class loss is the negative logarithm of the probability of the set of
classes that a cell may have. For a labelled cell this is cross entropy. For "some red cell" it
favours rbc and spherocyte alike. For a cell of unknown class the loss and its gradient are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import task_factory
from official.vision.losses import maskrcnn_losses
from official.vision.tasks import maskrcnn

from spherodetect.errors import SpherodetectError
from spherodetect.evaluation.metrics import average_precision
from spherodetect.graph.decide import ClassIds
from spherodetect.labels.repair.instances import unknown_set
from spherodetect.safety import quoted
from spherodetect.training.experiment import SmearTask
from spherodetect.training.inputs import NO_MASK, RecordDecoder, SmearParser
from spherodetect.training.reader import read


def set_loss(logits: tf.Tensor, class_sets: tf.Tensor) -> tf.Tensor:
    """-log P(class in set) of every RoI, (...,) float32.

    Args:
        logits: (..., K + 1), background first.
        class_sets: (...,) integers, bit k for class k; 0 stands for {background}.
    """
    sets = tf.maximum(tf.cast(class_sets, tf.int32), 0)
    sets = tf.where(sets == 0, 1, sets)
    bits = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(sets[..., None], tf.range(logits.shape[-1])), 1
    )
    logits = tf.cast(logits, tf.float32)
    allowed = tf.where(bits > 0, logits, tf.fill(tf.shape(logits), -1e9))
    loss = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_logsumexp(allowed, axis=-1)
    # If all classes are allowed, the loss is zero up to rounding. The factor also removes the
    # gradient of the rounding error.
    informative = tf.cast(tf.reduce_any(bits == 0, axis=-1), tf.float32)
    return loss * informative


@task_factory.register_task_cls(SmearTask)
class SmearMaskRCNNTask(maskrcnn.MaskRCNNTask):
    """A Mask R-CNN that is trained on partly labelled smears."""

    def build_model(self) -> Any:
        """Model Garden's model; boxes stay float32 if its layers are bfloat16."""
        model = super().build_model()
        keep_boxes_exact(model)
        if self.task_config.frozen_norms:
            for layer in model.submodules:
                if isinstance(layer, tf_keras.layers.BatchNormalization):
                    layer.trainable = False
        return model

    def initialize(self, model: Any) -> None:
        """Restore the initial checkpoint, if the settings name one.

        Raises:
            SpherodetectError: it is that of another network.
        """
        try:
            super().initialize(model)
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise SpherodetectError(
                f"task.init_checkpoint: expected a checkpoint of this network, got "
                f"{quoted(self.task_config.init_checkpoint)}, which is of another one; name a run "
                "of the same settings, or restore less with task.init_checkpoint_modules=backbone"
            ) from error

    def build_inputs(
        self, params: Any, input_context: Any = None, dataset_fn: Any = None
    ) -> tf.data.Dataset:
        """The data set of (images, labels), see inputs.py."""
        model = self.task_config.model
        parser = SmearParser(
            size=model.input_size[0],
            rbc_px=params.parser.rbc_px,
            config=params.parser,
            anchors={
                "min_level": model.min_level,
                "max_level": model.max_level,
                "num_scales": model.anchor.num_scales,
                "aspect_ratios": model.anchor.aspect_ratios,
                "anchor_size": model.anchor.anchor_size,
            },
            unknown_set=unknown_set(self.task_config.class_names),
        )
        decode, parse = RecordDecoder().decode, parser.parse_fn(params.is_training)

        def example(record: tf.Tensor, seed: tf.Tensor) -> Any:
            return parse({**decode(record), "seed": seed})

        return read(params, example, context=input_context)

    def _build_frcnn_losses(
        self, outputs: Mapping[str, Any], labels: Mapping[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        codes = tf.cast(outputs["class_targets"], tf.int32)
        class_loss = tf.reduce_mean(set_loss(outputs["class_outputs"], _bits(codes)))
        box_loss = maskrcnn_losses.FastrcnnBoxLoss(
            self.task_config.losses.frcnn_huber_loss_delta,
            self.task_config.model.detection_head.class_agnostic_bbox_pred,
        )(outputs["box_outputs"], outputs["class_targets"], outputs["box_targets"])
        return class_loss, tf.reduce_mean(box_loss)

    def _build_mask_loss(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        codes = tf.cast(outputs["mask_class_targets"], tf.int32)
        # Class 0 is background, which has no mask loss.
        with_mask = tf.where(codes < NO_MASK, codes, 0)
        loss = maskrcnn_losses.MaskrcnnLoss()(
            outputs["mask_outputs"], outputs["mask_targets"], with_mask
        )
        return tf.reduce_mean(loss)

    def build_metrics(self, training: bool = True) -> list[Any]:
        """The losses in training; the metrics of validation come from validation_step."""
        return super().build_metrics(training) if training else []

    def validation_step(self, inputs: Any, model: Any, metrics: Any = None) -> dict[str, tf.Tensor]:
        """Log odds of spherocyte against other red cell and class sets, (B, N) each.

        The labelled boxes are given, so that the metric measures the class only, and all shapes are
        fixed, as a TPU needs. `spherodetect evaluate` counts missed and duplicate cells too.
        """
        images, labels = inputs
        features = model.decoder(model.backbone(images, training=False), training=False)
        pooled = model.roi_aligner(features, labels["gt_boxes"], training=False)
        logits = tf.cast(model.detection_head[0](pooled, training=False)[0], tf.float32)
        others, spherocyte = self._red_cells()
        other = tf.reduce_logsumexp(tf.gather(logits, others, axis=-1), axis=-1)
        return {
            "log_odds": logits[..., spherocyte] - other,
            "class_sets": _bits(tf.cast(labels["gt_classes"], tf.int32)),
        }

    def aggregate_logs(
        self, state: Any = None, step_outputs: Any = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The cells of all steps so far, with those of another step on all replicas."""
        parts = zip(step_outputs["log_odds"], step_outputs["class_sets"], strict=True)
        return [
            *(state or []),
            *((log_odds.numpy().ravel(), sets.numpy().ravel()) for log_odds, sets in parts),
        ]

    def reduce_aggregated_logs(
        self, aggregated_logs: Any, global_step: Any = None
    ) -> dict[str, float]:
        """The metrics of a validation.

        spherocyte_ap is the average precision over all held-out red cells of known class, or -1
        without spherocytes.
        """
        log_odds, sets = (np.concatenate(part) for part in zip(*aggregated_logs, strict=True))
        others, spherocyte = self._red_cells()
        known = np.isin(sets, [1 << k for k in (*others, spherocyte)])
        positive = sets == 1 << spherocyte
        ap = average_precision(log_odds[known], positive[known]) if positive.any() else -1.0
        return {
            "spherocyte_ap": ap,
            "held_out_cells": float(known.sum()),
            "held_out_spherocytes": float(positive.sum()),
        }

    def _red_cells(self) -> tuple[list[int], int]:
        """Class ids of the other red cells, and of spherocytes; 0, the background, without any."""
        classes = ClassIds.of(self.task_config.class_names)
        return list(classes.other_red) or [0], classes.spherocyte or 0


def keep_boxes_exact(model: Any) -> None:
    """Keep boxes in float32 where layers are bfloat16, which rounds integers above 256."""

    def exact(tensors: Any) -> Any:
        return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), tensors)

    propose = model.roi_generator
    for layer in (propose, *model.roi_sampler, model.mask_sampler):
        layer._autocast = False
    # The layer converts the anchors to the type of the scores.
    model.roi_generator = lambda boxes, scores, *rest: propose(exact(boxes), exact(scores), *rest)


def _bits(codes: tf.Tensor) -> tf.Tensor:
    """Class sets from the codes of inputs.py, which may have NO_MASK added."""
    return tf.where(codes > 0, codes % NO_MASK, codes)
