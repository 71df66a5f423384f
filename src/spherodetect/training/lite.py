"""A model folder's serving_static as one LiteRT file, for devices on which TensorFlow is too large.

    python -m spherodetect.training.lite MODEL --out FILE.tflite [--quantised]

The file has the one signature serving_static and runs with LiteRT's built-in operations alone. It
takes image, uint8 (1, H, W, 3) of the size that was stated at export (480x640 unless --static said
otherwise), and um_per_px, float32 (1,), 0 where it is unknown; it gives what serving_static gives,
in rows of which the first num_detections are cells:

    run = Interpreter("FILE.tflite").get_signature_runner("serving_static")  # of ai_edge_litert.interpreter
    cells = run(image=image[None], um_per_px=np.array([0.193], np.float32))

Quantised, weights are int8 and what runs through the network is float32: nothing has to be
calibrated.
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
    """Write the LiteRT form of a model folder and return its path; it takes about a minute.

    Raises:
        BadModelError: no model folder, or a damaged one.
        SpherodetectError: a model that was exported without fixed shapes.
    """
    load_model(model)  # its pieces and checksums
    saved = saved_model_pb2.SavedModel.FromString(
        (model / "saved_model" / "saved_model.pb").read_bytes()
    )
    if SIGNATURE not in saved.meta_graphs[0].signature_def:
        raise SpherodetectError(
            f"{quoted(model)}: expected the signature {SIGNATURE}, got none; export the run again"
        )
    _unmark(saved)
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


def _unmark(saved: saved_model_pb2.SavedModel) -> None:
    """Forget what XLA is to compile: the converter does not inline such a call, and then has no
    operation for it."""
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
