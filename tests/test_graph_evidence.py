"""Evidence relative to the field: closed forms on drawn discs, few neighbours, invariants."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from spherodetect.graph.evidence import COLUMNS, FEW, measured, median, relative, shape  # noqa: E402

PALLOR, CENTER_RIM = COLUMNS.index("pallor_fraction"), COLUMNS.index("center_rim_ratio")


def window(radius: float, density: float, *, pallor: float = 0.0, aspect: float = 1.0):
    """A (48, 48, 4) window of one cell whose centre has a lower density, and its mask."""
    y, x = np.ogrid[:48, :48]
    away = np.hypot((y - 23.5) / aspect, x - 23.5)
    inside = away <= radius
    od = density * inside * (1 - pallor * (away < 0.5 * radius))
    return np.dstack([od, od, od, inside]).astype(np.float32)


def masks_of(*windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """28 x 28 masks that fill their boxes, and the boxes' sides."""
    masks, extent = [], []
    for one in windows:
        rows, columns = np.nonzero(one[..., 3].any(1))[0], np.nonzero(one[..., 3].any(0))[0]
        part = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 3]
        at = [np.minimum(((np.arange(28) + 0.5) * n / 28).astype(int), n - 1) for n in part.shape]
        masks.append(part[np.ix_(*at)])
        extent.append(part.shape)
    return np.array(masks, np.float32), np.array(extent, np.float32)


def test_measurements_of_discs():
    cells = [window(15, 0.3), window(15, 0.3, pallor=0.6), window(10, 0.2, aspect=1.4)]
    masks, extent = masks_of(*cells)
    found = measured(tf.constant(np.stack(cells)), tf.constant(masks), tf.constant(extent)).numpy()
    np.testing.assert_allclose(found[:, 0], np.log([0.3, 0.3 * (1 - 0.6 / 4), 0.2]), atol=0.02)
    # The pale centre takes (0.5 / 0.87)^2 of all but the outline.
    np.testing.assert_allclose(found[:, 1], [0, (0.5 / 0.87) ** 2, 0], atol=0.03)
    np.testing.assert_allclose(found[:, 2], [1, 0.4, 1], atol=0.02)
    np.testing.assert_allclose(found[:, 3], [1, 1, 1 / 1.4], atol=0.03)
    np.testing.assert_allclose(found[:, 4], 1, atol=0.02)


def test_a_waist_is_less_full_than_an_ellipse():
    y, x = np.ogrid[:28, :28]
    waist = (np.hypot(y - 14, x - 7) < 7) | (np.hypot(y - 14, x - 21) < 7)
    aspect, fullness = shape(
        tf.constant(waist[None].astype(np.float32)), tf.constant([[28.0, 28.0]])
    )
    assert fullness[0] < 0.95
    assert aspect[0] < 0.7


def test_a_stain_changes_no_evidence():
    cells = [window(15, 0.3, pallor=0.5), window(12, 0.4), window(15, 0.28, pallor=0.4)]
    masks, extent = map(tf.constant, masks_of(*cells))
    among = tf.constant([True] * 3)
    once = relative(measured(tf.constant(np.stack(cells)), masks, extent), among)
    darker = np.stack(cells) * np.array([1.7, 1.7, 1.7, 1], np.float32)
    twice = relative(measured(tf.constant(darker), masks, extent), among)
    np.testing.assert_allclose(once, twice, atol=1e-5)


def test_with_few_neighbours_a_difference_says_little():
    few = np.array([[np.log(0.2), 0.4, 0.6, 1, 1], [np.log(0.4), 0.0, 1.0, 1, 1]], np.float32)
    many = np.concatenate([np.repeat(few[:1], 99, axis=0), few[1:]])
    alone = relative(tf.constant(few[1:]), tf.constant([True])).numpy()
    np.testing.assert_allclose(alone[0, 0], 0)
    full = relative(tf.constant(many), tf.ones([100], tf.bool)).numpy()[-1, 0]
    part = relative(tf.constant(few), tf.constant([True, False])).numpy()[-1, 0]
    assert full == pytest.approx(np.log(2) * 100 / (100 + FEW), rel=1e-4)
    assert part == pytest.approx(np.log(2) / (1 + FEW), rel=1e-4)


def test_without_countable_cells_there_is_no_difference():
    one = np.array([[np.log(0.2), 0.4, 0.6, 1, 1]], np.float32)
    found = relative(tf.constant(one), tf.constant([False])).numpy()[0]
    assert found[PALLOR] == pytest.approx(0.4)
    assert found[CENTER_RIM] == pytest.approx(0.6)
    np.testing.assert_allclose(found[[0, 2, 4]], 0)


def test_no_cells_are_no_rows():
    nothing = measured(tf.zeros([0, 48, 48, 4]), tf.zeros([0, 28, 28]), tf.zeros([0, 2]))
    assert relative(nothing, tf.zeros([0], tf.bool)).shape == (0, len(COLUMNS))


@pytest.mark.parametrize(("among", "expected"), [([1, 1, 1], 2), ([1, 0, 1], 2.5), ([0, 0, 0], 7)])
def test_the_median_of_some(among, expected):
    found = median(tf.constant([1.0, 2.0, 4.0]), tf.constant(np.array(among, bool)), 7.0)
    assert float(found) == expected
