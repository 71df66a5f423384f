"""quality: good fields pass, whatever their cells; spoilt fields and other images do not."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from spherodetect.cells import Cells
from spherodetect.measure import measure
from spherodetect.quality import FieldQuality, assess
from spherodetect.report.tables import QUALITY_COLUMNS
from spherodetect.synthetic import SmearStyle, SyntheticField, draw_field

CHULA = Path(__file__).parents[2] / "shared/data/chula-rbc-12"


@cache
def _field(spherocyte_fraction: float = 0.1, n_cells: int = 60, **style: float) -> SyntheticField:
    return draw_field(
        np.random.default_rng(11),
        size_hw=(360, 480),
        n_cells=n_cells,
        spherocyte_fraction=spherocyte_fraction,
        style=SmearStyle(**style),
    )


def _scaled(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def _blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (sigma_px, sigma_px, 0))


def _portrait() -> np.ndarray:
    """A face in front of a grey wall, drawn with ovals."""
    y, x = np.mgrid[:360, :480]
    image = np.empty((360, 480, 3))
    image[:] = np.array([120, 140, 165]) + y[..., None] / 12

    def oval(cy: int, cx: int, ry: int, rx: int, color: tuple[int, int, int]) -> None:
        image[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = color

    oval(400, 240, 170, 160, (40, 60, 110))
    oval(120, 240, 105, 90, (60, 40, 25))
    oval(170, 240, 105, 82, (225, 180, 155))
    for eye in (206, 274):
        oval(155, eye, 7, 13, (250, 250, 250))
        oval(155, eye, 6, 6, (50, 30, 20))
    oval(225, 240, 8, 26, (180, 70, 80))
    noisy = _blurred(image, 1.5) + np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spherocyte_fraction", [0, 0.1, 0.95])
@pytest.mark.parametrize("given", ["detected", "measured", "none"])
def test_a_good_field_passes_whatever_its_cells_are(spherocyte_fraction, given):
    drawn = _field(spherocyte_fraction)
    cells = {"detected": drawn.cells, "measured": measure(drawn.cells, drawn.image), "none": None}[
        given
    ]
    quality = assess(drawn.image, cells)
    assert quality.accepted, quality.reason
    assert quality.reason == ""
    assert str(quality) == "accepted"
    assert quality.n_cells == pytest.approx(60, abs=0 if cells is not None else 8)
    true_px = (
        np.median(drawn.cells.measurements["diameter_um"][drawn.cells.countable]) / drawn.um_per_px
    )
    assert quality.rbc_diameter_px == pytest.approx(true_px, rel=0.1)
    assert 0.5 < quality.exposure < 0.9
    assert 0.2 < quality.density < 0.5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: _blurred(image, 6), "out of focus"),
        (lambda image: _scaled(image, 0.1), "under-exposed"),
        (lambda image: _scaled(image, 0), "under-exposed"),
        (lambda image: _scaled(image, 1.7), "over-exposed"),
        (lambda image: np.full_like(image, 255), "over-exposed"),
        (lambda image: np.full_like(image, 128), "too sparse: no red cells"),
        (
            lambda image: np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8),
            "too grainy",
        ),
        (lambda image: np.repeat(image[..., 1:2], 3, axis=2), "out of domain"),
        (lambda image: _portrait(), "out of domain"),
    ],
    ids=["blurred", "dark", "black", "bright", "white", "empty", "noise", "grey", "portrait"],
)
def test_a_spoilt_field_is_rejected_with_its_reason(spoil, reason):
    image = spoil(_field().image)
    quality = assess(image)
    assert not quality.accepted
    assert quality.reason.startswith(reason)
    assert "\n" not in quality.reason
    assert str(quality) == f"rejected, {quality.reason}"


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 1.5])
def test_a_little_blur_is_accepted(sigma_px):
    assert assess(_blurred(_field().image, sigma_px)).accepted


def test_focus_falls_with_blur_and_does_not_depend_on_magnification():
    image = _field().image
    focus = [assess(_blurred(image, sigma) if sigma else image).focus for sigma in (0, 2, 4, 6)]
    assert focus == sorted(focus, reverse=True)
    doubled = np.asarray(Image.fromarray(image).resize((960, 720), Image.Resampling.BICUBIC))
    assert assess(doubled).focus == pytest.approx(focus[0], rel=0.15)
    assert assess(_blurred(doubled, 12)).focus == pytest.approx(focus[3], rel=0.15)


def test_the_diameter_of_a_large_field_is_in_its_own_pixels():
    drawn = draw_field(np.random.default_rng(2), size_hw=(1000, 1400), n_cells=25, um_per_px=0.05)
    quality = assess(drawn.image, drawn.cells)
    assert quality.accepted, quality.reason
    assert quality.rbc_diameter_px == pytest.approx(7.5 / 0.05, rel=0.12)
    assert quality.explained > 0.95
    assert assess(drawn.image).rbc_diameter_px == pytest.approx(quality.rbc_diameter_px, rel=0.1)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (1, 3000), (4, 4000), (9, 9)])
def test_an_image_too_small_for_a_cell_is_rejected_without_an_error(size_hw):
    for level in (0, 200):
        image = np.full((*size_hw, 3), level, np.uint8)
        image[0, 0] = 90
        assert not assess(image).accepted
        assert not assess(image, Cells.empty(field_id="a", image_size_hw=size_hw)).accepted


def test_the_thin_end_is_flat_pale_and_wide_and_spherocytes_are_not():
    thin = _field(0.0, pallor=0.0, stain_od=0.09)
    quality = assess(thin.image, thin.cells)
    assert quality.reason.startswith("too thin"), quality
    # The same image with a pixel size that makes the cells too small for flattened ones; then two
    # fields of cells as dense as spherocytes.
    assert assess(thin.image, replace(thin.cells, um_per_px=0.14)).accepted
    dense = _field(0.0, pallor=0.0, stain_od=0.2)
    assert assess(dense.image, dense.cells).accepted
    faint = _field(0.95, stain_od=0.13)
    assert assess(faint.image, faint.cells).accepted


def test_crowded_empty_and_missed_fields_have_different_reasons():
    crowded = draw_field(
        np.random.default_rng(0),
        size_hw=(300, 400),
        n_cells=190,
        overlap_fraction=0.9,
        touching_fraction=0.1,
    )
    assert assess(crowded.image, crowded.cells).reason.startswith("too dense")
    drawn = _field()
    nothing = Cells.empty(field_id="a", image_size_hw=drawn.image.shape[:2])
    assert assess(drawn.image, nothing).reason.startswith("out of domain")
    red = np.flatnonzero(drawn.cells.names == "rbc")
    assert assess(drawn.image, drawn.cells[red[:8]]).reason.startswith("badly segmented")
    assert assess(drawn.image, drawn.cells[red[:1]]).reason.startswith("too few cells: 1 red cell")
    few = draw_field(
        np.random.default_rng(1), size_hw=(360, 480), n_cells=2, n_white=0, n_platelets=2
    )
    assert assess(few.image, few.cells).reason.startswith("too sparse: 2 red cells")


def test_a_slide_that_is_empty_but_for_a_few_is_too_sparse():
    for n_cells, reason in ((0, "no red cells"), (6, "2 % of the field")):
        drawn = draw_field(np.random.default_rng(1), n_cells=n_cells, n_white=0, n_platelets=1)
        quality = assess(drawn.image, drawn.cells)
        assert quality.reason.startswith(f"too sparse: {reason}"), quality
        assert assess(drawn.image).reason.startswith("too sparse"), "specks are no cells"


def test_a_sheet_of_cells_without_empty_slide_is_too_dense():
    """The apparent slide is one layer of cells: it is uneven, but has no grain."""
    for seed in range(2):
        sheet = draw_field(
            np.random.default_rng(seed), n_cells=300, overlap_fraction=0.9, touching_fraction=0.1
        )
        quality = assess(sheet.image)
        assert quality.reason.startswith("too dense")
        assert quality.uneven > 0.07
        assert quality.grain < 0.5 * quality.uneven


def test_a_pointer_in_a_sparse_field_does_not_count_as_stain():
    drawn = draw_field(np.random.default_rng(4), n_cells=22, n_white=0)
    image = drawn.image.copy()
    y, x = np.mgrid[:480, :640]
    light = 1 - 0.9 * _blurred(1.0 * (np.abs(y - 240) < 40 * (1 - x / 330))[..., None], 5)
    quality = assess(np.clip(image * light, 0, 255).astype(np.uint8), drawn.cells)
    # The pointer is a good part of the covered area.
    assert quality.density > 1.2 * assess(image, drawn.cells).density
    assert quality.red_to_green < 0.5
    assert quality.accepted, quality.reason


def test_nuclei_do_not_hide_pale_red_cells():
    """With Otsu's threshold between nuclei and the rest, the field would seem empty and grainy."""
    pale = draw_field(
        np.random.default_rng(3),
        size_hw=(480, 640),
        n_cells=30,
        n_white=2,
        um_per_px=0.08,
        style=SmearStyle(um_per_px=0.08, stain_od=0.09),
    )
    quality = assess(pale.image)
    assert quality.accepted, quality.reason
    assert quality.density > 0.2
    assert quality.n_cells >= 20


