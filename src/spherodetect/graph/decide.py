"""Decides what a cell is: steps from the network's outputs to class, probability and countable.

Class probabilities are (N, K + 1) with background first; class ids count from 1. Boxes are (N, 4)
(ymin, xmin, ymax, xmax) in the network's pixels, masks are (N, m, m) probabilities that fill them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from spherodetect.cells import RED_CELLS
from spherodetect.graph.boxes import pairwise_iou, share_inside, whole
from spherodetect.graph.evidence import median, shape
from spherodetect.graph.outlines import contact

SPHEROCYTE = "spherocyte"
#: Cells whose boxes have a higher IoU overlap: discs at three quarters of a diameter, side by side.
_OVERLAP_IOU = 0.12
#: A cell of which a larger share of the outline lies against another cell is not separate.
_MAX_CONTACT = 0.1
#: A detection with a lower confidence, of which a larger share lies in a more certain one, is a
#: part of that cell. On 1,793 labelled cells of TXL-PBC this drops 60 detections without a label
#: and 9 with one; on 1,516 of Dataset A 16 and none. A limit of 0.1 drops more parts, and twice as
#: many labelled cells.
_SURE_OF_A_CELL, _MAX_INSIDE = 0.05, 0.6
#: Diameter over the field's median, outside of which a detection is a fragment or several cells.
_MIN_RELATIVE, _MAX_RELATIVE = 0.4, 1.5
#: A cell that is larger than this has to be round and without a waist (aspect ratio and fullness,
#: see evidence.py): two cells in one outline are large, and long or with a waist.
_MAX_ODD_RELATIVE, _MIN_ASPECT, _MIN_FULLNESS = 1.25, 0.75, 0.97


@dataclass(frozen=True)
class ClassIds:
    """Ids of a model's classes by kind; a model may lack either kind of red cell.

    Attributes:
        spherocyte: id of spherocytes, or None.
        other_red: ids of the other red cells.
        not_red: ids of all other classes.
    """

    spherocyte: int | None
    other_red: tuple[int, ...]
    not_red: tuple[int, ...]

    @classmethod
    def of(cls, class_names: Sequence[str]) -> ClassIds:
        """Kinds by name, see cells.RED_CELLS."""
        red = RED_CELLS - {SPHEROCYTE}
        spherocyte = class_names.index(SPHEROCYTE) + 1 if SPHEROCYTE in class_names else None
        other_red = tuple(k for k, name in enumerate(class_names, 1) if name in red)
        not_red = tuple(
            k for k in range(1, len(class_names) + 1) if k not in {spherocyte, *other_red}
        )
        return cls(spherocyte, other_red, not_red)


def is_part(boxes: tf.Tensor, confidence: tf.Tensor) -> tf.Tensor:
    """(N,) bool, unsure detections that are a part of a more certain one."""
    surer = confidence[tf.newaxis, :] > confidence[:, tf.newaxis]
    inside = tf.reduce_any(surer & (share_inside(boxes) > _MAX_INSIDE), axis=1)
    return inside & (confidence < _SURE_OF_A_CELL)


def with_prior(
    probabilities: tf.Tensor, classes: ClassIds, *, spherocyte: Any, other: Any
) -> tf.Tensor:
    """Class probabilities (N, K + 1) with another prior of the classes; the background keeps its
    own.

    Args:
        probabilities: background first.
        classes: the ids.
        spherocyte: added to the log odds of a spherocyte against another red cell.
        other: added to the log odds of a class that is no red cell against another red cell.
    """
    ids = range(1, probabilities.shape[1])
    shift = [
        spherocyte if k == classes.spherocyte else other if k in classes.not_red else 0.0
        for k in ids
    ]
    cells = probabilities[:, 1:]
    moved = cells * tf.exp(tf.stack(shift))
    moved *= tf.math.divide_no_nan(
        tf.reduce_sum(cells, axis=1, keepdims=True), tf.reduce_sum(moved, axis=1, keepdims=True)
    )
    return tf.concat([probabilities[:, :1], moved], axis=1)


def red_cell_probabilities(
    probabilities: tf.Tensor, classes: ClassIds
) -> tuple[tf.Tensor, tf.Tensor]:
    """The probability of a spherocyte and that of another red cell, (N,) each."""
    ids = tf.constant(classes.other_red, tf.int32)
    other_red = tf.reduce_sum(tf.gather(probabilities, ids, axis=1), axis=1)
    if classes.spherocyte is None:
        return tf.zeros_like(other_red), other_red
    return probabilities[:, classes.spherocyte], other_red


def called_classes(
    probabilities: tf.Tensor, is_red: tf.Tensor, is_spherocyte: tf.Tensor, classes: ClassIds
) -> tf.Tensor:
    """The class id of each cell, (N,) int32.

    A red cell is a spherocyte by the calibrated probability; all other classes are the most
    probable of their kind.
    """
    red = most_probable(probabilities, among=classes.other_red)
    if classes.spherocyte is not None:
        red = tf.where(is_spherocyte, classes.spherocyte, red)
    return tf.where(is_red, red, most_probable(probabilities, among=classes.not_red))


def class_probabilities(
    probabilities: tf.Tensor, p_spherocyte: tf.Tensor, classes: ClassIds
) -> tf.Tensor:
    """Class probabilities given that it is a cell, (N, K); rows sum to 1.

    The share of the red cells is divided between spherocytes and the others by p_spherocyte.
    """
    given_cell = probabilities[:, 1:] / tf.maximum(1.0 - probabilities[:, :1], 1e-6)
    if classes.spherocyte is None or not classes.other_red:
        return given_cell
    others = tf.reduce_sum(
        tf.gather(given_cell, [k - 1 for k in classes.other_red], axis=1), axis=1
    )
    columns = tf.unstack(given_cell, num=probabilities.shape[1] - 1, axis=1)
    red = others + columns[classes.spherocyte - 1]
    for k in classes.other_red:
        columns[k - 1] *= (1.0 - p_spherocyte) * red / tf.maximum(others, 1e-12)
    columns[classes.spherocyte - 1] = red * p_spherocyte
    return tf.stack(columns, axis=1)


def are_separate(
    boxes: tf.Tensor,
    masks: tf.Tensor,
    size: tf.Tensor,
    relative_diameters: tf.Tensor,
    *,
    sure: tf.Tensor | None = None,
    canvas: Sequence[int] | None = None,
) -> tf.Tensor:
    """(N,) bool, whole cells that overlap and touch no sure cell and are not several cells.

    Args:
        boxes: (N, 4).
        masks: (N, m, m).
        size: (2,) of the image.
        relative_diameters: (N,) over the field's median.
        sure: (N,) bool, detections that are certainly cells; by default all. An unsure one may be a
            second detection or debris, and does not exclude the cell beside it.
        canvas: the network's input where its shape is fixed.
    """
    sure = tf.ones(tf.shape(boxes)[:1], tf.bool) if sure is None else sure
    iou = pairwise_iou(boxes) * (1.0 - tf.eye(tf.shape(boxes)[0])) * tf.cast(sure, tf.float32)
    highest = tf.reduce_max(tf.concat([iou, tf.zeros_like(iou[:, :1])], axis=1), axis=1)
    plausible = (relative_diameters > _MIN_RELATIVE) & (relative_diameters < _MAX_RELATIVE)
    aspect, fullness = shape(masks, boxes[:, 2:] - boxes[:, :2])
    single = relative_diameters < _MAX_ODD_RELATIVE
    single |= (aspect > _MIN_ASPECT) & (fullness > _MIN_FULLNESS)
    touching = contact(boxes, masks, size, sure, canvas=canvas)
    free = (highest < _OVERLAP_IOU) & (touching < _MAX_CONTACT)
    return free & single & whole(boxes, size) & plausible


def mask_diameters(boxes: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """(N,) diameter of the circle of each mask's area."""
    area = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    area *= tf.reduce_mean(tf.cast(masks >= 0.5, tf.float32), axis=[1, 2])
    return tf.sqrt(4 / math.pi * area)


def most_probable(probabilities: tf.Tensor, *, among: Sequence[int]) -> tf.Tensor:
    """The most probable of the given classes, (N,) int32; 0 if no class is given."""
    if not among:
        return tf.zeros(tf.shape(probabilities)[:1], tf.int32)
    best = tf.argmax(tf.gather(probabilities, among, axis=1), axis=1)
    return tf.gather(tf.constant(among, tf.int32), best)


__all__ = [
    "SPHEROCYTE",
    "ClassIds",
    "are_separate",
    "called_classes",
    "class_probabilities",
    "mask_diameters",
    "median",
    "most_probable",
    "red_cell_probabilities",
]
