"""augment: boxes and masks follow the image, and the class of a cell stays visible."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from spherodetect.records.examples import MASK_SIZE

pytestmark = pytest.mark.train
SIDE = 160


@pytest.fixture(scope="module")
def augment() -> ModuleType:
    return import_module("spherodetect.training.augment")


def disc(radius: float = 14.0) -> np.ndarray:
    """A pale cell without its upper left corner, different in each orientation, filling its box."""
    side = round(2 * radius)
    y, x = np.mgrid[:side, :side] + 0.5 - radius
    inside = (np.hypot(y, x) <= radius) & ((y > -0.2 * radius) | (x > -0.5 * radius))
    return np.where(inside, np.where(np.hypot(y, x) < 5, 0.08, 0.22), 0)


def smear(*corners: tuple[int, int]) -> tuple[np.ndarray, tuple]:
    """Densities with cells at these corners, and the cells in the form for `paste`."""
    from spherodetect.geometry import stretch_mask

    cell = disc()
    density = np.zeros((SIDE, SIDE, 3), np.float32)
    for y, x in corners:
        density[y : y + len(cell), x : x + len(cell)] += cell[..., None]
    boxes = np.array([(y, x, y + len(cell), x + len(cell)) for y, x in corners], np.float32)
    masks = np.array([stretch_mask(cell > 0, MASK_SIZE)] * len(corners), np.float32)
    n = len(corners)
    return density, (boxes, masks, np.full(n, 0b10, np.int32), np.ones(n, bool))


def agreement(stained: np.ndarray, box: np.ndarray, mask: np.ndarray) -> float:
    """IoU of a mask with the stain under its box, at the mask's own samples."""
    y, x = (
        (box[k] + (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * (box[k + 2] - box[k])).astype(int)
        for k in (0, 1)
    )
    inside = stained[np.ix_(y, x)]
    return float((inside & (mask >= 0.5)).sum() / (inside | (mask >= 0.5)).sum())


def test_the_eight_symmetries_move_image_boxes_and_masks_together(augment):
    density, (boxes, masks, *_) = smear((20, 30), (60, 110), (100, 50))
    seen = set()
    for seed in range(40):
        turned, moved, flipped = map(
            np.asarray, augment.turn(density, boxes, masks, np.array((3, seed)))
        )
        for box, mask in zip(moved, flipped, strict=True):
            assert agreement(turned[..., 1] > 0, box, mask) > 0.95
        seen.add(turned.tobytes())
    assert len(seen) == 8


def test_the_same_seed_gives_the_same_augmentation(augment):
    from spherodetect.training.experiment import SmearParserConfig

    density = smear((20, 30))[0]
    one, again, other = (
        augment.vary(density, np.array(seed), SmearParserConfig()).numpy()
        for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_augmentation_keeps_the_pallor_of_a_cell(augment):
    """A pale cell stays paler in the middle after the strongest change of stain and focus."""
    from spherodetect.training.experiment import SmearParserConfig

    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(y, x)
    pale = np.where(radius < 5, 0.08, np.where(radius < 16, 0.22, 0.0))
    density = np.repeat(pale.astype(np.float32)[..., None], 3, axis=2)
    for seed in range(20):
        varied = augment.vary(density, np.array((9, seed)), SmearParserConfig()).numpy()[..., 1]
        slide = np.median(varied[radius > 20])
        centre, rim = (
            np.median(varied[where]) - slide for where in (radius < 4, (radius > 8) & (radius < 14))
        )
        assert 0.2 < centre / rim < 0.65


def test_a_pasted_cell_overlaps_another_and_densities_add(augment):
    corners = (30, 40), (90, 90)
    pasted = 0
    for seed in range(30):
        density, cells = smear(*corners)
        out, (boxes, masks, sets, known) = augment.paste(
            density, cells, np.array((5, seed)), some_cell=0b11110
        )
        out, boxes, masks, sets, known = map(np.asarray, (out, boxes, masks, sets, known))
        if len(boxes) == 2:
            continue
        pasted += 1
        assert known.all() and sets[2] == 0b11110 and (sets[:2] == 0b11110).sum() >= 1
        added = out - density
        # The added density is the donor, moved by whole pixels; the soft edge of the mask removes a
        # little of its rim.
        assert agreement(added[..., 1] > 0.02, boxes[2], masks[2]) > 0.85
        assert added.sum() == pytest.approx(3 * disc().sum(), rel=0.08)
        assert (density[added[..., 1] > 0.1][:, 1] > 0).any(), "it overlaps a cell"
    assert pasted > 15


def test_without_a_mask_nothing_is_pasted(augment):
    density, (boxes, masks, sets, known) = smear((30, 40), (90, 90))
    out, cells = augment.paste(
        density, (boxes, masks, sets, ~known), np.array((5, 1)), some_cell=0b11110
    )
    np.testing.assert_array_equal(out, density)
    assert len(cells[0]) == 2


def test_recompression_changes_little_and_not_always(augment):
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(90, 220, (8, 10, 3), np.uint8), 8, axis=0), 8, axis=1)
    changes = [
        np.abs(
            np.asarray(augment.recompress(image, np.array((1, s)), share=0.5)).astype(int) - image
        ).mean()
        for s in range(20)
    ]
    assert 3 <= sum(change == 0 for change in changes) <= 17
    assert max(changes) < 10
