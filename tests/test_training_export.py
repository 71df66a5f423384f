"""held_out: the labelled cells of held-out fields with the result of the detector."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.train

#: More classes than the bundled model has.
NAMES = ["normal", "macrocyte", "microcyte", "spherocyte", "target cell", "stomatocyte", "wbc"]


class Detector:
    """Detects four cells in a row in every image."""

    def replace(self, *, evidence: bool) -> Any:
        import tensorflow as tf

        assert evidence
        corners = np.array([[10, 10 + 40 * k, 40, 40 + 40 * k] for k in range(4)], np.float32)
        found = {
            "boxes_yxyx": corners,
            "class_ids": np.array([4, 6, 7, 1], np.int32),
            "masks": np.ones((4, 28, 28), np.float32),
            "countable": np.array([True, True, False, True]),
            "log_odds": np.array([3.0, -2.0, -9.0, -4.0]),
            "window": np.zeros((4, 48, 48, 4), np.float32),
            "size": np.zeros((4, 3), np.float32),
        }
        return lambda image, um_per_px: {key: tf.constant(value) for key, value in found.items()}


def test_labelled_cells_are_collected_and_countable_cells_without_a_label_are_neighbours(
    monkeypatch,
):
    held_out = import_module("spherodetect.training.held_out")
    example = {
        "field": "images/3.jpg",
        "patient": "",
        "image": np.zeros((60, 200, 3), np.uint8),
        "um_per_px": np.float32(0),
        "class_id": np.array([4, 6, 0]),
        "name": ["spherocyte", "stomatocyte", "uncategorised"],
        "point_yx": np.array([[25.0, 25], [25, 65], [25, 150]]),
        "box_yxyx": np.zeros((3, 4)),
    }
    monkeypatch.setattr(held_out, "read_examples", lambda records: [example])
    cells = held_out.collect(Detector(), [], NAMES)
    np.testing.assert_array_equal(cells.log_odds, [3.0, -2.0])
    np.testing.assert_array_equal(cells.spherocyte, [True, False])
    assert list(cells.name) == ["spherocyte", "stomatocyte"] and list(cells.block) == ["1-20"] * 2
    # A cell of unknown class is a neighbour. An uncountable cell is not.
    np.testing.assert_array_equal(cells.neighbours.log_odds, [-4.0])
    assert cells.n_countable == {"1-20": 3}
