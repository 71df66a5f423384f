"""segment: drawn fields with known truth, difficult fields, and labelled points of real fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spherodetect.fields.image import read_image
from spherodetect.segment import (
    background,
    foreground_threshold,
    green_density,
    optical_density,
    segment,
)
from spherodetect.synthetic import SmearStyle, draw_field


def centers(drawn) -> np.ndarray:
    box = drawn.cells.box_yxyx[
        np.isin(drawn.cells.names, ["rbc", "spherocyte"]) & drawn.cells.countable
    ]
    return ((box[:, :2] + box[:, 2:]) / 2).astype(int)


def share_alone(labels: np.ndarray, points: np.ndarray) -> float:
    """The share of the points that lie in a segment without any other point."""
    found = labels[points[:, 0], points[:, 1]]
    return float(np.mean([k > 0 and (found == k).sum() == 1 for k in found]))


def test_separate_cells_are_found_one_by_one():
    drawn = draw_field(
        np.random.default_rng(3), n_cells=70, overlap_fraction=0, touching_fraction=0.1, n_white=0
    )
    found = segment(drawn.image)
    assert share_alone(found.labels, centers(drawn)) >= 0.97
    assert found.labels.dtype == np.int32
    assert set(np.unique(found.labels)) == set(range(found.n_cells + 1)), "no gaps in the numbers"


def test_the_threshold_lies_below_pale_cells_beside_nuclei_and_above_the_noise():
    rng = np.random.default_rng(0)
    slide, pale, nuclei = (
        rng.normal(0, 0.008, 60_000),
        rng.normal(0.08, 0.015, 35_000),
        rng.normal(0.45, 0.1, 5000),
    )
    assert 0.025 < foreground_threshold(np.concatenate([slide, pale, nuclei])) < 0.06
    assert 0.025 < foreground_threshold(np.concatenate([slide, pale])) < 0.06
    dark = rng.normal(0.3, 0.03, 5000)
    # Few dark cells and nothing else.
    assert 0.025 < foreground_threshold(np.concatenate([slide, dark])) < 0.25


@pytest.mark.parametrize("factor", [0.5, 2])
def test_the_diameter_scales_with_the_pixels(factor):
    fields = [
        draw_field(
            np.random.default_rng(5),
            n_cells=60,
            um_per_px=um,
            size_hw=(round(480 * s), round(640 * s)),
        )
        for um, s in ((0.193, 1), (0.193 / factor, factor))
    ]
    ones, others = (segment(f.image).rbc_diameter_px for f in fields)
    assert others == pytest.approx(factor * ones, rel=0.1)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_field_of_one_colour_holds_no_cell(level):
    found = segment(np.full((120, 160, 3), level, np.uint8))
    assert found.n_cells == 0
    assert np.isnan(found.rbc_diameter_px)


@pytest.mark.parametrize(
    "change",
    [{"background_rgb": (120.0, 150.0, 230.0)}, {"stain_od": 0.07}, {"falloff": 0.25}],
    ids=["strong tint", "low contrast", "uneven light"],
)
def test_a_hard_field_does_not_become_one_giant_cell(change):
    style = replace(SmearStyle(), **change)
    drawn = draw_field(np.random.default_rng(8), n_cells=90, style=style)
    found = segment(drawn.image)
    disc = np.pi / 4 * (7.5 / 0.193) ** 2
    assert np.bincount(found.labels.ravel())[1:].max() < 6 * disc
    assert share_alone(found.labels, centers(drawn)) > 0.9


def test_a_sheet_of_overlapping_cells_is_divided():
    drawn = draw_field(
        np.random.default_rng(9), n_cells=200, overlap_fraction=0.5, touching_fraction=0.3
    )
    found = segment(drawn.image)
    assert np.bincount(found.labels.ravel())[1:].max() < 9 * np.pi / 4 * (7.5 / 0.193) ** 2
    assert found.n_cells > 80


def test_density_is_about_zero_on_the_slide_and_positive_in_a_cell():
    drawn = draw_field(np.random.default_rng(2), n_cells=50)
    density = optical_density(drawn.image)[..., 1]
    cell = np.zeros(density.shape, bool)
    for mask, (y, x) in drawn.cells.pixel_masks():
        cell[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    assert abs(np.median(density[~cell])) < 0.01
    assert np.median(density[cell]) > 0.08


def test_uneven_light_of_a_known_shape_is_found_and_removed():
    y, x = np.mgrid[-0.5:0.5:241j, -0.5:0.5:321j]
    light = (200 - 15 * y + 10 * x - 20 * y * y + 8 * x * y - 30 * x * x)[..., None] * [1, 0.9, 1.1]
    disc = np.hypot(240 * y - 20, 320 * x + 60) < 20
    image = np.rint(light * np.where(disc, 10**-0.25, 1)[..., None]).astype(np.uint8)
    # After four rounds the largest error is in the corners, where the light is weakest.
    np.testing.assert_allclose(background(image), light, rtol=0.03)
    assert np.median(np.abs(background(image) / light - 1)) < 0.005
    density = optical_density(image)
    assert density.shape == image.shape and density.dtype == np.float32
    np.testing.assert_allclose(density, np.where(disc, 0.25, 0)[..., None].repeat(3, 2), atol=0.015)
    np.testing.assert_array_equal(green_density(image), density[..., 1])


def test_labelled_points_of_real_fields_lie_in_separate_cells(shared_data: Path):
    folder = shared_data / "chula-rbc-12"
    own = total = 0
    for number in (1, 13, 90, 146, 165, 245, 300, 310):
        labels = segment(read_image(folder / "images" / f"{number}.jpg")).labels
        lines = [
            line.split() for line in (folder / "labels" / f"{number}.txt").read_text().splitlines()
        ]
        points = np.array([(int(float(y)), int(float(x))) for x, y, _ in lines if len(lines)])
        points = np.clip(points, 0, np.array(labels.shape) - 1)
        own += share_alone(labels, points) * len(points)
        total += len(points)
    # Over all fields it is 98.6 %. These are among the most difficult.
    assert own / total > 0.96
