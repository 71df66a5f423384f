"""Puts the weights of a model folder back into Model Garden's Keras model.

The SavedModel of a model folder has no Keras layers: its functions hold the convolutions with batch
normalisation folded in (graph/folding.py). The same functions of the Keras model have the same
convolutions in the same order, so the two graphs are walked side by side from their outputs. Each
variable is filled with a number of its own before the graph of the Keras model is frozen. The
constants of that graph then tell which variable an operation reads.

A folded convolution gives w x + b. Here w is scaled to He's spread in each output channel, and the
batch normalisation gets the scale and b, with a moving mean of 0 and a moving variance of 1. The
statistics of the first training are not in the SavedModel, so the batch normalisation must stay
frozen in a training that goes on from these weights (`SmearTask.frozen_norms`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from spherodetect.cells import RED_CELLS
from spherodetect.detect.model_folder import check_files, read_card
from spherodetect.errors import SpherodetectError
from spherodetect.graph.network import layer_functions
from spherodetect.safety import quoted

#: Operations with a kernel, and the axes of the kernel that are its output channels.
_OUTPUT_AXES = {
    "Conv2D": (3,),
    "DepthwiseConv2dNative": (2, 3),
    "Conv2DBackpropInput": (2,),
    "MatMul": (1,),
}
#: The input of these operations that has the kernel.
_KERNEL = 1
_CONST = "Const"
#: Variable k is filled with this number plus k. No other constant of the graph has such a value.
_FIRST_NUMBER = 1000
#: Name of the layer that has one output a class.
_CLASSIFIER = "detection-scores"


@dataclass(eq=False)
class _Step:
    """A convolution or matrix product with what directly follows it, or a constant elsewhere.

    Attributes:
        kind: name of the operation, or "Const".
        kernel: its weights, or the constant.
        bias: what is added, or None.
        norm: gamma, beta, mean and variance of batch normalisation, or None.
        epsilon: of the batch normalisation.
    """

    kind: str
    kernel: np.ndarray
    bias: np.ndarray | None = None
    norm: tuple[np.ndarray, ...] | None = None
    epsilon: float = 0.0


def restore_weights(model: Any, config: Any, folder: Path, *, class_names: Sequence[str]) -> None:
    """Give a Keras model the weights of a model folder.

    The class names of the two may differ. A class that the folder does not know begins as another
    red cell if it is one, and with random weights if it is not. Afterwards the outputs in inference
    are those of the SavedModel, up to rounding.

    Args:
        model: Model Garden's Mask R-CNN as the task builds it.
        config: the model's configuration.
        folder: the model folder.
        class_names: the classes of `model`, in the order of the ids from 1.

    Raises:
        BadModelError: no model folder, or one whose files changed.
        SpherodetectError: a network with other layers.
    """
    card = read_card(folder)
    check_files(folder, card)
    network = tf.saved_model.load(str(folder / "saved_model")).detector.network
    initial = [variable.numpy() for variable in model.variables]
    try:
        for number, variable in enumerate(model.variables):
            variable.assign(tf.fill(variable.shape, float(_FIRST_NUMBER + number)))
        pairs = list(_paired(model, config, network, folder))
    finally:
        for variable, value in zip(model.variables, initial, strict=True):
            variable.assign(value)
    values = _values(pairs, model.variables)
    columns = _class_columns(card.class_names, class_names)
    for number, value in values.items():
        variable = model.variables[number]
        if _CLASSIFIER in variable.name:
            value = _of_classes(value, initial[number], columns)
        variable.assign(value)


def _paired(model: Any, config: Any, network: Any, folder: Path) -> Iterator[tuple[_Step, _Step]]:
    """Each step of the Keras model, filled with numbers of variables, and that of the folder."""
    levels = range(config.min_level, config.max_level + 1)
    for name, (function, specs) in layer_functions(model, config, region_levels=levels[:1]).items():
        traced = tf.function(function, input_signature=specs, autograph=False)
        ours = list(_steps(traced.get_concrete_function()))
        theirs = _unfolded(list(_steps(getattr(network, name).run)), ours)
        if [step.kind for step in ours] != [step.kind for step in theirs]:
            raise _other_layers(folder, name)
        for mine, other in zip(ours, theirs, strict=True):
            # The number of classes may differ, and nothing else.
            is_last = _CLASSIFIER in model.variables[_number(mine.kernel, model.variables)].name
            if mine.kernel.shape[:-1] != other.kernel.shape[:-1] or (
                mine.kernel.shape != other.kernel.shape and not is_last
            ):
                raise _other_layers(folder, name)
            yield mine, other


def _other_layers(folder: Path, name: str) -> SpherodetectError:
    return SpherodetectError(
        f"{quoted(folder)}: expected a network with the layers of the experiment, got another "
        f"({name}); start from a model that was trained with the same task.model, or without --from"
    )


def _steps(function: Any) -> Iterator[_Step]:
    """The steps of a concrete function, in the order in which its outputs need them."""
    frozen = convert_variables_to_constants_v2(function)
    nodes = {node.name: node for node in frozen.graph.as_graph_def().node}

    def constant(name: str) -> np.ndarray | None:
        node = nodes[_node_name(name)]
        if node.op == _CONST:
            return np.asarray(tf.make_ndarray(node.attr["value"].tensor))
        return constant(node.input[0]) if node.op == "Identity" else None

    step = None
    for node in _in_order(nodes, [tensor.name for tensor in frozen.outputs]):
        if node.op in _OUTPUT_AXES and (kernel := constant(node.input[_KERNEL])) is not None:
            if step is not None:
                yield step
            step = _Step(node.op, kernel)
        elif node.op == "BiasAdd" and step is not None:
            step.bias = constant(node.input[1])
        elif node.op == "FusedBatchNormV3" and step is not None:
            values = [constant(name) for name in node.input[1:5]]
            step.norm = tuple(value for value in values if value is not None)
            step.epsilon = node.attr["epsilon"].f
        elif node.op not in (_CONST, "Identity"):
            # Batch normalisation after a matrix product is several operations, and is not folded.
            for name in _inputs(node):
                found = constant(name)
                if found is not None and found.dtype == np.float32 and found.ndim:
                    yield _Step(_CONST, found)
    if step is not None:
        yield step


def _unfolded(theirs: Sequence[_Step], ours: Sequence[_Step]) -> list[_Step]:
    """The folder's steps with those parts of graph/folding.py undone that changed their kinds.

    Where the steps cannot be told apart, they stay as they are.
    """
    found: list[_Step] = []
    waiting, pixels = list(theirs), 1
    for mine in ours:
        if not waiting:
            break
        if _scales_channels(mine) and waiting[0].kind == "Conv2D":
            # The factors of the channels are in the weights of the next convolution.
            found.append(_Step(mine.kind, np.ones_like(mine.kernel)))
            continue
        step = waiting.pop(0)
        if mine.kind == "Conv2DBackpropInput" and step.kind == "Conv2D":
            height, width, n_out, n_in = mine.kernel.shape
            pixels = height * width
            if step.kernel.shape == (1, 1, n_in, pixels * n_out):
                kernel = step.kernel.reshape(n_in, height, width, n_out).transpose(1, 2, 3, 0)
                step = _Step(mine.kind, kernel, _first_of(step.bias, n_out))
        elif mine.kind == step.kind == "Conv2D" and pixels > 1:
            n_in, n_out = mine.kernel.shape[2:]
            if step.kernel.shape == (1, 1, pixels * n_in, pixels * n_out):
                # The weights are repeated for each pixel.
                kernel = step.kernel[:, :, :n_in, :n_out]
                step = _Step(step.kind, kernel, _first_of(step.bias, n_out))
        found.append(step)
    return [*found, *waiting]


def _scales_channels(step: _Step) -> bool:
    return step.kind == "DepthwiseConv2dNative" and step.kernel.shape[:2] == (1, 1)


def _first_of(bias: np.ndarray | None, n: int) -> np.ndarray | None:
    """The bias of the first n channels."""
    return None if bias is None else bias[:n]


def _node_name(tensor: str) -> str:
    return tensor.partition(":")[0]


def _inputs(node: Any) -> list[str]:
    """The tensors that a node reads; control inputs begin with ^."""
    return [name for name in node.input if not name.startswith("^")]


def _in_order(nodes: dict[str, Any], outputs: Sequence[str]) -> Iterator[Any]:
    """The nodes that the outputs need, each after its inputs (depth first)."""
    seen: set[str] = set()
    waiting = [(_node_name(name), False) for name in reversed(outputs)]
    while waiting:
        name, is_ready = waiting.pop()
        if is_ready:
            yield nodes[name]
        elif name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting += [(_node_name(one), False) for one in reversed(_inputs(nodes[name]))]


def _number(filled: np.ndarray, variables: Sequence[Any]) -> int:
    """The number of the variable that a constant was frozen from."""
    number = round(float(filled.flat[0])) - _FIRST_NUMBER
    if not (0 <= number < len(variables) and (filled == _FIRST_NUMBER + number).all()):
        raise RuntimeError("a constant of the graph is not a variable of the model")
    return number


def _values(
    pairs: Sequence[tuple[_Step, _Step]], variables: Sequence[Any]
) -> dict[int, np.ndarray]:
    """The value of each variable that a step of the Keras model reads, by its number."""
    values: dict[int, np.ndarray] = {}
    #: Number of a kernel to the folded kernel that it began with, and its scale. The levels of the
    #: pyramid share the kernels of the RPN, each with a batch normalisation of its own.
    shared: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for mine, theirs in pairs:
        number = _number(mine.kernel, variables)
        if mine.kind == _CONST:
            values[number] = theirs.kernel
            continue
        axes = _OUTPUT_AXES[mine.kind]
        if number not in shared:
            scale = np.ones(_n_outputs(theirs.kernel, axes))
            if mine.norm is not None:
                scale = _spread(theirs.kernel, axes)
            shared[number] = theirs.kernel, scale
            values[number] = theirs.kernel / _along(scale, theirs.kernel, axes)
        first, scale = shared[number]
        bias = np.zeros(len(scale)) if theirs.bias is None else theirs.bias
        if mine.bias is not None:
            in_norm = mine.norm is not None
            values[_number(mine.bias, variables)] = np.zeros_like(bias) if in_norm else bias
        if mine.norm is not None:
            ratio = scale * _ratio(theirs.kernel, first, axes) * np.sqrt(1 + mine.epsilon)
            of_norm = ratio, bias, np.zeros_like(ratio), np.ones_like(ratio)
            for one, value in zip(mine.norm, of_norm, strict=True):
                values[_number(one, variables)] = value
    return values


def _n_outputs(kernel: np.ndarray, axes: tuple[int, ...]) -> int:
    return int(np.prod([kernel.shape[axis] for axis in axes]))


def _spread(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """(C,) root mean square of each output channel over that of He's initialisation; 1 for 0."""
    inner = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    fan_in = np.prod([kernel.shape[axis] for axis in inner])
    spread = np.sqrt(np.mean(np.square(kernel.astype(float)), axis=inner) / (2 / fan_in)).ravel()
    return np.where(spread > 0, spread, 1.0)


