"""ap: pycocotools' figures of drawn labels, and refusals of other labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import CLASS_NAMES, Cells
from spherodetect.evaluation.ap import ApJudge
from spherodetect.evaluation.truth import RED_CELL, UNKNOWN, Labelled, Truth

pytest.importorskip("pycocotools", reason="the extra [train] is not installed")
from pycocotools import mask as coco_masks

SIZE_HW = (120, 160)
BOXES = np.array([[10, 10, 40, 40], [10, 60, 40, 90], [60, 10, 90, 40], [60, 60, 100, 100]], float)
NAMES = ("spherocyte", "rbc", "rbc", "wbc")


def truth(**changes: object) -> Truth:
    values = {
        "name": "drawn",
        "split": "val",
        "n_fields": 1,
        "digests": frozenset(),
        "patients": frozenset(),
    }
    return Truth(**(values | {"read": lambda only: iter(())} | changes))


def disc(side: int) -> np.ndarray:
    at = np.arange(side) + 0.5 - side / 2
    return np.hypot(at[:, None], at) <= side / 2


def outline(box: np.ndarray) -> dict:
    frame = np.zeros(SIZE_HW, np.uint8, order="F")
    y0, x0, y1, x1 = box.astype(int)
    frame[y0:y1, x0:x1] = disc(y1 - y0)
    return dict(coco_masks.encode(frame))


def field(names: tuple[str, ...] = NAMES, *, n_unlabelled: int = 0, drawn: bool = True) -> Labelled:
    return Labelled(
        "1.png",
        "",
        np.zeros((*SIZE_HW, 3), np.uint8),
        (BOXES[:, :2] + BOXES[:, 2:]) / 2,
        np.array(names, object),
        np.array(names, object),
        4 + n_unlabelled,
        n_unlabelled,
        BOXES,
        tuple(outline(box) if drawn else None for box in BOXES),
    )


def found(boxes: np.ndarray = BOXES, names: tuple[str, ...] = NAMES) -> Cells:
    ids = np.array([CLASS_NAMES.index(name) + 1 for name in names])
    masks = [disc(int(box[2] - box[0])) for box in boxes]
    return Cells.from_labels(boxes, ids, masks, image_size_hw=SIZE_HW)


def judged(labelled: Labelled, cells: Cells, **changes: object) -> dict:
    judge = ApJudge(truth(**changes), CLASS_NAMES)
    judge.add(labelled, cells)
    return judge.result()


def test_a_perfect_detector_has_an_average_precision_of_one():
    result = judged(field(), found())
    for kind in ("box", "mask"):
        classes = result[kind]["classes"]
        assert {name: one["n"] for name, one in classes.items() if "n" in one} == {
            "rbc": 2,
            "spherocyte": 1,
            "wbc": 1,
            RED_CELL: 3,
        }
        assert all(
            (one["ap"], one["ap75"]) == pytest.approx((1, 1))
            for one in classes.values()
            if "n" in one
        )
        assert classes["platelet"] == {"refused": "no label names it"}


def test_shifted_boxes_fail_the_strict_overlaps():
    # 30 px squares shifted by 4 px have an IoU of 26 / 34 = 0.765, so six of ten overlaps (0.50 to
    # 0.75) are reached.
    result = judged(field(), found(BOXES + np.array([0, 4, 0, 4])))["box"]["classes"]["rbc"]
    assert (result["ap50"], result["ap75"], result["ap"]) == pytest.approx((1, 1, 0.6))


def test_one_of_two_found_gives_half():
    missing = np.array([True, True, False, True])
    result = judged(field(), found()[missing])["box"]["classes"]
    # COCO samples 101 recalls; those from 0 to 0.50 are reached.
    assert result["rbc"]["ap50"] == pytest.approx(51 / 101)
    assert result["spherocyte"]["ap50"] == pytest.approx(1)


def test_more_than_a_hundred_cells_of_a_field_count():
    y, x = np.divmod(np.arange(150), 15)
    boxes = np.stack([8 * y, 10 * x, 8 * y + 7, 10 * x + 7], axis=1).astype(float)
    names = np.array(["rbc"] * 150, object)
    labelled = replace(
        field(),
        points_yx=boxes[:, :2] + 3.5,
        classes=names,
        fine=names,
        n_cells=150,
        box_yxyx=boxes,
        outlines=(None,) * 150,
    )
    assert judged(labelled, found(boxes, tuple(names)))["box"]["classes"]["rbc"][
        "ap"
    ] == pytest.approx(1)


def test_the_ranking_is_by_probability_and_not_by_the_called_class():
    cells = found()
    ranked = cells.class_probabilities.copy()
    # All three have the class rbc, and the spherocyte has the highest rank.
    ranked[:3, :2] = [[0.6, 0.4], [0.7, 0.3], [0.8, 0.2]]
    cells = replace(cells, class_probabilities=ranked)
    assert judged(field(), cells)["box"]["classes"]["spherocyte"]["ap"] == pytest.approx(1)


def test_unknown_cells_are_ignored_and_red_cells_of_unknown_kind_refuse_the_kinds():
    unknown = judged(field(("spherocyte", UNKNOWN, "rbc", "wbc")), found())["box"]["classes"]
    assert unknown["rbc"] == {
        "n": 1,
        "ap": pytest.approx(1),
        "ap50": pytest.approx(1),
        "ap75": pytest.approx(1),
    }
    assert unknown[RED_CELL]["n"] == 2
    red = judged(field(("spherocyte", RED_CELL, "rbc", "wbc")), found())["box"]["classes"]
    assert red["rbc"] == red["spherocyte"] == {"refused": "some labels say red cell and not which"}
    assert red[RED_CELL] == {
        "n": 3,
        "ap": pytest.approx(1),
        "ap50": pytest.approx(1),
        "ap75": pytest.approx(1),
    }


@pytest.mark.parametrize("cells", [found()[:0], found()[3:]])
def test_without_detections_average_precision_is_0(cells):
    assert judged(field(), cells)["box"]["classes"]["spherocyte"]["ap"] == 0


def test_unusable_labels_are_refused_with_the_reason():
    partial = judged(field(n_unlabelled=3), found())
    assert all(
        "each of the 1 fields holds cells without a label" in partial[kind]["refused"]
        for kind in partial
    )
    points = judged(
        field(), found(), no_boxes="the labels are points", no_masks="the labels are points"
    )
    assert points["box"] == points["mask"] == {"refused": "the labels are points"}
    flat = judged(field(drawn=False), found(), no_masks="most outlines are boxes")
    assert flat["mask"] == {"refused": "most outlines are boxes"}
    assert flat["box"]["classes"]["rbc"]["ap"] == pytest.approx(1)


def test_partial_fields_are_left_out_and_counted():
    judge = ApJudge(truth(), CLASS_NAMES)
    judge.add(field(), found())
    judge.add(field(n_unlabelled=2), found()[:0])
    box = judge.result()["box"]
    assert (box["n_fields"], box["n_partial"], box["classes"]["rbc"]["ap"]) == (
        1,
        1,
        pytest.approx(1),
    )


def test_a_cell_without_an_outline_is_ignored_among_drawn_ones():
    labelled = field()
    labelled = replace(labelled, outlines=(labelled.outlines[0], None, *labelled.outlines[2:]))
    classes = judged(labelled, found())["mask"]["classes"]
    assert classes["rbc"] == {
        "n": 1,
        "ap": pytest.approx(1),
        "ap50": pytest.approx(1),
        "ap75": pytest.approx(1),
    }
