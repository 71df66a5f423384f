"""fields.image: images decode to the right pixels or are refused with a one-line error."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from spherodetect.errors import BadImageError
from spherodetect.fields.image import FORMATS, MAX_IMAGE_BYTES, MAX_PIXELS, read_image, read_picture

CHULA = Path(__file__).parents[2] / "shared/data/chula-rbc-12/images"


@pytest.fixture
def truth() -> np.ndarray:
    """An image with four different corners: red grows down, green grows to the right."""
    y, x = np.mgrid[:24, :32]
    return np.stack([y * 10, x * 8, np.full_like(x, 40)], axis=-1).astype(np.uint8)


def _encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- decoding


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_give_the_pixels(truth, tmp_path, kind, options):
    data = _encoded(truth, kind, **options)
    (tmp_path / "é.bin").write_bytes(data)
    for source in (data, tmp_path / "é.bin", str(tmp_path / "é.bin")):
        image = read_image(source)
        assert image.dtype == np.uint8
        assert image.flags.writeable
        np.testing.assert_array_equal(image, truth)


def test_jpeg_is_close(truth):
    image = read_image(_encoded(truth, "JPEG", quality=95, subsampling=0))
    assert np.abs(image.astype(int) - truth).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(truth, kind, orientation):
    stored = {
        1: truth,
        2: truth[:, ::-1],
        3: truth[::-1, ::-1],
        4: truth[::-1],
        5: truth.transpose(1, 0, 2),
        6: truth.transpose(1, 0, 2)[::-1],
        7: truth.transpose(1, 0, 2)[::-1, ::-1],
        8: truth.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"lossless": True}
        if kind == "WEBP"
        else {"quality": 95, "subsampling": 0}
        if kind == "JPEG"
        else {}
    )
    image = read_image(_encoded(np.ascontiguousarray(stored), kind, exif=exif, **options))
    assert image.shape == truth.shape
    assert np.abs(image.astype(int) - truth).max() <= 6


def test_a_broken_exif_block_changes_nothing(truth):
    image = read_image(_encoded(truth, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"))
    np.testing.assert_array_equal(image, truth)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_other_modes_become_rgb(truth, mode):
    grey = Image.fromarray(truth).convert("L")
    if mode == "I;16":
        values = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
        data, expected = _encoded(Image.fromarray(values)), values // 256
    else:
        picture = (Image.fromarray(truth) if mode == "RGBA" else grey).convert(mode)
        data, expected = _encoded(picture), np.asarray(picture.convert("RGB"))
    image = read_image(data)
    np.testing.assert_array_equal(
        image, expected if expected.ndim == 3 else np.stack([expected] * 3, axis=-1)
    )


def test_transparency_lies_on_white():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0] = (200, 100, 0, 255)
    rgba[1] = (200, 100, 0, 51)  # one fifth of the colour on four fifths of white
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        image = read_image(_encoded(rgba, kind, **options)).astype(int)
        np.testing.assert_array_equal(image[0], [(200, 100, 0)] * 3)
        assert np.abs(image[1] - (244, 224, 204)).max() <= 1


def test_a_transparent_palette_or_colour_lies_on_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(
        read_image(_encoded(palette, transparency=0))[0], [(255, 255, 255), (40, 50, 60)]
    )
    keyed = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    np.testing.assert_array_equal(
        read_image(_encoded(keyed, transparency=(1, 2, 3)))[0], [(255, 255, 255), (4, 5, 6)]
    )


def test_sixteen_bit_colours_keep_their_upper_bits():
    values = np.linspace(0, 65535, 5 * 4 * 3).astype(">u2").reshape(5, 4, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    np.testing.assert_array_equal(read_image(_png(4, 5, 16, rows)), values >> 8)


@pytest.mark.parametrize(
    ("photometric", "byteorder"), [("minisblack", "<"), ("minisblack", ">"), ("miniswhite", "<")]
)
def test_sixteen_bit_tiffs(photometric, byteorder):
    tifffile = pytest.importorskip("tifffile")
    values = np.linspace(0, 65535, 35).astype(np.uint16).reshape(5, 7)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, byteorder=byteorder)
    expected = values if photometric == "minisblack" else 65535 - values
    np.testing.assert_array_equal(read_image(buffer.getvalue())[..., 0], expected >> 8)


def test_twelve_bit_tiffs_use_all_their_bits():
    """Two samples in three bytes: written by hand, since neither Pillow nor tifffile writes it."""
    values = [0, 4095, 2048, 16]
    bits = "".join(f"{value:012b}" for value in values)
    strip = int(bits, 2).to_bytes(6, "big")
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = (
        b"II*\0" + struct.pack("<I", 14) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    np.testing.assert_array_equal(read_image(data)[0, :, 0], np.array(values) >> 4)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_of_fewer_bits_are_scaled_to_their_range(truth, bits, compression):
    """Sixteen-bit samples of 12 bits would be nearly black if their upper byte were kept."""
    buffer = io.BytesIO()
    values = truth.astype(np.uint16) << (bits - 8)
    values[0, :, 2] = (2**bits - 1) // 2 + 1
    tifffile.imwrite(buffer, values, photometric="rgb", compression=compression)
    picture = read_picture(buffer.getvalue())
    np.testing.assert_array_equal(picture.pixels, values >> (bits - 8))
    assert f"{bits} bits" in " ".join(picture.notes)


def test_a_bright_mark_does_not_hide_the_range_of_the_others(truth):
    values = truth.astype(np.uint16) << 4
    values[0, 0, 0] = 65535
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb")
    image = read_image(buffer.getvalue())
    np.testing.assert_array_equal(image[1:], truth[1:])
    assert image[0, 0, 0] == 255


def test_twelve_bits_of_a_png_and_of_a_grey_image_are_scaled():
    values = (np.arange(5 * 4 * 3).reshape(5, 4, 3) * 69).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    np.testing.assert_array_equal(read_image(_png(4, 5, 16, rows)), values >> 4)
    grey = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 5
    picture = read_picture(_encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(picture.pixels[..., 1], grey >> 4)
    assert picture.notes


def test_all_tiles_of_a_scan_use_the_same_bits(tmp_path):
    from spherodetect.fields.scan import Scan

    values = np.full((64, 64, 3), 300, np.uint16)
    values[32:] = 4000
    tifffile.imwrite(tmp_path / "s.tif", values, photometric="rgb", tile=(32, 32))
    with Scan(tmp_path / "s.tif") as scan:
        np.testing.assert_array_equal(scan.read((0, 0, 64, 64)), values >> 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_alpha_that_hides_everything_is_no_alpha(truth, kind):
    hidden = np.dstack([truth, np.zeros(truth.shape[:2], np.uint8)])
    picture = read_picture(_encoded(hidden, kind))
    np.testing.assert_array_equal(picture.pixels, truth)
    assert "alpha" in picture.notes[0]


def test_colour_in_three_pages_of_imagej_or_ome_is_one_photograph(truth):
    planes = np.moveaxis(truth, -1, 0)
    for options in (
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "metadata": {"axes": "CYX"}},
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, planes, photometric="minisblack", **options)
        picture = read_picture(buffer.getvalue())
        np.testing.assert_array_equal(picture.pixels, truth)
        assert "three" in picture.notes[0]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, imagej=True, metadata={"axes": "ZYX"})
    assert "several pages" in _error(buffer.getvalue())


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("flag", [0, 1])
def test_a_thumbnail_page_is_passed_over(truth, order, flag):
    buffer = io.BytesIO()
    small = {"data": truth[::4, ::4], "photometric": "rgb", "subfiletype": flag}
    with tifffile.TiffWriter(buffer) as tiff:
        for page in [small] if order == "first" else []:
            tiff.write(**page)
        tiff.write(truth, photometric="rgb")
        for page in [small] if order == "last" else []:
            tiff.write(**page)
    picture = read_picture(buffer.getvalue())
    np.testing.assert_array_equal(picture.pixels, truth)
    assert bool(picture.notes) == (order == "first")


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF"])
def test_formats_that_pillow_may_read_are_read_or_named(truth, kind):
    if kind not in FORMATS:
        pytest.skip(f"this Pillow cannot write {kind}")
    options = {"quality_mode": "rates", "quality_layers": [1]} if kind == "JPEG2000" else {}
    image = read_image(_encoded(np.kron(truth, np.ones((4, 4, 1), np.uint8)), kind, **options))
    assert image.shape == (96, 128, 3)


def test_cmyk_keeps_the_colour():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 95})):
        assert (
            np.abs(read_image(_encoded(cmyk, kind, **options)).astype(int) - (255, 0, 0)).max() <= 3
        )


# --- refusing


def _error(source, **options) -> str:
    with pytest.raises(BadImageError) as caught:
        read_image(source, **options)
    text = str(caught.value)
    assert text.isprintable()
    assert " object at 0x" not in text
    return text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_named(kind, keep, tmp_path, capfd, recwarn):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = _encoded(noise, kind, **options)
    path = tmp_path / "cut\nshort.img"
    path.write_bytes(data[: int(len(data) * keep)])
    assert "cut\\nshort.img': " in _error(path)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_damaged_tiff_makes_no_noise(compression, capfd, recwarn):
    noise = np.random.default_rng(1).integers(0, 255, (90, 80, 3), np.uint8)
    data = bytearray(_encoded(noise, "TIFF", compression=compression))
    data[8:200] = bytes(192)
    assert _error(bytes(data), name="x").startswith("'x': the image is damaged")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "git-annex"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html><html>sign in</html>", "HTML page"),
        (b"PK\3\4" + bytes(30), "zip archive"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0", "video"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b'{"message": "not found"}', "JSON"),
        (bytes(5000), "zeros only"),
        (b"GIF89a\1\0\1\0\0\0\0;", "GIF"),
        (bytes(128) + b"DICM", "DICOM"),
        ("für später".encode(), "a text"),
    ],
)
def test_a_file_that_is_something_else_is_named(data, name):
    text = _error(data, name="a.jpg")
    assert f"{name}" in text.partition(", got ")[2].partition(";")[0]
    assert text.partition(";")[2].strip(), "a next step"


def test_a_tiff_of_other_samples_says_which():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((9, 8, 3), np.float32), photometric="rgb")
    assert "3 x float32" in _error(buffer.getvalue())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file"),
        (b"hello", "expected a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "expected a JPEG"),
        (b"<svg/>", "expected a JPEG"),
        (b"GIF89a\1\0\1\0\0\0\0;", "expected a JPEG"),
    ],
)
def test_a_file_that_is_no_image_is_refused(data, expected):
    assert expected in _error(data, name="p/a.jpg")
    assert "'p/a.jpg'" in _error(data, name="p/a.jpg")


def test_floats_and_deep_integers_are_refused_with_the_reason():
    for values in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)):
        assert "8- or 16-bit" in _error(_encoded(Image.fromarray(values), "TIFF"))
    buffer = io.BytesIO()
    # Pillow cannot open this file at all.
    tifffile.imwrite(buffer, np.zeros((9, 8, 3), np.float32), photometric="rgb")
    assert "8- or 16-bit" in _error(buffer.getvalue())
    lab = Image.new("LAB", (4, 4))
    assert "LAB" in _error(_encoded(lab, "TIFF"))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_pages_are_refused_with_the_reason(kind):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert "several pages" in _error(
        _encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    )


def test_the_first_picture_of_a_telephone_jpeg_is_read(truth):
    second = Image.new("RGB", (8, 8))
    data = _encoded(Image.fromarray(truth), "MPO", save_all=True, append_images=[second])
    assert read_image(data).shape == truth.shape


def _png(width: int, height: int, bits: int, rows: bytes | None) -> bytes:
    """An RGB PNG, written by hand; without rows it ends where the pixels would begin."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    start = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    )
    return start + (
        bytes(4) + b"IDAT"
        if rows is None
        else chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [11_000, 14_000, 60_000])
