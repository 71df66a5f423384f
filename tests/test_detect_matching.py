"""matching: one to one, the fewest missed cells, duplicates, and independence of the order."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.detect.matching import DUPLICATE_IOU, match_points
from spherodetect.geometry import box_iou

HW = (200, 200)


def detections(*boxes: tuple[float, float, float, float]) -> Cells:
    box = np.array(boxes, float).reshape(-1, 4)
    return Cells.from_labels(
        box, np.ones(len(box)), [np.ones((1, 1), bool)] * len(box), image_size_hw=HW
    )


def square(y: float, x: float, side: float = 20.0) -> tuple[float, float, float, float]:
    return y - side / 2, x - side / 2, y + side / 2, x + side / 2


def crowd(rng: np.random.Generator) -> tuple[Cells, np.ndarray]:
    """Random cells, some of them duplicated, and points on and beside some of them."""
    centers = rng.uniform(20, 180, (25, 2))
    boxes = [square(*c, side=rng.uniform(14, 30)) for c in centers[:20]]
    boxes += [tuple(np.add(box, rng.normal(0, 1.5, 4))) for box in boxes[:5]]
    points = np.concatenate(
        [centers[rng.permutation(25)[:15]] + rng.normal(0, 2, (15, 2)), rng.uniform(0, 200, (4, 2))]
    )
    return detections(*boxes), points


def test_a_label_is_matched_with_the_box_that_contains_its_point():
    matching = match_points(
        detections(square(50, 50), square(100, 100)), [[101, 98], [52, 49], [150, 150]]
    )
    assert matching.detection.tolist() == [1, 0, -1]
    assert matching.found.tolist() == [True, True, False]
    assert not matching.duplicate.any()
    assert str(matching) == "2 of 3 labels found, 0 found twice"


def test_a_detection_is_matched_with_one_label_only():
    matching = match_points(detections(square(50, 50)), [[55, 55], [51, 50]])
    assert matching.detection.tolist() == [-1, 0], "the point nearer to the centre"


def test_the_assignment_has_the_fewest_missed_labels():
    # The first point is nearest to the first box, and only that box contains the second point.
    matching = match_points(detections(square(50, 50), square(50, 62)), [[50, 53], [50, 42]])
    assert matching.detection.tolist() == [1, 0]


def test_the_assignment_has_the_least_distance():
    matching = match_points(detections(square(50, 50), square(50, 56)), [[50, 57], [50, 49]])
    assert matching.detection.tolist() == [1, 0]


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.01])
def test_a_point_may_lie_a_pixel_outside_its_box(shift):
    assert match_points(detections(square(50, 50)), [[60 + shift, 50]]).found.tolist() == [
        shift <= 1
    ]


def test_a_second_detection_of_a_matched_cell_is_a_duplicate():
    # The IoU of the shifted boxes with the first is 90, 54 and 38 %. The last box is on a cell
    # without a label.
    cells = detections(
        square(50, 50),
        square(50, 51),
        square(50, 56),
        square(50, 59),
        square(150, 150),
        square(150, 151),
    )
    agreement = box_iou(cells.box_yxyx[:1], cells.box_yxyx[1:4])[0]
    assert agreement[0] > agreement[1] > DUPLICATE_IOU > agreement[2]
    matching = match_points(cells, [[50, 50]])
    assert matching.detection.tolist() == [0]
    assert matching.duplicate.tolist() == [False, True, True, False, False, False]


def test_two_labelled_overlapping_cells_are_not_duplicates():
    cells = detections(square(50, 50), square(50, 53))
    assert box_iou(cells.box_yxyx, cells.box_yxyx)[0, 1] > DUPLICATE_IOU
    matching = match_points(cells, [[50, 49], [50, 54]])
    assert matching.detection.tolist() == [0, 1]
    assert not matching.duplicate.any()


@pytest.mark.parametrize("seed", range(20))
def test_order_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    cells, points = crowd(rng)
    first = match_points(cells, points)
    used = first.detection[first.found]
    assert len(set(used)) == len(used) > 5
    assert not first.duplicate[used].any()
    cell_order, point_order = rng.permutation(len(cells)), rng.permutation(len(points))
    again = match_points(cells[cell_order], points[point_order])
    back = np.where(again.found, cell_order[again.detection], -1)
    assert back.tolist() == first.detection[point_order].tolist()
    assert again.duplicate.tolist() == first.duplicate[cell_order].tolist()


@pytest.mark.parametrize(("n_cells", "n_points"), [(0, 0), (0, 3), (2, 0)])
def test_empty_labels_and_detections(n_cells, n_points):
    cells = detections(*[square(50 * k, 50) for k in range(1, n_cells + 1)])
    matching = match_points(cells, np.full((n_points, 2), 5.0))
    assert matching.detection.tolist() == [-1] * n_points
    assert matching.duplicate.tolist() == [False] * n_cells
