"""Boxes, polygons and masks against closed forms and drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.geometry import (
    box_iou,
    fill_polygon,
    is_rectangle,
    paste_mask,
    polygon_area,
    stretch_mask,
    tight_box,
)


def test_iou_is_shared_area_over_joint_area():
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 20]], float)
    b = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10], [3, 3, 3, 9]], float)
    np.testing.assert_allclose(box_iou(a, b), [[1, 25 / 175, 0, 0], [0.5, 50 / 250, 0, 0]])
    np.testing.assert_array_equal(box_iou(b, a), box_iou(a, b).T)
    assert box_iou(a[:0], b).shape == (0, 4)


def test_area_by_the_closed_form():
    assert polygon_area(np.array([[0, 0], [0, 4], [3, 0]]) + 1e5) == pytest.approx(6)
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    assert polygon_area(np.stack([np.sin(turn), np.cos(turn)], axis=1)) == pytest.approx(
        np.pi, rel=1e-3
    )


def test_a_polygon_fills_the_pixels_whose_centres_lie_within():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:40, :50] + 0.5
    for corners in rng.integers(3, 30, 50):
        polygon = rng.uniform(-5, 50, (corners, 2))
        crossed = np.zeros(y.shape, int)
        for (ay, ax), (by, bx) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            crossed += ((ay <= y) != (by <= y)) & (x > ax + (y - ay) * (bx - ax) / (by - ay))
        np.testing.assert_array_equal(fill_polygon(polygon, (40, 50)), crossed % 2 == 1)
    square = fill_polygon(np.array([[2, 3], [2, 7], [5, 7], [5, 3]], float), (9, 9))
    assert square[2:5, 3:7].all() and square.sum() == 12


def test_a_mask_is_stretched_over_its_samples():
    half = np.zeros((10, 20), bool)
    half[:, :10] = True
    stretched = stretch_mask(half, 56)
    assert stretched.shape == (56, 56)
    assert stretched[:, :28].all() and not stretched[:, 28:].any()
    np.testing.assert_array_equal(stretch_mask(half[:, ::-1], 56), ~stretched)
    assert stretch_mask(np.ones((1, 1), bool), 56).all()
    disc = np.hypot(*(np.mgrid[:56, :56] - 27.5)) < 27
    np.testing.assert_array_equal(stretch_mask(disc, 56), disc)
    large = np.hypot(*(np.mgrid[:280, :280] - 139.5)) < 140
    assert stretch_mask(large, 56).mean() == pytest.approx(np.pi / 4, abs=0.01)


def test_a_tight_box_is_half_open():
    mask = np.zeros((20, 60), bool)
    mask[5:15, 5:55] = True
    np.testing.assert_array_equal(tight_box(mask), [5, 5, 15, 55])


def test_a_mask_is_pasted_where_its_box_lies():
    left = np.zeros((28, 28))
    left[:, :14] = 1
    pasted = paste_mask(left, np.array([10.0, 20.0, 38.0, 48.0]), (10, 20, 38, 48))
    np.testing.assert_allclose(pasted, left, atol=1e-12)
    wide = paste_mask(left, np.array([0.0, 0.0, 10.0, 56.0]), (0, 20, 10, 36))
    assert (wide[:, :7] == 1).all() and (wide[:, 9:] == 0).all()


CORNERS = np.array([(2, 3), (2, 9), (7, 9), (7, 3)], float)
MIDPOINTS = (CORNERS + np.roll(CORNERS, -1, axis=0)) / 2


@pytest.mark.parametrize(
    "polygon",
    [
        CORNERS,
        np.concatenate([CORNERS, CORNERS[:1]]),
        np.roll(CORNERS, 2, axis=0)[::-1],
        np.stack([CORNERS, MIDPOINTS], axis=1).reshape(-1, 2),
        np.concatenate([CORNERS[:1], np.linspace(CORNERS[0], CORNERS[1], 30), CORNERS[1:]]),
        np.add(CORNERS, [[0.05, 0], [0, 0.05], [-0.05, 0], [0, -0.05]]),
    ],
    ids=["open", "closed", "reversed", "eight points", "many points", "rounded"],
)
def test_a_rectangle_may_have_points_on_its_sides(polygon):
    assert is_rectangle(polygon)
    assert is_rectangle(polygon + 4e4)


@pytest.mark.parametrize(
    "polygon",
    [
        CORNERS[:3],
        MIDPOINTS,
        np.add(CORNERS, [[0.5, 0], [0, 0], [0, 0], [0, 0]]),
        np.concatenate([CORNERS, [(4.5, 6)]]),
        np.concatenate([CORNERS[:3], [(7, 5), (5, 3)]]),
    ],
    ids=["triangle", "diamond", "trapezium", "notch", "cut corner"],
)
def test_another_shape_is_no_rectangle(polygon):
    assert not is_rectangle(polygon)
