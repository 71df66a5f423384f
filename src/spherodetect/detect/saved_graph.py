"""Calls the functions of a SavedModel: NumPy arrays in, NumPy arrays out.

TensorFlow's graph optimiser, Grappler, is switched off for these calls. With it the first call
takes 15 s instead of 5 s on two CPU cores, later calls are not faster, and it prints pages of
errors about crops of unknown number. Its pass `remapping` alone makes one operation of a
convolution, its bias and its activation: later calls take 2 % less processor time, and the first
one takes seconds and 30 MB more. The setting is made for the calling thread and for the duration
of the call, so that other TensorFlow code of the same process is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.detect.frame import Frame
from spherodetect.detect.needed_functions import with_one_function
from spherodetect.errors import BadModelError
from spherodetect.safety import quoted

Arrays = Mapping[str, np.ndarray]


class SavedGraph:
    """The inference graph of a model folder.

    Args:
        folder: the model folder; it is named in errors.

    Raises:
        BadModelError: no SavedModel with the signatures of this package.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The variables of a function live as long as the object that was loaded.
        self._saved = self._loaded(signature="serving_image")
        try:
            self._image = self._saved.signatures["serving_image"]
        except KeyError as problem:
            raise self._another(problem) from problem

    def image(self, image: np.ndarray, um_per_px: float | None) -> Arrays:
        """The cells of one image, see `graph.detector.Detector`.

        Args:
            image: (H, W, 3) uint8.
            um_per_px: None if it is unknown.
        """
        import tensorflow as tf

        with without_grappler():
            found = self._image(
                image=tf.constant(image), um_per_px=tf.constant(float(um_per_px or 0.0))
            )
        return {name: value.numpy() for name, value in found.items()}

    def tile(self, image: np.ndarray, um_per_px: float | None, frame: Frame) -> Arrays:
        """The cells of a tile of a larger image, and the frame that was used.

        Raises:
            BadModelError: a model of an earlier version, which has no such function.
        """
        import tensorflow as tf

        function = getattr(self._of_tiles, "tile", None)
        if function is None:
            raise BadModelError(
                f"{quoted(self._folder)}: expected a model with the function `tile`, got one of an "
                "earlier version; export it again"
            )
        with without_grappler():
            found = function(
                tf.constant(image),
                tf.constant(float(um_per_px or 0.0)),
                tf.constant(frame.to_array()[: _frame_size(function)]),
            )
        return {name: value.numpy() for name, value in found.items()}

    @cached_property
    def _of_tiles(self) -> Any:
        """The function of tiles, loaded when the first large image comes."""
        return self._loaded(function="tile")

    def _loaded(self, *, signature: str = "", function: str = "") -> Any:
        """The SavedModel with one of its functions."""
        import tensorflow as tf

        saved = self._folder / "saved_model"
        try:
            with with_one_function(saved, signature=signature, function=function) as part:
                return tf.saved_model.load(str(part))
        except (OSError, ValueError, KeyError, tf.errors.OpError) as problem:
            raise self._another(problem) from problem

    def _another(self, problem: Exception) -> BadModelError:
        why = quoted(str(problem).partition("\n")[0])
        return BadModelError(
            f"{quoted(self._folder)}: expected a SavedModel of spherodetect, got another ({why}); "
            "write one with `spherodetect export`"
        )


def _frame_size(function: Any) -> int:
    """Numbers of a frame that a saved function takes: models without conventions take one less."""
    arguments, _ = function.concrete_functions[0].structured_input_signature
    return int(arguments[-1].shape[0])


@contextmanager
def without_grappler() -> Iterator[None]:
    """Calls of TensorFlow's functions by this thread are not optimised."""
    # tf.config.optimizer, the public way, changes the whole process. The options of calls are kept
    # for each thread.
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.eager import context

    eager = context.context()
    before = eager.function_call_options
    config = ConfigProto()
    config.CopyFrom(eager.config)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    eager.function_call_options = context.FunctionCallOptions(before.executor_type, config)
    try:
        yield
    finally:
        eager.function_call_options = before


__all__ = ["Arrays", "SavedGraph", "without_grappler"]
