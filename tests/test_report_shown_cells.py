"""shown_cells: the most certain cells first, each with the most similar one, none of a rejected
field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from reporting import SLIDE, a_field
from spherodetect.report.shown_cells import gallery


def _ids(cells) -> list[tuple[str, int] | None]:
    return [None if cell is None else (cell.field_id, cell.cell_id) for cell in cells]


def test_the_surest_first_over_all_fields_and_ties_in_the_order_of_fields(tmp_path):
    fields = [a_field(tmp_path, "1", p=(0.7, 0.2, 0.9)), a_field(tmp_path, "2", p=(0.9, 0.95, 0.3))]
    shown = gallery(fields, n_flagged=3, n_unflagged=9, n_every=3)
    assert _ids(cell for cell, _ in shown.flagged) == [("2", 2), ("1", 3), ("2", 1)]
    assert _ids(shown.every_flagged) == [("1", 1), ("2", 1), ("1", 3)]
    assert shown.n_left_out == 1
    assert shown.cut == pytest.approx((0.7, 0.3))
    assert _ids(shown.unflagged) == [("2", 3), ("1", 2)]


def test_rejected_fields_and_cells_that_do_not_count_are_not_shown(tmp_path):
    good = a_field(tmp_path, "1", p=(0.9, 0.8, 0.1))
    good = replace(good, cells=replace(good.cells, countable=np.array([False, True, False])))
    shown = gallery(
        [a_field(tmp_path, "bad", p=(0.99, 0.1), reason="too dense"), good],
        n_flagged=9,
        n_unflagged=9,
        n_every=9,
    )
    assert _ids(cell for cell, _ in shown.flagged) == [("1", 2)]
    assert shown.unflagged == []
    assert gallery([], n_flagged=9, n_unflagged=9, n_every=9).flagged == []


def test_beside_each_the_most_alike_and_none_twice(tmp_path):
    field = a_field(tmp_path, "1", p=(0.95, 0.9, 0.2, 0.3, 0.1))
    measured = {
        "relative_diameter": np.array([0.80, 0.81, 1.20, 0.82, 0.9]),
        "center_rim_ratio": np.array([1.0, 1.0, 0.4, 0.9, 0.8]),
        "pallor_fraction": np.array([0, 0, 0.3, 0.01, 0.05]),
        "relative_od": np.array([1.3, 1.3, 0.9, 1.2, 1.1]),
    }
    field = replace(field, cells=replace(field.cells, measurements=measured))
    assert _ids(
        like for _, like in gallery([field], n_flagged=9, n_unflagged=0, n_every=0).flagged
    ) == [("1", 4), ("1", 5)]
    fewer = replace(field, cells=field.cells[[0, 1, 2]])
    assert _ids(
        like for _, like in gallery([fewer], n_flagged=9, n_unflagged=0, n_every=0).flagged
    ) == [("1", 3), None]
    measured["relative_od"][3] = math.nan  # what cannot be compared is not like anything
    assert _ids(
        like for _, like in gallery([field], n_flagged=9, n_unflagged=0, n_every=0).flagged
    ) == [("1", 5), ("1", 3)]


def test_pictures_are_of_their_cells(tmp_path):
    """The shade of a cell in the photograph is its cell_id."""
    p = (0.9, 0.1) * 30
    shown = gallery([a_field(tmp_path, "1", p=p)], n_flagged=30, n_unflagged=30, n_every=0)
    cells = [cell for pair in shown.flagged for cell in pair] + list(shown.unflagged)
    for cell in cells:
        pixels = np.asarray(cell.picture)
        assert pixels[64, 64].tolist() == [cell.cell_id] * 3
        assert pixels[64, 4].tolist() == [SLIDE] * 3 or pixels[64, 4, 0] == 235
    assert {cell.cell_id for cell, _ in shown.flagged} == set(range(1, 61, 2))


def test_without_a_photograph_the_numbers_stay(tmp_path):
    field = replace(a_field(tmp_path, "1", um_per_px=None), image=None)
    (first, _), *_ = gallery([field], n_flagged=9, n_unflagged=9, n_every=9).flagged
    assert first.picture is None
    assert math.isnan(first.diameter_um)
    assert (first.diameter_px, first.relative_diameter, first.p) == (36.0, 0.87, 0.9)