def test_clumps_are_too_dense_long_before_the_slide_is_covered():
    def discs(step_px: float) -> np.ndarray:
        """Five chains of eight discs with this distance between neighbours."""
        y, x = np.mgrid[:480, :640]
        image = np.random.default_rng(0).normal(205, 2, (480, 640, 3))
        for row in range(5):
            for k in range(8):
                away = np.hypot(y - 60 - 90 * row, x - 60 - step_px * k)
                image *= np.array([0.85, 0.65, 0.75]) ** np.clip(20.5 - away, 0, 1)[..., None]
        return _blurred(np.clip(image, 0, 255).astype(np.uint8), 1)

    assert assess(discs(60)).accepted
    chains = assess(discs(31))
    assert chains.density < 0.3
    assert chains.single == 0
    assert chains.reason.startswith("too dense")
    assert "single cells" in chains.reason


def test_focus_does_not_depend_on_the_number_of_pixels_of_a_cell():
    image = Image.fromarray(_field().image)
    half = np.asarray(image.resize((240, 180), Image.Resampling.LANCZOS))
    assert assess(half).accepted
    assert assess(half).focus > 0.9 * assess(np.asarray(image)).focus
    assert not assess(_blurred(half, 3)).accepted


def test_a_burnt_out_slide_is_over_exposed_though_its_cells_are_not():
    drawn = _field(stain_od=0.4)
    bright = _scaled(drawn.image, 1.6)
    assert (bright[..., 1] >= 253).mean() > 0.5
    quality = assess(bright, drawn.cells)
    assert quality.burnt < 0.05
    assert quality.washed > 0.95
    assert quality.reason.startswith("over-exposed: ")
    assert "empty slide" in quality.reason


