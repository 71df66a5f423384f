"""The inference graph: a field of any size in, its cells in native pixels out. All that decides is in here.

A field becomes optical density, is resized so that a red cell has the nominal diameter, and goes through the trained
layers with operations that accept any height and width. Model Garden's own inference path wants a fixed size, gives
each class its own suppression, and runs the mask head on empty slots; this one suppresses across classes and keeps the
class probabilities. p_spherocyte is the calibrated odds of a spherocyte against the other red cells. Boxes are (ymin,
xmin, ymax, xmax); one image at a time, no batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from spherodetect.cells import RED_CELLS
from spherodetect.training import optics

SPHEROCYTE = "spherocyte"
MASK_SIZE = 28
RBC_DIAMETER_UM = 7.5
#: More cells than this in one image are left out, and `truncated` says so.
MAX_CELLS = 2000
#: The most that an image is enlarged, and the most pixels that the network sees at once; an image that would need more
#: is looked at more coarsely, and `truncated` says so.
MAX_ENLARGEMENT, MAX_NETWORK_PIXELS = 3.0, 6_000_000
#: Cells whose boxes agree more than this lie on each other: discs at three quarters of a diameter, side by side.
_OVERLAP_IOU = 0.12
_GREEN = 1


@dataclass(frozen=True)
class Thresholds:
    """What is tuned on held-out cells.

    Attributes:
        confidence: from which a detection counts as a cell.
        p_spherocyte: from which a red cell is called a spherocyte.
        slope, intercept: of the log odds of p_spherocyte on the network's log odds (Platt 1999).
        nms_iou: boxes that agree more are one cell.
    """

    confidence: float = 0.3
    p_spherocyte: float = 0.5
    slope: float = 1.0
    intercept: float = 0.0
    nms_iou: float = 0.45


class Detector(tf.Module):
    """A trained Mask R-CNN as a function of one image.

    Args:
        model: the Keras model with its trained weights.
        config: the model's configuration (anchors, levels).
        rbc_px: the diameter at which the network sees a red cell.
        class_names: in the order of the class ids; the red cells among them are known by name, see cells.RED_CELLS.
    """

    def __init__(self, model: Any, config: Any, *, rbc_px: float, class_names: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.decoder, self.rpn_head = model.backbone, model.decoder, model.rpn_head
        self.detection_head, self.mask_head = model.detection_head[0], model.mask_head
        self.levels = range(config.min_level, config.max_level + 1)
        self.anchor_sizes = [config.anchor.anchor_size * 2 ** (k / config.anchor.num_scales)
                             for k in range(config.anchor.num_scales)]  # fmt: skip
        self.box_crop, self.mask_crop = config.roi_aligner.crop_size, config.mask_roi_aligner.crop_size
        self.rbc_px = rbc_px
        #: Ids of the red cells other than spherocytes, and of spherocytes; a model may lack either.
        self.other_red_ids = [k for k, name in enumerate(class_names, 1) if name in RED_CELLS - {SPHEROCYTE}]
        self.spherocyte_id = class_names.index(SPHEROCYTE) + 1 if SPHEROCYTE in class_names else None
        self.tuned = {name: tf.Variable(value, trainable=False) for name, value in asdict(Thresholds()).items()}

    def assign(self, thresholds: Thresholds) -> None:
        """Use other thresholds."""
        for name, value in asdict(thresholds).items():
            self.tuned[name].assign(value)

    def __call__(self, image: tf.Tensor, um_per_px: tf.Tensor) -> dict[str, tf.Tensor]:
        """The cells of one image.

        Args:
            image: uint8 (H, W, 3).
            um_per_px: float32 scalar, 0 where it is unknown: then the field's own red cells give the scale.
        """
        density = optics.optical_density(tf.cast(image, tf.float32))
        known = um_per_px > 0.0
        diameter = tf.where(known, RBC_DIAMETER_UM / tf.maximum(um_per_px, 1e-6), estimate_diameter(density))
        cells = self._detect(density, diameter)
        # The first guess of an unknown scale is checked against what was found with it.
        found = cells["rbc_diameter_px"]
        again = tf.math.logical_not(known) & (tf.abs(tf.math.log(found / diameter)) > 0.12)
        cells = tf.cond(again, lambda: self._detect(density, found), lambda: cells)
        cells["rbc_diameter_px"] = tf.where(known, diameter, cells["rbc_diameter_px"])
        return cells

    def _detect(self, density: tf.Tensor, diameter: tf.Tensor) -> dict[str, tf.Tensor]:
        native = tf.cast(tf.shape(density)[:2], tf.float32)
        fitting = tf.sqrt(MAX_NETWORK_PIXELS / tf.reduce_prod(native))
        wanted = self.rbc_px / diameter
        scale = tf.minimum(wanted, tf.minimum(fitting, MAX_ENLARGEMENT))
        size = tf.maximum(tf.round(native * scale), 32.0)
        small = tf.image.resize(density, tf.cast(size, tf.int32), antialias=True)
        features, rpn_scores, rpn_boxes = self._features(small)
        proposals = self._propose(rpn_scores, rpn_boxes, size)
        finest = features[str(min(self.levels))][0]
        boxes, probabilities = self._classify(finest, proposals, size)
        boxes, probabilities, truncated = self._suppress(boxes, probabilities)
        masks = self._masks(finest, boxes)
        other_red = tf.reduce_sum(tf.gather(probabilities, self.other_red_ids, axis=1), axis=1)
        spherocyte = tf.zeros_like(other_red) if self.spherocyte_id is None else probabilities[:, self.spherocyte_id]
        red = other_red + spherocyte
        log_odds = tf.math.log(spherocyte + 1e-6) - tf.math.log(other_red + 1e-6)
        p_spherocyte = tf.sigmoid(self.tuned["slope"] * log_odds + self.tuned["intercept"])
        if self.spherocyte_id is None:
            p_spherocyte = tf.zeros_like(p_spherocyte)
        diameters = _diameters(boxes, masks)
        usual = whole(boxes, size) & (red > 0.5)
        median = _median(tf.boolean_mask(diameters, usual), self.rbc_px)
        is_red = red >= 0.5 * tf.reduce_sum(probabilities[:, 1:], axis=1)
        ids = _likeliest(probabilities, among=self.other_red_ids)
        if self.spherocyte_id is not None:
            ids = tf.where(p_spherocyte >= self.tuned["p_spherocyte"], self.spherocyte_id, ids)
        reds = {0, self.spherocyte_id, *self.other_red_ids}
        others = _likeliest(probabilities, among=[k for k in range(probabilities.shape[1]) if k not in reds])
        stretch = tf.tile(native / size, [2])
        return {
            "num_detections": tf.shape(boxes)[0],
            "boxes_yxyx": boxes * stretch,
            "class_ids": tf.where(is_red, ids, others),
            "confidences": 1.0 - probabilities[:, 0],
            "class_probabilities": self._divided(probabilities, p_spherocyte),
            "p_spherocyte": tf.where(is_red, p_spherocyte, 0.0),
            "countable": is_red & self._separate(boxes, size, diameters / median),
            "masks": masks,
            "rbc_diameter_px": median / scale,
            "truncated": truncated | (scale < 0.99 * wanted),
            "log_odds": log_odds,
        }

    def _divided(self, probabilities: tf.Tensor, p_spherocyte: tf.Tensor) -> tf.Tensor:
        """Class probabilities without background, (N, K); what is red is divided by p_spherocyte; rows sum to 1."""
        given_cell = probabilities[:, 1:] / tf.maximum(1.0 - probabilities[:, :1], 1e-6)
        if self.spherocyte_id is None or not self.other_red_ids:
            return given_cell
        columns = tf.unstack(given_cell, num=probabilities.shape[1] - 1, axis=1)
        others = tf.add_n([columns[k - 1] for k in self.other_red_ids])
        red = others + columns[self.spherocyte_id - 1]
        for k in self.other_red_ids:
            columns[k - 1] *= (1.0 - p_spherocyte) * red / tf.maximum(others, 1e-12)
        columns[self.spherocyte_id - 1] = red * p_spherocyte
        return tf.stack(columns, axis=1)

    def _features(self, small: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        stride = 2 ** max(self.levels)
        shape = tf.shape(small)[:2]
        rest = (stride - shape % stride) % stride
        padded = tf.pad(optics.network_input(small) + 0.5, [[0, rest[0]], [0, rest[1]], [0, 0]]) - 0.5
        padded = tf.ensure_shape(padded, [None, None, 3])
        features = self.decoder(self.backbone(padded[tf.newaxis], training=False), training=False)
        scores, boxes = self.rpn_head(features, training=False)
        return features, scores, boxes

    def _propose(self, scores: Mapping[str, tf.Tensor], offsets: Mapping[str, tf.Tensor], size: tf.Tensor) -> tf.Tensor:
        """The best boxes of the region proposals, (P, 4); as many as there could be cells."""
        all_scores, all_boxes = [], []
        for level in self.levels:
            grid = tf.shape(scores[str(level)])[1:3]
            stride = float(2**level)
            y, x = tf.meshgrid(
                (tf.range(tf.cast(grid[0], tf.float32)) + 0.5) * stride,
                (tf.range(tf.cast(grid[1], tf.float32)) + 0.5) * stride,
                indexing="ij",
            )
            half = tf.constant(self.anchor_sizes) * stride / 2
            y, x = y[..., None] + tf.zeros_like(half), x[..., None] + tf.zeros_like(half)
            anchors = tf.reshape(tf.stack([y - half, x - half, y + half, x + half], axis=-1), [-1, 4])
            all_boxes.append(_decode(tf.reshape(offsets[str(level)], [-1, 4]), anchors, (1.0, 1.0, 1.0, 1.0)))
            all_scores.append(tf.reshape(scores[str(level)], [-1]))
        flat_scores, flat_boxes = tf.concat(all_scores, axis=0), tf.concat(all_boxes, axis=0)
        likely = tf.cast(tf.reduce_prod(size) / (0.6 * self.rbc_px**2), tf.int32) + 50
        top = tf.math.top_k(flat_scores, tf.minimum(5 * likely, tf.size(flat_scores)))
        boxes = _clip(tf.gather(flat_boxes, top.indices), size)
        keep = tf.image.non_max_suppression(boxes, top.values, tf.minimum(likely, 2 * MAX_CELLS), 0.65)
        return tf.gather(boxes, keep)

    def _classify(self, finest: tf.Tensor, rois: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pooled = align(finest, rois, self.box_crop, 2 ** min(self.levels))
        # One RoI an example, because the head wants the number of RoIs to be known.
        logits, offsets = self.detection_head(pooled[:, tf.newaxis], training=False)
        boxes = _decode(offsets[:, 0], rois, (10.0, 10.0, 5.0, 5.0))
        return _clip(boxes, size), tf.nn.softmax(logits[:, 0])

    def _suppress(self, boxes: tf.Tensor, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One box a cell, whatever its class."""
        confidence = 1.0 - probabilities[:, 0]
        keep = tf.image.non_max_suppression(
            boxes, confidence, MAX_CELLS + 1, self.tuned["nms_iou"], score_threshold=self.tuned["confidence"]
        )
        truncated = tf.size(keep) > MAX_CELLS
        keep = keep[:MAX_CELLS]
        return tf.gather(boxes, keep), tf.gather(probabilities, keep), truncated

    def _masks(self, finest: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
        # The head refuses an empty batch, and a field without cells is a field: one box more goes in than comes out.
        boxes = tf.concat([boxes, tf.constant([[0.0, 0.0, 8.0, 8.0]])], axis=0)
        pooled = align(finest, boxes, self.mask_crop, 2 ** min(self.levels))
        ids = tf.zeros([tf.shape(boxes)[0], 1], tf.int32)
        return tf.sigmoid(self.mask_head([pooled[:, tf.newaxis], ids], training=False)[:-1, 0])

    def _separate(self, boxes: tf.Tensor, size: tf.Tensor, relative: tf.Tensor) -> tf.Tensor:
        """Whole cells that lie on no other and are not several in one box."""
        iou = _pairwise_iou(boxes)
        iou -= tf.linalg.diag(tf.linalg.diag_part(iou))
        alone = tf.reduce_max(tf.concat([iou, tf.zeros_like(iou[:, :1])], axis=1), axis=1) < _OVERLAP_IOU
        return alone & whole(boxes, size) & (relative > 0.4) & (relative < 1.55)


def whole(boxes: tf.Tensor, size: tf.Tensor, margin: float = 1.0) -> tf.Tensor:
    """(N,) bool, boxes that keep clear of the image's border."""
    return tf.reduce_all(boxes[:, :2] >= margin, axis=1) & tf.reduce_all(boxes[:, 2:] <= size - margin, axis=1)


def _diameters(boxes: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """(N,) diameter of the circle of each mask's area."""
    area = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    area *= tf.reduce_mean(tf.cast(masks >= 0.5, tf.float32), axis=[1, 2])
    return tf.sqrt(4 / math.pi * area)


def align(features: tf.Tensor, boxes: tf.Tensor, crop: int, stride: int) -> tf.Tensor:
    """Bilinear samples of (H, W, C) features in each box, (N, crop, crop, C), where Model Garden's RoIAlign takes them.

    Sample i lies at y0 + (i + 0.5) / crop * height in units of the features' pixels, clamped to the border.
    """
    height, width, channels = tf.unstack(tf.shape(features))

    def samples(low: tf.Tensor, high: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        at = (low[:, None] + (tf.range(crop, dtype=tf.float32) + 0.5) / crop * (high - low)[:, None]) / stride
        first = tf.clip_by_value(tf.cast(tf.floor(at), tf.int32), 0, size - 1)
        share = at - tf.cast(first, tf.float32)
        return first, tf.minimum(first + 1, size - 1), share

    y0, y1, y_share = samples(boxes[:, 0], boxes[:, 2], height)
    x0, x1, x_share = samples(boxes[:, 1], boxes[:, 3], width)
    flat = tf.reshape(features, [-1, channels])

    def corner(y: tf.Tensor, x: tf.Tensor, y_weight: tf.Tensor, x_weight: tf.Tensor) -> tf.Tensor:
        values = tf.gather(flat, y[:, :, None] * width + x[:, None, :])
        return values * (y_weight[:, :, None] * x_weight[:, None, :])[..., None]

    pooled = corner(y0, x0, 1 - y_share, 1 - x_share) + corner(y0, x1, 1 - y_share, x_share)
    pooled += corner(y1, x0, y_share, 1 - x_share) + corner(y1, x1, y_share, x_share)
    return tf.ensure_shape(pooled, [None, crop, crop, features.shape[-1]])


def estimate_diameter(density: tf.Tensor) -> tf.Tensor:
    """A first guess of the red cells' diameter in native pixels, scalar: twice the inscribed radius of most foreground.

    On a small copy, pale centres are closed by a flood from the border, the distance to the slide is counted in
    erosions, and local maxima vote with their area.
    """
    native = tf.cast(tf.shape(density)[:2], tf.float32)
    scale = tf.minimum(1.0, 320.0 / tf.reduce_max(native))
    small = tf.image.resize(
        density[..., _GREEN : _GREEN + 1], tf.cast(tf.round(native * scale), tf.int32), antialias=True
    )
    cut = tf.maximum(0.85 * optics.otsu(tf.reshape(small, [-1])), 0.015)
    foreground = tf.cast(small > cut, tf.float32)[tf.newaxis]
    # What the slide reaches from the border is slide; what it does not reach is a cell, pale centre included.
    frame = tf.pad(tf.zeros_like(foreground[:, 1:-1, 1:-1]), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    slide = 1.0 - foreground
    reach = tf.while_loop(
        lambda now, before, step: (step < 400) & (tf.reduce_sum(now) > tf.reduce_sum(before)),
        lambda now, before, step: (_dilate(now) * slide, now, step + 1),
        [frame * slide, frame * 0.0, 0],
    )[0]
    # A gap between touching cells is closed too; it is small beside them, or its vote is one of many.
    solid = 1.0 - reach
    distance = tf.zeros_like(solid)
    layer = tf.pad(solid, [[0, 0], [1, 1], [1, 1], [0, 0]])
    layers = tf.while_loop(
        lambda layer, distance, step: (step < 80) & (tf.reduce_max(layer) > 0.0),
        lambda layer, distance, step: (_erode(layer, step), distance + layer[:, 1:-1, 1:-1], step + 1),
        [layer, distance, 0],
    )
    distance = layers[1]
    peak = (distance >= tf.nn.max_pool2d(distance, 5, 1, "SAME")) & (distance > 1.5)
    radii = tf.sort(tf.boolean_mask(distance, peak))
    weight = tf.cumsum(radii**2)
    total = tf.reduce_sum(radii**2)
    middle = tf.minimum(tf.reduce_sum(tf.cast(weight < total / 2, tf.int32)), tf.maximum(tf.size(radii) - 1, 0))
    # Erosions take a whole pixel a round, and touching cells hide part of their width: 1.16 on fields of known scale.
    median = tf.cond(tf.size(radii) > 0, lambda: radii[middle], lambda: 0.0)
    return tf.where(median > 0, 1.16 * (2 * median - 0.5) / scale, 40.0)


def _erode(layer: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """One erosion, by a square and a cross in turn: an octagon comes close to a disc."""
    square = -tf.nn.max_pool2d(-layer, 3, 1, "SAME")
    cross = tf.minimum(-tf.nn.max_pool2d(-layer, [3, 1], 1, "SAME"), -tf.nn.max_pool2d(-layer, [1, 3], 1, "SAME"))
    return tf.where(step % 2 == 0, cross, square)


def _dilate(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(x, 3, 1, "SAME")


def _decode(offsets: tf.Tensor, anchors: tf.Tensor, weights: tuple[float, float, float, float]) -> tf.Tensor:
    """Boxes from Faster R-CNN's offsets (Ren et al. 2015), as Model Garden's box_ops.decode_boxes."""
    offsets = offsets / tf.constant(weights)
    extent = anchors[:, 2:] - anchors[:, :2]
    center = anchors[:, :2] + 0.5 * extent + offsets[:, :2] * extent
    half = 0.5 * tf.exp(tf.minimum(offsets[:, 2:], 4.1351666)) * extent
    return tf.concat([center - half, center + half], axis=1)


def _clip(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(boxes, 0.0, tf.tile(size, [2]))


def _pairwise_iou(boxes: tf.Tensor) -> tf.Tensor:
    low = tf.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = tf.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    area = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    return overlap / tf.maximum(area[:, None] + area[None] - overlap, 1e-6)


def _median(values: tf.Tensor, default: float) -> tf.Tensor:
    ordered = tf.sort(values)
    count = tf.size(ordered)
    middle = lambda: 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])  # noqa: E731
    return tf.cond(count > 0, middle, lambda: tf.constant(default))


def _likeliest(probabilities: tf.Tensor, *, among: Sequence[int]) -> tf.Tensor:
    """The most probable class of some, (N,) int32; 0 where there are none to choose from."""
    if not among:
        return tf.zeros(tf.shape(probabilities)[:1], tf.int32)
    return tf.gather(tf.constant(among, tf.int32), tf.argmax(tf.gather(probabilities, among, axis=1), axis=1))
