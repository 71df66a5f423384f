"""Converts ImageNet weights of Keras' MobileNetV2 to an initial checkpoint of the backbone.

    python -m spherodetect.training.imagenet WEIGHTS.h5 --out START
    spherodetect train EXPERIMENT.yaml --run RUN --set task.init_checkpoint=START \\
        --set task.init_checkpoint_modules=backbone

The two networks have the same layers; only names and order differ. Their inputs differ. The
ImageNet network was trained on x / 127.5 - 1 of an intensity x. This detector takes u = 6 OD - 0.5
of an optical density OD.

Intensity is an exponential function of density, so no linear first layer converts one into the
other exactly. The first layer gets a linear conversion instead, which is exact for the empty slide
and for a red cell. Between the two its error is at most 0.08, of a range of 0.9. Filters and
batch-norm statistics then get the contrast, sign and mean of their training. The last row and
column differ, because both networks pad their own input with zeros.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import tf_keras
from official.vision.modeling import backbones
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.layers import nn_blocks

from spherodetect.errors import SpherodetectError
from spherodetect.graph import optics
from spherodetect.safety import quoted

logger = logging.getLogger(__name__)

#: Intensity of the empty slide and density of a red cell, for which the conversion is exact.
_SLIDE_INTENSITY, _CELL_DENSITY = 230.0, 0.3


def write_checkpoint(weights: Path, out: Path, *, fold: bool = True) -> Path:
    """Convert a file of Keras weights to a checkpoint for `task.init_checkpoint`.

    Args:
        weights: .h5 of tf_keras.applications.MobileNetV2 at width 1.0, with or without classifier.
        out: folder; it is made if it is missing.
        fold: let the first layer take optical density; otherwise it takes x / 127.5 - 1.

    Returns:
        The checkpoint's path, as `tf.train.latest_checkpoint(out)` gives it.

    Raises:
        SpherodetectError: no such weights.
    """
    backbone = to_backbone(load_keras(weights))
    if fold:
        fold_input(backbone, *density_line())
    out.mkdir(parents=True, exist_ok=True)
    return Path(tf.train.Checkpoint(backbone=backbone).save(str(out / "backbone")))


def load_keras(weights: Path) -> tf_keras.Model:
    """The Keras network, without classifier, with the weights of a file.

    The weights are found by the names of their layers. So they may belong to a larger model that
    holds MobileNetV2 as one of its layers, as transfer learning stores them.
    """
    try:
        with h5py.File(weights) as file:
            stored = _stored(file)
        model = tf_keras.applications.MobileNetV2(weights=None, include_top=False)
        missing = {_place(weight.name) for weight in model.weights} - stored.keys()
        if missing:
            raise ValueError(f"no weights {min(missing)}")
        for layer in model.layers:
            layer.set_weights([stored[_place(weight.name)] for weight in layer.weights])
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise SpherodetectError(
            f"{quoted(weights)}: expected an .h5 of weights of tf_keras.applications.MobileNetV2 "
            f"at width 1.0, got {quoted(str(error))}; save one with model.save_weights"
        ) from error
    return model


def _stored(file: h5py.File) -> dict[str, np.ndarray]:
    """The arrays of a file by layer and name."""
    found: dict[str, np.ndarray] = {}

    def collect(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and "/" in path:
            found[_place(path)] = item[()]

    file.get("model_weights", file).visititems(collect)
    return found


def _place(path: str) -> str:
    """Layer and name of a weight. Keras 2 calls a kernel of a depthwise layer differently.

    >>> _place("mobilenetv2/Conv1/kernel:0")
    'Conv1/kernel'
    >>> _place("expanded_conv_depthwise/depthwise_kernel:0")
    'expanded_conv_depthwise/kernel'
    """
    *_, layer, name = path.split("/")
    return f"{layer}/{name.removesuffix(':0').removeprefix('depthwise_')}"


def to_backbone(model: tf_keras.Model) -> mobilenet.MobileNet:
    """Model Garden's backbone with the weights and batch-norm statistics of a Keras MobileNetV2."""
    backbone = backbones.MobileNet("MobileNetV2")
    targets = list(_layers(backbone))
    kinds = (
        tf_keras.layers.Conv2D,
        tf_keras.layers.DepthwiseConv2D,
        tf_keras.layers.BatchNormalization,
    )
    sources = [layer for layer in model.layers if isinstance(layer, kinds)]
    for target, source in zip(targets, sources, strict=True):
        target.set_weights(source.get_weights())
    return backbone


def fold_input(backbone: mobilenet.MobileNet, scale: float, offset: float) -> None:
    """Change the first layer in place, so that it takes u instead of scale * u + offset.

    The scale goes into the kernel. The offset adds a constant to the output of each filter, which
    goes into the mean of the batch norm.
    """
    convolution, norm = list(_layers(backbone))[:2]
    (kernel,) = convolution.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    convolution.set_weights([kernel * scale])
    norm.set_weights([gamma, beta, mean - offset * kernel.sum(axis=(0, 1, 2)), variance])


def density_line() -> tuple[float, float]:
    """Scale and offset that convert this detector's input into ImageNet's input.

    The line is exact for the empty slide and for a red cell.
    """
    densities = np.array([0.0, _CELL_DENSITY])
    imagenet = _SLIDE_INTENSITY * 10**-densities / 127.5 - 1
    detector = optics.network_input(densities).numpy()
    scale = float((imagenet[1] - imagenet[0]) / (detector[1] - detector[0]))
    return scale, float(imagenet[0] - scale * detector[0])


def _layers(backbone: mobilenet.MobileNet) -> Iterator[Any]:
    """Convolutions, each followed by its batch norm, in the order of the computation."""
    for block in backbone.layers:
        if isinstance(block, mobilenet.Conv2DBNBlock):
            yield from (block._conv0, block._norm0)
        elif isinstance(block, nn_blocks.InvertedBottleneckBlock):
            if block._expand_ratio > 1:
                yield from (block._conv0, block._norm0)
            yield from (block._conv1, block._norm1, block._conv2, block._norm2)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 unusable weights."""
    parser = argparse.ArgumentParser(
        "python -m spherodetect.training.imagenet",
        description="Keras MobileNetV2 weights to a backbone checkpoint.",
    )
    parser.add_argument("weights", type=Path, help=".h5 of tf_keras.applications.MobileNetV2")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--as-is", action="store_true", help="do not convert optical density in the first layer"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        path = write_checkpoint(args.weights, args.out, fold=not args.as_is)
    except SpherodetectError as error:
        parser.exit(2, f"{error}\n")
    logger.info(
        "%s; train with --set task.init_checkpoint=%s --set task.init_checkpoint_modules=backbone",
        path,
        args.out,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
