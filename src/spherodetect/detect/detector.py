"""`Detector`: what examines a field, be it a model folder or somebody's own object.

A detector has `detect(image, um_per_px) -> Cells`. Two attributes are optional: `rates`, the
sensitivity and specificity by which a score is corrected, and `identity`, a text that changes
whenever its results could change. Without rates a score has the status uncalibrated. Without an
identity nothing is kept between runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from spherodetect.cells import Cells
from spherodetect.detect.model import Model, load_model
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted, sha256
from spherodetect.score.rates import ClassifierRates, unknown_rates


@runtime_checkable
class Detector(Protocol):
    """Finds the cells of one field."""

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        """The cells of a (H, W, 3) uint8 RGB image.

        Args:
            image: the field.
            um_per_px: pixel size in µm, or None if it is unknown.
        """


def as_detector(model: str | Path | Detector | None = None) -> Detector:
    """A loaded detector from a model folder's path, from an object with `detect`, or, by default,
    the bundled model.

    Raises:
        BadModelError: the folder is no model of this version.
        SpherodetectError: neither a path nor an object with `detect`.
    """
    if model is None or isinstance(model, str | Path):
        return load_model(model)
    if not isinstance(model, Detector):
        raise SpherodetectError(
            "model: expected a model folder or an object with detect(image, um_per_px), "
            f"got {type(model).__name__}"
        )
    return model


def with_convention(detector: Detector, name: str | None) -> Detector:
    """The detector with a stated convention; None leaves the choice to the look of each field.

    Raises:
        SpherodetectError: the detector was not taught such a convention.
    """
    if name is None:
        return detector
    if not isinstance(detector, Model):
        raise SpherodetectError(
            f"convention {quoted(name)}: expected a model folder, which knows conventions, "
            f"got {type(detector).__name__}"
        )
    return detector.with_convention(name)


def error_rates_of(detector: Any) -> ClassifierRates:
    """The error rates of a detector; unknown ones if it states none."""
    rates = getattr(detector, "rates", None)
    return rates if isinstance(rates, ClassifierRates) else unknown_rates(name_of(detector))


def name_of(detector: Any) -> str:
    """What tables call a detector."""
    return str(getattr(detector, "name", "") or type(detector).__name__)


def identity_of(detector: Any) -> str | None:
    """A checksum by which finished fields of a detector are found again, or None."""
    if isinstance(detector, Model):
        content = dict(detector.card.checksums) | {"convention": detector.convention or ""}
        return sha256(json.dumps(content, sort_keys=True).encode())
    identity = getattr(detector, "identity", None)
    return None if identity is None else str(identity)


__all__ = ["Detector", "as_detector", "error_rates_of", "identity_of", "name_of", "with_convention"]
