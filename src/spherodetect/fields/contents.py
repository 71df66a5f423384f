"""What a file is that should be an image and is none, told by its first bytes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

#: Bytes from the start of a file that are looked at.
_HEAD_BYTES = 4096
_JPEG_2000 = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ZIPS = b"PK\x03\x04", b"PK\x05\x06"


@dataclass(frozen=True)
class Contents:
    """What a file is, and how its user gets an image.

    Attributes:
        name: with its article, as in "a zip archive".
        next_step: what to do.
    """

    name: str
    next_step: str


_HEIC = Contents(
    "a HEIC image", "pip install 'spherodetect[heic]' reads it; or save it as JPEG or PNG"
)
_AVIF = Contents("an AVIF image", "Pillow 11.3 reads it; or save it as JPEG or PNG")
_JP2 = Contents("a JPEG 2000 image", "this Pillow cannot read it; save it as PNG or TIFF")
_LFS = Contents("a pointer of Git LFS", "fetch the image itself with `git lfs pull`")
_ANNEX = Contents("a pointer of git-annex", "fetch the image itself with `git annex get`")
_HTML = Contents("an HTML page", "download the image itself; the page may ask for a login")
_ZIP = Contents("a zip archive", "unpack it")
_JSON = Contents("a JSON text", "download the image itself; the text may be an error message")
_ZEROS = Contents("zeros only", "the copy failed; copy it again from the camera")
_TEXT = Contents("a text", "put the image itself there")
_VIDEO = Contents("a video", "save its frames as PNG")

#: First bytes to contents.
_STARTS = (
    *((start, _ZIP) for start in _ZIPS),
    *((start, _JP2) for start in _JPEG_2000),
    (b"version https://git-lfs", _LFS),
    (b"/annex/objects/", _ANNEX),
    (b"%PDF", Contents("a PDF", "export its pictures as PNG")),
    (b"%!PS", Contents("a PostScript file", "export its pictures as PNG")),
    (b"GIF8", Contents("a GIF", "save it as PNG; a GIF has 256 colours")),
    (b"8BPS", Contents("a Photoshop file", "save it as TIFF or PNG")),
    (b"ZISRAWFILE", Contents("a CZI file of Zeiss", "export its fields as TIFF")),
    (b"\xda\xce\xbe\x0a", Contents("an ND2 file of Nikon", "export its fields as TIFF")),
    (b"\xff\x0a", Contents("a JPEG XL image", "save it as PNG")),
    (b"\0\0\0\x0cJXL ", Contents("a JPEG XL image", "save it as PNG")),
    (b"\x1f\x8b", Contents("a gzip archive", "unpack it")),
    (b"7z\xbc\xaf\x27\x1c", Contents("a 7-Zip archive", "unpack it")),
    (b"Rar!", Contents("a RAR archive", "unpack it")),
    (b"\x00\x05\x16\x07", Contents("a macOS resource file", "copy the image beside it")),
    (b"\x89HDF", Contents("an HDF5 file", "export its fields as TIFF")),
    (b"\x1aE\xdf\xa3", _VIDEO),
)  # fmt: skip


def contents_of(data: bytes) -> Contents | None:
    """What the bytes of a file are, if they are no image of a format that is read here.

    >>> contents_of(b"PK\\3\\4...").name
    'a zip archive'
    """
    head = data[:_HEAD_BYTES]
    for start, contents in _STARTS:
        if head.startswith(start):
            return contents
    if head[4:8] == b"ftyp":
        return _of_brand(head[8:12])
    if head[128:132] == b"DICM":
        return Contents("a DICOM file", "export it as TIFF or PNG")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _VIDEO
    if head and not any(head):
        return _ZEROS
    return _of_text(head)


def is_heic(data: bytes) -> bool:
    """Whether the bytes are those of a HEIC or HEIF image."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS


def is_zip(data: bytes) -> bool:
    """Whether the bytes are those of a zip archive, as Office documents are."""
    return data.startswith(_ZIPS)


def _of_brand(brand: bytes) -> Contents:
    if brand in _HEIC_BRANDS:
        return _HEIC
    return _AVIF if brand in _AVIF_BRANDS else _VIDEO


def _of_text(head: bytes) -> Contents | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _TEXT
    try:
        # The last character of the head may be cut.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return None
    if any(ord(c) < 32 and c not in "\t\r\n\f" for c in text):
        return None
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return _HTML
    if start.startswith("<svg") or "<svg" in start[:1000]:
        return Contents("an SVG drawing", "save it as PNG")
    if start.startswith(("{", "[")):
        return _JSON
    return _TEXT


__all__ = ["Contents", "contents_of", "is_heic", "is_zip"]
