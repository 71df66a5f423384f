"""synthetic: drawn fields agree with their truth in area, density, pallor, counts and scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from spherodetect.cells import touches_border
from spherodetect.synthetic import (
    RED_CELL_SHAPES,
    SmearStyle,
    draw_field,
    draw_patient,
    random_style,
)

#: Optics and camera without any effect, so that closed forms apply.
CLEAN = SmearStyle(
    anisocytosis=0,
    falloff=0,
    halo=0,
    blur_um=0,
    fringe_um=0,
    noise=0,
    mottle=0,
    debris=0,
    jpeg_quality=None,
    shape_shares={"discocyte": 1},
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def green_od(drawn, background: float) -> np.ndarray:
    return -np.log10(np.maximum(drawn.image[..., 1].astype(float), 1) / background)


def center_rim_ratio(od: np.ndarray, mask: np.ndarray, corner: tuple[int, int]) -> float:
    window = od[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]]
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] / (0.5 * min(mask.shape))
    return window[depth > 0.75].mean() / np.percentile(window[(depth > 0.2) & (depth < 0.5)], 75)


def test_the_area_of_a_mask_agrees_with_its_diameter():
    drawn = draw_field(
        rng(), n_cells=40, um_per_px=0.06, size_hw=(1000, 1300), style=SmearStyle(), n_white=2
    )
    whole = ~touches_border(drawn.cells.box_yxyx, drawn.cells.image_size_hw)
    area_um2 = np.array([mask.sum() for mask, _ in drawn.cells.pixel_masks()]) * 0.06**2
    expected = np.pi / 4 * drawn.cells.measurements["diameter_um"] ** 2
    assert whole.sum() > 20
    np.testing.assert_allclose(area_um2[whole], expected[whole], rtol=0.04)


def test_boxes_are_tight_on_the_masks_and_inside_the_image():
    drawn = draw_field(rng(1), n_cells=120, style=random_style(rng(2)))
    for box, mask in zip(drawn.cells.box_yxyx.astype(int), drawn.cells.masks, strict=True):
        y0, x0, y1, x1 = box
        assert mask.dtype == bool and mask.shape == (y1 - y0, x1 - x0)
        assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
        assert 0 <= y0 < y1 <= 480 and 0 <= x0 < x1 <= 640


@pytest.mark.parametrize("seed", range(4))
def test_every_cell_darkens_its_mask_and_nothing_else_does(seed):
    style = replace(random_style(rng(seed)), debris=0, overlays=0, falloff=0)
    drawn = draw_field(rng(seed), n_cells=50, style=style)
    od = green_od(drawn, style.background_rgb[1])
    foreground = np.zeros(od.shape, bool)
    for mask, (y, x) in drawn.cells.pixel_masks():
        foreground[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    background = od[~ndimage.binary_dilation(foreground, iterations=8)]
    assert abs(np.median(background)) < 0.02
    for mask, (y, x) in drawn.cells[drawn.cells.countable].pixel_masks():
        assert od[y : y + mask.shape[0], x : x + mask.shape[1]][mask].mean() > 3 * background.std()


def test_pallor_separates_spherocytes_from_discocytes():
    drawn = draw_field(
        rng(3),
        n_cells=60,
        spherocyte_fraction=0.5,
        um_per_px=0.1,
        size_hw=(900, 1200),
        style=replace(SmearStyle(), shape_shares={"discocyte": 1}, jpeg_quality=None),
    )
    cells = drawn.cells[drawn.cells.countable]
    od = green_od(drawn, 196)
    ratio = np.array([center_rim_ratio(od, mask, corner) for mask, corner in cells.pixel_masks()])
    sphere = cells.names == "spherocyte"
    assert sphere.sum() > 10 and (~sphere).sum() > 10
    assert np.median(ratio[sphere]) >= 0.9 and ratio[sphere].min() > 0.8
    assert ratio[~sphere].max() < 0.75
    assert np.corrcoef(ratio, cells.measurements["pallor"])[0, 1] < -0.9


def test_spherocytes_are_smaller_and_denser_but_their_sizes_overlap():
    parts = [
        draw_field(
            rng(k), n_cells=60, spherocyte_fraction=0.5, style=replace(CLEAN, anisocytosis=0.05)
        )
        for k in range(4)
    ]
    diameter, mean_od, sphere = [], [], []
    for drawn in parts:
        cells = drawn.cells[drawn.cells.countable]
        od = green_od(drawn, 196)
        mean_od += [
            od[y : y + m.shape[0], x : x + m.shape[1]][m].mean()
            for m, (y, x) in cells.pixel_masks()
        ]
        diameter.append(cells.measurements["diameter_um"])
        sphere.append(cells.names == "spherocyte")
    diameter, mean_od, sphere = np.concatenate(diameter), np.array(mean_od), np.concatenate(sphere)
    assert 0.8 < diameter[sphere].mean() / diameter[~sphere].mean() < 0.92
    assert diameter[sphere].max() > diameter[~sphere].min()
    assert 1.3 < mean_od[sphere].mean() / mean_od[~sphere].mean() < 1.75


def test_overlapping_cells_add_their_densities():
    alone = replace(CLEAN, shape_shares={"polychromatic": 1}, stain_od=0.15)
    options = {
        "n_cells": 24,
        "overlap_fraction": 1,
        "touching_fraction": 0,
        "n_white": 0,
        "n_platelets": 0,
    }
    drawn = draw_field(rng(4), style=alone, **options)
    od, layers = green_od(drawn, 196), np.zeros((480, 640), int)
    for mask, (y, x) in drawn.cells.pixel_masks():
        layers[y : y + mask.shape[0], x : x + mask.shape[1]] += mask
    assert (layers == 2).sum() > 500
    single, double = (
        np.median(od[ndimage.binary_erosion(layers == k, iterations=2)]) for k in (1, 2)
    )
    assert double / single == pytest.approx(2, abs=0.25)
    flat = draw_field(rng(4), style=replace(alone, overlap_power=2), **options)
    assert np.median(green_od(flat, 196)[layers == 2]) < 0.85 * np.median(od[layers == 2])


def test_a_countable_cell_is_a_whole_separate_red_cell():
    drawn = draw_field(rng(5), n_cells=130, overlap_fraction=0.3, n_white=2)
    cells, layers = drawn.cells, np.zeros((480, 640), int)
    for mask, (y, x) in cells.pixel_masks():
        layers[y : y + mask.shape[0], x : x + mask.shape[1]] += mask
    shared = np.array(
        [
            (layers[y : y + m.shape[0], x : x + m.shape[1]][m] > 1).mean()
            for m, (y, x) in cells.pixel_masks()
        ]
    )
    np.testing.assert_allclose(cells.measurements["overlap_fraction"], shared, atol=1e-6)
    red = np.isin(cells.names, ["rbc", "spherocyte"])
    np.testing.assert_array_equal(
        cells.countable,
        red & ~touches_border(cells.box_yxyx, cells.image_size_hw) & (shared <= 0.05),
    )
    assert set(cells.exclusion_reason) == {"", "border", "overlap", "not_rbc"}


@pytest.mark.parametrize(
    ("stated", "low", "high"), [(0.0, 0, 0.06), (0.3, 0.2, 0.4), (1.0, 0.85, 1)]
)
def test_the_share_of_overlapping_cells_is_as_stated(stated, low, high):
    shares = [
        draw_field(
            rng(k), n_cells=50, overlap_fraction=stated, n_white=0, n_platelets=0, style=CLEAN
        )
        for k in range(4)
    ]
    overlapping = np.concatenate(
        [drawn.cells.measurements["overlap_fraction"] > 0.02 for drawn in shares]
    )
    assert low <= overlapping.mean() <= high


@pytest.mark.parametrize(
    ("n_cells", "fraction", "expected"), [(90, 0.1, 9), (37, 0.25, 9), (10, 1.0, 10), (50, 0.0, 0)]
)
def test_the_fraction_and_the_counts_are_exact(n_cells, fraction, expected):
    names = draw_field(
        rng(), n_cells=n_cells, spherocyte_fraction=fraction, n_white=2, n_platelets=7
    ).cells.names.tolist()
    assert names.count("spherocyte") == expected
    assert (names.count("rbc"), names.count("wbc"), names.count("platelet")) == (
        n_cells - expected,
        2,
        7,
    )


def test_a_crowded_field_ends_and_keeps_every_cell():
    drawn = draw_field(rng(6), n_cells=400)
    assert len(drawn.cells) == 406
    assert all(mask.any() for mask in drawn.cells.masks)


@pytest.mark.parametrize("shape", RED_CELL_SHAPES)
def test_every_shape_can_be_drawn(shape):
    style = replace(SmearStyle(), shape_shares={shape: 1})
    drawn = draw_field(
        rng(),
        n_cells=12,
        spherocyte_fraction=0,
        style=style,
        n_white=0,
        n_platelets=0,
        size_hw=(240, 320),
    )
    assert set(drawn.cells.measurements["shape"]) == {shape}
    if shape in ("discocyte", "microcyte", "macrocyte", "spherocyte"):
        filled = [mask.mean() for mask in drawn.cells[drawn.cells.countable].masks]
        assert min(filled) > 0.9 * np.pi / 4  # as round as the ellipse in its box


def test_half_the_pixel_size_doubles_the_diameter_in_pixels():
    options = {"n_cells": 60, "style": CLEAN, "spherocyte_fraction": 0}
    coarse = draw_field(rng(8), um_per_px=0.2, size_hw=(480, 640), **options)
    fine = draw_field(rng(8), um_per_px=0.1, size_hw=(960, 1280), **options)
    sizes = [
        np.median([np.sqrt(m.sum() * 4 / np.pi) for m in d.cells[d.cells.countable].masks])
        for d in (coarse, fine)
    ]
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.02)
    assert sizes[0] == pytest.approx(7.5 / 0.2, rel=0.03)
    assert (coarse.um_per_px, fine.cells.um_per_px) == (0.2, 0.1)


def test_the_same_seed_gives_the_same_field():
    np.random.seed(1)  # noqa: NPY002  (the global state must not matter)
    first, again, other = (
        draw_field(rng(seed), style=random_style(rng(seed))) for seed in (9, 9, 10)
    )
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert first.cells.box_yxyx.tobytes() == again.cells.box_yxyx.tobytes()
    assert random_style(rng(9)) == random_style(rng(9)) != random_style(rng(10))


def test_an_empty_field_is_background_without_cells():
    drawn = draw_field(rng(), n_cells=0, n_white=0, n_platelets=0, size_hw=(64, 48))
    assert drawn.image.shape == (64, 48, 3) and drawn.image.dtype == np.uint8
    assert len(drawn.cells) == 0 and not drawn.cells.countable.any()
    filled = draw_field(rng(), n_cells=3, size_hw=(64, 48)).cells
    assert {k: v.dtype for k, v in drawn.cells.measurements.items()} == {
        k: v.dtype for k, v in filled.measurements.items()
    }


def test_the_empty_field_has_the_style_s_colour_noise_and_falloff():
    style = replace(CLEAN, noise=3.0)
    image = draw_field(rng(), n_cells=0, n_white=0, n_platelets=0, style=style).image.astype(float)
    np.testing.assert_allclose(image.mean(axis=(0, 1)), style.background_rgb, atol=1)
    assert image.std(axis=(0, 1)) == pytest.approx(3, rel=0.05)
    dark = draw_field(
        rng(), n_cells=0, n_white=0, n_platelets=0, style=replace(CLEAN, falloff=0.4)
    ).image.astype(float)
    assert dark[240, 320, 1] == pytest.approx(196, abs=4)
    assert dark[:4, :4, 1].mean() / 196 == pytest.approx(1 - 0.4 * (0.5**2 + 0.375**2), abs=0.02)


def test_a_patient_keeps_its_smear_and_its_fraction():
    fields = draw_patient(
        3, spherocyte_fraction=0.137, n_fields=3, n_cells=25, size_hw=(240, 320), patient_id="p"
    )
    counts = [int((drawn.cells.names == "spherocyte").sum()) for drawn in fields]
    assert sum(counts) == round(0.137 * 75) and max(counts) - min(counts) <= 1
    assert [drawn.cells.field_id for drawn in fields] == ["p_01.png", "p_02.png", "p_03.png"]
    background = np.array([np.percentile(drawn.image, 90, axis=(0, 1)) for drawn in fields])
    assert np.ptp(background, axis=0).max() < 25
    assert len({drawn.image.tobytes() for drawn in fields}) == 3
    assert draw_patient(3, spherocyte_fraction=0.1, n_fields=0) == []


def test_overlays_and_debris_do_not_change_the_truth():
    plain, marked = (
        draw_field(rng(11), n_cells=30, style=SmearStyle(overlays=p, debris=0)) for p in (0.0, 1.0)
    )
    assert (plain.image != marked.image).any()
    np.testing.assert_array_equal(plain.cells.box_yxyx, marked.cells.box_yxyx)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spherocyte_fraction": float("nan")}, "spherocyte_fraction: .* 0 to 1, got nan"),
        ({"spherocyte_fraction": 1.1}, "spherocyte_fraction: .* 0 to 1, got 1.1"),
        ({"overlap_fraction": -0.1}, "overlap_fraction: .* got -0.1"),
        ({"touching_fraction": float("inf")}, "touching_fraction: .* got inf"),
        ({"n_cells": -1}, "n_cells: .*whole number from 0 .* got -1"),
        ({"n_platelets": 2.5}, "n_platelets: .*whole number .* got 2.5"),
        ({"um_per_px": float("nan")}, "um_per_px: .* got nan"),
        ({"um_per_px": 2.0}, "um_per_px: .* at most 0.625 .* got 2.0"),
        ({"size_hw": (0, 640)}, "size_hw: .* from 16 .* got 0"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        draw_field(rng(), **options)


def test_a_style_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"blur_um: .* 0 to 3, got nan"):
        SmearStyle(blur_um=float("nan"))
    with pytest.raises(ValueError, match=r"shape_shares: .*cube"):
        SmearStyle(shape_shares={"cube": 1.0})
    with pytest.raises(ValueError, match="jpeg_quality"):
        SmearStyle(jpeg_quality=0)
