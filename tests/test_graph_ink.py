"""Ink over cells: colours of ink and of stain, and the share of a cell that lies under ink."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from spherodetect.graph.ink import MAX_INK, is_ink, under_ink  # noqa: E402


def densities(*colours: tuple[float, float, float]) -> np.ndarray:
    """A row of squares of 20 px, (20, 20 N, 3), one of each colour on a slide of 230."""
    squares = [
        np.full((20, 20, 3), -np.log10(np.maximum(c, 1.0) / np.float32(230))) for c in colours
    ]
    return np.concatenate(squares, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    "ink", [(0, 255, 0), (40, 200, 60), (255, 255, 0), (230, 220, 90), (0, 0, 0)]
)
def test_ink_is_found_and_a_rim_beside_it(ink):
    found = is_ink(tf.constant(densities((230, 230, 230), ink)))[..., 0].numpy()
    assert found[:, 20:].all()
    assert found[:, 18:20].all()
    assert not found[:, :18].any()


@pytest.mark.parametrize(
    "stain",
    [
        (230, 230, 230),
        (205, 73, 58),
        (220, 183, 115),
        (92, 46, 163),
        (60, 20, 110),
        (120, 110, 100),
    ],
)
def test_slide_red_cells_haemoglobin_and_nuclei_are_no_ink(stain):
    assert not is_ink(tf.constant(densities(stain))).numpy().any()


@pytest.mark.parametrize("gathered", [False, True])
def test_a_cell_lies_under_ink_where_its_mask_does(gathered):
    ink = np.zeros((60, 120, 1), np.float32)
    ink[20:40, 55:60] = 1
    boxes = tf.constant([[10, 10, 50, 50], [10, 40, 50, 80], [10, 70, 50, 110.0]])
    masks = tf.ones([3, 28, 28])
    found = under_ink(tf.constant(ink), boxes, masks, gathered=gathered).numpy()
    assert found.tolist() == [False, True, False]
    # The mask decides, not the box.
    beside = masks * tf.cast(tf.range(28) > 18, tf.float32)
    assert not under_ink(tf.constant(ink), boxes, beside, gathered=gathered).numpy().any()
    assert MAX_INK < 5 * 20 / 40**2
