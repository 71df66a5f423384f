"""Turns records into training examples: decode, resize to one cell size, augment, assign anchors.

The decoder and the parser are subclasses of Model Garden's; reader.py calls them. Images become
network input (optical density, see graph/optics.py), float32 (S, S, 3), with boxes in its pixels.
`gt_classes` has the bits of the classes that a cell may have, plus NO_MASK for a cell without a
known mask; padding is -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from official.vision.dataloaders import decoder, parser
from official.vision.ops import anchor, preprocess_ops

from spherodetect.graph import optics
from spherodetect.records.examples import MASK_SIZE
from spherodetect.training import augment
from spherodetect.training.reader import seeds

#: Added to the class bits of a cell without a known mask.
NO_MASK = 1 << 20
#: A cell of which less than this share is visible has an unknown class, or is left out.
_VISIBLE_FOR_CLASS = 0.6
_VISIBLE_AT_ALL = 0.1


class RecordDecoder(decoder.Decoder):
    """Decodes tf.Examples of records/.

    All masks are one bit string, instead of a full-frame PNG for each cell.
    """

    def decode(self, serialized_example: tf.Tensor) -> dict[str, tf.Tensor]:
        """The tensors of a record.

        They are image (H, W, 3) uint8, boxes (N, 4) in pixels, class_set and mask_known (N,), and
        masks (N, MASK_SIZE, MASK_SIZE), besides rbc_diameter_px and source_id.
        """
        floats = tf.io.VarLenFeature(tf.float32)
        ints = tf.io.VarLenFeature(tf.int64)
        sides = ("ymin", "xmin", "ymax", "xmax")
        parsed = tf.io.parse_single_example(
            serialized_example,
            {
                "image/encoded": tf.io.FixedLenFeature([], tf.string),
                "image/source_id": tf.io.FixedLenFeature([], tf.string),
                "image/rbc_diameter_px": tf.io.FixedLenFeature([], tf.float32),
                "image/object/class/set": ints,
                "image/object/mask/known": ints,
                "image/object/mask/bits": tf.io.FixedLenFeature([], tf.string),
            }
            | {f"image/object/bbox/{side}": floats for side in sides},
        )
        image = tf.io.decode_png(parsed["image/encoded"], channels=3)
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        box = tf.stack(
            [tf.sparse.to_dense(parsed[f"image/object/bbox/{side}"]) for side in sides], axis=-1
        )
        packed = tf.io.decode_raw(parsed["image/object/mask/bits"], tf.uint8)
        shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
        bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed[:, None], shifts), 1)
        return {
            "image": image,
            "boxes": box * tf.stack([height, width, height, width]),
            "class_set": tf.cast(tf.sparse.to_dense(parsed["image/object/class/set"]), tf.int32),
            "mask_known": tf.sparse.to_dense(parsed["image/object/mask/known"]) > 0,
            "masks": tf.cast(tf.reshape(bits, [-1, MASK_SIZE, MASK_SIZE]), tf.float32),
            "rbc_diameter_px": parsed["image/rbc_diameter_px"],
            "source_id": parsed["image/source_id"],
        }


class SmearParser(parser.Parser):
    """Turns decoded records into examples on a square canvas.

    Args:
        size: side of the canvas in pixels.
        rbc_px: diameter of a red cell on the canvas, before jitter.
        config: see experiment.SmearParserConfig.
        anchors: keyword arguments of Model Garden's anchor generator.
        unknown_set: class set of a cell of which nothing is known.
    """

    def __init__(
        self, *, size: int, rbc_px: float, config: Any, anchors: Mapping[str, Any], unknown_set: int
    ) -> None:
        self._size = size
        self._rbc_px = rbc_px
        self._config = config
        self._unknown = unknown_set
        self._anchor_boxes = anchor.build_anchor_generator(**anchors)(image_size=(size, size))

    def _parse_train_data(self, data: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, Any]]:
        config = self._config
        seed = seeds(data["seed"], ("jpeg", "scale", "place", "turn", "paste", "vary"))
        image = augment.recompress(data["image"], seed["jpeg"], share=config.recompressed_share)
        jitter = tf.exp(
            tf.random.stateless_uniform([], seed["scale"], -1.0, 1.0)
            * tf.math.log(config.scale_jitter)
        )
        where = tf.random.stateless_uniform([2], seed["place"])
        density, boxes = self._view(image, data, jitter=jitter, where=where)
        density, boxes, masks = augment.turn(density, boxes, data["masks"], seed["turn"])
        cells = boxes, masks, data["class_set"], data["mask_known"]
        if tf.random.stateless_uniform([], seed["paste"]) < config.pasted_share:
            density, cells = augment.paste(
                density, cells, seed["paste"] + 1, some_cell=self._unknown & ~1
            )
        return self._targets(augment.vary(density, seed["vary"], config), cells)

    def _parse_eval_data(self, data: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, Any]]:
        density, boxes = self._view(
            data["image"], data, jitter=tf.constant(1.0), where=tf.constant([0.5, 0.5])
        )
        return self._targets(density, (boxes, data["masks"], data["class_set"], data["mask_known"]))

    def _view(
        self,
        image: tf.Tensor,
        data: Mapping[str, tf.Tensor],
        *,
        jitter: tf.Tensor,
        where: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The canvas as optical density, and the boxes in its pixels.

        Red cells get the nominal size times `jitter`. The canvas is a crop of the field, or the
        field on a canvas of empty slide; `where`, (2,) from 0 to 1, is the position. Only the
        visible part is computed.
        """
        diameter = data["rbc_diameter_px"]
        scale = jitter * self._rbc_px / tf.where(diameter > 0, diameter, self._rbc_px)
        native = tf.cast(tf.shape(image)[:2], tf.float32)
        part = tf.minimum(native, tf.math.ceil(float(self._size) / scale))
        start = tf.round(where * (native - part))
        size = tf.maximum(tf.round(part * scale), 4.0)
        window = tf.cast(tf.concat([start, start + part], axis=0), tf.int32)
        density = optics.optical_density(tf.cast(image, tf.float32), window=window)
        density = tf.image.resize(density, tf.cast(size, tf.int32), antialias=True)[
            : self._size, : self._size
        ]
        rest = self._size - tf.shape(density)[:2]
        pad = tf.cast(tf.round(where * tf.cast(rest, tf.float32)), tf.int32)
        density = tf.pad(density, [[pad[0], rest[0] - pad[0]], [pad[1], rest[1] - pad[1]], [0, 0]])
        boxes = (data["boxes"] - tf.tile(start, [2])) * tf.tile(size / part, [2])
        density = tf.ensure_shape(density, [self._size, self._size, 3])
        return density, boxes + tf.cast(tf.tile(pad, [2]), tf.float32)

    def _targets(
        self, density: tf.Tensor, cells: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, dict[str, Any]]:
        boxes, masks, class_set, mask_known = cells
        config, size = self._config, float(self._size)
        clipped = tf.clip_by_value(boxes, 0.0, size)
        visible = _area(clipped) / tf.maximum(_area(boxes), 1e-6)
        extended = tf.reduce_all(clipped[:, 2:] - clipped[:, :2] > 2.0, axis=1)
        keep = tf.where((visible > _VISIBLE_AT_ALL) & extended)[:, 0]
        boxes, clipped, visible = (tf.gather(t, keep) for t in (boxes, clipped, visible))
        class_set = tf.gather(class_set, keep)
        class_set = tf.where(visible < _VISIBLE_FOR_CLASS, self._unknown, class_set)
        codes = class_set + tf.where(tf.gather(mask_known, keep), 0, NO_MASK)
        masks = _recrop(tf.gather(masks, keep), boxes, clipped)

        labeler = anchor.RpnAnchorLabeler(
            config.rpn_match_threshold,
            config.rpn_unmatched_threshold,
            config.rpn_batch_size_per_im,
            config.rpn_fg_fraction,
        )
        # Every box is a target of the proposals, whatever its class.
        scores, offsets = labeler.label_anchors(
            self._anchor_boxes, clipped, tf.cast(codes[:, None], tf.float32)
        )
        count = config.max_num_instances
        labels = {
            "anchor_boxes": self._anchor_boxes,
            "image_info": tf.constant([[size, size], [size, size], [1.0, 1.0], [0.0, 0.0]]),
            "rpn_score_targets": scores,
            "rpn_box_targets": offsets,
            "gt_boxes": preprocess_ops.clip_or_pad_to_fixed_size(clipped, count, -1),
            "gt_classes": preprocess_ops.clip_or_pad_to_fixed_size(codes, count, -1),
            "gt_masks": preprocess_ops.clip_or_pad_to_fixed_size(masks, count, -1),
        }
        return optics.network_input(density), labels


def _recrop(masks: tf.Tensor, boxes: tf.Tensor, clipped: tf.Tensor) -> tf.Tensor:
    """The part of each mask in its clipped box, with the same number of samples.

    crop_and_resize maps corner to corner, and masks are stored at sample centres, so positions are
    shifted by half a sample.
    """
    size = tf.cast(tf.shape(masks)[1], tf.float32)
    extent = tf.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    low = (clipped[:, :2] - boxes[:, :2]) / extent
    share = (clipped[:, 2:] - clipped[:, :2]) / extent
    first = (low * size + 0.5 * share - 0.5) / (size - 1)
    last = (low * size + (size - 0.5) * share - 0.5) / (size - 1)
    # The new samples are finer and would reach up to half a sample over the border, where
    # crop_and_resize gives zeros.
    corners = tf.clip_by_value(tf.concat([first, last], axis=1), 0.0, 1.0)
    part = tf.image.crop_and_resize(
        masks[..., None], corners, tf.range(tf.shape(masks)[0]), [MASK_SIZE, MASK_SIZE]
    )
    return part[..., 0]


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
