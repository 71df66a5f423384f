"""Cells that another tool found, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherodetect.cells import RED_CELLS, SYNONYMS, canonical_name
from spherodetect.errors import BadLabelsError
from spherodetect.pipeline.label_images import separate
from spherodetect.safety import quoted

#: The size of an image that nobody knows: no cell touches its right or lower border.
UNKNOWN_SIZE = 10_000


_MAX_NAME = 80


@dataclass(frozen=True, eq=False)
class CountedField:
    """One field's cells: class names (N,), and which of them count (N,)."""

    patient_id: str
    names: np.ndarray
    countable: np.ndarray
    rejected: bool = False


def countable_by_boxes(
    names: np.ndarray, box_yxyx: np.ndarray, size_hw: tuple[int, int]
) -> np.ndarray:
    """(N,) red cells clear of the border and of each other; (N, 4) boxes are nan where they are not
    known."""
    red, known = np.isin(names, list(RED_CELLS)), np.isfinite(box_yxyx).all(axis=1)
    free = np.ones(len(names), bool)
    free[known] = separate(box_yxyx[known], size_hw)
    return red & free


def known_class_names(names: Iterable[str], file: Path) -> np.ndarray:
    """(N,) canonical names; the first that nobody knows is an error."""
    given = list(names)
    meaning = {name: canonical_name(name) for name in set(given)}
    if unknown := sorted(name for name, known in meaning.items() if known is None):
        known_names = ", ".join(sorted(SYNONYMS))
        raise BadLabelsError(
            f"{quoted(file)}: expected a known class name, got {quoted(unknown[0])}; known: {known_names}; rename it"
        )
    return np.array([meaning[name] for name in given], dtype=object)
