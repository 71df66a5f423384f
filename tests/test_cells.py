"""cells: a pixel is of one cell, the border is known, and cells keep their place in a larger
image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import Cells

SIZE = (60, 80)


def discs(centers: list[tuple[float, float]], radius: float = 10.0, **changes) -> Cells:
    """Round cells whose masks fall off from the middle, 1 there and 0.5 at the radius."""
    at = (np.arange(28) + 0.5) / 28 * 2 - 1
    mask = np.clip(1 - 0.5 * np.hypot(at[:, None], at) * 1.0, 0, 1).astype(np.float32)
    center = np.array(centers, np.float32).reshape(-1, 2)
    box = np.concatenate([center - radius, center + radius], axis=1)
    cells = Cells.from_labels(
        box, np.ones(len(box)), np.repeat(mask[None], len(box), axis=0), image_size_hw=SIZE
    )
    return replace(cells, **changes)


def test_a_pixel_that_two_masks_claim_goes_to_the_surer():
    labels = discs([(30, 30), (30, 44)], confidence=np.array([0.2, 0.9], np.float32)).label_image()
    # Both fall off alike, so the border runs midway, whoever is more confident.
    assert (labels[30, 22:37] == 1).all() and (labels[30, 37:52] == 2).all()
    left, right = (labels == 1).sum(), (labels == 2).sum()
    assert abs(left - right) < 0.02 * left


def test_masks_of_yes_and_no_go_by_confidence_and_then_by_order():
    square = [np.ones((10, 10), bool)] * 3
    cells = Cells.from_labels(
        [[0, 0, 10, 10], [0, 5, 10, 15], [5, 0, 15, 10]], [1, 1, 1], square, image_size_hw=SIZE
    )
    cells.confidence[:] = 0.5, 0.9, 0.5
    labels = cells.label_image()
    assert labels[2, 7] == 2 and labels[7, 2] == 1 and labels[12, 2] == 3 and labels[20, 20] == 0


def test_the_label_image_is_the_same_by_bands_and_holds_every_mask():
    rng = np.random.default_rng(0)
    cells = discs(list(rng.uniform(-5, 85, (25, 2))), confidence=rng.random(25).astype(np.float32))
    whole = cells.label_image()
    np.testing.assert_array_equal(
        np.concatenate([cells.label_image((y, y + 12)) for y in range(0, 60, 12)]), whole
    )
    painted = np.zeros(SIZE, bool)
    for mask, (y, x) in cells.pixel_masks():
        painted[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    np.testing.assert_array_equal(whole > 0, painted)
    assert not len(discs([])) and not discs([]).label_image().any()


@pytest.mark.parametrize(("diameter", "at"), [(None, False), (32.0, False), (268.0, True)])
def test_cells_at_the_border_are_flagged(diameter, at):
    # The last of these keeps four pixels away from the border: a sixtieth of a large cell, and
    # enough for a small one.
    cells = discs([(30, 30), (9, 30), (30, 75), (66, 40), (14, 40)], rbc_diameter_px=diameter)
    cells = replace(cells, countable=~cells.at_border)
    assert cells.at_border.tolist() == [False, True, True, True, at]
    assert cells.exclusion_reason.tolist() == [
        "",
        "border",
        "border",
        "border",
        "border" if at else "",
    ]


def test_an_uncountable_cell_under_ink_says_so_unless_the_border_cuts_it():
    cells = discs(
        [(30, 30), (9, 30), (30, 75)],
        rbc_diameter_px=32.0,
        countable=np.zeros(3, bool),
        measurements={"under_ink": np.float32([1, 1, 0])},
    )
    assert cells.exclusion_reason.tolist() == ["overlay", "border", "border"]


def test_moved_cells_lie_there_with_all_that_says_where():
    cells = discs(
        [(30, 30), (20, 50)],
        measurements={"x_px": np.float32([30, 50]), "area_px": np.float32([314, 310])},
    )
    moved = cells.moved((1000, 20_000), (30_000, 40_000))
    np.testing.assert_array_equal(
        moved.box_yxyx - cells.box_yxyx, [[1000, 20_000, 1000, 20_000]] * 2
    )
    np.testing.assert_array_equal(moved.measurements["x_px"], [20_030, 20_050])
    np.testing.assert_array_equal(moved.measurements["area_px"], [314, 310])
    assert moved.image_size_hw == (30_000, 40_000)
    (mask, corner), (before, (y, x)) = next(moved.pixel_masks()), next(cells.pixel_masks())
    np.testing.assert_array_equal(mask, before)
    assert corner == (y + 1000, x + 20_000)


def test_ids_stay_with_their_cells():
    cells = discs([(20, 20), (20, 50), (45, 20)])
    assert cells.cell_id.tolist() == [1, 2, 3]
    chosen = cells[np.array([2, 0])]
    assert chosen.cell_id.tolist() == [3, 1]
    assert set(np.unique(chosen.label_image())) == {0, 1, 3}
    assert chosen.to_frame()["cell_id"].tolist() == [3, 1]


def test_parts_are_numbered_anew_unless_their_ids_are_to_be_kept():
    cells = discs([(20, 20), (20, 50), (45, 20)])
    parts = [cells[2:], cells[:2]]
    assert Cells.concatenate(parts).cell_id.tolist() == [1, 2, 3]
    assert Cells.concatenate(parts, keep_ids=True).cell_id.tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="cell_id"):
        Cells.concatenate([cells, cells], keep_ids=True)


def test_parts_of_other_classes_or_images_are_not_joined():
    cells = discs([(20, 20)])
    for other in (
        replace(cells, class_names=("rbc", "spherocyte")),
        replace(cells, image_size_hw=(60, 81)),
    ):
        with pytest.raises(ValueError, match="expected parts"):
            Cells.concatenate([cells, other])
    with pytest.raises(ValueError, match="none"):
        Cells.concatenate([])


def test_a_field_prints_in_one_line():
    cells = discs([(20, 20 + 5 * i) for i in range(60)], field_id="p/1.png")
    assert len(repr(cells)) < 120 and "60 cells" in repr(cells) and "p/1.png" in repr(cells)


def test_enlarged_cells_are_those_of_the_enlarged_image():
    from spherodetect.measure import measure

    image = np.full((*SIZE, 3), 230, np.uint8)
    cells = discs([(20, 20), (40, 60)], um_per_px=0.6, rbc_diameter_px=20.0)
    for y, x in ((20, 20), (40, 60)):
        rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
        image[np.hypot(rows - y + 0.5, columns - x + 0.5) < 10] = (190, 120, 130)
    small = measure(cells, image).enlarged(3, (180, 240))
    large = np.kron(image, np.ones((3, 3, 1), np.uint8))
    expected = measure(replace(cells.enlarged(3, (180, 240)), measurements={}), large)
    assert small.um_per_px == pytest.approx(0.2) and small.rbc_diameter_px == 60
    assert set(small.measurements) == set(expected.measurements)
    for name in sorted(small.measurements.keys() - {"solidity", "pallor_fraction"}):
        values, others = small.measurements[name], expected.measurements[name]
        np.testing.assert_allclose(values, others, rtol=0.04, err_msg=name)
    with pytest.raises(ValueError, match="masks"):
        replace(cells, masks=[np.ones((20, 20), bool)] * 2).enlarged(2, (120, 160))
