"""Outlines in the graph: one piece, no holes, tight boxes, and contact with neighbours."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from scipy import ndimage  # noqa: E402

from spherodetect.graph.decide import are_separate  # noqa: E402
from spherodetect.graph.outlines import contact, euler_number, one_piece, smoothed, tightened  # noqa: E402


def disc(size: int, center_yx: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    away = np.hypot(y + 0.5 - center_yx[0], x + 0.5 - center_yx[1])
    return np.clip(radius - away + 0.5, 0, 1).astype(np.float32)


def test_the_euler_number_is_parts_less_holes():
    ring = disc(28, (14, 14), 10) * (1 - disc(28, (14, 14), 4))
    two = np.maximum(disc(28, (8, 8), 5), disc(28, (21, 21), 4))
    masks = np.stack([disc(28, (14, 14), 9), ring, two, np.zeros((28, 28), np.float32)])
    assert euler_number(tf.constant(masks >= 0.5)).numpy().tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("gathered", [False, True])
def test_the_largest_part_stays_and_holes_are_filled(gathered):
    speck = np.maximum(disc(28, (12, 12), 9), disc(28, (25.5, 25.5), 1.8))
    ring = disc(28, (14, 14), 11) * (1 - disc(28, (14, 14), 4))
    masks = np.stack([disc(28, (14, 14), 9), speck, ring])
    mended = one_piece(tf.constant(masks), gathered=gathered).numpy()
    np.testing.assert_array_equal(mended[0] >= 0.5, masks[0] >= 0.5)
    np.testing.assert_array_equal(mended[1] >= 0.5, disc(28, (12, 12), 9) >= 0.5)
    np.testing.assert_array_equal(mended[2] >= 0.5, disc(28, (14, 14), 11) >= 0.5)
    assert all(ndimage.label(one >= 0.5)[1] == 1 for one in mended)


def test_a_mask_without_a_flaw_is_unchanged():
    masks = np.stack([disc(28, (14, 14), r) for r in (3, 8, 13)])
    np.testing.assert_array_equal(one_piece(tf.constant(masks)), masks)


def test_a_box_ends_where_its_mask_ends():
    boxes = np.array([[10, 20, 66, 76], [0, 0, 28, 28]], np.float32)
    masks = np.stack([disc(28, (14, 10), 6), np.ones((28, 28), np.float32)])
    tight, resampled = tightened(tf.constant(boxes), tf.constant(masks))
    np.testing.assert_allclose(tight[0], [10 + 16, 20 + 8, 10 + 40, 20 + 32], atol=1)
    np.testing.assert_allclose(tight[1], boxes[1])
    area = np.prod(tight[0].numpy()[2:] - tight[0].numpy()[:2])
    assert (resampled[0].numpy() >= 0.5).mean() * area == pytest.approx(np.pi * 12**2, rel=0.03)
    np.testing.assert_allclose(resampled[1], masks[1])


def test_an_empty_mask_keeps_its_box():
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    tight, resampled = tightened(tf.constant(boxes), tf.zeros([1, 28, 28]))
    np.testing.assert_allclose(tight, boxes)
    assert not resampled.numpy().any()


def test_spikes_and_notches_of_a_sample_go_and_the_cell_stays():
    whole = disc(28, (14, 14), 11)
    spike, notch = whole.copy(), whole.copy()
    spike[14, 24:] = 1
    notch[14, 16:] = 0
    cells = smoothed(tf.constant(np.stack([whole, spike, notch]))).numpy() >= 0.5
    assert cells[0].sum() == pytest.approx((whole >= 0.5).sum(), rel=0.03)
    for flawed, drawn in zip(cells[1:], (spike, notch), strict=True):
        differing = (flawed != cells[0]).sum()
        assert differing < 0.5 * ((drawn >= 0.5) != (whole >= 0.5)).sum()


def test_a_mask_that_fills_its_box_still_fills_it():
    assert (smoothed(tf.ones([1, 28, 28])).numpy() >= 0.4).all()


def test_contact_is_the_share_of_the_outline_beside_another_cell():
    round_mask = disc(28, (14, 14), 14)
    # Two that touch, one that stands alone, and one at the border.
    boxes = np.array(
        [[40, 40, 72, 72], [40, 72, 72, 104], [90, 40, 122, 72], [0, 150, 20, 182]], np.float32
    )
    masks = np.stack([round_mask] * 4)
    found = contact(tf.constant(boxes), tf.constant(masks), tf.constant([130.0, 200.0])).numpy()
    assert 0.05 < found[0] < 0.3
    assert found[0] == pytest.approx(found[1], abs=0.02)
    assert found[2] == found[3] == 0


def test_a_cell_on_another_is_touched_all_around():
    boxes = np.array([[20, 20, 84, 84], [40, 40, 64, 64]], np.float32)
    masks = np.stack([np.ones((28, 28), np.float32)] * 2)
    found = contact(tf.constant(boxes), tf.constant(masks), tf.constant([100.0, 100.0])).numpy()
    assert found[1] == 1
    assert found[0] == 0


def test_only_some_cells_touch_others():
    boxes = tf.constant([[20, 20, 60, 60], [20, 60, 60, 100], [60, 20, 100, 60.0]])
    masks, size = tf.ones([3, 28, 28]), tf.constant([120.0, 120.0])
    sure = tf.constant([True, True, False])
    some = contact(boxes, masks, size, sure).numpy()
    np.testing.assert_allclose(some[:2], contact(boxes[:2], masks[:2], size), atol=1e-6)
    assert some[2] > 0.1, "the third detection touches the first, which it does not touch itself"
    assert contact(boxes, masks, size).numpy()[0] > some[0]


def test_an_unsure_detection_excludes_no_cell_beside_it():
    boxes = tf.constant([[20, 20, 52, 52], [20, 48, 52, 80], [90, 20, 122, 52.0]])
    masks, size = tf.constant(np.stack([disc(28, (14, 14), 14)] * 3)), tf.constant([150.0, 150.0])
    alike = tf.ones([3])
    assert are_separate(boxes, masks, size, alike).numpy().tolist() == [False, False, True]
    sure = tf.constant([True, False, True])
    found = are_separate(boxes, masks, size, alike, sure=sure).numpy()
    assert found.tolist() == [True, False, True]


def test_no_cells_are_no_cells():
    nothing = tf.zeros([0, 28, 28])
    assert one_piece(nothing).shape[0] == 0
    assert tightened(tf.zeros([0, 4]), nothing)[0].shape == (0, 4)
    assert contact(tf.zeros([0, 4]), nothing, tf.constant([50.0, 50.0])).shape == (0,)
