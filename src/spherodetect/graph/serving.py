"""The signatures of the exported SavedModel, which needs only TensorFlow.

serving_image takes pixels. serving_default takes a batch of the bytes of files (JPEG or PNG, of any
sizes). serving_bytes takes such a batch without pixel sizes, for programs that pass one input, such
as the TFSMLayer of Keras 3. score_patient takes the files of one patient. serving_static takes
pixels of one size and is compiled by XLA; it was tested on CPUs, not on TPUs. Boxes are in native
pixels of the input image. um_per_px is 0 where it is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from spherodetect.detect.frame import FRAME_SIZE
from spherodetect.fields.image import MAX_PIXELS
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.detector import Detector
from spherodetect.graph.proposals import MAX_CELLS
from spherodetect.graph.score_graph import score_counts

_PNG = b"\x89PNG\r\n\x1a\n"


class SmearModule(tf.Module):
    """The object that is saved: the detector, the constants of the score, and the functions.

    Args:
        detector: with its weights and thresholds.
        table: (M, 3), the `table` of score.rates.ClassifierRates. With conventions it is
            (C + 1, 2, M, 3): of each row the table of its rates and that of its limit of blank.
        canvas: the fixed shapes of serving_static; None leaves that signature out.
        assets: files that are stored in the SavedModel.
    """

    def __init__(
        self,
        detector: Detector,
        table: np.ndarray,
        *,
        canvas: Canvas | None = None,
        assets: Sequence[Path] = (),
    ) -> None:
        super().__init__()
        self.detector, self._canvas = detector, canvas
        self._static_detector = detector.replace(canvas=canvas) if canvas else None
        self.table = tf.Variable(table, trainable=False, dtype=tf.float64)
        #: Cells of a tile of a larger image, see `Detector.__call__`. It is not a signature; only
        #: detect/saved_graph.py calls it.
        self.tile = tf.function(
            detector,
            input_signature=[
                tf.TensorSpec([None, None, 3], tf.uint8),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([FRAME_SIZE], tf.float32),
            ],
        )
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]

    def signatures(self) -> dict[str, Any]:
        """Concrete functions by signature name."""
        files = (
            tf.TensorSpec([None], tf.string, "image_bytes"),
            tf.TensorSpec([None], tf.float32, "um_per_px"),
        )
        pixels = (
            tf.TensorSpec([None, None, 3], tf.uint8, "image"),
            tf.TensorSpec([], tf.float32, "um_per_px"),
        )
        functions = {
            "serving_image": tf.function(self.image, input_signature=pixels),
            "serving_default": tf.function(self.batch, input_signature=files),
            "serving_bytes": tf.function(self.files, input_signature=files[:1]),
            "score_patient": tf.function(self.patient, input_signature=files),
        }
        if self._canvas:
            fixed = tf.TensorSpec([1, *self._canvas.image_hw, 3], tf.uint8, "image")
            functions["serving_static"] = tf.function(
                self.static,
                input_signature=[fixed, tf.TensorSpec([1], tf.float32, "um_per_px")],
                jit_compile=True,
            )
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def image(self, image: tf.Tensor, um_per_px: tf.Tensor) -> dict[str, tf.Tensor]:
        """The cells of one uint8 (H, W, 3) image; N rows."""
        return self.detector(image, um_per_px)

    def static(self, image: tf.Tensor, um_per_px: tf.Tensor) -> dict[str, tf.Tensor]:
        """The cells of an image of the canvas's size, uint8 (1, H, W, 3).

        The number of rows is fixed, and the first num_detections are cells.
        """
        assert self._static_detector is not None
        cells = self._static_detector(image[0], um_per_px[0])
        return {name: value[tf.newaxis] for name, value in cells.items()}

    def batch(self, image_bytes: tf.Tensor, um_per_px: tf.Tensor) -> dict[str, tf.Tensor]:
        """The cells of the bytes of files, (B, most cells of one image, ...).

        The first num_detections of each image are cells.
        """
        specs = self.detector.specs(MAX_CELLS)
        per_cell = [name for name, spec in specs.items() if spec.shape.rank]

        def one(inputs: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            cells = self.image(decode(inputs[0]), inputs[1])
            spare = MAX_CELLS - cells["num_detections"]
            for name in per_cell:
                value = cells[name]
                padding = tf.concat(
                    [[[0, spare]], tf.zeros([tf.rank(value) - 1, 2], tf.int32)], axis=0
                )
                cells[name] = tf.ensure_shape(tf.pad(value, padding), specs[name].shape)
            return cells

        cells = tf.map_fn(
            one, (image_bytes, _as_long(um_per_px, image_bytes)), fn_output_signature=specs
        )
        most = tf.reduce_max(tf.concat([cells["num_detections"], [0]], axis=0))
        return {
            name: value[:, :most] if name in per_cell else value for name, value in cells.items()
        }

    def files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `batch`, of files whose pixel sizes are unknown."""
        return self.batch(image_bytes, tf.zeros(tf.shape(image_bytes)))

    def patient(self, image_bytes: tf.Tensor, um_per_px: tf.Tensor) -> dict[str, tf.Tensor]:
        """The score of one patient from the bytes of all fields.

        status_code is an index of score.counts.STATUSES.
        """
        spherocyte = self.detector.classes.spherocyte or -1

        def one(inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            cells = self.image(decode(inputs[0]), inputs[1])
            called = cells["countable"] & (cells["class_ids"] == spherocyte)
            counts = [cells["num_detections"], _count(cells["countable"]), _count(called)]
            return tf.stack([*counts, cells.get("convention", tf.constant(0))])

        counts = tf.map_fn(
            one,
            (image_bytes, _as_long(um_per_px, image_bytes)),
            fn_output_signature=tf.TensorSpec([4], tf.int32),
        )
        n_cells, countable, spherocytes, _ = tf.unstack(tf.reduce_sum(counts, axis=0))
        conventions = self.detector.conventions
        if conventions is None:
            result = score_counts(counts[:, 2], counts[:, 1], self.table)
        else:
            # The convention of most countable cells, as in pipeline/patient.py.
            unseen = len(conventions.names)
            cells_of = tf.math.unsorted_segment_sum(counts[:, 1], counts[:, 3], unseen + 1)
            row = tf.argmax(cells_of, output_type=tf.int32)
            tables = self.table[row]
            result = score_counts(
                counts[:, 2], counts[:, 1], tables[0], healthy=tables[1], unseen=row == unseen
            )
        return {"n_cells": n_cells, "n_countable": countable, "n_spherocytes": spherocytes} | result


def decode(data: tf.Tensor) -> tf.Tensor:
    """The image of JPEG or PNG bytes, uint8 (H, W, 3), as fields.image.read_image reads it.

    The EXIF orientation is ignored. The size in the header is checked before decoding.
    """
    is_png = tf.strings.substr(data, 0, 8) == _PNG
    is_jpeg = tf.strings.substr(data, 0, 2) == b"\xff\xd8"
    # A PNG shorter than its header is refused here. Reading missing bytes would print the file in
    # the error.
    is_png &= tf.strings.length(data) >= 25
    known = tf.debugging.Assert(
        is_png | is_jpeg,
        ["expected JPEG or PNG bytes, got other bytes, so many:", tf.strings.length(data)],
    )

    def png_pixels() -> tf.Tensor:
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int64)
        weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
        return tf.reduce_sum(header[:4] * weights) * tf.reduce_sum(header[4:] * weights)

    def jpeg_pixels() -> tf.Tensor:
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(data), tf.int64)[:2])

    with tf.control_dependencies([known]):
        pixels = tf.cond(is_png, png_pixels, jpeg_pixels)
    fits = tf.debugging.Assert(
        pixels <= MAX_PIXELS, [f"expected at most {MAX_PIXELS} pixels, got", pixels]
    )
    with tf.control_dependencies([fits]):
        # Pillow uses the accurate transform too. The fast one, the default here, changes a score
        # by several points.
        image = tf.cond(
            is_png,
            lambda: _png(data),
            lambda: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"),
        )
    return tf.ensure_shape(image, [None, None, 3])


def _png(data: tf.Tensor) -> tf.Tensor:
    """The image of PNG bytes, uint8 (H, W, 3); transparent pixels are laid on white."""
    image = tf.io.decode_png(data, 4)
    colours, opacity = image[..., :3], image[..., 3:]
    # With less than 8 bits TensorFlow returns the highest value of that depth as the opacity,
    # instead of 255.
    coarse = tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)[0] < 8

    def on_white() -> tf.Tensor:
        lack = 255.0 - tf.cast(colours, tf.float32)
        return tf.cast(tf.round(255.0 - lack * tf.cast(opacity, tf.float32) / 255.0), tf.uint8)

    return tf.cond(coarse | tf.reduce_all(opacity == 255), lambda: colours, on_white)


def _count(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(values, tf.int32))


def _as_long(um_per_px: tf.Tensor, image_bytes: tf.Tensor) -> tf.Tensor:
    """One pixel size for each image; a single value stands for all."""
    return um_per_px + tf.zeros(tf.shape(image_bytes), tf.float32)
