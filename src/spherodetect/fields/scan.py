"""Slide scans: TIFF files too large to decode at once, read region by region.

Regions are uint8 RGB (H, W, 3), windows (y0, x0, y1, x1) in pixels, half-open. A scan is the first
page of a TIFF or BigTIFF, in tiles or strips; smaller copies of it may follow. Each tile or strip
is decoded as a file of its own by `fields.read_image`, so that what is read and what is refused is
the same for scans and photographs.
"""

from __future__ import annotations

import logging
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spherodetect.errors import BadImageError
from spherodetect.fields.image import read_image
from spherodetect.safety import quoted

Window = tuple[int, int, int, int]

#: A TIFF of more pixels is a scan, and read by regions; no camera's field has as many.
MIN_SCAN_PIXELS = 36_000_000
#: More pixels than any slide has at the highest magnification.
MAX_SCAN_PIXELS = 40_000_000_000
#: The most pixels that one tile or strip may hold, for it is decoded at once.
MAX_SEGMENT_PIXELS = 2**24
#: Bytes of decoded tiles and strips that are kept: neighbouring regions share them.
_KEPT_BYTES = 192 * 2**20
#: Uncompressed strips are read in parts of about so many bytes.
_PART_BYTES = 4 * 2**20
_SUFFIXES = frozenset({".tif", ".tiff"})
#: Tags of a page that say how the bytes of its tiles and strips are to be understood.
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _PREDICTOR = 258, 259, 262, 277, 284, 317
_PALETTE, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES, _SUBSAMPLING = 320, 338, 339, 347, 530
_MEANING = (
    _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _PREDICTOR, _PALETTE, _EXTRA_SAMPLES, _SAMPLE_FORMAT,
    _JPEG_TABLES, _SUBSAMPLING,
)  # fmt: skip
_WIDTH, _HEIGHT, _OFFSET, _ROWS, _BYTES, _ORIENTATION = 256, 257, 273, 278, 279, 274
_UNCOMPRESSED = 1


class Region(Protocol):
    """Something that gives the pixels of its windows."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, window: Window) -> np.ndarray:
        """(h, w, 3) uint8."""


class Pixels:
    """An array (H, W, 3) as a `Region`."""

    def __init__(self, image: np.ndarray) -> None:
        self._image = image

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self._image.shape[0], self._image.shape[1]

    def read(self, window: Window) -> np.ndarray:
        """(h, w, 3) uint8."""
        y0, x0, y1, x1 = window
        return self._image[y0:y1, x0:x1]


class Scan:
    """An open slide scan, a `Region`; for one thread.

    Args:
        path: the file.
        name: stands for it in errors.

    Raises:
        BadImageError: not such a TIFF, damaged, too large, of several pages, or of pixels that
            cannot be read.

    >>> with Scan("slide.tif") as scan:  # doctest: +SKIP
    ...     corner = scan.read((0, 0, 1000, 1000))
    """

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self._name = str(name or path)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        try:
            with _tiff(path) as tiff:
                if problem := _problem(tiff):
                    raise BadImageError(f"{quoted(self._name)}: {problem}")
                page = tiff.pages[0]
                self._tags = {code: page.tags[code].value for code in _MEANING if code in page.tags}
                self._order, self._segments = tiff.byteorder, _segments(page)
                self._size_hw = int(page.imagelength), int(page.imagewidth)
            self._file = open(path, "rb")  # noqa: SIM115 (close() closes it)
        except BadImageError:
            raise
        except Exception as problem:  # hostile bytes make a parser raise nearly anything
            why = quoted(problem) if str(problem) else type(problem).__name__
            raise BadImageError(
                f"{quoted(self._name)}: expected a TIFF, got a damaged one ({why})"
            ) from problem

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self._size_hw

    def read(self, window: Window) -> np.ndarray:
        """The pixels of a window, (h, w, 3) uint8.

        Raises:
            BadImageError: a tile or strip of it is damaged or missing.
        """
        y0, x0, y1, x1 = window
        region = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        height, width = self._segments.height, self._segments.width
        for row in range(y0 // height, -(-y1 // height)):
            for column in range(x0 // width, -(-x1 // width)):
                top, left = row * height, column * width
                pixels = self._segment(row * self._segments.across + column)
                low, high = (
                    (max(y0, top), max(x0, left)),
                    (min(y1, top + height), min(x1, left + width)),
                )
                part = pixels[low[0] - top : high[0] - top, low[1] - left : high[1] - left]
                region[low[0] - y0 : high[0] - y0, low[1] - x0 : high[1] - x0] = part
        return region

    def _segment(self, number: int) -> np.ndarray:
        if number not in self._kept:
            self._kept[number] = self._decoded(number)
            while (
                len(self._kept) > 1
                and sum(pixels.nbytes for pixels in self._kept.values()) > _KEPT_BYTES
            ):
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _decoded(self, number: int) -> np.ndarray:
        offset, count, height = self._segments.place(number)
        if count == 0:  # scanners do not store tiles in which there is nothing
            return np.full((height, self._segments.width, 3), 255, np.uint8)
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) < count:
            raise BadImageError(f"{quoted(self._name)}: the image is cut short; copy it again")
        pixels = read_image(
            _as_file(self._tags, data, (height, self._segments.width), self._order),
            name=f"{self._name} (part {number})",
            max_pixels=MAX_SEGMENT_PIXELS,
        )
        if pixels.shape[:2] != (height, self._segments.width):
            raise BadImageError(
                f"{quoted(self._name)}: its parts have other sizes than stated; save it again"
            )
        return pixels

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._kept.clear()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_scan(path: str | Path) -> bool:
    """Whether a file is a TIFF of more than MIN_SCAN_PIXELS; what cannot be understood is none."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        return False
    try:
        with _tiff(path) as tiff:
            return bool(tiff.pages[0].imagelength * tiff.pages[0].imagewidth > MIN_SCAN_PIXELS)
    except Exception:  # fields.read_image says what is wrong with it
        return False


