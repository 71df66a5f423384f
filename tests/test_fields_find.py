"""fields: images decode right or are refused in one line; paths become the fields of patients."""

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

from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.find import find as fields
from spherodetect.fields.find import find_fields, find_images, is_label_source, natural_key
from spherodetect.fields.image import read_image

CHULA = Path(__file__).parents[2] / "shared/data/chula-rbc-12/images"


@pytest.fixture
def truth() -> np.ndarray:
    """A picture whose every corner differs: red grows down, green to the right, blue is even."""
    y, x = np.mgrid[:24, :32]
    return np.stack([y * 10, x * 8, np.full_like(x, 40)], axis=-1).astype(np.uint8)


def _encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- reading


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
    """Two samples in three bytes, which no writer here makes: written by hand."""
    values = [0, 4095, 2048, 16]
    bits = "".join(f"{value:012b}" for value in values)
    strip = int(bits, 2).to_bytes(6, "big")
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = (
        b"II*\0" + struct.pack("<I", 14) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    np.testing.assert_array_equal(read_image(data)[0, :, 0], np.array(values) >> 4)


def test_cmyk_keeps_the_colour():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 95})):
        assert (
            np.abs(read_image(_encoded(cmyk, kind, **options)).astype(int) - (255, 0, 0)).max() <= 3
        )


# --- refusing


def _sentence(source, **options) -> str:
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
    assert "cut\\nshort.img': " in _sentence(path)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_damaged_tiff_makes_no_noise(compression, capfd, recwarn):
    noise = np.random.default_rng(1).integers(0, 255, (90, 80, 3), np.uint8)
    data = bytearray(_encoded(noise, "TIFF", compression=compression))
    data[8:200] = bytes(192)
    assert _sentence(bytes(data), name="x").startswith("'x': the image is damaged")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


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
def test_what_is_no_image_is_named(data, expected):
    assert expected in _sentence(data, name="p/a.jpg")
    assert "'p/a.jpg'" in _sentence(data, name="p/a.jpg")


def test_floats_and_deep_integers_are_refused_with_the_reason():
    for values in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)):
        assert "8- or 16-bit" in _sentence(_encoded(Image.fromarray(values), "TIFF"))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.zeros((9, 8, 3), np.float32), photometric="rgb"
    )  # which Pillow does not know at all
    assert "8- or 16-bit" in _sentence(buffer.getvalue())
    lab = Image.new("LAB", (4, 4))
    assert "LAB" in _sentence(_encoded(lab, "TIFF"))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_pages_are_refused_with_the_reason(kind):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert "several pages" in _sentence(
        _encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    )


def test_the_first_picture_of_a_telephone_jpeg_is_read(truth):
    second = Image.new("RGB", (8, 8))
    data = _encoded(Image.fromarray(truth), "MPO", save_all=True, append_images=[second])
    assert read_image(data).shape == truth.shape


def _png(width: int, height: int, bits: int, rows: bytes | None) -> bytes:
    """A PNG in colour by hand; without rows it ends where the pixels would begin."""

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
def test_size_is_judged_before_decoding(side, recwarn):
    """Only the header is there: were it decoded, the answer would be 'damaged'."""
    assert "at most 100,000,000 pixels" in _sentence(_png(side, side, 8, None))
    assert "damaged" in _sentence(_png(40, 40, 8, None))
    assert not recwarn.list


def test_max_pixels_counts_to_the_pixel(truth):
    assert read_image(_encoded(truth), max_pixels=24 * 32).shape == (24, 32, 3)
    assert "got 32x24" in _sentence(_encoded(truth), max_pixels=24 * 32 - 1)


