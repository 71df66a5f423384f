"""Matches detected cells with labelled cells of one field, one to one.

Boxes are (N, 4) (ymin, xmin, ymax, xmax) and points (M, 2) (y, x), both in the field's pixels.
Labels may be partial: a detection without a label counts neither as right nor as wrong, unless it
is a second detection of a matched cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spherodetect.cells import Cells
from spherodetect.geometry import box_iou

#: A detection with a higher IoU with a matched one is a second detection of the same cell.
DUPLICATE_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Matching:
    """The detection of each label.

    Attributes:
        detection: (M,) index of the detection of each label, -1 for a missed cell.
        duplicate: (N,) bool, second detections of a matched cell.
    """

    detection: np.ndarray
    duplicate: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(M,) bool, labels with a detection."""
        return self.detection >= 0

    def __str__(self) -> str:
        found, twice = int(self.found.sum()), int(self.duplicate.sum())
        return f"{found} of {len(self.detection)} labels found, {twice} found twice"


def match_points(cells: Cells, points_yx: np.ndarray) -> Matching:
    """Match labelled points with the detections whose box contains them.

    The assignment minimises the sum of the distances to the boxes' centres.

    >>> disc = np.ones((10, 10), bool)
    >>> cells = Cells.from_labels([[0, 0, 10, 10]], [1], [disc], image_size_hw=(20, 20))
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
