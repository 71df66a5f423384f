"""scale.file_metadata: pixel sizes in files as tifffile and Pillow write them."""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from spherodetect.detect.by_tiles import scale_of_scan
from spherodetect.detect.tiles import survey
from spherodetect.fields.scan import Pixels
from spherodetect.scale import find
from spherodetect.scale.file_metadata import FilePixelSize, file_pixel_size
from spherodetect.scale.find import Scale, find_scale
from spherodetect.synthetic import draw_field

TRUE_UM_PER_PX = 0.193
PIXELS = np.zeros((8, 9, 3), np.uint8)


def tiff(**options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, options.pop("pixels", PIXELS), photometric="rgb", **options)
    return buffer.getvalue()


def saved(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def ome(**pixels) -> bytes:
    pixels = {"axes": "YXS", **pixels}
    return tiff(ome=True, metadata=pixels)


@pytest.mark.parametrize(
    ("size", "unit", "um_per_px"),
    [(0.193, "µm", 0.193), (193, "nm", 0.193), (0.000193, "mm", 0.193), (1.93e-5, "cm", 0.193)],
)
def test_ome_xml_states_the_pixel_size_with_its_unit(size, unit, um_per_px, tmp_path):
    data = ome(
        PhysicalSizeX=size, PhysicalSizeY=size, PhysicalSizeXUnit=unit, PhysicalSizeYUnit=unit
    )
    (tmp_path / "a.ome.tif").write_bytes(data)
    for source in (data, tmp_path / "a.ome.tif", str(tmp_path / "a.ome.tif")):
        found = file_pixel_size(source)
        assert found == FilePixelSize(pytest.approx(um_per_px), "OME-XML")


def test_the_default_unit_of_ome_xml_is_the_micrometre():
    data = ome(PhysicalSizeX=0.1, PhysicalSizeY=0.1)
    assert file_pixel_size(data) == FilePixelSize(pytest.approx(0.1), "OME-XML")


@pytest.mark.parametrize(
    "pixels",
    [
        {},
        {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2},
        {"PhysicalSizeX": 0.1},
        {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeXUnit": "pixel"},
        {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeXUnit": "reference frame"},
    ],
    ids=["none", "not square", "one side", "pixel", "reference frame"],
)
def test_ome_xml_without_a_square_pixel_in_micrometres_gives_nothing(pixels):
    assert file_pixel_size(ome(**pixels)) is None


def test_ome_xml_with_an_entity_or_damage_gives_nothing():
    for text in (
        '<!DOCTYPE OME [<!ENTITY a "0.1">]><OME><Pixels PhysicalSizeX="&a;"/></OME>',
        "<OME><Pixels",
        '<OME><Pixels PhysicalSizeX="x" PhysicalSizeY="x"/></OME>',
    ):
        assert file_pixel_size(tiff(description=text, metadata=None)) is None


@pytest.mark.parametrize(
    ("unit", "per_unit", "um_per_px"),
    [
        ("micron", 5.0, 0.2),
        ("um", 5.0, 0.2),
        ("\\u00B5m", 5.0, 0.2),
        ("nm", 0.005, 0.2),
        ("cm", 50_000, 0.2),
        ("inch", 127_000, 0.2),
    ],
)
def test_an_imagej_tiff_states_pixels_per_unit(unit, per_unit, um_per_px):
    data = tiff(imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert file_pixel_size(data) == FilePixelSize(pytest.approx(um_per_px, rel=1e-4), "ImageJ")


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_an_imagej_tiff_without_a_length_gives_nothing(unit):
    data = tiff(imagej=True, resolution=(5, 5), metadata={"unit": unit} if unit else {})
    assert file_pixel_size(data) is None


def test_resolution_tags_of_a_microscope_are_read():
    per_cm = 1e4 / TRUE_UM_PER_PX
    per_inch = per_cm * 2.54
    expected = FilePixelSize(pytest.approx(TRUE_UM_PER_PX, rel=1e-3), "resolution")
    files = {
        "TIFF in cm": tiff(resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None),
        "TIFF in inches": tiff(resolution=(per_inch, per_inch), resolutionunit=2, metadata=None),
        "BigTIFF": tiff(resolution=(per_cm, per_cm), resolutionunit=3, metadata=None, bigtiff=True),
        "PNG": saved("PNG", dpi=(per_inch, per_inch)),
        "BMP": saved("BMP", dpi=(per_inch, per_inch)),
    }
    assert {name: file_pixel_size(data) for name, data in files.items()} == dict.fromkeys(
        files, expected
    )


def test_the_resolution_of_a_jpeg_is_read_from_jfif_and_from_exif():
    """JFIF has 16 bits: 65,535 dots per inch, 0.39 µm, are the most it can state."""
    assert file_pixel_size(saved("JPEG", dpi=(50_800, 50_800))) == FilePixelSize(
        pytest.approx(0.5), "resolution"
    )
    exif = Image.Exif()
    exif[282] = exif[283] = 1e4 / TRUE_UM_PER_PX
    exif[296] = 3
    data = saved("JPEG", exif=exif)
    assert file_pixel_size(data) == FilePixelSize(
        pytest.approx(TRUE_UM_PER_PX, rel=1e-3), "resolution"
    )


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200, 2400, 5000])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_resolution_for_screens_and_printers_is_no_pixel_size(kind, dpi):
    assert file_pixel_size(saved(kind, dpi=(dpi, dpi))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        saved("PNG"),
        saved("JPEG"),
        saved("WEBP"),
        tiff(),
        tiff(metadata=None, resolution=(1e5, 5e4), resolutionunit=3),
        tiff(metadata=None, resolution=(1e5, 1e5), resolutionunit=1),
        tiff(metadata=None, resolution=(0, 0), resolutionunit=3),
        saved("PNG", dpi=(1e5, 1e5))[:40],
    ],
    ids=range(10),
)
def test_files_without_a_usable_pixel_size_give_nothing(data):
    assert file_pixel_size(data) is None


def test_a_resolution_with_the_denominator_0_gives_nothing(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(metadata=None, resolution=(1e5, 1e5), resolutionunit=3))
    assert file_pixel_size(path) is not None
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[282].overwrite((1, 0))
    assert file_pixel_size(path) is None


def test_a_missing_file_gives_nothing(tmp_path):
    assert file_pixel_size(tmp_path / "none.tif") is None
    assert file_pixel_size(tmp_path) is None


def test_text_chunks_of_a_png_are_no_pixel_size():
    info = PngInfo()
    info.add_text("Comment", "0.193 um")
    assert file_pixel_size(saved("PNG", pnginfo=info)) is None


# --- in the order of find_scale


@cache
def _smear() -> np.ndarray:
    return draw_field(np.random.default_rng(4), n_cells=80, um_per_px=TRUE_UM_PER_PX).image


def test_the_file_comes_after_the_user_and_before_the_bar(monkeypatch):
    size = FilePixelSize(0.2, "OME-XML")
    assert find_scale(_smear(), 0.21, file_size=size) == find_scale(_smear(), 0.21)
    found = find_scale(_smear(), file_size=size)
    assert (found.um_per_px, found.source, found.warning) == (0.2, "file", "")
    assert math.isnan(found.relative_error)
    monkeypatch.setattr(find, "find_scale_bar", lambda image: pytest.fail("the bar was searched"))
    assert find_scale(_smear(), file_size=size, scale_bar_um=20).source == "file"


@pytest.mark.parametrize("diameter_um", [4.6, 7.5, 11.5])
def test_metadata_that_makes_the_cells_4_to_12_um_wide_is_used(diameter_um):
    size = FilePixelSize(TRUE_UM_PER_PX * diameter_um / 7.5, "resolution")
    assert find_scale(_smear(), file_size=size).source == "file"


@pytest.mark.parametrize("diameter_um", [0.8, 3.3, 14.5, 750])
def test_metadata_that_the_cells_contradict_is_reported_and_not_used(diameter_um):
    size = FilePixelSize(TRUE_UM_PER_PX * diameter_um / 7.5, "ImageJ")
    found = find_scale(_smear(), file_size=size)
    assert (found.um_per_px, found.source) == (None, "cells")
    for part in (f"{size.um_per_px:.3g} µm", "ImageJ", "4 to 12"):
        assert part in found.warning


def test_after_contradicted_metadata_the_bar_is_next(monkeypatch):
    bar = Scale(0.19, "scale bar", 0.01)
    monkeypatch.setattr(find, "find_scale_bar", lambda image: _Bar())
    found = find_scale(_smear(), file_size=FilePixelSize(50, "OME-XML"), scale_bar_um=19.3)
    assert (found.um_per_px, found.source) == (pytest.approx(0.193), bar.source)
    assert "OME-XML" in found.warning
    contradicted = find_scale(_smear(), file_size=FilePixelSize(50, "OME-XML"), scale_bar_um=90)
    assert contradicted.um_per_px is None
    assert "OME-XML" in contradicted.warning and "(scale bar)" in contradicted.warning


class _Bar:
    length_px = 100.0


def test_metadata_of_a_field_without_cells_is_not_used():
    empty = np.full((64, 64, 3), 230, np.uint8)
    found = find_scale(empty, file_size=FilePixelSize(0.2, "OME-XML"))
    assert (found.um_per_px, found.source) == (None, "cells")


@pytest.mark.parametrize(("um_per_px", "expected"), [(0.2, (0.2, "file")), (2, (None, "cells"))])
def test_the_metadata_of_a_slide_scan_is_checked_on_a_part_of_it(um_per_px, expected):
    scan = Pixels(np.tile(_smear(), (2, 2, 1)))
    size = FilePixelSize(um_per_px, "OME-XML")
    scale = scale_of_scan(scan, survey(scan), None, size)
    assert (scale.um_per_px, scale.source) == expected
    assert bool(scale.warning) == (scale.source == "cells")
    assert scale.unread_bar_px is None
    assert scale_of_scan(scan, survey(scan), 0.19, size).source == "given"
    assert scale_of_scan(scan, survey(scan), None) == Scale(None)
