"""corrections: a person's changes reach the cells, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.corrections import Correction, apply
from spherodetect.errors import SpherodetectError


@pytest.fixture
def cells() -> Cells:
    """A red cell, a spherocyte, a white cell, and a red cell at the border."""
    boxes = [[10, 10, 20, 20], [10, 40, 20, 50], [40, 10, 50, 20], [40, 0, 50, 10]]
    masks = [np.ones((10, 10), bool)] * 4
    return Cells.from_labels(boxes, [1, 2, 3, 1], masks, image_size_hw=(60, 80), field_id="a.png")


def test_nothing_corrected_is_nothing_changed(cells):
    same = apply(cells, [])
    assert (same.names == cells.names).all() and (same.countable == cells.countable).all()


def test_a_class_is_corrected_by_id_and_the_given_cells_stay(cells):
    before = cells.class_id.copy()
    shuffled = cells[np.array([2, 1, 3, 0])]
    changed = apply(shuffled, [Correction(1, class_name="spherocyte")])
    row = int(np.flatnonzero(changed.cell_id == 1)[0])
    assert changed.names[row] == "spherocyte" and changed.p_spherocyte[row] == 1
    assert changed.class_probabilities[row].tolist() == [0, 1, 0, 0]
    others = changed.cell_id != 1
    np.testing.assert_array_equal(changed.class_id[others], shuffled.class_id[others])
    np.testing.assert_array_equal(cells.class_id, before)


def test_what_becomes_a_red_cell_counts_unless_it_is_cut(cells):
    assert cells.countable.tolist() == [True, True, False, False]
    assert apply(cells, [Correction(3, class_name="rbc")]).countable.tolist()[2]
    assert not apply(cells, [Correction(1, class_name="wbc")]).countable[0]
    twice = [Correction(4, class_name="platelet"), Correction(4, class_name="rbc")]
    assert not apply(cells, twice).countable[3]


def test_whether_a_cell_counts_can_be_said(cells):
    assert not apply(cells, [Correction(2, countable=False)]).countable[1]
    assert apply(cells, [Correction(4, countable=True)]).countable[3]


def test_what_is_no_cell_goes_and_may_come_back(cells):
    assert apply(cells, [Correction(2, removed=True)]).cell_id.tolist() == [1, 3, 4]
    undone = [Correction(2, removed=True), Correction(2)]
    assert apply(cells, undone).cell_id.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong", [Correction(9, class_name="rbc"), Correction(1, class_name="lymphocyte")]
)
def test_an_unknown_cell_or_class_is_refused(cells, wrong):
    with pytest.raises(SpherodetectError, match=r"a\.png.*(9|lymphocyte)"):
        apply(cells, [wrong])
