"""ImageNet weights of tf_keras.applications' MobileNetV2 as a start for the detector's backbone.

    python -m spherodetect.training.imagenet WEIGHTS.h5 --out START
    spherodetect train EXPERIMENT.yaml --run RUN --set task.init_checkpoint=START \\
        --set task.init_checkpoint_modules=backbone

The two networks are the same at any image size, layer by layer; only names and order differ. Their
input is not the same: ImageNet's network was taught x / 127.5 - 1 of an intensity x, ours sees u =
6 OD - 0.5 of an optical density, which is dark where intensity is bright and knows nothing of the
slide's brightness and colour. Intensity is an exponential of density, so no first layer turns one
into the other exactly. A straight line is folded into the first layer exactly, and the line through
the empty slide and a red cell is what is folded: between the two it is off by 0.08 at most, of a
span of 0.9. Filters and batch-norm statistics then meet the contrast, sign and mean that they were
trained with. Exactness ends at the last row and column, where both networks pad with zeros of their
own input.
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

#: Intensity of the empty slide, and density of a red cell, between which the straight line is
#: right.
_SLIDE_INTENSITY, _CELL_DENSITY = 230.0, 0.3


def write_checkpoint(weights: Path, out: Path, *, fold: bool = True) -> Path:
    """Convert a file of Keras weights, with or without its classifier, to a checkpoint for
    `task.init_checkpoint`.

    Args:
        weights: .h5 as tf_keras.applications.MobileNetV2 stores it, at width 1.0.
        out: folder, made if need be.
        fold: make the first layer take our network input; otherwise it takes x / 127.5 - 1.

    Returns:
        The checkpoint's path, which is what `tf.train.latest_checkpoint(out)` gives.

    Raises:
        SpherodetectError: no such weights.
    """
    backbone = to_backbone(load_keras(weights))
    if fold:
        fold_input(backbone, *density_line())
    out.mkdir(parents=True, exist_ok=True)
    return Path(tf.train.Checkpoint(backbone=backbone).save(str(out / "backbone")))


def load_keras(weights: Path) -> tf_keras.Model:
    """The Keras network with the weights of a file."""
    try:
        with h5py.File(weights) as file:
            layers = {*file.get("model_weights", file).attrs["layer_names"]}
        with_classifier = bool(layers & {"predictions", b"predictions"})
        model = tf_keras.applications.MobileNetV2(weights=None, include_top=with_classifier)
        model.load_weights(str(weights))
    except (OSError, KeyError, ValueError) as error:
        raise SpherodetectError(
            f"{quoted(weights)}: expected an .h5 of weights of tf_keras.applications.MobileNetV2 at width 1.0, "
            f"got {quoted(str(error))}; save one with model.save_weights"
        ) from error
    return model


def to_backbone(model: tf_keras.Model) -> mobilenet.MobileNet:
    """Model Garden's backbone with the weights of a Keras MobileNetV2, batch-norm statistics
    included."""
    backbone = backbones.MobileNet("MobileNetV2")
    ours = list(_layers(backbone))
    kinds = (
        tf_keras.layers.Conv2D,
        tf_keras.layers.DepthwiseConv2D,
        tf_keras.layers.BatchNormalization,
    )
    theirs = [layer for layer in model.layers if isinstance(layer, kinds)]
    for target, source in zip(ours, theirs, strict=True):
        target.set_weights(source.get_weights())
    return backbone


def fold_input(backbone: mobilenet.MobileNet, scale: float, offset: float) -> None:
    """Change the first layer in place, so that it takes u where it took scale * u + offset.

    The kernel takes the scale; what the offset adds to each filter's output, batch norm subtracts
    with its mean.
    """
    convolution, norm = list(_layers(backbone))[:2]
    (kernel,) = convolution.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    convolution.set_weights([kernel * scale])
    norm.set_weights([gamma, beta, mean - offset * kernel.sum(axis=(0, 1, 2)), variance])


def density_line() -> tuple[float, float]:
    """Scale and offset of ImageNet's input as a line of our network input, through the slide and a
    red cell."""
    densities = np.array([0.0, _CELL_DENSITY])
    theirs = _SLIDE_INTENSITY * 10**-densities / 127.5 - 1
    ours = optics.network_input(densities).numpy()
    scale = float((theirs[1] - theirs[0]) / (ours[1] - ours[0]))
    return scale, float(theirs[0] - scale * ours[0])


def _layers(backbone: mobilenet.MobileNet) -> Iterator[Any]:
    """Convolutions, each followed by its batch norm, in the order in which an image meets them."""
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
        "--as-is", action="store_true", help="do not fold our input's scale into the first layer"
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