def test_missing_files_folders_and_pipes_are_named(tmp_path):
    assert "none.png': cannot be read" in _sentence(tmp_path / "none.png")
    assert "expected a file, got a folder" in _sentence(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in _sentence(tmp_path / "pipe.png")
    assert "'p1/x.png'" in _sentence(tmp_path / "none.png", name="p1/x.png")


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


# --- finding


def _files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read here")
    return root


def _found(found) -> list[tuple[str, str]]:
    return [(field.patient_id, field.field_id) for field in found]


def test_folders_are_patients_and_the_rest_is_passed_over(tmp_path):
    root = _files(
        tmp_path / "smears",
        "p1/10.JPG",
        "p1/2.jpg",
        "p1/deep/er/1.tIf",
        "p2/1.png",
        "loose.jpeg",
        "notes.txt",
        ".DS_Store",
        "p1/Thumbs.db",
        "p1/._2.jpg",
        ".hidden/1.jpg",
        "__MACOSX/p1/1.jpg",
        "p1/@eaDir/1.jpg",
        "p1/2.json",
    )
    found = find_fields(root)
    assert _found(found) == [
        ("smears", "loose.jpeg"),
        ("p1", "p1/2.jpg"),
        ("p1", "p1/10.JPG"),
        ("p1", "p1/deep/er/1.tIf"),
        ("p2", "p2/1.png"),
    ]
    assert found.problems == ()
    assert [len(group) for group in found.patients.values()] == [1, 3, 1]
    assert all(field.path.read_bytes() for field in found)
    assert found == find_fields([str(root)])


def test_a_patient_of_the_current_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(_files(tmp_path / "patient 3", "a.jpg"))
    for path in (".", "a.jpg", Path("../patient 3")):
        assert _found(find_fields(path)) == [("patient 3", "a.jpg")]


def test_single_images_belong_to_their_folder(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "p1/2.jpg", "p2/1.jpg")
    assert _found(find_fields([root / "p1/1.jpg", root / "p1/2.jpg"])) == [
        ("p1", "1.jpg"),
        ("p1", "2.jpg"),
    ]
    both = find_fields([root / "p1/1.jpg", root / "p2/1.jpg"])
    assert _found(both) == [("p1", "p1/1.jpg"), ("p2", "p2/1.jpg")]


def test_field_ids_of_several_paths_are_never_two_alike(tmp_path):
    root = _files(tmp_path, "a/x/1.jpg", "b/x/1.jpg", "b/x/2.jpg", "c/3.jpg")
    assert _found(find_fields([root / "a", root / "c"])) == [("x", "x/1.jpg"), ("c", "3.jpg")]
    both = [("x", "a/x/1.jpg"), ("x", "b/x/1.jpg"), ("x", "b/x/2.jpg")]
    assert _found(find_fields([root / "a", root / "b"])) == both
    assert _found(find_fields([root / "a/x", root / "b/x"])) == both


def test_images_to_detect_are_named_from_the_common_parent(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "p2/1.jpg", "p2/2.jpg")
    assert [f.field_id for f in find_images(root)] == ["p1/1.jpg", "p2/1.jpg", "p2/2.jpg"]
    assert [f.field_id for f in find_images(root / "p2")] == ["1.jpg", "2.jpg"]
    assert [f.field_id for f in find_images([root / "p1", root / "p2/2.jpg"])] == [
        "p1/1.jpg",
        "p2/2.jpg",
    ]
    assert [f.field_id for f in find_images([root / "p2/1.jpg", root / "p2/2.jpg"])] == [
        "1.jpg",
        "2.jpg",
    ]


def test_a_file_reached_twice_counts_once(tmp_path):
    root = _files(tmp_path / "r", "p1/1.jpg", "p2/1.jpg")
    once = find_fields([root, root / "p1", root, root / "p2/1.jpg"])
    assert _found(once) == [("p1", "p1/1.jpg"), ("p2", "p2/1.jpg")]
    assert once.problems == ()
    (root / "p3").symlink_to(root / "p1")
    (problem,) = find_fields(root).problems
    assert "p3/1.jpg" in problem
    assert "counted for 'p1'" in problem


def test_links_are_followed_and_loops_are_not(tmp_path):
    away = _files(tmp_path / "away", "7.jpg")
    root = _files(tmp_path / "r", "p1/1.jpg", "p2/2.jpg")
    (root / "p1/up").symlink_to(root)
    (root / "p1/self").symlink_to(".")
    (root / "p9").symlink_to(away)
    found = find_fields(root)
    assert _found(found) == [("p1", "p1/1.jpg"), ("p2", "p2/2.jpg"), ("p9", "p9/7.jpg")]
    assert found.problems == ()
    (root / "p1/other").symlink_to(root / "p2")
    (root / "p2/other").symlink_to(root / "p1")
    assert _found(find_fields(root)) == _found(found)


def test_a_dangling_link_is_a_field_that_reading_names(tmp_path):
    root = _files(tmp_path, "p/1.jpg")
    (root / "p/2.jpg").symlink_to("nowhere")
    assert _found(find_fields(root))[1] == ("p", "p/2.jpg")
    with pytest.raises(BadImageError):
        read_image(root / "p/2.jpg")


def test_results_and_excluded_folders_are_no_patients(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "results/cells.csv", "results/overlays/1.png", "out/1.png")
    assert _found(find_fields(root, exclude=[root / "out"])) == [("p1", "p1/1.jpg")]


def test_images_of_other_kinds_are_named_as_left_out(tmp_path):
    found = find_fields(_files(tmp_path, "p1/1.jpg", "p1/2.HEIC", "p1/slide.svs"))
    assert len(found) == 1
    assert [".heic" in found.problems[0], ".svs" in found.problems[1]] == [True, True]


def test_names_that_are_no_utf8_become_text(tmp_path):
    (tmp_path / "p").mkdir()
    with open(os.fsencode(tmp_path) + b"/p/\xff.jpg", "wb"):
        pass
    (field,) = find_fields(_files(tmp_path, "p/\\udcff.jpg")).fields[1:]
    assert field.field_id.encode()
    assert len({f.field_id for f in find_fields(tmp_path)}) == 2


def test_patient_regex(tmp_path):
    root = _files(
        tmp_path,
        "patient_03_11_jpg.rf.ab.jpg",
        "patient_03_12.jpg",
        "patient_04_1.jpg",
        "x/none.jpg",
    )
    found = find_fields(root, patient_regex=r"patient_(\d+)_")
    assert [field.patient_id for field in found] == ["03", "03", "04"]
    (problem,) = found.problems
    assert "none.jpg" in problem
    named = find_fields(root, patient_regex=r"(t_)(?P<patient>\d+)|(?P<other>none)")
    assert [field.patient_id for field in named] == ["03", "03", "04"]
    assert len(named.problems) == 1


@pytest.mark.parametrize(
    ("regex", "expected"), [("(", "is wrong"), ("p1", "brackets"), ("(zzz)", "finds no patient")]
)
def test_an_unusable_patient_regex_is_one_line(tmp_path, regex, expected):
    with pytest.raises(SpherodetectError, match=expected) as caught:
        find_fields(_files(tmp_path, "p1/1.jpg"), patient_regex=regex)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("um_per_px", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_above_zero(tmp_path, um_per_px):
    with pytest.raises(SpherodetectError, match="above 0"):
        find_fields(_files(tmp_path, "p1/1.jpg"), um_per_px=um_per_px)


def test_a_path_without_fields_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    _files(tmp_path, "texts/a.txt", "a.txt", "empty.csv", "none.csv")
    (tmp_path / "none.csv").write_text("patient_id,field\np,none.jpg\n")
    for name, expected in [
        ("missing\n", "got nothing there"),
        ("empty", "expected JPEG"),
        ("texts", "expected JPEG"),
        ("a.txt", "got a .txt"),
        ("empty.csv", "patient_id and field"),
        ("none.csv", "no such file"),
    ]:
        with pytest.raises(SpherodetectError, match=expected) as caught:
            find_fields([_files(tmp_path / "good", "1.jpg"), tmp_path / name])
        assert str(caught.value).isprintable()
        assert repr(name)[1:-1] in str(caught.value)
    with pytest.raises(SpherodetectError, match="no path"):
        find_fields([])


def _manifest(tmp_path: Path, data: bytes):
    (tmp_path / "manifest.csv").write_bytes(data)
    return find_fields(tmp_path / "manifest.csv", um_per_px=0.5)


def test_a_manifest_says_patients_and_scales(tmp_path):
    _files(tmp_path, "a.jpg", "sub/b.jpg", "c.odd")
    found = _manifest(
        tmp_path,
        b"Field,note,patient_id,um_per_px\nsub/b.jpg,x,P1,0.1\n./a.jpg,,P2\nc.odd,,P1,0.2\n",
    )
    assert _found(found) == [("P1", "sub/b.jpg"), ("P2", "a.jpg"), ("P1", "c.odd")]
    assert [field.um_per_px for field in found] == [0.1, 0.5, 0.2]
    assert list(found.patients) == ["P1", "P2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("line", "sep"),
    [("{};{};{}", ""), ("{}\t{}\t{}", ""), ('{},{},"{}"', ""), ("{};{};{}", "sep=;\r\n")],
)
def test_a_manifest_as_european_excel_writes_it(tmp_path, encoding, line, sep):
    _files(tmp_path, "Müller/1.jpg")
    rows = [
        ("patient_id", "field", "um_per_px"),
        ("Müller", "Müller\\1.jpg", "0,193"),
        ("", "", ""),
    ]
    text = sep + "".join(line.format(*row) + "\r\n" for row in rows)
    (field,) = _manifest(tmp_path, text.encode(encoding)).fields
    assert (field.patient_id, field.field_id, field.um_per_px) == ("Müller", "Müller/1.jpg", 0.193)


def test_rows_that_cannot_be_used_are_named_and_the_rest_goes_on(tmp_path):
    root = _files(tmp_path / "root", "a.jpg", "b.jpg", "dir/c.jpg")
    _files(tmp_path, "secret.jpg")
    (root / "out").symlink_to(tmp_path)
    found = _manifest(
        root,
        b"patient_id,field,um_per_px\n"
        b"p,a.jpg,0.1\n"
        b"p,../secret.jpg\n"
        b"p,out/secret.jpg\n"
        b"p,/etc/hostname\n"
        b"p,missing.jpg\n"
        b"p,dir\n"
        b",b.jpg\n"
        b"p\n"
        b"p,b.jpg,0,2\n"
        b"q,a.jpg\n"
        b"p,b.jpg,none\n",
    )
    assert [(f.field_id, f.um_per_px) for f in found] == [("a.jpg", 0.1), ("b.jpg", None)]
    assert len(found.problems) == 10
    for number in (*range(3, 11), 12):
        assert sum(f"line {number}:" in problem for problem in found.problems) == 1
    assert all(problem.isprintable() for problem in found.problems)


def test_natural_order():
    names = ["p2/1", "p10/2", "p10/10", "p010/3", "P3/1", "a", "a/b", "a-b", "", "9" * 5000]
    ordered = ["", "9" * 5000, "a", "a/b", "a-b", "p2/1", "P3/1", "p10/2", "p010/3", "p10/10"]
    assert sorted(names, key=natural_key) == ordered


def test_label_sources_are_recognised(tmp_path):
    root = _files(tmp_path, "labels.JSON", "image.png", "folder.json/a.jpg")
    for folder in ("flat", "export/train", "x/y/z"):
        _files(root / folder, "_annotations.coco.json")
    for name, expected in [
        ("flat", True),
        ("export", True),
        ("x", False),
        ("labels.JSON", True),
        ("image.png", False),
        ("none.json", False),
        ("folder.json", False),
    ]:
        assert is_label_source(root / name) is expected


def test_public_constants_agree():
    assert fields.MAX_PIXELS * 3 <= fields.MAX_IMAGE_BYTES
    assert not fields.IMAGE_SUFFIXES & fields.FOREIGN_SUFFIXES
