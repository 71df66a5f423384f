"""frame: rotated, flipped and cropped fields give the network the same pixels; boxes come back."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.train
RBC_PX, STRIDE = 32.0, 32
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left to right": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "quarter turn": np.rot90,
    "half turn": lambda a: a[::-1, ::-1],
    "three quarters": lambda a: np.rot90(a, 3),
    "transposed": lambda a: a.swapaxes(0, 1),
    "the other diagonal": lambda a: a[::-1, ::-1].swapaxes(0, 1),
}


@pytest.fixture(scope="module")
def frame() -> ModuleType:
    return import_module("spherodetect.graph.frame")


def smear(height: int, width: int) -> np.ndarray:
    """Separate discs of density that thin out towards their rims, no two alike, (H, W, 3)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width] + 0.5
    density = np.zeros((height, width))
    corners = [(cy, cx) for cy in range(30, height - 20, 48) for cx in range(30, width - 20, 48)]
    for (cy, cx), depth in zip(
        corners, rng.permutation(np.linspace(0.15, 0.4, len(corners))), strict=True
    ):
        away = (
            (y - cy - rng.uniform(-5, 5)) ** 2 + (x - cx - rng.uniform(-5, 5)) ** 2
        ) / rng.uniform(14, 18) ** 2
        density = np.maximum(density, depth * np.clip(1 - away, 0, 1))
    return np.stack([0.4 * density, density, 0.7 * density], axis=-1).astype(np.float32)


def sampled(values: np.ndarray, box: np.ndarray, n: int = 8) -> np.ndarray:
    """Values at the middles of n by n parts of a box."""
    from scipy.ndimage import map_coordinates

    y, x = (box[k] + (np.arange(n) + 0.5) / n * (box[k + 2] - box[k]) - 0.5 for k in (0, 1))
    return map_coordinates(values, np.meshgrid(y, x, indexing="ij"), order=1)


def placed(frame: ModuleType, picture: np.ndarray, scale: float, canvas: list[int] | None = None):
    import tensorflow as tf

    size = tf.constant(np.array(picture.shape[:2]) * scale, tf.float32)
    picture = tf.constant(np.ascontiguousarray(picture))
    seen, placement = frame.place(
        picture, picture[..., 1:2], size, stride=STRIDE, rbc_px=RBC_PX, canvas=canvas
    )
    return seen.numpy(), placement


@pytest.mark.parametrize("shape", [(240, 320), (320, 240), (280, 280)])
@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_field_gives_the_same_input(frame, shape, turn):
    picture = smear(*shape)
    before, _ = placed(frame, picture, 0.82)
    after, _ = placed(frame, TURNS[turn](picture), 0.82)
    # The values reach 0.4. On the steepest rim 0.01 is a shift by a twentieth of a pixel.
    np.testing.assert_allclose(after, before, atol=0.01)


@pytest.mark.parametrize(("y", "x"), [(1, 0), (0, 5), (7, 3), (21, 13)])
def test_a_cropped_field_gives_the_same_input(frame, y, x):
    picture = smear(300, 400)
    (before, one), (after, other) = (
        placed(frame, picture, 0.82),
        placed(frame, picture[y:, x:], 0.82),
    )
    assert (one.flip.numpy() == other.flip.numpy()).all()
    # The grids coincide: a crop moves the rest by whole strides or not at all.
    inner = before[64:192, 96:256]
    places = [(64 + a, 96 + b) for a in (-32, 0, 32) for b in (-32, 0, 32)]
    apart = [
        np.abs(after[top : top + 128, left : left + 160] - inner).max() for top, left in places
    ]
    assert min(apart) < 0.01


@pytest.mark.parametrize("turn", ["as it is", *TURNS])
@pytest.mark.parametrize(
    ("shape", "canvas"), [((280, 280), None), ((280, 280), [288, 288]), ((240, 320), None)]
)
def test_boxes_and_masks_come_back_to_the_image(frame, turn, shape, canvas):
    picture = TURNS.get(turn, lambda a: a)(smear(*shape))
    seen, one = placed(frame, picture, 0.9, canvas)
    box = np.array([40.0, 60.0, 130.0, 130.0], np.float32)
    mask = sampled(seen[..., 1], box + np.tile(one.offset.numpy(), 2))
    (native,), (turned,) = (
        a.numpy() for a in one.native(box[np.newaxis], mask[np.newaxis].astype(np.float32))
    )
    np.testing.assert_allclose(turned, sampled(picture[..., 1], native / 0.9), atol=0.02)
    assert np.ptp(mask) > 0.1


def test_fixed_shapes_give_the_same_input(frame):
    picture = smear(240, 320)
    free, one = placed(frame, picture, 0.82)
    fixed, other = placed(frame, picture, 0.82, [256, 320])
    height, width = free.shape[:2]
    rows = slice(256 - height, None) if one.flip[0] else slice(height)
    columns = slice(320 - width, None) if one.flip[1] else slice(width)
    np.testing.assert_allclose(fixed[rows, columns], free, atol=1e-4)
    np.testing.assert_allclose(one.size, other.size)


def test_an_empty_slide_has_a_placement(frame):
    seen, one = placed(frame, np.zeros((64, 80, 3), np.float32), 0.82)
    assert not seen.any() and seen.shape[0] % STRIDE == seen.shape[1] % STRIDE == 0
    assert np.isfinite(one.offset).all()
