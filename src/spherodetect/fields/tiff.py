"""The tiles and strips of a TIFF page, and how to make each of them a file of its own."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spherodetect.fields.pages import MOST_PAGES, Page, photograph_pages

#: Uncompressed strips are read in parts of about this many bytes.
_PART_BYTES = 4 * 2**20
#: Tags of a page that define how the bytes of its tiles and strips are decoded.
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _PREDICTOR = 258, 259, 262, 277, 284, 317
_PALETTE, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES, _SUBSAMPLING = 320, 338, 339, 347, 530
DECODING_TAGS = (
    _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _PREDICTOR,
    _PALETTE, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES, _SUBSAMPLING,
)  # fmt: skip
_WIDTH, _HEIGHT, _OFFSET, _ROWS, _BYTES, ORIENTATION = 256, 257, 273, 278, 279, 274
#: Value of the compression tag.
UNCOMPRESSED = 1


def open_tiff(source: str | Path | BinaryIO) -> Any:
    """A `tifffile.TiffFile`, whose errors are raised but not logged as well."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return tifffile.TiffFile(source)


def photograph_page(tiff: Any) -> Any | None:
    """The page of a TIFF that is the photograph, or None if several may be meant.

    Args:
        tiff: as `open_tiff` returns it.
    """
    pages = list(islice(tiff.pages, MOST_PAGES + 1))
    described = [
        Page(
            (page.imagelength, page.imagewidth),
            page.samplesperpixel == 1,
            int(page.subfiletype),
            page.description,
        )
        for page in pages
    ]
    chosen = photograph_pages(described) if len(pages) <= MOST_PAGES else ()
    return pages[chosen[0]] if len(chosen) == 1 else None


def described(data: bytes) -> str:
    """The samples and the compression of a TIFF's first page, or "a damaged header"."""
    try:
        with open_tiff(io.BytesIO(data)) as tiff:
            page = tiff.pages[0]
            samples = f"{page.samplesperpixel} x {page.dtype or 'unknown'}"
            return f"{samples} samples with compression {page.compression.name}"
    except Exception:  # the parser raises nearly any exception on a damaged file
        return "a damaged header"


@dataclass(frozen=True)
class Segments:
    """The places of the segments of a page in its file.

    A segment is a tile, a compressed strip, or a part of a few rows of an uncompressed strip.

    Attributes:
        height, width: size of a segment in pixels; the last strip may be lower.
        across: number of segments side by side.
        offsets, counts: offset and number of the bytes of each tile or strip.
        row_bytes: bytes of a row of an uncompressed strip, else 0.
        strip_rows: rows of a whole strip.
        image_rows: rows of the page, or 0 for tiles, which are never partial.
    """

    height: int
    width: int
    across: int
    offsets: Sequence[int]
    counts: Sequence[int]
    row_bytes: int = 0
    strip_rows: int = 0
    image_rows: int = 0

    def place(self, number: int) -> tuple[int, int, int]:
        """Offset in the file, number of bytes and number of rows of a segment."""
        top = number * self.height
        rows = min(self.height, self.image_rows - top) if self.image_rows else self.height
        if not self.row_bytes:
            return int(self.offsets[number]), int(self.counts[number]), rows
        strip, row = divmod(top, self.strip_rows)
        return int(self.offsets[strip]) + row * self.row_bytes, rows * self.row_bytes, rows


def segments(page: Any) -> Segments:
    """The segments of a page of tifffile.

    Raises:
        ValueError: the page has fewer tiles or strips than its size needs.
    """
    height, width = page.imagelength, page.imagewidth
    offsets, counts = page.dataoffsets, page.databytecounts
    strip_rows = min(page.rowsperstrip, height)
    if page.is_tiled:
        across, down = -(-width // page.tilewidth), -(-height // page.tilelength)
    else:
        across, down = 1, -(-height // strip_rows)
    if min(len(offsets), len(counts)) < across * down:
        raise ValueError("fewer tiles or strips than the image has")
    if page.is_tiled:
        return Segments(page.tilelength, page.tilewidth, across, offsets, counts)
    row_bits = width * page.samplesperpixel * page.bitspersample
    if page.compression != UNCOMPRESSED or row_bits % 8:
        return Segments(strip_rows, width, 1, offsets, counts, image_rows=height)
    # A part must not cross the end of a strip, since the next strip may lie elsewhere in the file.
    # So the number of rows of a part divides the number of rows of a strip.
    part = max(1, min(strip_rows, _PART_BYTES // (row_bits // 8)))
    if down > 1:
        part = next(n for n in range(part, 0, -1) if strip_rows % n == 0)
    return Segments(part, width, 1, offsets, counts, row_bits // 8, strip_rows, height)


def single_strip_file(
    tags: Mapping[int, Any], data: bytes, size_hw: tuple[int, int], order: str
) -> bytes:
    """A TIFF file of one strip, made of the bytes of a tile or strip of another TIFF.

    Args:
        tags: the tags of the other TIFF that are needed for decoding.
        data: the bytes of the tile or strip.
        size_hw: its height and width.
        order: byte order, "<" or ">".
    """
    # Layout: 8 bytes of header, the strip, the directory of 12-byte entries, and the values that do
    # not fit into the 4 bytes of an entry. Field types are 3 (uint16), 4 (uint32), 7 (undefined).
    values = {
        _WIDTH: size_hw[1],
        _HEIGHT: size_hw[0],
        _OFFSET: 8,
        _ROWS: size_hw[0],
        _BYTES: len(data),
        **tags,
    }
    directory = 8 + len(data)
    entries, extra, extra_at = b"", b"", directory + 2 + 12 * len(values) + 4
    for code, value in sorted(values.items()):
        if isinstance(value, bytes):
            kind, count, packed = 7, len(value), value
        else:
            numbers = np.ravel(value).astype(int).tolist()
            kind, letter = (
                (4, "I") if code in {_WIDTH, _HEIGHT, _OFFSET, _ROWS, _BYTES} else (3, "H")
            )
            count, packed = len(numbers), struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", extra_at + len(extra))
            extra += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", code, kind, count) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", directory)
    return head + data + struct.pack(f"{order}H", len(values)) + entries + bytes(4) + extra
