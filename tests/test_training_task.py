"""task: each loss uses only the known part of a label."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from spherodetect.labels.repair.instances import unknown_set

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
CLASSES = ("rbc", "spherocyte", "wbc", "platelet")
ANYTHING = unknown_set(CLASSES)
RED = 0b00110


@pytest.fixture(scope="module")
def task() -> ModuleType:
    return import_module("spherodetect.training.task")


def logits(*, n: int = 40, spread: float = 3.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (n, 1 + len(CLASSES))).astype(np.float32)


def loss_and_gradient(
    task: ModuleType, z: np.ndarray, sets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = task.set_loss(z, tf.constant(sets))
    return loss.numpy(), tape.gradient(loss, z).numpy()


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_loss_of_a_labelled_cell_is_cross_entropy(task):
    import tensorflow as tf

    z = logits()
    classes = np.arange(len(z)) % 5
    loss, gradient = loss_and_gradient(task, z, 1 << classes)
    np.testing.assert_allclose(
        loss, tf.nn.sparse_softmax_cross_entropy_with_logits(classes, z), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(gradient, softmax(z) - np.eye(5)[classes], atol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_the_loss_of_a_cell_of_unknown_class_is_zero(task, spread):
    z = logits(spread=spread)
    loss, gradient = loss_and_gradient(task, z, np.full(len(z), ANYTHING))
    assert (loss == 0).all(), "not merely small"
    assert (gradient == 0).all()


def test_the_loss_of_some_red_cell_favours_both_kinds_alike(task):
    z = logits()
    p = softmax(z)
    loss, gradient = loss_and_gradient(task, z, np.full(len(z), RED))
    np.testing.assert_allclose(loss, -np.log(p[:, 1] + p[:, 2]), rtol=1e-4, atol=1e-5)
    # The gradient of both kinds is proportional to their probability, so their ratio stays.
    share = p[:, 1:3] / p[:, 1:3].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient[:, 1:3], p[:, 1:3] - share, atol=1e-5)
    assert (gradient[:, [0, 3, 4]] >= 0).all() and (gradient[:, 1:3] <= 1e-6).all()


def test_a_roi_without_cell_is_background(task):
    z = logits()
    background, _ = loss_and_gradient(task, z, np.full(len(z), 1))
    for code in (0, -1):
        np.testing.assert_array_equal(
            loss_and_gradient(task, z, np.full(len(z), code))[0], background
        )


@pytest.mark.parametrize("bits", [0b1, 0b100, RED, ANYTHING])
def test_logits_of_any_size_stay_finite(task, bits):
    z = np.array([[1e6, -1e6, 0, 0, 0], [-1e6, 1e6, -1e6, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    loss, gradient = loss_and_gradient(task, z, np.full(3, bits))
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    assert (loss >= 0).all()


def test_it_keeps_the_shape_of_its_rois(task):
    z = logits(n=12).reshape(3, 4, 5)
    loss, _ = loss_and_gradient(task, z, np.full((3, 4), RED))
    np.testing.assert_allclose(
        loss.ravel(), loss_and_gradient(task, z.reshape(12, 5), np.full(12, RED))[0], rtol=1e-6
    )


@pytest.fixture(scope="module")
def smear_task(task):
    from official.core import exp_factory

    from spherodetect.training.experiment import EXPERIMENT

    return task.SmearMaskRCNNTask(exp_factory.get_exp_config(EXPERIMENT).task)


def test_the_task_is_what_the_experiment_trains(smear_task, task):
    from official.core import exp_factory, task_factory

    from spherodetect.training.experiment import EXPERIMENT

    config = exp_factory.get_exp_config(EXPERIMENT)
    assert type(task_factory.get_task(config.task)) is task.SmearMaskRCNNTask
    assert config.task.model.num_classes == 1 + len(config.task.class_names)
    assert config.task.train_data.parser.max_num_instances >= 180, "some fields have 180 cells"


def test_cells_of_unknown_class_train_boxes_but_not_the_class(smear_task, task):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    z = tf.constant(logits(n=8).reshape(2, 4, 5))
    boxes = tf.constant(rng.normal(0, 1, (2, 4, 4)).astype(np.float32))

    def losses(codes: np.ndarray) -> tuple[float, float]:
        outputs = {
            "class_targets": tf.constant(codes),
            "class_outputs": z,
            "box_outputs": boxes,
            "box_targets": tf.zeros_like(boxes),
        }
        class_loss, box_loss = smear_task._build_frcnn_losses(outputs, {})
        return float(class_loss), float(box_loss)

    unknown = losses(np.full((2, 4), ANYTHING))
    assert unknown[0] == 0 < unknown[1]
    for code in (0b10, RED):
        known = losses(np.full((2, 4), code))
        assert known[0] > 0 and known[1] == pytest.approx(unknown[1])
        assert losses(np.full((2, 4), code + task.NO_MASK)) == pytest.approx(known), (
            "a missing mask does not change the class"
        )
    assert losses(np.zeros((2, 4), int))[1] == 0, "background has no box"


def test_a_cell_without_mask_has_no_mask_loss(smear_task, task):
    import tensorflow as tf

    rng = np.random.default_rng(2)
    drawn = tf.constant(rng.normal(0, 2, (1, 4, 28, 28)).astype(np.float32))
    truth = (rng.random((1, 4, 28, 28)) < 0.5).astype(np.float32)

    def loss(codes: list[int], masks: np.ndarray) -> float:
        outputs = {
            "mask_class_targets": tf.constant([codes]),
            "mask_outputs": drawn,
            "mask_targets": tf.constant(masks),
        }
        return float(smear_task._build_mask_loss(outputs))

    other = truth.copy()
    other[0, 1:] = 1 - other[0, 1:]
    codes = [0b10, 0b10 + task.NO_MASK, ANYTHING + task.NO_MASK, -1]
    assert loss(codes, truth) == pytest.approx(loss(codes, other))
    assert loss(codes, truth) > 0
    assert loss([0b10, ANYTHING, 0, 0], truth) != pytest.approx(
        loss([0b10, ANYTHING, 0, 0], other)
    ), "of any class"
    assert loss([code + task.NO_MASK for code in (0b10, RED, ANYTHING, 1)], truth) == 0
