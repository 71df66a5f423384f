"""imagenet: the converted backbone equals the Keras network, on both kinds of input."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
CHULA = Path(__file__).parents[1] / "experiments" / "chula.yaml"
#: Layers of the Keras network at Model Garden's endpoints 2 to 6: strides 4, 8, 16, 32, and the
#: last layer.
ENDPOINTS = {
    "2": "block_2_add",
    "3": "block_5_add",
    "4": "block_12_add",
    "5": "block_16_project_BN",
    "6": "out_relu",
}


@pytest.fixture(scope="module")
def imagenet() -> ModuleType:
    return import_module("spherodetect.training.imagenet")


@pytest.fixture(scope="module")
def keras_model(imagenet):
    """MobileNetV2 with random weights, and batch-norm statistics that are not 0 and 1."""
    import tf_keras

    model = tf_keras.applications.MobileNetV2(weights=None, include_top=False)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, n),
                    rng.normal(0, 0.3, n),
                    rng.normal(0, 0.2, n),
                    rng.uniform(0.5, 2, n),
                ]
            )
    return model


@pytest.fixture(scope="module")
def started():
    """A model of the experiment, and a function that loads an initial checkpoint as a run does."""
    from spherodetect.training import run
    from spherodetect.training.task import SmearMaskRCNNTask

    def start(checkpoint: Path, modules: str):
        settings = [f"task.init_checkpoint={checkpoint}", f"task.init_checkpoint_modules={modules}"]
        SmearMaskRCNNTask(run.load_experiment(CHULA, overrides=settings).task).initialize(model)
        return model

    model = SmearMaskRCNNTask(run.load_experiment(CHULA).task).build_model()
    return start


def images(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (2, *size_hw, 3)).astype(np.float32)


@pytest.mark.parametrize("size_hw", [(96, 128), (97, 129)], ids=["even", "odd"])
def test_features_are_equal_at_every_level(imagenet, keras_model, size_hw):
    import tf_keras

    # Keras pads by its static size; without one it assumes an even size.
    sized = tf_keras.applications.MobileNetV2(
        input_shape=(*size_hw, 3), weights=None, include_top=False
    )
    sized.set_weights(keras_model.get_weights())
    x = images(size_hw)
    expected = tf_keras.Model(
        sized.input, [sized.get_layer(name).output for name in ENDPOINTS.values()]
    )(x)
    got = imagenet.to_backbone(keras_model)(x, training=False)
    for level, values in zip(ENDPOINTS, expected, strict=True):
        assert np.abs(values).max() > 0.05
        np.testing.assert_allclose(
            got[level], values, rtol=1e-5, atol=1e-5, err_msg=f"level {level}"
        )


def test_a_linear_conversion_is_folded_into_the_first_layer(imagenet, keras_model):
    import tf_keras

    scale, offset = -0.5, 0.55
    backbone = imagenet.to_backbone(keras_model)
    imagenet.fold_input(backbone, scale, offset)
    u = images((64, 64))
    stem = next(layer for layer in backbone.layers if type(layer).__name__ == "Conv2DBNBlock")
    theirs = tf_keras.Model(keras_model.input, keras_model.get_layer("Conv1_relu").output)(
        scale * u + offset
    )
    inside = np.s_[:, :-1, :-1]  # the last row and column depend on the padding
    np.testing.assert_allclose(stem(u)[inside], theirs[inside], rtol=1e-4, atol=1e-5)


def test_the_conversion_is_exact_for_slide_and_cell(imagenet):
    from spherodetect.graph import optics

    scale, offset = imagenet.density_line()
    density = np.linspace(0, 0.3, 31)
    theirs = 230 * 10**-density / 127.5 - 1
    off = np.abs(scale * optics.network_input(density).numpy() + offset - theirs)
    assert off[[0, -1]].max() < 1e-6
    assert off.max() < 0.08 < np.ptp(theirs) / 10


@pytest.mark.slow
def test_a_file_becomes_an_initial_checkpoint(imagenet, keras_model, started, tmp_path):
    keras_model.save_weights(tmp_path / "weights.h5")
    assert imagenet.main([str(tmp_path / "weights.h5"), "--out", str(tmp_path / "start")]) == 0
    folded = imagenet.to_backbone(keras_model)
    imagenet.fold_input(folded, *imagenet.density_line())
    backbone = started(tmp_path / "start", "backbone").backbone
    for ours, theirs in zip(backbone.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_weights_with_a_classifier_are_accepted(imagenet, tmp_path):
    import tf_keras

    whole = tf_keras.applications.MobileNetV2(weights=None, include_top=True)
    whole.save_weights(tmp_path / "top.h5")
    loaded = imagenet.to_backbone(imagenet.load_keras(tmp_path / "top.h5")).get_weights()
    for ours, theirs in zip(loaded, imagenet.to_backbone(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_within_a_larger_model_are_found(imagenet, keras_model, tmp_path):
    """As transfer learning with Keras 3 stores them: in a group of their own, by other names."""
    import h5py

    with h5py.File(tmp_path / "nested.h5", "w") as file:
        for layer in keras_model.layers:
            for weight in layer.weights:
                name = weight.name.split("/")[-1].removesuffix(":0").removeprefix("depthwise_")
                file[f"model_weights/mobilenetv2_1.00_160/{layer.name}/{name}"] = weight.numpy()
        file["model_weights/dense/dense/kernel"] = np.zeros((1280, 120))
    loaded = imagenet.load_keras(tmp_path / "nested.h5").get_weights()
    for ours, theirs in zip(loaded, keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_files_are_refused(imagenet, tmp_path, capsys):
    import tf_keras

    (tmp_path / "text.h5").write_text("not weights")
    tf_keras.applications.MobileNetV2(weights=None, include_top=False, alpha=0.35).save_weights(
        tmp_path / "narrow.h5"
    )
    for name in ("text.h5", "narrow.h5", "none.h5"):
        with pytest.raises(SpherodetectError, match=name) as caught:
            imagenet.load_keras(tmp_path / name)
        assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    with pytest.raises(SystemExit) as left:
        imagenet.main([str(tmp_path / "none.h5"), "--out", str(tmp_path / "out")])
    assert left.value.code == 2 and "none.h5" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_garden_checkpoint_loads_as_it_is(started, tmp_path):
    import tensorflow as tf
    from official.core import exp_factory
    from official.vision.tasks.maskrcnn import MaskRCNNTask

    from spherodetect.training import run

    stock = exp_factory.get_exp_config("maskrcnn_mobilenet_coco").task
    stock.model = run.load_experiment(CHULA).task.model
    theirs = MaskRCNNTask(stock).build_model()
    # The objects that Model Garden's trainer saves.
    tf.train.Checkpoint(model=theirs, **theirs.checkpoint_items).save(str(tmp_path / "ckpt"))
    for modules, part in (("backbone", attrgetter("backbone")), ("all", lambda model: model)):
        loaded = part(started(tmp_path, modules)).get_weights()
        for ours, stocks in zip(loaded, part(theirs).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, stocks)
