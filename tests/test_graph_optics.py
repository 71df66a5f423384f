"""optics: optical density equals that of segment, and is finite without slide, cells or light."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from spherodetect.segment import background, optical_density
from spherodetect.synthetic import SmearStyle, draw_field, random_style

pytestmark = pytest.mark.train
#: Accepted difference of densities between two fits: a tenth of that of a pale cell.
SAME_OD = 0.02


@pytest.fixture(scope="module")
def optics() -> ModuleType:
    return import_module("spherodetect.graph.optics")


def styles() -> list[SmearStyle]:
    rng = np.random.default_rng(2)
    return [
        SmearStyle(),
        random_style(rng),
        replace(random_style(rng), falloff=0.3, falloff_yx=(0.1, 0.8)),
        replace(random_style(rng), stain_od=0.08, background_rgb=(150.0, 150.0, 225.0)),
    ]


@pytest.mark.parametrize("index", range(4))
def test_densities_equal_those_of_segment(optics, index):
    drawn = draw_field(
        np.random.default_rng(index), n_cells=(30, 90, 110, 60)[index], style=styles()[index]
    )
    image = drawn.image.astype(np.float32)
    ours, theirs = optics.optical_density(image).numpy(), optical_density(drawn.image)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 2 * SAME_OD
    assert np.abs(ours - theirs).mean() < SAME_OD
    ratio = optics.background(image).numpy() / background(drawn.image)
    assert np.abs(np.log10(ratio)).max() < 2 * SAME_OD


def test_uneven_light_is_corrected(optics):
    y, x = np.mgrid[-0.5:0.5:240j, -0.5:0.5:320j]
    light = 210 * (1 - 0.5 * (y**2 + (x - 0.3) ** 2))
    disc = np.hypot(240 * y - 20, 320 * x + 60) < 20
    image = np.repeat((light * np.where(disc, 10**-0.25, 1))[..., None], 3, axis=2).astype(
        np.float32
    )
    density = optics.optical_density(image).numpy()[..., 1]
    # The light falls by 0.25 in OD towards the corners. After its few rounds the fit leaves a fifth
    # of that.
    assert np.abs(density[~disc]).max() < 0.06
    assert np.median(np.abs(density[~disc])) < 0.02
    assert np.abs(density[disc] - 0.25).max() < 0.06


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("size_hw", [(1, 1), (5, 3), (64, 64), (700, 40)])
def test_a_field_of_one_colour_is_empty_slide(optics, level, size_hw):
    density = optics.optical_density(np.full((*size_hw, 3), level, np.float32)).numpy()
    assert density.shape == (*size_hw, 3)
    np.testing.assert_allclose(density, 0, atol=0.005)


def test_noise_and_saturation_stay_finite(optics):
    rng = np.random.default_rng(0)
    for image in (rng.uniform(0, 255, (90, 120, 3)), rng.choice([0.0, 255.0], (90, 120, 3))):
        density = optics.optical_density(image.astype(np.float32)).numpy()
        assert np.isfinite(density).all() and np.abs(density).max() < 3


def test_otsu_is_between_two_modes(optics):
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 0.01, 5000), rng.normal(0.2, 0.02, 2000)]).astype(
        np.float32
    )
    assert 0.03 < float(optics.otsu(values)) < 0.17


def test_slide_and_rim_have_fixed_levels_in_the_network_input(optics):
    levels = optics.network_input(np.array([0.0, 0.2, 1 / 3, 5.0, -5.0], np.float32)).numpy()
    np.testing.assert_allclose(levels, [-0.5, 0.7, 1.5, 5.5, -1.7], atol=1e-5)


def test_blur_keeps_the_mean_density_and_reduces_noise(optics):
    rng = np.random.default_rng(0)
    density = np.zeros((40, 50, 3), np.float32)
    density[10:30, 10:40] = 0.3
    grain = density + rng.normal(0, 0.05, density.shape).astype(np.float32)
    soft = optics.softened(grain).numpy()
    assert soft.sum() == pytest.approx(grain.sum(), rel=0.01)
    assert soft[14:26, 14:36].std() == pytest.approx(0.05 / 3, rel=0.2)  # a mean of nine
    np.testing.assert_allclose(soft[5, 5], grain[4:7, 4:7].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_array_equal(optics.softened(grain, 0.0), grain)


@pytest.mark.parametrize("shape", [(7, 9, 3), (2, 3, 1), (4, 6, 5, 2)])
def test_means_of_slices_are_those_of_avg_pool(optics, shape):
    import tensorflow as tf

    images = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    batch = images if images.ndim == 4 else images[np.newaxis]
    expected = tf.nn.avg_pool2d(batch, 3, 1, "SAME").numpy().reshape(shape)
    np.testing.assert_allclose(optics.mean_of_3x3(tf.constant(images)), expected, atol=1e-6)
