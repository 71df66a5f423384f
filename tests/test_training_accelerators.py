"""Requirements of accelerators, tested on a CPU: replicas, XLA, bfloat16 and fixed shapes.

Two logical CPU devices replace two GPUs. They must be created before TensorFlow runs anything, so
each test starts its own process: `python test_training_accelerators.py RECORDS
mirrored|compiled|bfloat16` prints, as JSON, the losses of two steps on one device in float32 and in
the other way. With `clipped` it prints a clipped gradient.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
CHULA = Path(__file__).parents[1] / "experiments" / "chula.yaml"
SIZE, CELLS, PROPOSALS = 96, 40, 60


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    from spherodetect.labels.recipe import Recipe
    from spherodetect.records.tfrecords import build

    folder = tmp_path_factory.mktemp("records")
    build(Recipe("drawn", "synthetic", folder, n_fields=2, seed=1, um_per_px=0.4), folder)
    return folder


def settings(records: Path) -> list[str]:
    """A small model without sampling: all proposals and labelled boxes are RoIs with masks."""
    everything = CELLS + PROPOSALS
    return [
        f"task.train_data.input_path={records}/drawn-*.tfrecord",
        "task.train_data.weights=null",
        f"task.model.input_size=[{SIZE}, {SIZE}, 3]",
        "task.train_data.global_batch_size=2",
        f"task.train_data.parser.max_num_instances={CELLS}",
        "task.train_data.parser.rpn_batch_size_per_im=4096",
        f"task.model.roi_generator.num_proposals={PROPOSALS}",
        "task.model.roi_generator.pre_nms_top_k=200",
        f"task.model.roi_sampler.num_sampled_rois={everything}",
        "task.model.roi_sampler.foreground_fraction=1.0",
        f"task.model.mask_sampler.num_sampled_masks={everything}",
    ]


def losses(records: Path, way: str) -> dict[str, list]:
    done = subprocess.run(
        [sys.executable, __file__, str(records), way],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("training", [True, False])
def test_batches_have_fixed_shapes_and_no_strings(records, training):
    """A TPU needs fixed shapes and no strings."""
    import tensorflow as tf

    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    params = run.load_experiment(CHULA, hardware="tpu", overrides=settings(records))
    data = params.task.train_data
    data.is_training = training
    specs = tf.nest.flatten(SmearMaskRCNNTask(params.task).build_inputs(data).element_spec)
    assert all(spec.shape.is_fully_defined() and spec.dtype != tf.string for spec in specs)
    assert {spec.shape[0] for spec in specs} == {2}


PARTS = {"rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss", "mask_loss"}


@pytest.mark.slow  # a minute and a half on two idle cores
def test_two_replicas_have_the_losses_of_one_device(records):
    found = losses(records, "mirrored")
    for one, two in zip(found["one"], found["mirrored"], strict=True):
        assert two == pytest.approx(one, abs=1e-3)
    before, after = found["one"]
    assert min(after[part] for part in PARTS) > 1e-3, "no loss is zero"
    assert abs(after["total_loss"] - before["total_loss"]) > 0.01, (
        "the first step changes the second"
    )


@pytest.mark.slow
def test_the_sum_of_the_replicas_gradients_is_clipped(records):
    found = losses(records, "clipped")
    assert found["one"] == pytest.approx([3.0, 4.0]), "(30, 40) clipped to a norm of 5"
    assert found["clipped"] == pytest.approx(found["one"])


@pytest.mark.slow  # three minutes on two idle cores, most of it compiling
def test_xla_compiles_the_step_with_the_same_losses(records):
    found = losses(records, "compiled")
    for plain, compiled in zip(found["one"], found["compiled"], strict=True):
        assert compiled == pytest.approx(plain, abs=1e-3)


@pytest.mark.slow  # a minute and a half on two idle cores
def test_bfloat16_has_the_losses_of_float32(records):
    found = losses(records, "bfloat16")
    exact, rounded = found["one"][0], found["bfloat16"][0]
    # The other two losses depend on the few proposals at the IoU threshold.
    for name in ("total_loss", "rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss"):
        assert rounded[name] == pytest.approx(exact[name], rel=0.05)


def test_bfloat16_rounds_no_boxes():
    import tensorflow as tf
    import tf_keras
    from official.vision.modeling.layers import mask_sampler, roi_generator, roi_sampler

    from spherodetect.training.task import keep_boxes_exact

    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = SimpleNamespace(
            roi_generator=roi_generator.MultilevelROIGenerator(
                num_proposals=1, nms_iou_threshold=0.5
            ),
            roi_sampler=[roi_sampler.ROISampler(num_sampled_rois=1, mix_gt_boxes=False)],
            mask_sampler=mask_sampler.MaskSampler(28, 1),
        )
        keep_boxes_exact(model)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    anchor, cell = [[[300.6, 301.3, 332.7, 333.2]]], [[[301.1, 300.9, 333.4, 332.9]]]
    zeros = tf.zeros([1, 1, 1, 4], tf.bfloat16)
    boxes, _ = model.roi_generator(
        {"3": zeros},
        {"3": zeros[..., :1]},
        {"3": tf.constant(anchor)},
        tf.constant([[384.0, 384.0]]),
        True,
    )
    np.testing.assert_allclose(boxes, anchor, atol=1e-3)
    rois, truth, classes, indices = model.roi_sampler[0](
        boxes, tf.constant(cell), tf.constant([[2]])
    )
    np.testing.assert_allclose(rois, anchor, atol=1e-3)
    np.testing.assert_allclose(truth, cell, atol=1e-3)
    rois, *_ = model.mask_sampler(rois, truth, classes, indices, tf.ones([1, 1, 56, 56]))
    np.testing.assert_allclose(rois, anchor, atol=1e-3)


def _main(records: Path, way: str) -> None:
    import tensorflow as tf
    from official.modeling import performance

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.random.set_seed(1)
    one = tf.distribute.OneDeviceStrategy("/cpu:0")
    two = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]) if way == "mirrored" else one
    if way == "clipped":
        mirrored = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        print(json.dumps({"one": _clipped(one, records), "clipped": _clipped(mirrored, records)}))
        return
    first, weights = _two_steps(one, records, None)
    if way == "bfloat16":
        performance.set_mixed_precision_policy("bfloat16")
    second, _ = _two_steps(two, records, weights, compiled=way == "compiled")
    print(json.dumps({"one": first, way: second}))


def _clipped(strategy: Any, records: Path) -> list[float]:
    """The clipped gradient of (30, 40), of which each of two replicas has a part."""
    import tensorflow as tf

    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    params = run.load_experiment(CHULA, overrides=settings(records))
    with strategy.scope():
        optimizer = SmearMaskRCNNTask.create_optimizer(params.trainer.optimizer_config)
        variable = tf.Variable([1.0, 1.0])
    parts = {1: [[30.0, 40.0]], 2: [[30.0, 0.0], [0.0, 40.0]]}[strategy.num_replicas_in_sync]

    def apply() -> None:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply_gradients([(tf.gather(tf.constant(parts), number), variable)])

    tf.function(lambda: strategy.run(apply))()
    momentum = strategy.experimental_local_results(optimizer.get_slot(variable, "m"))[0].numpy()
    return [float(m / (1 - optimizer.get_config()["beta_1"])) for m in momentum]


def _two_steps(
    strategy: Any, records: Path, weights: Any, *, compiled: bool = False
) -> tuple[list, Any]:
    """Losses of two steps on one batch, and the weights before them."""
    import tensorflow as tf
    import tf_keras

    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    params = run.load_experiment(CHULA, overrides=settings(records))
    task = SmearMaskRCNNTask(params.task)
    batch = next(iter(task.build_inputs(params.task.train_data)))
    with strategy.scope():
        model = task.build_model()
        norms = [
            layer
            for layer in model.submodules
            if isinstance(layer, tf_keras.layers.BatchNormalization)
        ]
        if weights is None:
            _wake(model, norms, batch)
        else:
            model.set_weights(weights)
        weights = model.get_weights()
        for norm in norms:
            norm.trainable = False
        optimizer = task.create_optimizer(params.trainer.optimizer_config)
        metrics = task.build_metrics(training=True)
    share = 2 // strategy.num_replicas_in_sync

    def part(context: Any) -> Any:
        first = context.replica_id_in_sync_group * share
        return tf.nest.map_structure(lambda x: x[first : first + share], batch)

    @tf.function(jit_compile=compiled or None)
    def step(inputs: Any) -> None:
        if compiled:  # on a CPU, XLA supports no strategy
            task.train_step(inputs, model, optimizer, metrics)
        else:
            strategy.run(lambda x: task.train_step(x, model, optimizer, metrics), args=(inputs,))

    inputs = batch if compiled else strategy.experimental_distribute_values_from_function(part)
    found = []
    for _ in range(2):
        step(inputs)
        found.append({m.name: float(m.result()) for m in metrics})
        for m in metrics:
            m.reset_state()
    return found, weights


def _wake(model: Any, norms: list, batch: Any) -> None:
    """Give heads larger weights and fit normalisation to the batch: new heads return about zero."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.normal(0, 0.02, w.shape) if w.ndim > 1 else w for w in model.get_weights()]
    )
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    images, labels = batch
    truth = {key: labels[key] for key in ("anchor_boxes", "gt_boxes", "gt_classes", "gt_masks")}
    model(images, image_shape=labels["image_info"][:, 1], **truth, training=True)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
