"""Cells that another tool found, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherodetect.pipeline.label_images import separate
from spherodetect.safety import quoted
from spherodetect.vocabulary import RED_CELLS, class_of, unknown_name_error, unknown_names

#: Side in pixels that stands for an unknown image size: no cell touches the right or lower border.
UNKNOWN_SIZE = 10_000


@dataclass(frozen=True, eq=False)
class CountedField:
    """The cells of one field.

    Attributes:
        patient_id: the patient.
        names: (N,) class names.
        countable: (N,) bool, whether a cell counts.
        rejected: whether the field failed quality control.
    """

    patient_id: str
    names: np.ndarray
    countable: np.ndarray
    rejected: bool = False


def countable_by_boxes(
    names: np.ndarray, box_yxyx: np.ndarray, size_hw: tuple[int, int]
) -> np.ndarray:
    """(N,) bool, the red cells that touch neither the border nor another cell.

    Args:
        names: (N,) class names.
        box_yxyx: (N, 4) pixels; NaN where a box is unknown.
        size_hw: height and width of the image.
    """
    red, known = np.isin(names, list(RED_CELLS)), np.isfinite(box_yxyx).all(axis=1)
    free = np.ones(len(names), bool)
    free[known] = separate(box_yxyx[known], size_hw)
    return red & free


def known_class_names(
    names: Iterable[str], file: Path, classes: Mapping[str, str] | None = None
) -> np.ndarray:
    """(N,) classes of names; classes is the user's mapping of `--classes`.

    Raises:
        BadLabelsError: names without a class; the message lists them.
    """
    given, classes = list(names), classes or {}
    if unknown := unknown_names(given, classes):
        raise unknown_name_error(
            quoted(file),
            unknown,
            "rename them, or map them with --classes FILE (lines name: class)",
        )
    return np.array([class_of(name, classes) for name in given], dtype=object)
