"""identity: the same cells keep their ids in a later detection; what cannot be matched is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.detect.identity import keep_ids
from spherodetect.errors import SpherodetectError

SIZE = (100, 120)


def discs(*circles: tuple[float, float, float]) -> Cells:
    """Cells of (y, x, radius)."""
    boxes, masks = [], []
    for y, x, radius in circles:
        low = np.floor([y - radius, x - radius]).astype(int)
        high = np.ceil([y + radius, x + radius]).astype(int)
        rows, columns = (np.arange(a, b) + 0.5 for a, b in zip(low, high, strict=True))
        masks.append(np.hypot(rows[:, None] - y, columns - x) <= radius)
        boxes.append([*low, *high])
    classes = np.ones(len(boxes))
    return Cells.from_labels(np.array(boxes), classes, masks, image_size_hw=SIZE, field_id="f")


def test_moved_and_reordered_cells_keep_their_ids():
    before = discs((20, 20, 10), (20, 60, 10), (60, 20, 10), (60, 60, 10))
    after = discs((61, 59, 10), (21, 20, 9), (20, 61, 11))
    found = keep_ids(before, after)
    assert found.cells.cell_id.tolist() == [4, 1, 2]
    assert found.matched.tolist() == [1, 2, 4] and found.gone.tolist() == [3]
    assert found.unsure == {}


def test_a_new_cell_gets_an_id_that_was_never_used():
    before = replace(discs((20, 20, 10)), cell_id=np.array([17], np.int32))
    found = keep_ids(before, discs((70, 90, 8), (20, 20, 10)))
    assert found.cells.cell_id.tolist() == [18, 17] and found.unsure == {}


def test_a_split_and_a_merger_are_left_to_a_person():
    one, two = discs((50, 50, 20)), discs((50, 40, 9), (50, 60, 9))
    split, merged = keep_ids(one, two), keep_ids(two, one)
    assert split.gone.tolist() == [1] and split.unsure == {2: (1,), 3: (1,)}
    assert merged.gone.tolist() == [1, 2] and merged.unsure == {3: (1, 2)}


def test_the_match_is_one_to_one():
    rng = np.random.default_rng(5)
    centres = rng.uniform(15, 85, (30, 2))
    before = discs(*[(y, x, 9) for y, x in centres])
    shifts = rng.normal(0, 1.5, centres.shape)
    after = discs(*[(y, x, 9) for y, x in centres + shifts])
    found = keep_ids(before, after)
    assert len(set(found.cells.cell_id.tolist())) == len(after)
    # Of overlapping discs some may be exchanged; most keep their place in the list.
    assert (found.cells.cell_id == before.cell_id).mean() > 0.8


def test_empty_fields_and_other_images():
    none = discs((20, 20, 5))[:0]
    assert len(keep_ids(none, none).cells) == 0
    assert keep_ids(discs((20, 20, 5)), none).gone.tolist() == [1]
    other = replace(none, image_size_hw=(50, 50))
    with pytest.raises(SpherodetectError, match=r"\(50, 50\)"):
        keep_ids(none, other)
