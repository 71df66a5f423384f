"""graph.second_look: the windows and sizes of cells."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def graph() -> ModuleType:
    return import_module("spherodetect.graph.second_look")


def test_a_window_has_the_pixels_around_the_centre_and_the_mask_of_its_box(graph):
    rng = np.random.default_rng(1)
    density = rng.random((90, 110, 3)).astype(np.float32)
    boxes = np.array([[30, 40, 62, 70], [0, 0, 20, 28]], np.float32)
    masks = np.ones((2, 28, 28), np.float32)
    for gathered in (False, True):
        seen = graph.windows(density, boxes, masks, gathered=gathered).numpy()
        np.testing.assert_allclose(seen[0, ..., :3], density[22:70, 31:79], atol=1e-5)
        assert np.abs(seen[1, :13, :9, :3]).max() < 1e-5  # outside the image
        # A mask that fills its box covers its area: the edge is half covered, one sample wide.
        np.testing.assert_allclose(seen[..., 3].sum(axis=(1, 2)), [32 * 30, 20 * 28], rtol=0.03)


def test_a_box_without_height_gives_finite_numbers(graph):
    seen = graph.windows(
        np.zeros((64, 64, 3), np.float32),
        np.array([[9, 9, 9, 30.0]], np.float32),
        np.ones((1, 28, 28), np.float32),
    )
    assert np.isfinite(seen).all()


def test_sizes_in_micrometres_are_0_where_the_pixel_size_is_unknown(graph):
    relative = np.array([1.0, 0.8], np.float32)
    np.testing.assert_allclose(graph.sizes(relative, 0.0, 7.5)[:, 1:], 0)
    known = graph.sizes(relative, 6.0, 7.5).numpy()
    np.testing.assert_allclose(
        known, [[0, 5 * np.log(0.8), 1], [5 * np.log(0.8), 5 * np.log(0.8), 1]], atol=1e-5
    )
    # The effect of a wrong pixel size is limited to that of an unusual patient.
    np.testing.assert_allclose(graph.sizes(relative, 70.0, 7.5)[:, 1], 5 * np.log(1.28), atol=1e-5)