def _ratio(kernel: np.ndarray, base: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """(C,) factor of each output channel between two kernels that differ by such factors alone."""
    inner = tuple(axis for axis in range(base.ndim) if axis not in axes)
    product = np.sum(kernel.astype(float) * base, axis=inner).ravel()
    square = np.sum(np.square(base.astype(float)), axis=inner).ravel()
    return np.where(square > 0, product / np.where(square > 0, square, 1.0), 1.0)


def _along(values: np.ndarray, kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Values of the output channels in the shape in which they multiply a kernel."""
    return values.reshape([kernel.shape[k] if k in axes else 1 for k in range(kernel.ndim)])


def _class_columns(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[int, bool]]:
    """For the background and each of our classes: the column of theirs, and whether it is the same.

    Another red cell gets the column of their first red cell that is no spherocyte. A class that
    they do not have gets -1.
    """
    place = {name: k for k, name in enumerate(theirs, 1)}
    red = next((k for name, k in place.items() if name in RED_CELLS - {"spherocyte"}), -1)
    return [
        (0, True),
        *((place.get(name, red if name in RED_CELLS else -1), name in place) for name in ours),
    ]


def _of_classes(
    values: np.ndarray, initial: np.ndarray, columns: Sequence[tuple[int, bool]]
) -> np.ndarray:
    """The last layer's values in the order of our classes; new classes keep their random part."""
    chosen = np.array([column for column, _ in columns])
    is_same = np.array([same for _, same in columns])
    return np.where(chosen >= 0, values[..., chosen], 0) + np.where(is_same, 0, initial)


__all__ = ["restore_weights"]
