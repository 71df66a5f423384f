"""The layers of a trained Mask R-CNN as three functions of tensors, for one image of any size.

The functions have no batch axis of images. Their first axis is that of the regions of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from spherodetect.errors import SpherodetectError
from spherodetect.graph.folding import Folded, folded


class Network(tf.Module):
    """The functions `features`, `classify` and `outline`, made of Model Garden's layers.

    Args:
        model: the Keras model with its trained weights.
        config: the model's configuration.
        finest_only: sample all regions from the finest level, because no cell is large.

    Raises:
        SpherodetectError: a variant of Mask R-CNN that the graph does not support.
    """

    def __init__(self, model: Any, config: Any, *, finest_only: bool = True) -> None:
        super().__init__()
        _require_supported(model, config)
        self._set_shapes(config, finest_only=finest_only)
        functions = layer_functions(model, config, region_levels=self.region_levels)
        self.features, self.classify, self.outline = (
            folded(function, *specs) for function, specs in functions.values()
        )

    def _set_shapes(self, config: Any, *, finest_only: bool = True) -> None:
        self.levels = range(config.min_level, config.max_level + 1)
        #: The sides of the input are multiples of this.
        self.stride = 2**config.max_level
        self.region_levels = self.levels[:1] if finest_only else self.levels
        anchor = config.anchor
        #: Height and width of the anchors at one position, in strides.
        self.anchor_shapes = [
            (size * aspect**-0.5, size * aspect**0.5)
            for size in (
                anchor.anchor_size * 2 ** (k / anchor.num_scales) for k in range(anchor.num_scales)
            )
            for aspect in anchor.aspect_ratios
        ]
        self.box_crop, self.mask_crop = (
            config.roi_aligner.crop_size,
            config.mask_roi_aligner.crop_size,
        )
        self.mask_size = self.mask_crop * config.mask_head.upsample_factor

    def n_anchors(self, size_hw: Sequence[int]) -> int:
        """The number of anchors of an image; its sides are multiples of the stride."""
        places = sum((size_hw[0] >> level) * (size_hw[1] >> level) for level in self.levels)
        return places * len(self.anchor_shapes)


def layer_functions(
    model: Any, config: Any, *, region_levels: Sequence[int]
) -> dict[str, tuple[Callable[..., Any], tuple[tf.TensorSpec, ...]]]:
    """The functions of `Network` before folding, by name, with the signature of each.

    Args:
        model: the Keras model.
        config: the model's configuration.
        region_levels: levels whose features are returned.
    """
    depth = config.decoder.get().num_filters
    boxes, masks = (
        tf.TensorSpec([None, crop, crop, depth])
        for crop in (config.roi_aligner.crop_size, config.mask_roi_aligner.crop_size)
    )
    levels = range(config.min_level, config.max_level + 1)
    per_class_boxes = not config.detection_head.class_agnostic_bbox_pred
    return {
        "features": (
            partial(_features, model, levels=levels, region_levels=region_levels),
            (tf.TensorSpec([None, None, 3]),),
        ),
        "classify": (partial(_classify, model, per_class_boxes=per_class_boxes), (boxes,)),
        "outline": (partial(_outline, model), (masks, tf.TensorSpec([None], tf.int32))),
    }


def _features(
    model: Any, image: tf.Tensor, *, levels: Sequence[int], region_levels: Sequence[int]
) -> tuple[tf.Tensor, ...]:
    """Scores (A,) and offsets (A, 4) of all anchors, and the features (h, w, C) of region_levels.

    Args:
        image: (H, W, 3); the sides are multiples of the coarsest stride.
    """
    pyramid = model.decoder(model.backbone(image[tf.newaxis], training=False), training=False)
    scores, offsets = model.rpn_head(pyramid, training=False)
    flat_scores = tf.concat([tf.reshape(scores[str(level)], [-1]) for level in levels], axis=0)
    flat_offsets = tf.concat([tf.reshape(offsets[str(level)], [-1, 4]) for level in levels], axis=0)
    return flat_scores, flat_offsets, *(pyramid[str(level)][0] for level in region_levels)


def _classify(
    model: Any, pooled: tf.Tensor, *, per_class_boxes: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Class probabilities (N, K + 1), background first, and box offsets (N, 4).

    Offsets for each class are reduced to those of the most probable class.
    """
    # Each region is an example, because the head needs a known number of regions.
    logits, offsets = model.detection_head[0](pooled[:, tf.newaxis], training=False)
    logits, offsets = logits[:, 0], offsets[:, 0]
    if per_class_boxes:
        most_probable = 1 + tf.argmax(logits[:, 1:], axis=1)
        offsets = tf.gather(
            tf.reshape(offsets, [-1, logits.shape[1], 4]), most_probable, batch_dims=1
        )
    return tf.nn.softmax(logits), offsets


def _outline(model: Any, pooled: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """Mask probabilities, (N, mask_size, mask_size); N is at least 1."""
    return tf.sigmoid(
        model.mask_head([pooled[:, tf.newaxis], class_ids[:, tf.newaxis]], training=False)[:, 0]
    )


class KeptNetwork(Network):
    """The layers of an exported model, for a graph around them that has changed.

    Args:
        restored: `detector.network` of a loaded SavedModel.
        config: the model's configuration, as its provenance states it.
    """

    def __init__(self, restored: Any, config: Any) -> None:
        tf.Module.__init__(self)
        self._set_shapes(config)
        self.features, self.classify, self.outline = (
            kept(one) for one in (restored.features, restored.classify, restored.outline)
        )


def kept(restored: Any) -> Folded:
    """A restored function of `folded`, simplified by the rules of this version."""
    specs, _ = restored.run.structured_input_signature
    return folded(restored.run, *specs)


def _require_supported(model: Any, config: Any) -> None:
    unsupported = {
        "more than one detection head": len(model.detection_head) > 1,
        "no mask head": model.mask_head is None,
        "sigmoid class probabilities": config.detection_generator.use_sigmoid_probability,
        "outer boxes": config.outer_boxes_scale != 1.0,
        "another sample offset": {
            config.roi_aligner.sample_offset,
            config.mask_roi_aligner.sample_offset,
        }
        != {0.5},
    }
    if found := [what for what, is_so in unsupported.items() if is_so]:
        raise SpherodetectError(
            f"expected Model Garden's Mask R-CNN with one detection head, got {', '.join(found)}"
        )
