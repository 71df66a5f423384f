"""Folds batch normalisation into the convolutions before it.

The results differ by rounding only. TensorFlow can then compute convolution, bias and activation in
one step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

#: Operations that can be scaled through their weights: (weights, scale of each output) to weights.
_SCALED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Conv2D": lambda weights, scale: weights * scale,
    "DepthwiseConv2dNative": lambda weights, scale: weights * scale.reshape(weights.shape[2:]),
    "Conv2DBackpropInput": lambda weights, scale: weights * scale[:, np.newaxis],
}
#: Larger constants become variables, because a SavedModel repeats its constants in every function.
_LARGE_BYTES = 2000
#: The input of these operations that has the weights.
_WEIGHTS = 1


class Folded(tf.Module):
    """A function of tensors with its weights; see `folded`."""

    def __init__(self, run: Callable[..., Any], weights: Sequence[tf.Variable]) -> None:
        super().__init__()
        self.run, self.weights = run, list(weights)

    def __call__(self, *args: tf.Tensor) -> Any:
        return self.run(*args)


def folded(function: Callable[..., Any], *specs: tf.TensorSpec) -> Folded:
    """The function, traced for these arguments, with batch normalisation folded.

    It returns a tensor or a tuple of tensors, as before.
    """
    traced = tf.function(function, input_signature=specs, autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    inputs, outputs = (
        [tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs)
    )
    definition = fold(frozen.graph.as_graph_def(), [*inputs, *outputs])
    large = {
        node.name: node
        for node in definition.node
        if node.op == "Const" and node.ByteSize() > _LARGE_BYTES
    }
    weights = {
        name: tf.Variable(tf.make_ndarray(n.attr["value"].tensor), trainable=False)
        for name, n in large.items()
    }
    for node in large.values():
        definition.node.remove(node)
    structure, shapes = traced.structured_outputs, [tensor.shape for tensor in frozen.outputs]

    def run(*args: tf.Tensor) -> Any:
        given = dict(zip(inputs, args, strict=True)) | {
            f"{name}:0": w.read_value() for name, w in weights.items()
        }
        found = tf.graph_util.import_graph_def(definition, given, outputs, name="")
        found = [
            tf.ensure_shape(tensor, shape) for tensor, shape in zip(found, shapes, strict=True)
        ]
        return tf.nest.pack_sequence_as(structure, found)

    # A concrete function is saved only once, however often it is called.
    concrete = tf.function(run, input_signature=specs, autograph=False).get_concrete_function()
    return Folded(concrete, list(weights.values()))


def fold(definition: Any, outputs: Sequence[str]) -> Any:
    """Fold each FusedBatchNormV3 in inference mode that directly follows a convolution or its bias.

    Args:
        definition: a GraphDef; it is changed.
        outputs: names of the nodes that are needed.

    Returns:
        a GraphDef of the nodes that the outputs need.
    """
    nodes = {node.name: node for node in definition.node}
    uses = Counter(
        name.lstrip("^").partition(":")[0] for node in definition.node for name in node.input
    )

    def source(node: Any, k: int) -> Any:
        """The node of input k, skipping identities; None if the input is not its first output."""
        name = node.input[k].removesuffix(":0")
        found = nodes.get(name)
        return source(found, 0) if found is not None and found.op == "Identity" else found

    def value(node: Any, k: int) -> np.ndarray | None:
        found = source(node, k)
        return (
            tf.make_ndarray(found.attr["value"].tensor)
            if found is not None and found.op == "Const"
            else None
        )

    for norm in [node for node in definition.node if node.op == "FusedBatchNormV3"]:
        before = source(norm, 0)
        bias: np.ndarray | None = np.zeros(1, np.float32)
        if before is not None and before.op == "BiasAdd" and uses[before.name] == 1:
            bias, before = value(before, 1), source(before, 0)
        gamma, beta, mean, variance = (value(norm, k) for k in (1, 2, 3, 4))
        # Not foldable: another node reads the convolution, or the statistics are of the batch.
        if (
            before is None
            or before.op not in _SCALED
            or uses[before.name] != 1
            or norm.attr["is_training"].b
            or variance is None
            or bias is None
            or (weights := value(before, _WEIGHTS)) is None
        ):
            continue
        scale = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
        before.input[_WEIGHTS] = _constant(
            definition, f"{norm.name}/weights", _SCALED[before.op](weights, scale)
        )
        norm.input[:] = [
            before.name,
            _constant(definition, f"{norm.name}/bias", (bias - mean) * scale + beta),
        ]
        norm.op = "BiasAdd"
        for name in set(norm.attr) - {"T", "data_format"}:
            del norm.attr[name]
    return _needed(definition, list(outputs))


def _constant(definition: Any, name: str, value: np.ndarray) -> str:
    node = definition.node.add(name=name, op="Const")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
    return name


def _needed(definition: Any, waiting: list[str]) -> Any:
    """The part of a GraphDef that the waiting nodes need."""
    nodes: dict[str, Any] = {node.name: node for node in definition.node}
    needed: set[str] = set()
    while waiting:
        name = waiting.pop().partition(":")[0]
        if name not in needed:
            needed.add(name)
            # Control inputs are dropped: no node here has a side effect.
            nodes[name].input[:] = [
                other for other in nodes[name].input if not other.startswith("^")
            ]
            waiting += nodes[name].input
    return tf.compat.v1.GraphDef(
        node=[node for node in definition.node if node.name in needed],
        library=definition.library,
        versions=definition.versions,
    )
