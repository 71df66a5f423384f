"""Converts a model folder's serving_static to one LiteRT file, for devices without TensorFlow.

    python -m spherodetect.training.lite MODEL --out FILE.tflite [--quantised]

The file has one signature, serving_static, and needs only LiteRT's built-in operations. Its inputs
are `image`, uint8 (1, H, W, 3) of the size at export (480x640 by default), and `um_per_px`, float32
(1,), 0 if it is unknown. Its outputs are those of serving_static; the first num_detections rows are
cells:

    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter("FILE.tflite").get_signature_runner("serving_static")
    cells = run(image=image[None], um_per_px=np.array([0.193], np.float32))

With --quantised the weights are int8 and activations stay float32, so that no calibration data are
needed.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from spherodetect.detect.model import load_model
from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted

logger = logging.getLogger(__name__)

SIGNATURE = "serving_static"


def to_lite(model: Path, out: Path, *, quantised: bool = False) -> Path:
    """Write a model folder's serving_static as a LiteRT file and return its path.

    It takes about a minute.

    Raises:
        BadModelError: no model folder, or a damaged one.
        SpherodetectError: a model that was exported without fixed shapes.
    """
    # Checks the files and their checksums.
    load_model(model)
    saved = saved_model_pb2.SavedModel.FromString(
        (model / "saved_model" / "saved_model.pb").read_bytes()
    )
    if SIGNATURE not in saved.meta_graphs[0].signature_def:
        raise SpherodetectError(
            f"{quoted(model)}: expected the signature {SIGNATURE}, got none; export the run again"
        )
    _allow_inlining(saved)
    with tempfile.TemporaryDirectory() as temporary:
        plain = shutil.copytree(model / "saved_model", Path(temporary) / "saved_model")
        (plain / "saved_model.pb").write_bytes(saved.SerializeToString())
        converter = tf.lite.TFLiteConverter.from_saved_model(str(plain), signature_keys=[SIGNATURE])
        if quantised:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        content = converter.convert()
    with atomic_write(out) as file:
        file.write(content)
    return out


def _allow_inlining(saved: saved_model_pb2.SavedModel) -> None:
    """Remove the marks of functions that XLA compiles.

    The converter does not inline a marked function, and then it has no operation for the call.
    """
    for function in (
        one for graph in saved.meta_graphs for one in graph.graph_def.library.function
    ):
        for marked in (function, *function.node_def):
            for mark in ("_XlaMustCompile", "_noinline"):
                marked.attr.pop(mark, None)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 unusable model."""
    parser = argparse.ArgumentParser(
        "python -m spherodetect.training.lite", description="A model folder to LiteRT."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a model folder")
    parser.add_argument("--out", metavar="FILE.tflite", type=Path, required=True)
    parser.add_argument(
        "--quantised", action="store_true", help="weights as int8: less than half the size"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        path = to_lite(args.model, args.out, quantised=args.quantised)
    except SpherodetectError as error:
        parser.exit(2, f"{error}\n")
    logger.info("%s; %.1f MB", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
