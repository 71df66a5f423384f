"""`Correction`: what a person changed about one cell, and `apply`, which changes the cells.

A correction names a cell by its id. It is not a review: people correct the cells that struck them,
so corrected cells are no sample, and the HS score is not estimated from them (see score/review.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted


@dataclass(frozen=True)
class Correction:
    """A change to one cell; what is None stays as it was.

    Attributes:
        cell_id: the cell's id in its field.
        class_name: the class that a person gave it.
        countable: whether it is a whole, separated red cell.
        removed: whether it is no cell at all.
    """

    cell_id: int
    class_name: str | None = None
    countable: bool | None = None
    removed: bool = False


def apply(cells: Cells, corrections: Iterable[Correction]) -> Cells:
    """The cells of one field with the corrections made, in order; the given cells do not change.

    A corrected class gets probability 1. A cell that becomes a red cell is countable unless it
    touches the border; one that becomes something else is not. A later correction of the same cell
    replaces what an earlier one said.

    Raises:
        SpherodetectError: a cell id or a class name that the field does not have.

    >>> cells = Cells.from_labels([[2, 2, 9, 9]], [1], [np.ones((7, 7), bool)],
    ...                           image_size_hw=(20, 20))
    >>> apply(cells, [Correction(1, class_name="spherocyte")]).names[0]
    'spherocyte'
    """
    row_of = {int(cell_id): row for row, cell_id in enumerate(cells.cell_id)}
    class_id, countable = cells.class_id.copy(), cells.countable.copy()
    confidence, p_spherocyte = cells.confidence.copy(), cells.p_spherocyte.copy()
    probabilities = cells.class_probabilities.copy()
    kept = np.ones(len(cells), bool)
    for one in corrections:
        row = row_of.get(one.cell_id)
        if row is None:
            raise SpherodetectError(
                f"{quoted(cells.field_id)}: expected a cell_id of this field, got {one.cell_id}; "
                "were the cells detected anew?"
            )
        kept[row] = not one.removed
        if one.class_name is not None:
            was_red = cells.class_names[class_id[row] - 1] in RED_CELLS
            class_id[row] = _class_id(cells, one.class_name)
            confidence[row] = 1
            probabilities[row] = np.arange(1, len(cells.class_names) + 1) == class_id[row]
            p_spherocyte[row] = one.class_name == "spherocyte"
            if one.class_name not in RED_CELLS:
                countable[row] = False
            elif not was_red:
                countable[row] = not cells.at_border[row]
        if one.countable is not None:
            countable[row] = one.countable
    changed = replace(
        cells,
        class_id=class_id,
        countable=countable,
        confidence=confidence,
        p_spherocyte=p_spherocyte,
        class_probabilities=probabilities,
    )
    return changed if kept.all() else changed[kept]


def _class_id(cells: Cells, name: str) -> int:
    if name not in cells.class_names:
        known = ", ".join(cells.class_names)
        raise SpherodetectError(
            f"{quoted(cells.field_id)}: expected a class of {known}, got {quoted(name)}"
        )
    return cells.class_names.index(name) + 1


__all__ = ["Correction", "apply"]
