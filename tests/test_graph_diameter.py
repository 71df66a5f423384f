"""diameter: the flood fill, and the estimated diameter of drawn cells."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def diameter() -> ModuleType:
    return import_module("spherodetect.graph.diameter")


@pytest.mark.parametrize("share", [0.3, 0.55, 0.6, 0.7])
def test_the_flood_fill_equals_connected_components_at_the_border(diameter, share):
    slide = np.random.default_rng(int(100 * share)).random((60, 90)) < share
    parts, n = ndimage.label(slide, structure=np.ones((3, 3)))
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    expected = np.isin(parts, border[border > 0])
    np.testing.assert_array_equal(
        diameter.flood_fill(slide.astype(np.float32)).numpy() > 0, expected
    )
    assert n > 1


def rings(radius: float, *, shape: tuple[int, int] = (480, 640)) -> np.ndarray:
    """Density of separate cells with pale centres, (H, W, 3)."""
    density = np.zeros(shape, np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    step = int(3.2 * radius)
    for cy in range(step, shape[0] - step // 2, step):
        for cx in range(step, shape[1] - step // 2, step):
            away = np.hypot(y - cy, x - cx)
            density[(away < radius) & (away > 0.4 * radius)] = 0.3
    return np.repeat(density[..., None], 3, axis=2)


@pytest.mark.parametrize("radius", [10.0, 19.5, 40.0])
def test_the_estimate_of_drawn_cells_is_their_diameter(diameter, radius):
    import tensorflow as tf

    density = rings(radius)
    dynamic = tf.function(
        diameter.estimate_diameter, input_signature=[tf.TensorSpec([None, None, 3])]
    )
    found = [float(dynamic(density)), float(diameter.estimate_diameter(tf.constant(density)))]
    np.testing.assert_allclose(found, 2 * radius, rtol=0.2)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)  # with and without static shapes


def test_a_dark_white_cell_among_few_red_cells_does_not_give_the_scale(diameter):
    import tensorflow as tf

    density = rings(20.0, shape=(260, 260)) * 0.6
    y, x = np.mgrid[:260, :260]
    away = np.hypot(y - 130, x - 130)
    density[away < 55] = 0.0
    density[away < 40] = 0.9
    found = float(diameter.estimate_diameter(tf.constant(density)))
    assert found == pytest.approx(40, rel=0.25)


@pytest.mark.parametrize("shape", [(480, 640), (17, 23)])
def test_an_empty_field_gives_the_default_diameter(diameter, shape):
    import tensorflow as tf

    assert float(diameter.estimate_diameter(tf.zeros([*shape, 3]))) == 40.0
