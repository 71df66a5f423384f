"""How many cells a review still needs: forecasts of the interval, before and during a review.

Percentages are 0 to 100. Imports no image code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from spherodetect.score.review import (
    BATCH_CELLS,
    FIRST_CELLS,
    cells_of_fields,
    interval_limits,
    named_answers,
    numbered_fields,
    patient_mixture,
    strata_of,
)
from spherodetect.score.review_draw import Draw, drawn
from spherodetect.score.stratified import Strata


def more_cells_needed(
    p: Any,
    cell_ids: Sequence[str],
    field_ids: Sequence[str],
    answers: Mapping[str, str],
    seed: int,
    *,
    width: float,
    of: str = "patient",
) -> int | None:
    """How many more cells, in whole batches, bring an interval to `width` points.

    A forecast: the cells to come are taken to be named as those of their strata were so far. 0
    where the interval is narrow enough. For the patient, None where all cells together would not
    do, because the fields are a sample too.

    Args:
        p: (M,) as for `reviewed_score`.
        cell_ids: (M,) text.
        field_ids: (M,) text.
        answers: cell id to answer, of the first n cells.
        seed: of the order.
        width: in points.
        of: "patient", or "cells" for the cells that were found.

    Raises:
        ValueError: as for `reviewed_score`.
    """
    draw = drawn(p, cell_ids, seed)
    named = named_answers(draw, cell_ids, answers)
    now, crossed = (
        strata_of(draw, named),
        cells_of_fields(draw, numbered_fields(field_ids, len(cell_ids))),
    )

    def after(n: np.ndarray) -> Strata:
        countable = n * (now.n_countable / now.n_reviewed)
        return Strata(now.n_cells, n, countable, countable * now.rate)

    enough = _first_narrow(draw, crossed, after, start=len(answers), width=width, of=of)
    return None if enough is None else enough - len(answers)


def expected_cells(
    p: Any, cell_ids: Sequence[str], field_ids: Sequence[str], *, width: float, seed: int = 1
) -> int | None:
    """How many cells a review is expected to need for a patient's interval of `width` points.

    A forecast before the first answer: each stratum is taken to hold as many spherocytes as its p
    add up to. None where all cells would not do, or there are none.
    """
    if not len(cell_ids):
        return None
    draw = drawn(p, cell_ids, seed)
    n_cells = np.bincount(draw.stratum, minlength=draw.n_strata)
    rate = np.bincount(draw.stratum, np.asarray(p, float), minlength=draw.n_strata) / n_cells
    crossed = cells_of_fields(draw, numbered_fields(field_ids, len(cell_ids)))

    def after(n: np.ndarray) -> Strata:
        return Strata(n_cells, n, n, n * rate)

    start = min(FIRST_CELLS, len(cell_ids))
    return _first_narrow(draw, crossed, after, start=start, width=width, of="patient")


def _first_narrow(
    draw: Draw,
    crossed: np.ndarray,
    after: Callable[[np.ndarray], Strata],
    *,
    start: int,
    width: float,
    of: str,
) -> int | None:
    """The first number of cells, from `start` by whole batches, whose interval is narrow enough.

    after: (H,) cells reviewed in each stratum to what they would have found.
    """
    for n in (start, *(start + more for more in _batches(len(draw.order) - start))):
        reviewed = np.bincount(draw.stratum[draw.order[:n]], minlength=draw.n_strata)
        strata = after(reviewed)
        cells, patient = interval_limits(strata, patient_mixture(strata, crossed)[1])
        low, high = patient if of == "patient" else cells
        if high - low <= width:
            return n
    return None


def _batches(left: int) -> list[int]:
    """Sums of 1, 2, ... whole batches, and at last of all cells that are left."""
    return [*range(BATCH_CELLS, left, BATCH_CELLS), *([left] if left else [])]
