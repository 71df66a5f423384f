"""Boxes in the inference graph: anchors, decoding, IoU, and sampling of features in a box.

Boxes are float32 (N, 4), (ymin, xmin, ymax, xmax) in the network's pixels. Features are (H, W, C)
of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

#: Boxes of this side use level 4, boxes of half this side use level 3 (Lin et al. 2017).
_SIDE_OF_LEVEL_4 = 224.0


def anchors(
    size: tf.Tensor, levels: Sequence[int], shapes: Sequence[tuple[float, float]]
) -> tf.Tensor:
    """All anchors of an image, (A, 4), in Model Garden's order: by level, then by row.

    Args:
        size: (2,) int32, height and width of the image, multiples of the coarsest stride.
        levels: of the pyramid; the stride of a level is 2**level.
        shapes: height and width of the anchors at one position, in strides.
    """
    parts = []
    for level in levels:
        stride = 2**level
        y, x = (
            (tf.cast(tf.range(size[axis] // stride), tf.float32) + 0.5) * stride for axis in (0, 1)
        )
        half = 0.5 * stride * tf.constant(shapes)
        center = tf.stack(tf.meshgrid(y, x, indexing="ij"), axis=-1)[:, :, tf.newaxis]
        parts.append(tf.reshape(tf.concat([center - half, center + half], axis=-1), [-1, 4]))
    return tf.concat(parts, axis=0)


def decode(
    offsets: tf.Tensor, references: tf.Tensor, weights: tuple[float, float, float, float]
) -> tf.Tensor:
    """The boxes of Faster R-CNN's offsets (Ren et al. 2015), as Model Garden's decode_boxes.

    Args:
        offsets: (N, 4), of centre and log extent.
        references: (N, 4) anchors or proposals.
        weights: the factors of the offsets in training.
    """
    offsets = offsets / tf.constant(weights)
    extent = references[:, 2:] - references[:, :2]
    center = references[:, :2] + 0.5 * extent + offsets[:, :2] * extent
    half = 0.5 * tf.exp(tf.minimum(offsets[:, 2:], 4.1351666)) * extent
    return tf.concat([center - half, center + half], axis=1)


def clip(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Boxes clipped to an image of height and width `size`, (2,)."""
    return tf.clip_by_value(boxes, 0.0, tf.tile(size, [2]))


def whole(boxes: tf.Tensor, size: tf.Tensor, margin: float = 1.0) -> tf.Tensor:
    """(N,) bool, boxes with at least `margin` pixels to the border of the image."""
    return tf.reduce_all(boxes[:, :2] >= margin, axis=1) & tf.reduce_all(
        boxes[:, 2:] <= size - margin, axis=1
    )


def pairwise_iou(boxes: tf.Tensor, others: tf.Tensor | None = None) -> tf.Tensor:
    """(N, M) intersection over union of boxes (N, 4) with others (M, 4), or with each other."""
    if others is None:
        others = boxes
    overlap, area, area_of_others = _common(boxes, others), _area(boxes), _area(others)
    return overlap / tf.maximum(area[:, None] + area_of_others[None] - overlap, 1e-6)


def share_inside(boxes: tf.Tensor) -> tf.Tensor:
    """(N, N) share of the area of each box (row) that lies in each box (column)."""
    return _common(boxes, boxes) / tf.maximum(_area(boxes), 1e-6)[:, None]


def _common(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """(N, M) common area of boxes (N, 4) and others (M, 4)."""
    low = tf.maximum(boxes[:, None, :2], others[None, :, :2])
    high = tf.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)


def align(
    pyramid: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    crop: int,
    *,
    first_level: int,
    gathered: bool = False,
) -> tf.Tensor:
    """Bilinear samples of features in each box, (N, crop, crop, C), as Model Garden's RoIAlign.

    Sample i is at y0 + (i + 0.5) / crop * height in pixels of the features, clamped to the border.

    Args:
        pyramid: features of first_level and of coarser levels. The size of a box decides its level.
        boxes: (N, 4).
        crop: samples along each side.
        first_level: level of the first features.
        gathered: use operations that XLA compiles. The samples are the same, and on a CPU it is
            several times slower.
    """
    samples = _gathered if gathered else _cropped
    pooled = samples(pyramid[0], boxes / 2**first_level, crop)
    if len(pyramid) > 1:
        side = tf.sqrt(tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        octaves = tf.math.log(tf.maximum(side, 1e-3) / _SIDE_OF_LEVEL_4) / tf.math.log(2.0)
        above = tf.cast(tf.floor(octaves), tf.int32) + 4 - first_level
        for k, features in enumerate(pyramid[1:], 1):
            coarser = samples(features, boxes / 2 ** (first_level + k), crop)
            pooled = tf.where((above >= k)[:, None, None, None], coarser, pooled)
    return tf.ensure_shape(pooled, [None, crop, crop, pyramid[0].shape[-1]])


def _cropped(features: tf.Tensor, boxes: tf.Tensor, crop: int) -> tf.Tensor:
    # The border is repeated once, so that samples beyond the centre of the last pixel have its
    # value.
    features = tf.pad(features, [[0, 1], [0, 1], [0, 0]], mode="SYMMETRIC")
    inset = (boxes[:, 2:] - boxes[:, :2]) * 0.5 / crop
    corners = tf.concat([boxes[:, :2] + inset, boxes[:, 2:] - inset], axis=1)
    corners /= tf.tile(tf.cast(tf.shape(features)[:2] - 1, tf.float32), [2])
    first = tf.zeros(tf.shape(boxes)[:1], tf.int32)
    return tf.image.crop_and_resize(
        features[tf.newaxis], tf.clip_by_value(corners, 0.0, 1.0), first, [crop, crop]
    )


def _gathered(features: tf.Tensor, boxes: tf.Tensor, crop: int) -> tf.Tensor:
    height, width, channels = tf.unstack(tf.shape(features))

    def samples(
        low: tf.Tensor, high: tf.Tensor, size: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        at = low[:, None] + (tf.range(crop, dtype=tf.float32) + 0.5) / crop * (high - low)[:, None]
        first = tf.clip_by_value(tf.cast(tf.floor(at), tf.int32), 0, size - 1)
        return first, tf.minimum(first + 1, size - 1), at - tf.cast(first, tf.float32)

    y0, y1, y_share = samples(boxes[:, 0], boxes[:, 2], height)
    x0, x1, x_share = samples(boxes[:, 1], boxes[:, 3], width)
    flat = tf.reshape(features, [-1, channels])

    def corner(y: tf.Tensor, x: tf.Tensor, y_weight: tf.Tensor, x_weight: tf.Tensor) -> tf.Tensor:
        values = tf.gather(flat, y[:, :, None] * width + x[:, None, :])
        return values * (y_weight[:, :, None] * x_weight[:, None, :])[..., None]

    pooled = corner(y0, x0, 1 - y_share, 1 - x_share) + corner(y0, x1, 1 - y_share, x_share)
    return pooled + corner(y1, x0, y_share, 1 - x_share) + corner(y1, x1, y_share, x_share)
