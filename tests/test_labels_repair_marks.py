"""marks: bars and arrows go, the surroundings take their place, and stain is never taken for a
mark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spherodetect.labels.repair.marks import hide_marks
from spherodetect.synthetic import draw_field, random_style

GREEN, YELLOW = (40, 235, 60), (255, 225, 0)


def smear(seed: int = 0, size_hw: tuple[int, int] = (160, 200)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    style = replace(random_style(rng), overlays=0.0, jpeg_quality=None)
    return draw_field(rng, size_hw=size_hw, n_cells=14, style=style).image


def marked(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A green bar and a yellow arrow drawn on an image, and where they lie."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((120, 140, 190, 146), fill=GREEN)
    draw.line((20, 20, 60, 50), fill=YELLOW, width=4)
    drawn = np.asarray(picture)
    return drawn, (drawn != image).any(axis=-1)


def test_marks_are_painted_over_and_nothing_else_is_touched():
    from scipy import ndimage

    image = smear()
    drawn, where = marked(image)
    before = drawn.copy()
    hidden, n_px = hide_marks(drawn)
    np.testing.assert_array_equal(drawn, before, err_msg="the input was modified")
    assert n_px >= where.sum()
    far = ~ndimage.binary_dilation(where, iterations=5)
    np.testing.assert_array_equal(hidden[far], drawn[far])
    assert hide_marks(hidden)[1] == 0, "nothing saturated is left"


def test_what_is_painted_is_like_its_surroundings():
    slide = np.broadcast_to(np.array([180, 190, 185], np.uint8), (160, 200, 3)).copy()
    drawn, where = marked(slide)
    hidden, _ = hide_marks(drawn)
    assert np.abs(hidden[where].astype(int) - slide[where]).max() <= 1


def test_jpeg_colour_smeared_around_a_mark_goes_too():
    import io

    slide = np.broadcast_to(np.array([180, 190, 185], np.uint8), (160, 200, 3)).copy()
    buffer = io.BytesIO()
    Image.fromarray(marked(slide)[0]).save(buffer, "JPEG", quality=75)
    hidden, _ = hide_marks(np.asarray(Image.open(buffer)))
    assert np.abs(hidden.astype(int) - slide).max() < 30


@pytest.mark.parametrize("seed", range(8))
def test_stain_and_slide_are_no_marks(seed):
    image = smear(seed, (120, 120))
    hidden, n_px = hide_marks(image)
    assert n_px == 0
    assert hidden is image


@pytest.mark.parametrize("colour", [GREEN, YELLOW])
def test_a_picture_of_nothing_but_mark_does_no_harm(colour):
    image = np.broadcast_to(np.array(colour, np.uint8), (40, 50, 3)).copy()
    hidden, n_px = hide_marks(image)
    assert n_px == 40 * 50
    assert hidden.shape == image.shape and hidden.dtype == np.uint8


def test_the_bars_of_real_fields_go(shared_data):
    images = shared_data / "chula-rbc-12" / "images"
    with Image.open(images / "100.jpg") as picture:
        barred = np.asarray(picture.convert("RGB"))
    hidden, n_px = hide_marks(barred)
    assert 300 < n_px < 20_000
    green = hidden[..., 1].astype(int) - hidden[..., ::2].max(axis=-1)
    assert green[400:, 480:].max() < 45
    with Image.open(images / "1.jpg") as picture:
        assert hide_marks(np.asarray(picture.convert("RGB")))[1] == 0
