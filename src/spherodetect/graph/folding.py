"""Simplifies the graph of a network: fewer and cheaper operations with the same result.

Batch normalisation is folded into the convolution before it, so that TensorFlow can compute
convolution, bias and activation in one step. Factors of channels are folded into the convolution
after them. An upsampling by a transposed convolution becomes a convolution of one pixel, whose
result is rearranged where it has fewest channels. The results differ by rounding only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
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
    """The function, traced for these arguments, with a simplified graph.

    It returns a tensor or a tuple of tensors, as before. A concrete function is not traced again.
    """
    traced: Any = function
    if not isinstance(function, ConcreteFunction):
        traced = tf.function(
            function, input_signature=specs, autograph=False
        ).get_concrete_function()
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
    """Simplify a GraphDef; the results differ by rounding only.

    Args:
        definition: a GraphDef; it is changed.
        outputs: names of the nodes that are needed.

    Returns:
        a GraphDef of the nodes that the outputs need.
    """
    for kind, rule in _RULES:
        definition = _needed(definition, list(outputs))
        nodes = _Nodes(definition, outputs)
        for node in [one for one in definition.node if one.op == kind]:
            rule(nodes, node)
    return _needed(definition, list(outputs))


class _Nodes:
    """The nodes of a GraphDef, with who reads whom, and the names of those that are outputs."""

    def __init__(self, definition: Any, outputs: Sequence[str]) -> None:
        self.definition = definition
        self.outputs = {name.partition(":")[0] for name in outputs}
        self.by_name = {node.name: node for node in definition.node}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in definition.node:
            for name in node.input:
                self.readers[name.lstrip("^").partition(":")[0]].append(node)

    def source(self, node: Any, k: int) -> Any:
        """The node of input k, skipping identities; None if the input is not its first output."""
        found = self.by_name.get(node.input[k].removesuffix(":0"))
        return self.source(found, 0) if found is not None and found.op == "Identity" else found

    def value(self, node: Any, k: int) -> np.ndarray | None:
        """The value of input k if it is a constant."""
        found = self.source(node, k)
        if found is None or found.op != "Const":
            return None
        return np.asarray(tf.make_ndarray(found.attr["value"].tensor))

    def only_reader(self, node: Any) -> Any:
        """The node that reads this one, or None if none or several do, or the caller."""
        readers = self.readers[node.name]
        return readers[0] if len(readers) == 1 and node.name not in self.outputs else None

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        node = self.definition.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
        self.by_name[name] = node
        return name


def _fold_normalisation(nodes: _Nodes, norm: Any) -> None:
    """Fold a FusedBatchNormV3 in inference mode that follows a convolution or its bias."""
    before = nodes.source(norm, 0)
    bias: np.ndarray | None = np.zeros(1, np.float32)
    if before is not None and before.op == "BiasAdd" and nodes.only_reader(before):
        bias, before = nodes.value(before, 1), nodes.source(before, 0)
    gamma, beta, mean, variance = (nodes.value(norm, k) for k in (1, 2, 3, 4))
    # Not foldable: another node reads the convolution, or the statistics are of the batch.
    if (
        before is None
        or before.op not in _SCALED
        or not nodes.only_reader(before)
        or norm.attr["is_training"].b
        or variance is None
        or bias is None
        or (weights := nodes.value(before, _WEIGHTS)) is None
    ):
        return
    scale = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
    before.input[_WEIGHTS] = nodes.constant(
        f"{norm.name}/weights", _SCALED[before.op](weights, scale)
    )
    norm.input[:] = [before.name, nodes.constant(f"{norm.name}/bias", (bias - mean) * scale + beta)]
    norm.op = "BiasAdd"
    for name in set(norm.attr) - {"T", "data_format"}:
        del norm.attr[name]


def _fold_scaling(nodes: _Nodes, convolution: Any) -> None:
    """Fold a depthwise convolution of one pixel, a factor for each channel, into the next one."""
    before, weights = nodes.source(convolution, 0), nodes.value(convolution, _WEIGHTS)
    if before is None or before.op != "DepthwiseConv2dNative" or not nodes.only_reader(before):
        return
    scale = nodes.value(before, _WEIGHTS)
    if weights is None or scale is None or not _is_of_one_pixel(before, scale):
        return
    if scale.shape[3] == 1 and before.attr["data_format"].s == b"NHWC":
        convolution.input[0] = before.input[0]
        convolution.input[_WEIGHTS] = nodes.constant(
            f"{convolution.name}/scaled", weights * scale[0, 0]
        )


def _is_of_one_pixel(node: Any, weights: np.ndarray) -> bool:
    return weights.shape[:2] == (1, 1) and set(node.attr["strides"].list.i) == {1}


def _enlarge_last(nodes: _Nodes, enlarging: Any) -> None:
    """Let the pixels of a transposed convolution without overlap be channels as long as possible.

    With a kernel as large as its stride, it is a convolution of one pixel, and the new pixels are
    channels. They are laid side by side after the pointwise operations that follow, where there are
    fewer channels.
    """
    weights = nodes.value(enlarging, _WEIGHTS)
    if weights is None or enlarging.attr["data_format"].s != b"NHWC":
        return
    side, channels = weights.shape[0], weights.shape[2]
    if weights.shape[1] != side or list(enlarging.attr["strides"].list.i) != [1, side, side, 1]:
        return
    pixels = side * side
    flat = weights.transpose(3, 0, 1, 2).reshape(1, 1, -1, pixels * channels)
    enlarging.op = "Conv2D"
    enlarging.input[:] = [enlarging.input[2], nodes.constant(f"{enlarging.name}/flat", flat)]
    enlarging.attr["strides"].list.i[:] = [1, 1, 1, 1]
    last = enlarging
    while (after := nodes.only_reader(last)) is not None:
        value = nodes.value(after, 1) if after.op in ("BiasAdd", "Conv2D") else None
        if after.op == "BiasAdd" and value is not None:
            repeated = np.tile(value, pixels)
        elif after.op == "Conv2D" and value is not None and _is_of_one_pixel(after, value):
            # A matrix with blocks of zeros: only worthwhile for few results.
            if pixels * value.shape[3] > value.shape[2]:
                break
            repeated = np.kron(np.eye(pixels), value[0, 0])[np.newaxis, np.newaxis]
        elif after.op not in ("Relu", "Relu6", "Sigmoid"):
            break
        if value is not None:
            after.input[1] = nodes.constant(f"{after.name}/repeated", repeated)
        last = after
    # The others read what has this name.
    enlarged = nodes.definition.node.add(name=last.name, op="DepthToSpace")
    last.name = f"{last.name}/of_pixels"
    enlarged.input.append(last.name)
    enlarged.attr["T"].type = tf.float32.as_datatype_enum
    enlarged.attr["block_size"].i = side
    for node in (last, enlarged):
        nodes.by_name[node.name] = node


#: Operations, and what is done about each, in this order.
_RULES: tuple[tuple[str, Callable[[_Nodes, Any], None]], ...] = (
    ("FusedBatchNormV3", _fold_normalisation),
    ("Conv2D", _fold_scaling),
    ("Conv2DBackpropInput", _enlarge_last),
)


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
