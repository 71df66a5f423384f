"""overlays: outlines run just outside the masks, the scale bar has its length, crops have one
scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.report.crops import crop_gallery
from spherodetect.report.overlays import draw_overlay

SLIDE = 215
BLUE = np.array([0, 72, 186])


def _disc(diameter: int) -> np.ndarray:
    y, x = np.mgrid[:diameter, :diameter] - (diameter - 1) / 2
    return np.hypot(y, x) <= diameter / 2


def _scene(
    class_id: list[int],
    *,
    countable: list[bool] | None = None,
    size_hw: tuple[int, int] = (240, 320),
) -> tuple[np.ndarray, Cells]:
    """Discs of 40 pixels in a row, 70 pixels apart, on a plain slide."""
    diameter = 40
    image = np.full((*size_hw, 3), SLIDE, np.uint8)
    boxes, mask = [], _disc(diameter)
    for i in range(len(class_id)):
        y, x = 60, 20 + 70 * i
        image[y : y + diameter, x : x + diameter][mask] = (190, 120, 130)
        boxes.append((y, x, y + diameter, x + diameter))
    cells = Cells.from_labels(
        np.array(boxes),
        np.array(class_id),
        [mask] * len(class_id),
        image_size_hw=size_hw,
        field_id="drawn",
    )
    return image, cells if countable is None else replace(cells, countable=np.array(countable))


def _near(picture: np.ndarray, color: np.ndarray, tolerance: int = 40) -> np.ndarray:
    return np.abs(picture.astype(int) - color).max(axis=-1) <= tolerance


def _around(
    picture: np.ndarray, centre_yx: tuple[float, float], low: float, high: float
) -> np.ndarray:
    """(240, R, 3) the picture's pixels on rays from a centre, between two radii."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)[:, None]
    radius = np.arange(low, high, 0.25)
    y, x = centre_yx[0] + radius * np.sin(angle), centre_yx[1] + radius * np.cos(angle)
    return picture[np.floor(y).astype(int), np.floor(x).astype(int)]


def _blue_part(
    picture: np.ndarray, centre_yx: tuple[float, float], low: float, high: float
) -> float:
    """The part of the rays that meet a blue pixel."""
    return float(_near(_around(picture, centre_yx, low, high), BLUE, 70).any(axis=1).mean())


def test_on_the_copy_of_a_scan_small_cells_stay_apart():
    """Discs of 8 pixels, 20 apart, in a picture whose lines would be 6 pixels wide."""
    side, mask = 4000, _disc(8)
    corners = np.array([(y, x) for y in range(100, 300, 20) for x in range(100, 300, 20)])
    cells = Cells.from_labels(
        np.hstack([corners, corners + 8]),
        [2] * len(corners),
        [mask] * len(corners),
        image_size_hw=(side, side),
    )
    picture = np.asarray(draw_overlay(np.full((side, side, 3), SLIDE, np.uint8), cells))
    one = picture[100:300, 100:300].reshape(10, 20, 10, 20, 3)
    assert (one[:, 2:6, :, 2:6] == SLIDE).all(), "the cell stays bare"
    assert (one[:, 12:16, :, 12:16] == SLIDE).all(), "and so does the slide between cells"
    assert _near(picture[96:112, 96:112], BLUE, 70).any()


def test_a_small_field_is_drawn_at_twice_its_size_and_the_cells_stay_bare():
    image, cells = _scene([2, 1])
    picture = np.asarray(draw_overlay(image, cells))
    assert picture.shape[1] == 640
    assert picture.shape[0] > 480
    # The slide far from any cell, and the inside of every cell, are as in the image.
    assert (picture[300:470, :] == SLIDE).all()
    for x in (40, 110):
        inside = picture[160 - 34 : 160 + 34, 2 * x - 20 : 2 * x + 20]
        assert np.abs(inside.astype(int) - (190, 120, 130)).max() <= 6
    large, large_cells = _scene([2], size_hw=(900, 1300))
    assert draw_overlay(large, large_cells).width == 1300
    assert draw_overlay(large, large_cells, scale=0.5).width == 650


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.0])
def test_a_spherocytes_outline_is_whole_and_just_outside_its_mask(scale):
    image, cells = _scene([2])
    picture = np.asarray(draw_overlay(image, cells, scale=scale))
    centre = (80 * scale, 40 * scale)
    edge = 20 * scale
    assert _blue_part(picture, centre, edge, edge + 2) > 0.97
    assert _blue_part(picture, centre, 0, edge - 2) == 0
    assert _blue_part(picture, centre, edge + 5, edge + 12) == 0


def test_classes_differ_and_what_is_not_counted_is_dashed():
    image, cells = _scene([2, 2, 1, 4], countable=[True, False, True, False])
    picture = np.asarray(draw_overlay(image, cells)).astype(int)
    on_blue = [_blue_part(picture, (160, 80 + 140 * i), 40, 42) for i in range(4)]
    assert on_blue[0] == 1
    assert 0.3 < on_blue[1] < 0.75
    assert on_blue[2:] == [0, 0]
    # An other red cell is quiet: its line is there, and fainter than the spherocyte's.
    lines = [_around(picture, (160, 80 + 140 * i), 40, 44) for i in range(4)]
    contrast = [np.abs(line - SLIDE).sum(axis=-1).mean() for line in lines]
    assert 20 < contrast[2] < 0.6 * contrast[0]


