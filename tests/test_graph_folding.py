"""folding: the same results, no foldable normalisation, and one copy of the weights."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folding() -> ModuleType:
    return import_module("spherodetect.graph.folding")


def network(*, bias: bool):
    """Every kind of foldable convolution, each followed by a normalisation."""
    keras = pytest.importorskip("tf_keras").layers
    layers = [
        keras.Conv2D(8, 3, use_bias=bias),
        keras.DepthwiseConv2D(3, depth_multiplier=2, use_bias=bias),
        keras.SeparableConv2D(12, 3, use_bias=bias),
        keras.Conv2DTranspose(6, 2, 2, use_bias=bias),
    ]
    norms = [keras.BatchNormalization() for _ in layers]

    def apply(x, training=False):
        for layer, norm in zip(layers, norms, strict=True):
            x = norm(layer(x), training=training)
        return x

    apply(np.zeros((1, 16, 16, 3), np.float32))
    rng = np.random.default_rng(0)
    for layer in (*layers, *norms):
        layer.set_weights(
            [
                rng.uniform(0.5, 1.5, w.shape) * rng.choice([-1, 1], w.shape[-1:])
                if layer not in norms
                else rng.uniform(0.5, 1.5, w.shape)
                for w in layer.get_weights()
            ]
        )
    return apply


def operations(folded) -> list[str]:
    return [op.type for op in folded.run.graph.get_operations()]


@pytest.mark.parametrize("bias", [False, True])
def test_results_stay_and_normalisations_are_removed(folding, bias):
    import tensorflow as tf

    apply = network(bias=bias)
    folded = folding.folded(apply, tf.TensorSpec([None, None, None, 3]))
    image = np.random.default_rng(1).normal(size=(2, 17, 23, 3)).astype(np.float32)
    expected = apply(image).numpy()
    np.testing.assert_allclose(folded(image), expected, atol=2e-5 * np.abs(expected).max())
    assert "FusedBatchNormV3" not in operations(folded)
    assert all(weight.dtype == tf.float32 for weight in folded.weights)


def test_a_convolution_with_other_readers_is_not_folded(folding):
    import tensorflow as tf

    keras = pytest.importorskip("tf_keras").layers
    convolution, norm = keras.Conv2D(4, 3), keras.BatchNormalization()

    def both(x):
        before = convolution(x)
        return before, norm(before, training=False)

    image = np.random.default_rng(2).normal(size=(1, 9, 9, 3)).astype(np.float32)
    expected = both(image)
    folded = folding.folded(both, tf.TensorSpec([None, 9, 9, 3]))
    assert operations(folded).count("FusedBatchNormV3") == 1
    for ours, theirs in zip(folded(image), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_pixels_of_an_upsampling_are_channels_until_there_are_few(folding):
    """The last layers of Model Garden's mask head."""
    import tensorflow as tf

    keras = pytest.importorskip("tf_keras").layers
    layers = [
        keras.Conv2DTranspose(8, 2, 2, bias_initializer="normal"),
        keras.ReLU(6.0),
        keras.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="normal"),
        keras.Conv2D(1, 1, bias_initializer="normal"),
    ]

    def apply(x):
        for layer in layers:
            x = layer(x)
        return tf.sigmoid(x)

    image = np.random.default_rng(4).normal(size=(3, 5, 6, 4)).astype(np.float32)
    expected = apply(image)
    folded = folding.folded(apply, tf.TensorSpec([None, 5, 6, 4]))
    np.testing.assert_allclose(folded(image), expected, atol=1e-6)
    kinds = operations(folded)
    assert "Conv2DBackpropInput" not in kinds and "DepthwiseConv2dNative" not in kinds
    (enlarged,) = (op for op in folded.run.graph.get_operations() if op.type == "DepthToSpace")
    assert enlarged.inputs[0].shape[-1] == 4  # the four pixels of one channel


@pytest.mark.parametrize(("kernel", "stride", "filters"), [(3, 2, 8), (2, 2, 8), (4, 2, 1)])
def test_other_upsamplings_keep_their_results(folding, kernel, stride, filters):
    """Kernels that overlap, and layers after which channels do not become few."""
    import tensorflow as tf

    keras = pytest.importorskip("tf_keras").layers
    enlarging = keras.Conv2DTranspose(filters, kernel, stride, padding="same")
    after = keras.Conv2D(8, 1)

    def both(x):
        first = enlarging(x)
        return first, after(first)

    image = np.random.default_rng(5).normal(size=(2, 5, 6, 4)).astype(np.float32)
    expected = both(image)
    folded = folding.folded(both, tf.TensorSpec([None, 5, 6, 4]))
    for ours, theirs in zip(folded(image), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ("DepthToSpace" in operations(folded)) == (kernel == stride)


def test_a_saved_model_has_large_weights_only_once(folding, tmp_path):
    import tensorflow as tf

    weights = tf.Variable(tf.random.stateless_normal([300, 300], [1, 2]))
    module = tf.Module()
    module.part = folding.folded(lambda x: x @ weights, tf.TensorSpec([None, 300]))
    module.once = tf.function(module.part, input_signature=[tf.TensorSpec([None, 300])])
    module.twice = tf.function(
        lambda x: module.part(module.part(x)), input_signature=[tf.TensorSpec([None, 300])]
    )
    tf.saved_model.save(
        module, str(tmp_path), signatures={"once": module.once, "twice": module.twice}
    )
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert 360_000 < size < 450_000
    x = np.ones((2, 300), np.float32)
    found = tf.saved_model.load(str(tmp_path)).signatures["twice"](tf.constant(x))
    np.testing.assert_allclose(
        next(iter(found.values())), x @ weights.numpy() @ weights.numpy(), rtol=1e-3
    )
