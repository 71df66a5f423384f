"""Detected against labelled cells of one field, one to one.

Boxes are (N, 4) (ymin, xmin, ymax, xmax) and points (M, 2) (y, x), both in the field's pixels.
Labels may be partial: a detection that no label speaks of is neither right nor wrong, unless it
lies on top of a cell that is matched already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spherodetect.cells import Cells
from spherodetect.geometry import box_iou

#: A detection that agrees this much with a matched one is a second detection of the same cell.
DUPLICATE_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Matching:
    """Which detection stands for which label.

    Attributes:
        detection: (M,) index of the detection of each label, -1 for a missed cell.
        duplicate: (N,) bool, unmatched detections on top of a matched one.
    """

    detection: np.ndarray
    duplicate: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(M,) bool, labels that have a detection."""
        return self.detection >= 0

    def __str__(self) -> str:
        return f"{int(self.found.sum())} of {len(self.detection)} labels found, {int(self.duplicate.sum())} found twice"


def match_points(cells: Cells, points_yx: np.ndarray) -> Matching:
    """Match labelled points to the detections whose box holds them; the total distance to the
    boxes' centres is least.

    >>> cells = Cells.from_labels([[0, 0, 10, 10]], [1], [np.ones((10, 10), bool)], image_size_hw=(20, 20))
    >>> print(match_points(cells, [[5, 5], [15, 15]]))
    1 of 2 labels found, 0 found twice
    """
    from scipy.optimize import linear_sum_assignment

    points = np.asarray(points_yx, float).reshape(-1, 2)
    box = np.asarray(cells.box_yxyx, float)
    detection = np.full(len(points), -1)
    if len(points) and len(box):
        inside = np.all(
            (points[:, None] >= box[:, :2] - 1) & (points[:, None] <= box[:, 2:] + 1), axis=-1
        )
        center = (box[:, :2] + box[:, 2:]) / 2
        distance = np.linalg.norm(points[:, None] - center[None], axis=-1)
        cost = np.where(inside, distance, 1e6)
        rows, columns = linear_sum_assignment(cost)
        good = inside[rows, columns]
        detection[rows[good]] = columns[good]
    matched = np.zeros(len(box), bool)
    matched[detection[detection >= 0]] = True
    duplicate = np.zeros(len(box), bool)
    if matched.any() and not matched.all():
        duplicate[~matched] = (box_iou(box[~matched], box[matched]) > DUPLICATE_IOU).any(axis=1)
    return Matching(detection, duplicate)