def test_in_a_rejected_field_nothing_is_drawn_as_counted():
    image, cells = _scene([2, 1])
    picture = np.asarray(draw_overlay(image, cells, accepted=False, note="out of focus"))
    assert _blue_part(picture, (160, 80), 40, 42) < 0.75
    assert cells.countable.all()


def test_the_note_gets_lines_of_its_own():
    image, cells = _scene([1])
    heights = [
        draw_overlay(image, cells, note=note).height
        for note in ("", "out of focus", "much too long " * 20)
    ]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize(("um_per_px", "bar_um"), [(0.2, 5), (0.05, 2), (0.02, 0.5)])
def test_the_scale_bar_is_as_long_as_it_says(um_per_px, bar_um):
    image, cells = _scene([1])
    bare = np.asarray(draw_overlay(image, cells))
    picture = np.asarray(draw_overlay(image, replace(cells, um_per_px=um_per_px)))
    strip = (picture[480:] != bare[480:]).any(axis=-1)
    longest = max(
        (len(run) for row in strip for run in "".join("x" if on else " " for on in row).split()),
        default=0,
    )
    if bar_um < 1:
        assert longest == 0  # not even one µm fits: no bar rather than a wrong one
    else:
        assert longest == pytest.approx(bar_um / (um_per_px / 2), abs=1.5)


def test_cells_at_and_beyond_the_edge_and_without_pixels_are_drawn_or_passed_over():
    image, cells = _scene([2, 2, 2, 1])
    boxes = np.array(
        [[-10, -10, 30, 30], [220, 300, 260, 340], [500, 500, 540, 540], [100, 100, 140, 140]],
        np.float32,
    )
    masks = [_disc(40), _disc(40)[:20, :20], _disc(40), np.zeros((40, 40), bool)]
    picture = np.asarray(draw_overlay(image, replace(cells, box_yxyx=boxes, masks=masks)))
    assert _near(picture[:480], BLUE, 60).any()
    assert (picture[206:276, 200:280] == SLIDE).all()


def test_probability_masks_and_no_cells_draw_too():
    y, x = (np.mgrid[:28, :28] + 0.5) / 28 - 0.5
    masks = (np.hypot(y, x) < 0.5).astype(np.float32)[None]
    image, cells = _scene([2])
    drawn = np.asarray(draw_overlay(image, replace(cells, masks=masks)))
    assert _blue_part(drawn, (160, 80), 39, 43) == 1
    empty = draw_overlay(image, Cells.empty(field_id="a", image_size_hw=(240, 320)))
    assert (np.asarray(empty)[300:470] == SLIDE).all()
    assert draw_overlay(image[:1, :1], Cells.empty(field_id="a", image_size_hw=(1, 1))).width == 2


def test_the_input_stays_as_it_was_and_the_picture_is_the_same_twice():
    image, cells = _scene([2, 1, 4], countable=[True, False, False])
    before = image.copy()
    first, second = (np.asarray(draw_overlay(image, cells)) for _ in range(2))
    assert (image == before).all()
    assert (first == second).all()


def test_crops_are_centred_and_at_one_scale():
    image, cells = _scene([2, 1])
    small = _disc(20)
    image[60:100, 90:130] = SLIDE
    image[70:90, 100:120][small] = (190, 120, 130)
    boxes = np.array([[60, 20, 100, 60], [70, 100, 90, 120]], np.float32)
    cells = replace(cells, box_yxyx=boxes, masks=[_disc(40), small])
    crops = crop_gallery(image, cells, window_px=60, size_px=120)
    assert [crop.size for crop in crops] == [(120, 120)] * 2
    dark = [np.asarray(crop)[..., 1] < 170 for crop in crops]
    for cell, diameter in zip(dark, (80, 40), strict=True):
        assert cell.any(axis=0).sum() == pytest.approx(diameter, abs=2)
        assert np.argwhere(cell).mean(axis=0) == pytest.approx([59.5, 59.5], abs=0.6)
    assert crop_gallery(image, cells[:0]) == []


def test_a_crop_at_the_corner_keeps_its_cell_in_the_middle():
    image = np.full((100, 100, 3), SLIDE, np.uint8)
    image[:40, :40][_disc(40)] = (190, 120, 130)
    cells = Cells.from_labels([[0, 0, 40, 40]], [2], [_disc(40)], image_size_hw=(100, 100))
    crop = np.asarray(crop_gallery(image, cells, window_px=80, size_px=80)[0])
    assert np.argwhere(crop[..., 1] < 170).mean(axis=0) == pytest.approx([39.5, 39.5], abs=1)
    assert (crop[:18] == 235).all()  # beyond the field: neither cell nor slide
