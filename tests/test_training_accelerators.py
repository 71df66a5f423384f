"""What accelerators need, shown on CPU: a step whose losses do not depend on the replicas, and one that XLA compiles.

Two logical CPU devices stand for two GPUs. They must be asked for before TensorFlow runs anything, hence the processes
of their own: `python test_training_accelerators.py RECORDS mirrored|compiled` prints the losses of two steps, of one
device and of the other way, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("official") is None, reason="tf-models-official, the extra [train], is not installed"),
]
CHULA = Path(__file__).parents[1] / "experiments" / "chula.yaml"
SIZE, CELLS, PROPOSALS = 96, 40, 60


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    from spherodetect.labels.recipe import Recipe
    from spherodetect.tfrecords import build

    folder = tmp_path_factory.mktemp("records")
    build(Recipe("drawn", "synthetic", folder, n_fields=2, seed=1, um_per_px=0.4), folder)
    return folder


def settings(records: Path) -> list[str]:
    """A small model that samples nothing: all proposals and labelled boxes are RoIs, with a mask where they have one."""
    everything = CELLS + PROPOSALS
    return [
        f"task.train_data.input_path={records}/drawn-*.tfrecord", "task.train_data.weights=null",
        f"task.model.input_size=[{SIZE}, {SIZE}, 3]", "task.train_data.global_batch_size=2",
        f"task.train_data.parser.max_num_instances={CELLS}", "task.train_data.parser.rpn_batch_size_per_im=4096",
        f"task.model.roi_generator.num_proposals={PROPOSALS}", "task.model.roi_generator.pre_nms_top_k=200",
        f"task.model.roi_sampler.num_sampled_rois={everything}", "task.model.roi_sampler.foreground_fraction=1.0",
        f"task.model.mask_sampler.num_sampled_masks={everything}", "trainer.optimizer_config.warmup.type=null",
    ]  # fmt: skip


def losses(records: Path, way: str) -> dict[str, list[dict[str, float]]]:
    done = subprocess.run(
        [sys.executable, __file__, str(records), way], capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("training", [True, False])
def test_batches_have_fixed_shapes_and_no_strings(records, training):
    """What a TPU is fed with."""
    import tensorflow as tf

    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    params = run.load_experiment(CHULA, hardware="tpu", overrides=settings(records))
    data = params.task.train_data
    data.is_training = training
    specs = tf.nest.flatten(SmearMaskRCNNTask(params.task).build_inputs(data).element_spec)
    assert all(spec.shape.is_fully_defined() and spec.dtype != tf.string for spec in specs)
    assert {spec.shape[0] for spec in specs} == {2}


@pytest.mark.slow
def test_two_replicas_learn_what_one_device_learns(records):
    found = losses(records, "mirrored")
    assert len(found["one"]) == 2
    for one, two in zip(found["one"], found["mirrored"], strict=True):
        assert one.keys() >= {"rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss", "mask_loss"}
        assert two == pytest.approx(one, abs=1e-3)
        assert min(one.values()) > 1e-3, "each loss has something to say"


@pytest.mark.slow
def test_xla_compiles_the_step_and_changes_no_loss(records):
    found = losses(records, "compiled")
    for plain, compiled in zip(found["one"], found["compiled"], strict=True):
        assert compiled == pytest.approx(plain, abs=1e-3)


def _main(records: Path, way: str) -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one = tf.distribute.OneDeviceStrategy("/cpu:0")
    two = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]) if way == "mirrored" else one
    first, weights = _two_steps(one, records, None)
    second, _ = _two_steps(two, records, weights, compiled=way == "compiled")
    print(json.dumps({"one": first, way: second}))


def _two_steps(strategy: Any, records: Path, weights: Any, *, compiled: bool = False) -> tuple[list, Any]:
    """Losses of two steps on one batch, and the weights before them."""
    import tensorflow as tf
    import tf_keras

    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    params = run.load_experiment(CHULA, overrides=settings(records))
    with strategy.scope():
        task = SmearMaskRCNNTask(params.task)
        model = task.build_model()
        if weights is not None:
            model.set_weights(weights)
        weights = model.get_weights()
        for layer in model.submodules:
            if isinstance(layer, tf_keras.layers.BatchNormalization):
                layer.trainable = False
        optimizer = task.create_optimizer(params.trainer.optimizer_config)
        metrics = task.build_metrics(training=True)
    batch = next(iter(task.build_inputs(params.task.train_data)))
    share = 2 // strategy.num_replicas_in_sync

    def part(context: Any) -> Any:
        first = context.replica_id_in_sync_group * share
        return tf.nest.map_structure(lambda x: x[first : first + share], batch)

    @tf.function(jit_compile=compiled or None)
    def step(inputs: Any) -> None:
        if compiled:  # on CPU, XLA knows no strategy
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


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
