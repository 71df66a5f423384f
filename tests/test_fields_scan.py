"""fields.scan: for each layout of a TIFF, a region has the pixels of the whole image there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadImageError
from spherodetect.fields import scan as scans
from spherodetect.fields import tiff
from spherodetect.fields.scan import Pixels, Scan, is_scan

tifffile = pytest.importorskip("tifffile")
WINDOWS = [(0, 0, 150, 131), (40, 17, 41, 130), (149, 130, 150, 131), (60, 64, 128, 129)]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth image, which JPEG preserves, whose pixels all differ."""
    y, x = np.mgrid[:150, :131]
    return np.stack([y + 40, x + 60, 200 - (x + y) // 3], axis=-1).astype(np.uint8)


def written(path: Path, picture: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, picture, photometric=options.pop("photometric", "rgb"), **options)
    return path


LAYOUTS = {
    "one strip": {}, "strips": {"rowsperstrip": 16}, "strips of odd rows": {"rowsperstrip": 7},
    "tiles": {"tile": (64, 32)}, "bigtiff": {"tile": (64, 32), "bigtiff": True},
    "zipped strips": {"rowsperstrip": 16, "compression": "zlib"},
    "zipped tiles": {"tile": (64, 32), "compression": "zlib", "predictor": True},
    "big-endian": {"rowsperstrip": 16, "byteorder": ">"},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_is_what_the_picture_shows_there(layout, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_PART_BYTES", 4000)
    with Scan(written(tmp_path / "a.tif", picture, **LAYOUTS[layout])) as scan:
        assert scan.size_hw == (150, 131)
        for y0, x0, y1, x1 in WINDOWS:
            np.testing.assert_array_equal(scan.read((y0, x0, y1, x1)), picture[y0:y1, x0:x1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_each_compression_of_pillow_is_read(compression, picture, tmp_path):
    options = {"quality": 95} if compression == "jpeg" else {}
    Image.fromarray(picture).save(tmp_path / "a.tif", compression=compression, **options)
    with Scan(tmp_path / "a.tif") as scan:
        found = np.concatenate(
            [scan.read((y, 0, min(y + 20, 150), 131)) for y in range(0, 150, 20)]
        )
    assert np.abs(found.astype(int) - picture).max() <= (12 if compression == "jpeg" else 0)


@pytest.mark.parametrize(
    "kind", ["grey", "16 bits", "big-endian", "white is 0", "alpha", "palette"]
)
def test_other_pixel_formats_are_read_as_in_photographs(kind, picture, tmp_path):
    from spherodetect.fields.image import read_image

    path, grey = tmp_path / "a.tif", picture[..., 1]
    wide = grey.astype(np.uint16) * 257
    if kind == "alpha":
        rgba = np.dstack([picture, np.full_like(grey, 128)])
        written(path, rgba, tile=(64, 32), extrasamples=["unassalpha"])
    elif kind == "palette":
        Image.fromarray(picture).quantize(64).save(path)
    else:
        data = wide if kind in {"16 bits", "big-endian"} else grey
        options = {"byteorder": ">"} if kind == "big-endian" else {}
        written(
            path,
            data,
            tile=(64, 32),
            photometric="miniswhite" if kind == "white is 0" else "minisblack",
            **options,
        )
    if kind == "alpha":
        expected = (picture.astype(float) * 128 + 255 * 127) / 255
    else:
        expected = (
            read_image(path).astype(float)
            if kind == "palette"
            else np.repeat(
                (255 - grey if kind == "white is 0" else grey)[..., None], 3, axis=2
            ).astype(float)
        )
    with Scan(path) as scan:
        for y0, x0, y1, x1 in WINDOWS:
            assert np.abs(scan.read((y0, x0, y1, x1)) - expected[y0:y1, x0:x1]).max() <= 1


def test_smaller_copies_may_follow_and_other_pages_may_not(picture, tmp_path):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(picture, tile=(64, 32), photometric="rgb")
        file.write(picture[::2, ::2], tile=(64, 32), photometric="rgb", subfiletype=1)
    with Scan(tmp_path / "pyramid.tif") as scan:
        np.testing.assert_array_equal(scan.read(WINDOWS[0]), picture)
    written(tmp_path / "stack.tif", np.stack([picture, picture]))
    with pytest.raises(BadImageError, match="several pages"):
        Scan(tmp_path / "stack.tif")


def test_tiles_that_are_not_stored_are_empty_slide(picture, tmp_path):
    path = written(tmp_path / "a.tif", picture, tile=(64, 32))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[0] = 0
        tiff.pages[0].tags[325].overwrite(counts)
    with Scan(path) as scan:
        region = scan.read((0, 0, 64, 64))
    assert (region[:, :32] == 255).all()
    np.testing.assert_array_equal(region[:, 32:], picture[:64, 32:64])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: b"", "damaged"),
        (lambda data: b"II*\0" + b"\xff" * 40, "damaged"),
        (lambda data: data[:200], "damaged|cut short"),
        (lambda data: b"no TIFF at all", "damaged"),
    ],
)
def test_the_error_of_a_damaged_scan_names_the_file(change, expected, picture, tmp_path):
    path = written(tmp_path / "a\nb.tif", picture, tile=(64, 32), compression="zlib")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadImageError, match=expected) as caught, Scan(path) as scan:
        scan.read(WINDOWS[0])
    assert str(caught.value).isprintable() and "a\\nb.tif" in str(caught.value)


def test_a_damaged_tile_is_named(picture, tmp_path):
    path = written(tmp_path / "a.tif", picture, tile=(64, 32), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[2], tiff.pages[0].databytecounts[2]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with (
        Scan(path) as scan,
        pytest.raises(BadImageError, match=r"a.tif \(part 2\)': the image is damaged"),
    ):
        scan.read(WINDOWS[0])


def test_limits_are_stated(picture, tmp_path, monkeypatch):
    path = written(tmp_path / "a.tif", picture, compression="zlib", rowsperstrip=150)
    assert not is_scan(path) and not is_scan(tmp_path / "none.tif")
    monkeypatch.setattr(scans, "MIN_SCAN_PIXELS", 1000)
    assert is_scan(path) and not is_scan(tmp_path / "none.tif")
    monkeypatch.setattr(scans, "MAX_SEGMENT_PIXELS", 1000)
    with pytest.raises(BadImageError, match="at most 1,000 pixels, got 131x150"):
        Scan(path)
    monkeypatch.setattr(scans, "MAX_SCAN_PIXELS", 10_000)
    with pytest.raises(BadImageError, match="at most 10,000 pixels, got 131x150"):
        Scan(path)


def test_the_cache_of_decoded_parts_is_limited(picture, tmp_path, monkeypatch):
    path = written(tmp_path / "a.tif", picture, tile=(32, 32), compression="zlib")
    monkeypatch.setattr(scans, "_KEPT_BYTES", 20_000)
    with Scan(path) as scan:
        first, again = scan.read(WINDOWS[0]), scan.read(WINDOWS[0])
        assert sum(pixels.nbytes for pixels in scan._kept.values()) <= 20_000
    np.testing.assert_array_equal(first, again)


def test_an_array_is_a_region(picture):
    region = Pixels(picture)
    assert region.size_hw == (150, 131)
    np.testing.assert_array_equal(region.read((3, 4, 10, 20)), picture[3:10, 4:20])
