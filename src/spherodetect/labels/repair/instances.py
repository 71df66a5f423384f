"""Instances: the cells of a field as training uses them.

What is known about a cell's class is the set of the classes it may be, written as bits: bit k for
class k, bit 0 for background. A labelled spherocyte is {spherocyte}, a red cell of unknown class
{rbc, spherocyte}, and an unlabelled cell may be anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spherodetect.cells import RED_CELLS
from spherodetect.labels.readers.ledger import Unread
from spherodetect.labels.recipe import Meaning


@dataclass(frozen=True, eq=False)
class Instance:
    """One cell for training.

    Attributes:
        box_yxyx: (4,) float, tight on the mask where there is one.
        mask: boolean over the box's whole pixels, or None for a cell of which only the box is used.
        class_set: bits of the classes it may be.
        class_id: the class, or 0 where the set holds more than one.
        name: the annotator's own name for it; empty for a cell without a label.
        annotation_id: empty for a cell without a label.
        quality: 0 to 1, how certain the mask is (labels/repair/refine.py); 1 for a drawn one.
    """

    box_yxyx: np.ndarray
    mask: np.ndarray | None
    class_set: int
    class_id: int = 0
    name: str = ""
    annotation_id: str = ""
    quality: float = 1.0


@dataclass(frozen=True, eq=False)
class FieldInstances:
    """The instances of one field, and the account of its annotations (read = written + dropped).

    Attributes:
        instances: the labelled cells, then those that were added without a label.
        rbc_diameter_px: the diameter of a red cell, NaN where it is not known.
        dropped: annotations that became no instance, with the reason.
        repaired: reason to number of repaired annotations.
        clipped: annotations that were clipped to the image.
    """

    instances: tuple[Instance, ...]
    rbc_diameter_px: float
    dropped: tuple[Unread, ...] = ()
    repaired: Counter[str] = field(default_factory=Counter)
    clipped: int = 0


def class_set(meaning: Meaning, class_names: Sequence[str]) -> int:
    """The bits of the classes that a label allows.

    >>> class_set(Meaning(0, None, "RBC", True), ("rbc", "spherocyte", "wbc"))
    6
    """
    if meaning.class_id:
        return 1 << meaning.class_id
    if meaning.red_cell:
        return sum(1 << k for k, name in enumerate(class_names, 1) if name in RED_CELLS)
    return unknown_set(class_names)


def unknown_set(class_names: Sequence[str]) -> int:
    """The bits of every class and of background."""
    return (1 << (len(class_names) + 1)) - 1
