"""tiles: cores cover an image once, each cell has one owner, and empty slide is recognised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherodetect.detect.tiles import (
    BLOCK_PX,
    MARGIN,
    MAX_SIDE_PX,
    Ownership,
    Survey,
    make_tiles,
    survey,
)
from spherodetect.fields.scan import Pixels
from spherodetect.synthetic import draw_field


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(16, 9000), st.integers(16, 9000)),
    diameter=st.floats(8, 700),
    core=st.none() | st.integers(100, 4000),
)
def test_cores_cover_the_image_once_and_windows_leave_room(size, diameter, core):
    tiles = make_tiles(size, diameter, core_px=core)
    (height, width), margin = size, MARGIN * diameter
    assert (
        sum((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in (tile.core for tile in tiles))
        == height * width
    )
    corners = {tile.core[:2] for tile in tiles}
    assert len(corners) == len(tiles) and (0, 0) in corners
    for tile in tiles:
        (y0, x0, y1, x1), (top, left, bottom, right) = tile.core, tile.window
        assert 0 <= top <= max(0, y0 - margin) and 0 <= left <= max(0, x0 - margin)
        assert (
            min(height, y1 + margin) <= bottom <= height
            and min(width, x1 + margin) <= right <= width
        )
        if core is None and diameter < 300:
            assert max(bottom - top, right - left) <= MAX_SIDE_PX + 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), diameter=st.floats(15, 60))
def test_every_cell_has_one_owner_although_its_place_differs_between_tiles(seed, diameter):
    rng = np.random.default_rng(seed)
    size = 700, 900
    # Half a diameter apart: these cells overlap.
    cells = np.zeros((0, 2))
    for point in rng.uniform(0, 1, (400, 2)) * size:
        if not len(cells) or np.linalg.norm(cells - point, axis=1).min() > 0.5 * diameter:
            cells = np.concatenate([cells, point[None]])
    ownership, owners = Ownership(diameter), np.zeros(len(cells), int)
    for tile in make_tiles(size, diameter, core_px=230):
        inside = ((cells >= tile.window[:2]) & (cells < tile.window[2:])).all(axis=1)
        seen = (
            cells[inside] + rng.uniform(-0.05, 0.05, (inside.sum(), 2)) * diameter - tile.origin_yx
        )
        box = np.concatenate([seen - diameter / 2, seen + diameter / 2], axis=1)
        owners[inside] += ownership.of(tile, box.astype(np.float32))
    assert (owners == 1).all()


@pytest.fixture(scope="module")
def sparse() -> tuple[np.ndarray, tuple[int, int]]:
    """A large empty slide with noise, darker towards one corner, with one field; and its corner."""
    rng = np.random.default_rng(0)
    field = draw_field(rng, n_cells=60, size_hw=(400, 500), um_per_px=0.193).image
    slide = np.median(field.reshape(-1, 3), axis=0)
    image = np.clip(slide + rng.normal(0, 5, (2600, 3000, 1)), 0, 255)
    image[900:1300, 1700:2200] = field
    fall_off = 1 - 0.25 * np.hypot(*np.mgrid[:2600, :3000]) / np.hypot(2600, 3000)
    return (image * fall_off[..., None]).astype(np.uint8), (900, 1700)


def test_windows_of_small_tiles_are_twelve_cells_wide():
    inner = [
        tile
        for tile in make_tiles((2000, 2000), 40, core_px=160)
        if min(tile.core) > 200 and max(tile.core) < 1800
    ]
    assert len(inner) > 50
    for tile in inner:
        y0, x0, y1, x1 = tile.window
        assert min(y1 - y0, x1 - x0) > 11.5 * 40, "12 cells, less the rounding of the cores"


def test_a_survey_recognises_empty_slide(sparse):
    image, (y, x) = sparse
    seen = survey(Pixels(image))
    empty = [tile for tile in make_tiles(image.shape[:2], 39) if seen.is_empty(tile.window)]
    assert len(empty) >= 5
    for tile in empty:
        y0, x0, y1, x1 = tile.window
        assert y1 <= y or x1 <= x or y0 >= y + 400 or x0 >= x + 500
    assert not seen.is_empty((y + 100, x + 100, y + 150, x + 150))
    assert seen.is_empty((0, 0, BLOCK_PX, BLOCK_PX))


def test_samples_show_cells(sparse):
    image, (y, x) = sparse
    samples = survey(Pixels(image)).samples(600, image.shape[:2], 3)
    y0, x0, y1, x1 = samples[0]
    assert (y1 - y0, x1 - x0) == (600, 600)
    assert y0 < y + 200 < y1 and x0 < x + 250 < x1
    # They do not overlap, and none is on empty slide.
    for top, left, *_ in samples:
        assert abs(top - y) < 700 and abs(left - x) < 800


@pytest.mark.parametrize("shape", [(16, 16), (480, 640), (257, 5000), (9000, 300)])
def test_an_overview_is_every_step_th_pixel(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    seen = survey(Pixels(image))
    np.testing.assert_array_equal(seen.overview, image[:: seen.step, :: seen.step])
    assert max(seen.overview.shape) <= 4096


def test_an_empty_slide_has_no_sample():
    seen = survey(Pixels(np.full((700, 900, 3), 228, np.uint8)))
    assert seen.is_empty((0, 0, 700, 900)) and seen.samples(500, (700, 900), 3) == []


def test_samples_are_the_windows_nearest_to_a_monolayer_and_do_not_overlap():
    """Windows of one block: every number follows from the covered shares alone."""
    covered = np.zeros((12, 16))
    shares = {(2, 3): 0.30, (2, 12): 0.34, (9, 3): 0.95, (9, 12): 0.05, (3, 13): 0.33}
    for (row, column), share in shares.items():
        covered[row, column] = share
    seen = Survey(covered, np.zeros((1, 1, 3), np.uint8), 1)
    size = 12 * BLOCK_PX, 16 * BLOCK_PX
    found = seen.samples(BLOCK_PX, size, 10)
    # By distance from 0.33: 0.33, 0.30, 0.05, 0.95. The block of 0.34 lies beside that of 0.33.
    order = [(3, 13), (2, 3), (9, 12), (9, 3)]
    assert found == [
        (row * BLOCK_PX, column * BLOCK_PX, (row + 1) * BLOCK_PX, (column + 1) * BLOCK_PX)
        for row, column in order
    ]
    assert seen.samples(BLOCK_PX, size, 2) == found[:2]
    # A window that would leave the image is moved inside of it.
    (first, *_) = seen.samples(4 * BLOCK_PX, size, 1)
    assert first[2] - first[0] == first[3] - first[1] == 4 * BLOCK_PX
    assert first[3] <= size[1]


def test_a_window_that_is_hardly_covered_is_no_sample():
    covered = np.full((3, 3), 0.015)
    seen = Survey(covered, np.zeros((1, 1, 3), np.uint8), 1)
    assert seen.samples(BLOCK_PX, (3 * BLOCK_PX, 3 * BLOCK_PX), 3) == []
    covered[1, 1] = 0.025
    assert len(seen.samples(BLOCK_PX, (3 * BLOCK_PX, 3 * BLOCK_PX), 3)) == 1
