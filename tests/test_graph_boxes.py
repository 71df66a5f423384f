"""boxes: anchors, decoding and sampling equal Model Garden's, and both samplers agree."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.train
needs_model_garden = pytest.mark.skipif(
    find_spec("official") is None, reason="tf-models-official is not installed"
)


@pytest.fixture(scope="module")
def boxes() -> ModuleType:
    return import_module("spherodetect.graph.boxes")


def some(n: int, *, seed: int = 0, extent: float = 96.0) -> np.ndarray:
    """Small and large boxes in a square, some on its border and one without height."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, extent, (n, 2, 2)), axis=1)
    found = corners.reshape(n, 4).astype(np.float32)
    found[0] = 0, 0, extent, extent
    found[1] = 40, 10, 40, 30
    return found


@pytest.mark.parametrize("gathered", [False, True])
def test_samples_of_a_slope_are_at_the_right_positions(boxes, gathered):
    y, x = np.mgrid[:12, :12].astype(np.float32)
    features = np.stack([y, x], axis=-1)
    found = some(40)
    pooled = boxes.align([features], found, 7, first_level=3, gathered=gathered).numpy()
    steps = (np.arange(7) + 0.5) / 7
    expected = np.clip(
        (found[:, :2, None] + steps * (found[:, 2:, None] - found[:, :2, None])) / 8, 0, 11
    )
    np.testing.assert_allclose(pooled[:, :, 0, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(pooled[:, 0, :, 1], expected[:, 1], atol=1e-4)


@needs_model_garden
@pytest.mark.parametrize("gathered", [False, True])
def test_samples_equal_model_gardens_at_every_level(boxes, gathered):
    import tensorflow as tf
    from official.vision.ops import spatial_transform_ops

    rng = np.random.default_rng(1)
    pyramid = [
        rng.normal(size=(768 >> level, 768 >> level, 4)).astype(np.float32) for level in (3, 4, 5)
    ]
    found = some(60, extent=760.0)[2:]
    theirs = spatial_transform_ops.multilevel_crop_and_resize(
        {
            str(level): tf.constant(each[None])
            for level, each in zip((3, 4, 5), pyramid, strict=True)
        },
        found[None],
        7,
    )[0].numpy()
    ours = boxes.align(pyramid, found, 7, first_level=3, gathered=gathered).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@needs_model_garden
def test_anchors_and_decoded_boxes_equal_model_gardens(boxes):
    from official.vision.ops import anchor, box_ops

    shapes = [(s * a**-0.5, s * a**0.5) for s in (3.0, 3.0 * 2**0.5) for a in (0.5, 1.0, 2.0)]
    ours = boxes.anchors((64, 128), [3, 4, 5], shapes).numpy()
    theirs = anchor.Anchor(3, 5, 2, [0.5, 1.0, 2.0], 3.0, (64, 128)).multilevel_boxes
    np.testing.assert_allclose(
        ours, np.concatenate([b.numpy().reshape(-1, 4) for b in theirs.values()]), atol=1e-4
    )
    offsets = np.random.default_rng(2).normal(size=ours.shape).astype(np.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    decoded = box_ops.decode_boxes(offsets, ours, weights)
    np.testing.assert_allclose(boxes.decode(offsets, ours, weights), decoded, rtol=1e-5, atol=1e-4)


def test_overlap_of_discs_side_by_side(boxes):
    found = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    iou = boxes.pairwise_iou(found).numpy()
    np.testing.assert_allclose(iou[0], [1, 1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(iou, iou.T)
    assert boxes.whole(found, np.float32([31, 31])).numpy().tolist() == [False, False, True, False]
