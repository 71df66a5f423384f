"""weights: the Keras model with the weights of a model folder gives the outputs of its graph."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("official") is None, reason="the extra [train] is missing"),
]
#: Other classes than those of the bundled model, in another order.
NAMES = ["wbc", "rbc", "macrocyte", "spherocyte", "sickle crystal"]


def test_classes_are_matched_by_name_and_a_new_red_cell_begins_as_another_one():
    weights = import_module("spherodetect.training.weights")
    columns = weights._class_columns(("rbc", "spherocyte", "wbc", "platelet"), NAMES)
    theirs, initial = np.arange(5.0) * 10, np.full(6, 0.5)
    found = weights._of_classes(theirs, initial, columns)
    # background, wbc, rbc, macrocyte (rbc with its own noise), spherocyte, and one that is new.
    np.testing.assert_array_equal(found, [0, 30, 10, 10.5, 20, 0.5])


def test_a_scaled_kernel_and_its_scale_give_the_kernel_back():
    weights = import_module("spherodetect.training.weights")
    rng = np.random.default_rng(1)
    for axes, shape in (((3,), (3, 3, 4, 5)), ((2, 3), (3, 3, 4, 1)), ((2,), (2, 2, 5, 4))):
        kernel = rng.normal(size=shape) * rng.uniform(
            0.01, 100, size=[n if k in axes else 1 for k, n in enumerate(shape)]
        )
        scale = weights._spread(kernel, axes)
        even = kernel / weights._along(scale, kernel, axes)
        np.testing.assert_allclose(weights._spread(even, axes), 1)
        np.testing.assert_allclose(weights._ratio(kernel, even, axes), scale)


@pytest.mark.slow
def test_the_restored_model_gives_the_outputs_of_the_saved_model(bundled_model):
    import tensorflow as tf
    from official.core import exp_factory, task_factory

    from spherodetect.graph.network import layer_functions
    from spherodetect.training import experiment
    from spherodetect.training import task as _task  # noqa: F401
    from spherodetect.training.weights import restore_weights

    params = exp_factory.get_exp_config(experiment.EXPERIMENT)
    config = params.task.model
    config.input_size, config.num_classes = [128, 160, 3], 1 + len(NAMES)
    params.task.class_names, params.task.frozen_norms = NAMES, True
    model = task_factory.get_task(params.task).build_model()
    restore_weights(model, config, bundled_model, class_names=NAMES)
    saved = tf.saved_model.load(str(bundled_model / "saved_model")).detector.network
    rng = np.random.default_rng(1)

    def drawn(*shape: int) -> tf.Tensor:
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    inputs = {
        "features": (drawn(128, 160, 3),),
        "classify": (drawn(9, 7, 7, 128),),
        "outline": (drawn(9, 14, 14, 128), tf.ones(9, tf.int32)),
    }
    for name, (function, _) in layer_functions(model, config, region_levels=[3]).items():
        ours = tf.nest.flatten(function(*inputs[name]))
        theirs = tf.nest.flatten(getattr(saved, name).run(*inputs[name]))
        if name == "classify":
            # Odds of two classes that both know do not depend on the others.
            ours[0], theirs[0] = (
                np.log(p.numpy()[:, [a]] / p.numpy()[:, [b]])
                for p, (a, b) in ((ours[0], (4, 2)), (theirs[0], (2, 1)))
            )
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-3 * np.abs(other).max())
    assert not [v.name for v in model.trainable_variables if "gamma" in v.name]
    # A network with other layers is refused, and keeps its weights.
    config.detection_head.fc_dims = 64
    other_model = task_factory.get_task(params.task).build_model()
    before = [v.numpy() for v in other_model.variables]
    with pytest.raises(SpherodetectError, match=r"other|layers of the experiment"):
        restore_weights(other_model, config, bundled_model, class_names=NAMES)
    for variable, value in zip(other_model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_start_needs_red_cells_of_the_same_size(tmp_path, bundled_model):
    start = import_module("spherodetect.training.start")
    parser = SimpleNamespace(rbc_px=48.0)
    task = SimpleNamespace(train_data=SimpleNamespace(parser=parser), class_names=NAMES)
    params = SimpleNamespace(task=task)
    with pytest.raises(SpherodetectError, match=r"48 px.*32 px"):
        start.start_checkpoint(tmp_path / "start", "bundled", params)
    assert not (tmp_path / "start").exists()
