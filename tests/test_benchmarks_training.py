"""benchmarks of cuts, cameras and teachers: counts and figures on made and drawn cases."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import cameras, cuts, teachers

pytestmark = pytest.mark.skipif(
    find_spec("official") is None, reason="the extra [train] is not installed"
)


def _held_out(log_odds, *, fields, spherocyte=None, block="1-20"):
    n = len(log_odds)
    from spherodetect.training.calibrate import HeldOutCells

    return HeldOutCells(
        log_odds=np.asarray(log_odds, float),
        spherocyte=np.ones(n, bool) if spherocyte is None else np.asarray(spherocyte),
        block=np.full(n, block, object),
        run=np.full(n, "run 1", object),
        countable=np.ones(n, bool),
        name=np.full(n, "3", object),
        field=np.asarray(fields, object),
        n_countable={block: n},
    )


def _block(name, *, spherocytes=(0, 0), others=(0, 0)):
    """Counts as in model.json, from (all, called) of each kind."""
    keys = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")
    return {"name": name, **dict(zip(keys, (*spherocytes, *others), strict=True))}


def test_a_moved_run_calls_as_many_cells_as_the_model():
    rng = np.random.default_rng(3)
    truth = np.repeat([True, False], [100, 400])
    cells = _held_out(rng.normal(np.where(truth, 2.0, -3.0)), fields=["a"] * 500, spherocyte=truth)
    # 40 of 50 spherocytes and 4 of 200 others: of the run's cells 80 and 8.
    blocks = [
        _block("1-20", spherocytes=(50, 40), others=(200, 4)),
        _block("81-100", others=(9, 9)),
    ]
    shift = cuts.moved(cells, blocks, 1.5)
    assert (cells.log_odds + shift >= 1.5).sum() == 88
    (same,), (again,) = cuts.on_one_scale([cells], blocks, 1.5)
    assert again == shift and (same.log_odds == cells.log_odds + shift).all()


def test_a_run_without_calls_moves_as_the_others_do():
    truth = [True] * 20 + [False] * 20
    odds = np.linspace(3, -3, 40)
    one = _held_out(odds, fields=["a"] * 40, spherocyte=truth)
    two = _held_out(odds, fields=["b"] * 40, spherocyte=truth, block="41-60")
    blocks = [_block("1-20", spherocytes=(10, 8)), _block("41-60", others=(30, 0))]
    assert cuts.moved(two, blocks, 0.0) is None
    _, (first, second) = cuts.on_one_scale([one, two], blocks, 0.0)
    assert first == second == pytest.approx(-odds[15])
    assert cuts.on_one_scale([two], blocks, 0.0)[1] == [0.0]


def test_a_lower_cut_finds_more_and_the_mean_is_that_of_the_blocks():
    truth = [True] * 20 + [False] * 20
    one = _held_out([2.0] * 10 + [0.5] * 10 + [-3.0] * 20, fields=["a"] * 40, spherocyte=truth)
    two = _held_out(
        [2.0] * 20 + [0.5] * 10 + [-3.0] * 10, fields=["b"] * 40, spherocyte=truth, block="41-60"
    )
    judged = cuts.judge([one, two], (1.0, 0.0))
    lines = cuts.block_table(judged)
    assert lines[2] == "| 1-20 | 20, 20 | 0.50, 1.000, 0.67 | 1.00, 1.000, 1.00 |"
    assert lines[3] == "| 41-60 | 20, 20 | 1.00, 1.000, 1.00 | 1.00, 0.500, 0.80 |"
    assert lines[4] == "| mean F1 | | 0.833 | 0.900 |"


def test_similar_sensitivities_of_slides_narrow_the_interval():
    blocks = ("1-20", "41-60", "81-100")

    def folds(least):
        """Three slides whose spherocytes have log odds of 2, and some of them less."""
        for block, low in zip(blocks, (0, 4, 8), strict=True):
            spherocytes = [2.0] * (20 - low) + [least] * low
            for kind, odds in ((True, spherocytes), (False, [-3.0] * 200)):
                yield _held_out(
                    odds, fields=[f"{block}/{kind}"] * len(odds), spherocyte=[kind] * len(odds),
                    block=block if kind else f"{block} others",
                )  # fmt: skip

    rates = cuts.rates_at(list(folds(0.5)), (1.0, 0.0))
    counted = {
        cut: [b["called_of_true"] for b in blocks if b["true_spherocytes"]]
        for cut, blocks in rates.items()
    }
    assert counted == {"1.00": [20, 16, 12], "0.00": [20, 20, 20]}
    lines = cuts.interval_table(rates)
    assert len(lines) == 4 and lines[0].count("called") == 4

    def width(line):
        low, high = line.split("|")[4].split("(")[1].rstrip(") ").split(" to ")
        return float(high) - float(low)

    assert width(lines[3]) < 0.8 * width(lines[2])


def test_a_camera_enlarges_cuts_and_colours_the_photograph_with_its_labels():
    image = np.full((100, 120, 3), 200, np.uint8)
    image[40:60, 50:70] = 100
    boxes = np.array([[40, 50, 60, 70], [0, 0, 20, 20]], float)
    labelled = cameras.Labelled(image, boxes, np.array([True, False]))
    assert labelled.diameter_px == 20
    camera = cameras.Camera("x", 40, (80, 80), (0.5, 1, 1), blur=0.0)
    shown, factor = cameras.taken(labelled, camera)
    assert factor == 2 and shown.image.shape == (80, 80, 3)
    # The corner's label is cut away; the middle of 200x240 begins at (60, 80).
    np.testing.assert_allclose(shown.boxes, [[20, 20, 60, 60]])
    assert shown.red.tolist() == [True]
    assert shown.image[40, 40].tolist() == [50, 100, 100]
    assert shown.image[5, 5].tolist() == [100, 200, 200]
    same, one = cameras.taken(labelled, cameras.CAMERAS[0])
    assert one == 1 and (same.image == image).all() and len(same.boxes) == 2


def test_a_taught_mask_is_placed_in_its_box_and_judged_beyond_it():
    mask = np.ones((4, 6), bool)
    taught = teachers.Taught(mask, (10, 20))
    inside = taught.over(np.array([8.0, 22.0, 13.0, 30.0]))
    expected = np.zeros((5, 8), bool)
    expected[2:5, 0:4] = True
    assert (inside == expected).all()
    assert not taught.over(np.array([50.0, 50.0, 54.0, 54.0])).any()
    # Half of the mask lies beyond the drawn cell: the IoU is 12 of 24.
    assert teachers._iou(taught, np.ones((4, 3), bool), np.array([10.0, 20.0, 14.0, 23.0])) == 0.5


def test_segmentation_teaches_the_masks_of_drawn_cells():
    judged = teachers.judge(teachers.by_segmentation, 1)
    assert np.nanmean(judged.iou[~judged.overlapped]) > 0.9
    lines = teachers.table({"segmentation": judged})
    assert lines[2].startswith(f"| separate cells | {(~judged.overlapped).sum()} | 0.9")
