"""scale.find: the order of the sources, contradictions, and the error of a scale from cells."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spherodetect.errors import SpherodetectError
from spherodetect.photograph import Photograph
from spherodetect.scale import find
from spherodetect.scale.find import (
    RBC_DIAMETER_UM,
    RBC_SPREAD_UM,
    Scale,
    find_scale,
    from_cells,
    unread_bars,
)
from spherodetect.segment import segment
from spherodetect.synthetic import draw_field

TRUE_UM_PER_PX = 0.193
#: Tick to tick, 20 µm at that pixel size.
BAR_PX = 104
#: Spread of the cells of patients, as a part of their size.
PATIENTS = RBC_SPREAD_UM / RBC_DIAMETER_UM


@cache
def _smear(with_bar: bool = False) -> np.ndarray:
    image = draw_field(np.random.default_rng(4), n_cells=80, um_per_px=TRUE_UM_PER_PX).image
    if with_bar:
        picture = Image.fromarray(image)
        draw = ImageDraw.Draw(picture)
        draw.line((480, 450, 480 + BAR_PX, 450), fill=(0, 230, 30), width=2)
        for x in (480, 480 + BAR_PX):
            draw.line((x, 444, x, 450), fill=(0, 230, 30), width=2)
        image = np.asarray(picture)
    return image


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    """No number is read unless a test states one."""
    monkeypatch.setattr(find, "read_length_um", lambda image, bar: None)


def test_given_comes_before_the_bar_and_the_bar_before_the_cells(monkeypatch):
    given = find_scale(_smear(True), 0.2, scale_bar_um=20)
    assert (given.um_per_px, given.source, given.warning) == (0.2, "given", "")
    assert math.isnan(given.relative_error)
    stated = find_scale(_smear(True), scale_bar_um=20)
    assert (stated.source, stated.warning) == ("scale bar", "")
    assert stated.um_per_px == pytest.approx(20 / BAR_PX, rel=0.01)
    assert stated.relative_error == pytest.approx(0.5 / BAR_PX, rel=0.01)
    assert find_scale(_smear()) == Scale(None, "cells")
    assert find_scale(_smear(True)) == Scale(
        None, "cells", unread_bar_px=pytest.approx(BAR_PX, abs=0.5)
    )
    monkeypatch.setattr(find, "read_length_um", lambda image, bar: 20.0)
    assert find_scale(_smear(True)) == stated
    assert find_scale(_smear(True), scale_bar_um=21).um_per_px == pytest.approx(
        21 / BAR_PX, rel=0.01
    )


def test_a_photograph_gives_the_scale_of_its_image():
    assert find_scale(Photograph(_smear()), 0.05) == find_scale(_smear(), 0.05)


def test_a_given_scale_that_the_cells_contradict_is_kept_and_doubted():
    for um_per_px in (TRUE_UM_PER_PX / 1.3, TRUE_UM_PER_PX, TRUE_UM_PER_PX * 1.3):
        assert find_scale(_smear(), um_per_px).warning == ""
    for um_per_px in (TRUE_UM_PER_PX / 2, TRUE_UM_PER_PX * 2):
        doubted = find_scale(_smear(), um_per_px)
        assert (doubted.um_per_px, doubted.source) == (um_per_px, "given")
        assert f"{um_per_px:.3g} µm" in doubted.warning
        assert "(given)" in doubted.warning
        width_um = 7.5 * um_per_px / TRUE_UM_PER_PX
        stated = float(re.search(r"([\d.]+) µm wide", doubted.warning)[1])
        assert stated == pytest.approx(width_um, rel=0.15)


def test_a_bar_that_the_cells_contradict_is_not_used():
    for length_um in (8, 50):
        doubted = find_scale(_smear(True), scale_bar_um=length_um)
        assert (doubted.um_per_px, doubted.source) == (None, "cells")
        assert f"{length_um / BAR_PX:.3g} µm" in doubted.warning
        assert "(scale bar)" in doubted.warning


def test_a_missing_bar_whose_length_was_stated_is_reported():
    missing = find_scale(_smear(), scale_bar_um=20)
    assert (missing.um_per_px, missing.source, missing.unread_bar_px) == (None, "cells", None)
    assert "found none" in missing.warning


def test_an_empty_slide_contradicts_nothing():
    assert find_scale(np.full((64, 64, 3), 230, np.uint8), 0.2).warning == ""


@pytest.mark.parametrize("um_per_px", [0.0, -1.0, 1e-4, 5.0, math.nan, math.inf])
def test_an_impossible_pixel_size_is_refused(um_per_px):
    with pytest.raises(SpherodetectError, match=r"'a\.jpg': .* between 0\.001 and 5 µm"):
        find_scale(_smear(), um_per_px, field_id="a.jpg")


def test_a_scale_from_cells():
    assert from_cells(np.full(50, 37.5)).um_per_px == pytest.approx(0.2)
    assert from_cells(np.array([30, 37.5, 45, np.nan, 0])).um_per_px == pytest.approx(0.2)
    # Equal cells have no error of sampling: only the spread between patients is left.
    assert from_cells(np.full(50, 37.5)).relative_error == pytest.approx(PATIENTS)
    assert from_cells(np.zeros(0)) == from_cells(np.array([np.nan])) == Scale(None)
    assert from_cells(np.array([37.5, 37.5])).relative_error == math.inf


@pytest.mark.parametrize("sign", [1, -1], ids=["widening gaps", "narrowing gaps"])
def test_the_error_uses_the_order_statistics_half_a_root_of_n_around_the_middle(sign):
    """16 cells: the middle rank is 7.5, one standard deviation is 2 ranks, so ranks 5.5 and 9.5.

    The diameters are 300 plus or minus the squares of the ranks, so that each other pair of ranks
    gives another error.
    """
    diameters = 300 + sign * np.arange(16.0) ** 2
    at_5_5, middle, at_9_5 = (25 + 36) / 2, (49 + 64) / 2, (81 + 100) / 2
    sampling = (at_9_5 - at_5_5) / 2 / (300 + sign * middle)
    scale = from_cells(np.random.default_rng(0).permutation(diameters))
    assert scale.um_per_px == pytest.approx(7.5 / (300 + sign * middle), rel=1e-12)
    assert scale.relative_error == pytest.approx(math.hypot(sampling, PATIENTS), rel=1e-12)


def test_the_error_from_cells_is_that_of_their_median():
    """The stated error of sampling against the spread of the medians of many drawn fields."""
    rng = np.random.default_rng(1)
    for n in (20, 200):
        drawn = [from_cells(rng.normal(39, 3, n)) for _ in range(1000)]
        spread = np.std([s.um_per_px for s in drawn]) / np.mean([s.um_per_px for s in drawn])
        stated = [math.sqrt(s.relative_error**2 - PATIENTS**2) for s in drawn]
        assert np.sqrt(np.mean(np.square(stated))) == pytest.approx(spread, rel=0.15)


def test_cells_give_the_scale_if_nothing_else_does():
    diameters = np.full(9, 37.5)
    assert Scale(0.1, "given").or_cells(diameters) == Scale(0.1, "given")
    assert Scale(None, warning="x", unread_bar_px=9.0).or_cells(diameters) == Scale(
        0.2, "cells", PATIENTS, "x", 9.0
    )


def test_unread_bars_are_reported_once_with_their_length_and_fields():
    def told(*lengths: float | None) -> str:
        scales = [Scale(None, unread_bar_px=length) for length in lengths]
        return unread_bars({f"{k}.jpg": scale for k, scale in enumerate(scales)})

    assert told() == told(None, None) == ""
    one = told(102.9, None)
    assert all(part in one for part in ("103 px", "1 field ('0.jpg'),", "--scale-bar-um"))
    alike = told(103.4, 102.5, 102.9, 103)
    assert "103 px" in alike
    assert "4 fields ('0.jpg', '1.jpg', '2.jpg' and 1 more)" in alike
    different = told(103, None, 41.5)
    assert "42 to 103 px" in different and "2 fields ('0.jpg', '2.jpg')" in different


def test_the_error_of_a_scale_from_cells_holds_the_bar_of_real_fields(shared_data):
    """Normal, small (195) and large (498, 590) cells. Over all fields it is 95 %."""
    folder = Path(shared_data) / "chula-rbc-12" / "images"
    for number in (100, 145, 195, 215, 498, 590):
        image = np.asarray(Image.open(folder / f"{number}.jpg").convert("RGB"))
        bar = find_scale(image, scale_bar_um=20 if number <= 220 else 8)
        assert bar.um_per_px == pytest.approx(TRUE_UM_PER_PX, rel=0.02), number
        areas = np.bincount(segment(image).labels.ravel())[1:]
        own = from_cells(2 * np.sqrt(areas / np.pi))
        assert abs(math.log(own.um_per_px / bar.um_per_px)) < 1.96 * own.relative_error, number
