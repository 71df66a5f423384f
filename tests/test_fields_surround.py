"""fields.surround: the frame of a letterbox and the dark around an eyepiece are found, and nothing
else is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.fields.surround import find_surround
from spherodetect.photograph import Photograph
from spherodetect.quality import assess
from spherodetect.segment import segment
from spherodetect.synthetic import draw_field


@pytest.fixture(scope="module")
def field():
    """A drawn field of 480 x 640 pixels, with the truth."""
    return draw_field(
        np.random.default_rng(5), n_cells=70, spherocyte_fraction=0.2, um_per_px=0.193
    )


def _jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


def _boxed(image: np.ndarray, colour: int | tuple[int, ...], *, across: bool = False):
    """The image with bands of 80 pixels, and the truth."""
    height, width = image.shape[:2]
    shape = (height, width + 160) if across else (height + 160, width)
    framed = np.zeros((*shape, 3), np.uint8) + np.array(colour, np.uint8)
    inner = np.s_[:, 80:-80] if across else np.s_[80:-80, :]
    framed[inner] = image
    outside = np.ones(shape, bool)
    outside[inner] = False
    return framed, outside


def _round(image: np.ndarray, radius: float, soft: float = 1.0):
    """The image through a round eyepiece, and the truth."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    light = np.clip((radius - distance) / soft + 0.5, 0, 1)[..., None]
    return (image * light + 6 * (1 - light)).astype(np.uint8), distance > radius


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
@pytest.mark.parametrize("across", [False, True])
def test_bands_that_mirror_the_field_are_found_to_the_pixel(field, mode, across):
    widths = ((0, 0), (60, 61)) if across else ((80, 80), (0, 0))
    mirrored = np.pad(field.image, (*widths, (0, 0)), mode=mode)
    outside = np.pad(np.zeros(field.image.shape[:2], bool), widths, constant_values=True)
    for image in (mirrored, _jpeg(mirrored)):
        np.testing.assert_array_equal(find_surround(image), outside)


def test_slide_and_gradients_are_no_mirror_image():
    rng = np.random.default_rng(2)
    slide = rng.normal(225, 2, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    slope = slide - np.linspace(0, 60, 300).astype(np.uint8)[:, None]
    for image in (slide, slope, np.swapaxes(slope, 0, 1)):
        assert find_surround(image) is None


@pytest.mark.parametrize("colour", [0, 255, 114, (20, 30, 40)])
@pytest.mark.parametrize("across", [False, True])
def test_the_bands_of_a_letterbox_are_found_to_the_pixel(field, colour, across):
    framed, outside = _boxed(field.image, colour, across=across)
    for image in (framed, _jpeg(framed)):
        np.testing.assert_array_equal(find_surround(image), outside)


@pytest.mark.parametrize(("radius", "soft"), [(220, 1), (230, 8), (300, 4)])
def test_the_dark_around_an_eyepiece_is_found(field, radius, soft):
    image, outside = _round(field.image, radius, soft)
    found = find_surround(_jpeg(image))
    assert not (outside & ~found).any(), "no dark pixel is left"
    assert (found & ~outside).mean() < 0.03


def test_a_whole_field_a_pointer_and_an_empty_picture_have_no_surround(field):
    pointer = field.image.copy()
    pointer[200:215, :300] = 8
    for image in (
        field.image,
        pointer,
        np.zeros((60, 80, 3), np.uint8),
        np.full((60, 80, 3), 255, np.uint8),
        np.clip(field.image.astype(int) * 2, 0, 255).astype(np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8),
    ):
        assert find_surround(image) is None


def test_a_framed_field_has_the_cells_and_the_quality_of_the_plain_one(field):
    framed = Photograph(_boxed(field.image, 0)[0])
    plain = assess(field.image)
    quality = assess(framed)
    assert (quality.accepted, quality.reason) == (plain.accepted, plain.reason)
    assert quality.density == pytest.approx(plain.density, rel=0.1)
    assert quality.exposure == pytest.approx(plain.exposure, abs=0.02)
    assert abs(segment(framed.picture).n_cells - segment(field.image).n_cells) <= 3
    assert "25 %" in framed.notes[-1]
    assert Photograph(field.image).notes == ()


def test_cells_at_the_edge_of_the_view_are_border_and_the_others_stay(field):
    image, outside = _round(field.image, 220)
    photograph = Photograph(image)
    whole = np.ones((20, 20), bool)
    # In the middle, at the edge of the circle, and at the edge of the image.
    box = np.array([[230, 310, 250, 330], [20, 310, 40, 330], [230, 0, 250, 20]])
    cells = Cells.from_labels(box, np.ones(3), [whole] * 3, image_size_hw=(480, 640))
    seen = photograph.cut_off(cells)
    assert seen.exclusion_reason.tolist() == ["", "border", "border"]
    assert Photograph(field.image).cut_off(cells) is cells
    assert outside[:19].all()