def test_a_strip_of_text_below_the_field_changes_nothing():
    drawn = _field()
    strip = np.full((40, drawn.image.shape[1], 3), 0, np.uint8)
    strip[15:25, 20:200:7] = 255
    image = np.concatenate([drawn.image, strip])
    cells = replace(drawn.cells, image_size_hw=image.shape[:2])
    assert assess(image, cells) == assess(drawn.image, drawn.cells)
    assert assess(image) == assess(drawn.image)


def test_assessing_modifies_neither_image_nor_cells_and_is_repeatable():
    drawn = _field()
    image = drawn.image.copy()
    assert assess(image, drawn.cells) == assess(image, drawn.cells)
    assert (image == drawn.image).all()
    assert "center_rim_ratio" not in drawn.cells.measurements


def test_the_quality_has_the_columns_of_the_quality_table():
    other = {"patient_id", "field_id", "um_per_px", "um_per_px_source", "um_per_px_error_percent"}
    assert set(QUALITY_COLUMNS) - other <= {field.name for field in fields(FieldQuality)}


@pytest.mark.skipif(not CHULA.is_dir(), reason="the Chula RBC-12 fields are not at ../shared/data")
def test_real_fields_pass_and_the_same_fields_spoilt_do_not():
    files = sorted((CHULA / "images").glob("*.jpg"), key=lambda path: int(path.stem))
    rich = [path for path in files if 81 <= int(path.stem) <= 100 or 161 <= int(path.stem) <= 220]
    for path in [*files[::60], *rich[::12]]:
        image = np.asarray(Image.open(path).convert("RGB"))
        quality = assess(image)
        assert quality.accepted, f"{path.name}: {quality.reason}"
        if path in files[::120]:
            assert not assess(_blurred(image, 6)).accepted, path.name
            assert not assess(_scaled(image, 0.1)).accepted, path.name
