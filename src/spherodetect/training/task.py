"""Model Garden's Mask R-CNN task, taught by labels of different strength.

Each loss uses what is known of a cell: proposals and boxes learn from every cell, masks from cells that have one, and
the class loss is the negative logarithm of the probability of the set of classes that a cell may be. For a labelled
cell that is cross entropy, for "some red cell" it asks for rbc or spherocyte without preferring one, and for a cell of
unknown class it is exactly zero, gradient included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from official.core import task_factory
from official.vision.dataloaders import input_reader, input_reader_factory
from official.vision.losses import maskrcnn_losses
from official.vision.tasks import maskrcnn

from spherodetect.labels.masks import unknown_set
from spherodetect.training.experiment import SmearTask
from spherodetect.training.inputs import NO_MASK, RecordDecoder, SmearParser


def set_loss(logits: tf.Tensor, class_sets: tf.Tensor) -> tf.Tensor:
    """-log P(class in set) of every RoI, (...,) float32.

    Args:
        logits: (..., K + 1), background first.
        class_sets: (...,) integers, bit k for class k; 0 stands for {background}.
    """
    sets = tf.maximum(tf.cast(class_sets, tf.int32), 0)
    sets = tf.where(sets == 0, 1, sets)
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(sets[..., None], tf.range(logits.shape[-1])), 1)
    logits = tf.cast(logits, tf.float32)
    allowed = tf.where(bits > 0, logits, tf.fill(tf.shape(logits), -1e9))
    loss = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_logsumexp(allowed, axis=-1)
    # Where everything is allowed the difference is rounding only: weigh it out, and its gradient with it.
    informative = tf.cast(tf.reduce_any(bits == 0, axis=-1), tf.float32)
    return loss * informative


@task_factory.register_task_cls(SmearTask)
class SmearMaskRCNNTask(maskrcnn.MaskRCNNTask):
    """A Mask R-CNN that learns from half-labelled smears."""

    def build_inputs(self, params: Any, input_context: Any = None, dataset_fn: Any = None) -> tf.data.Dataset:
        """A data set of (images, labels); see inputs.py."""
        model = self.task_config.model
        parser = SmearParser(
            size=model.input_size[0],
            rbc_px=params.parser.rbc_px,
            config=params.parser,
            anchors={
                "min_level": model.min_level, "max_level": model.max_level, "num_scales": model.anchor.num_scales,
                "aspect_ratios": model.anchor.aspect_ratios, "anchor_size": model.anchor.anchor_size,
            },
            unknown_set=unknown_set(self.task_config.class_names),
        )  # fmt: skip
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=dataset_fn or tf.data.TFRecordDataset,
            decoder_fn=RecordDecoder().decode,
            combine_fn=input_reader.create_combine_fn(params),
            parser_fn=parser.parse_fn(params.is_training),
        )
        return reader.read(input_context=input_context)

    def _build_frcnn_losses(self, outputs: Mapping[str, Any], labels: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        codes = tf.cast(outputs["class_targets"], tf.int32)
        class_loss = tf.reduce_mean(set_loss(outputs["class_outputs"], _bits(codes)))
        box_loss = maskrcnn_losses.FastrcnnBoxLoss(
            self.task_config.losses.frcnn_huber_loss_delta,
            self.task_config.model.detection_head.class_agnostic_bbox_pred,
        )(outputs["box_outputs"], outputs["class_targets"], outputs["box_targets"])
        return class_loss, tf.reduce_mean(box_loss)

    def _build_mask_loss(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        codes = tf.cast(outputs["mask_class_targets"], tf.int32)
        teaches = tf.where(codes < NO_MASK, codes, 0)
        loss = maskrcnn_losses.MaskrcnnLoss()(outputs["mask_outputs"], outputs["mask_targets"], teaches)
        return tf.reduce_mean(loss)


def _bits(codes: tf.Tensor) -> tf.Tensor:
    return tf.where(codes > 0, codes % NO_MASK, codes)