def test_the_size_is_checked_before_decoding(side, recwarn):
    """The file has only a header: if it were decoded, the error would be 'damaged'."""
    assert "at most 100,000,000 pixels" in _error(_png(side, side, 8, None))
    assert "damaged" in _error(_png(40, 40, 8, None))
    assert not recwarn.list


def test_max_pixels_counts_to_the_pixel(truth):
    assert read_image(_encoded(truth), max_pixels=24 * 32).shape == (24, 32, 3)
    assert "got 32x24" in _error(_encoded(truth), max_pixels=24 * 32 - 1)


def test_missing_files_folders_and_pipes_are_named(tmp_path):
    assert "none.png': cannot be read" in _error(tmp_path / "none.png")
    assert "expected a file, got a folder" in _error(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in _error(tmp_path / "pipe.png")
    assert "'p1/x.png'" in _error(tmp_path / "none.png", name="p1/x.png")


def test_reading_in_threads_leaves_pillow_as_it_was(truth):
    import warnings

    before = (list(warnings.filters), Image.MAX_IMAGE_PIXELS)
    good, bad, wrong = _encoded(truth), _encoded(truth)[:-40], []

    def work():
        for _ in range(20):
            if not np.array_equal(read_image(good), truth):
                wrong.append("pixels")
            try:
                read_image(bad)
                wrong.append("no error")
            except BadImageError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == before


@pytest.mark.skipif(not CHULA.is_dir(), reason="the Chula fields are not here")
def test_real_fields_read_as_pillow_reads_them():
    for path in sorted(CHULA.iterdir())[:3]:
        image = read_image(path)
        assert image.shape == (480, 640, 3)
        np.testing.assert_array_equal(image, np.asarray(Image.open(path).convert("RGB")))


def test_the_limit_of_a_file_allows_an_uncompressed_image_of_the_largest_size():
    assert MAX_PIXELS * 3 <= MAX_IMAGE_BYTES