def _tiff(path: str | Path) -> Any:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it then raises
    return tifffile.TiffFile(path)


def _problem(tiff: Any) -> str:
    """Why a TIFF cannot be read by regions, or nothing."""
    page = tiff.pages[0]
    height, width = page.imagelength, page.imagewidth
    if not 0 < height * width <= MAX_SCAN_PIXELS:
        return f"expected at most {MAX_SCAN_PIXELS:,} pixels, got {width}x{height}"
    if not all(other.is_reduced for other in tiff.pages[1:]):
        return "expected one scan, got several pages; save the page you mean on its own"
    if page.samplesperpixel > 1 and page.planarconfig != 1:
        return "expected interleaved colours, got planes; save it as RGB"
    if page.tags.valueof(_ORIENTATION, 1) != 1:
        return "expected an upright scan, got one that a tag turns; save it upright"
    across, down = (
        (page.tilewidth, page.tilelength)
        if page.is_tiled
        else (width, min(page.rowsperstrip, height))
    )
    if across * down > MAX_SEGMENT_PIXELS and (page.is_tiled or page.compression != _UNCOMPRESSED):
        limit = f"tiles or strips of at most {MAX_SEGMENT_PIXELS:,} pixels"
        return f"expected {limit}, got {across}x{down}; save it as a tiled TIFF"
    return ""


@dataclass(frozen=True)
class _Segments:
    """Where the tiles or strips of a page lie; a strip that is not compressed is several parts of a
    few rows.

    Attributes:
        height, width: of each; the last strip may be lower.
        across: how many lie side by side.
        offsets, counts: of the bytes of each tile or strip.
        row_bytes: bytes of a row of an uncompressed strip, else 0.
        strip_rows: rows of a whole strip.
        image_rows: of the page; 0 for tiles, which are all whole.
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
        """Offset, bytes and rows of a tile, strip or part of a strip."""
        top = number * self.height
        rows = min(self.height, self.image_rows - top) if self.image_rows else self.height
        if not self.row_bytes:
            return int(self.offsets[number]), int(self.counts[number]), rows
        strip, row = divmod(top, self.strip_rows)
        return int(self.offsets[strip]) + row * self.row_bytes, rows * self.row_bytes, rows


def _segments(page: Any) -> _Segments:
    height, width, offsets, counts = (
        page.imagelength,
        page.imagewidth,
        page.dataoffsets,
        page.databytecounts,
    )
    strip_rows = min(page.rowsperstrip, height)
    across, down = (
        (-(-width // page.tilewidth), -(-height // page.tilelength))
        if page.is_tiled
        else (1, -(-height // strip_rows))
    )
    if min(len(offsets), len(counts)) < across * down:
        raise ValueError("fewer tiles or strips than the image has")
    if page.is_tiled:
        return _Segments(page.tilelength, page.tilewidth, across, offsets, counts)
    row_bits = width * page.samplesperpixel * page.bitspersample
    if page.compression != _UNCOMPRESSED or row_bits % 8:
        return _Segments(strip_rows, width, 1, offsets, counts, image_rows=height)
    # Parts must not straddle two strips, which need not lie one behind the other.
    part = max(1, min(strip_rows, _PART_BYTES // (row_bits // 8)))
    if down > 1:
        part = next(n for n in range(part, 0, -1) if strip_rows % n == 0)
    return _Segments(part, width, 1, offsets, counts, row_bits // 8, strip_rows, height)


def _as_file(tags: Mapping[int, Any], data: bytes, size_hw: tuple[int, int], order: str) -> bytes:
    """A TIFF of one strip, whose bytes are those of a tile or strip of another TIFF with these
    tags."""
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


__all__ = ["MAX_SCAN_PIXELS", "MIN_SCAN_PIXELS", "Pixels", "Region", "Scan", "Window", "is_scan"]
