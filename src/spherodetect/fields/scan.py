"""Slide scans: TIFF files that are too large to decode at once, read region by region.

Regions are uint8 RGB (H, W, 3). Windows are (y0, x0, y1, x1) in pixels, half-open. A scan is the
largest page of a TIFF or BigTIFF in tiles or strips; the other pages are smaller copies of it.
Each tile or strip is wrapped as a TIFF file of its own and decoded by `image.read_picture`, so that
the same pixels are accepted and refused in scans and in photographs.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spherodetect.errors import BadImageError
from spherodetect.fields.image import read_picture
from spherodetect.fields.samples import used_bits
from spherodetect.fields.tiff import (
    DECODING_TAGS,
    ORIENTATION,
    UNCOMPRESSED,
    open_tiff,
    photograph_page,
    segments,
    single_strip_file,
)
from spherodetect.safety import quoted

Window = tuple[int, int, int, int]

#: A TIFF with more pixels is a scan and is read region by region. No camera's field has as many.
MIN_SCAN_PIXELS = 36_000_000
#: An image with more pixels is examined, drawn and cut in parts.
LARGE_PIXELS = 16_000_000
#: Limit of a scan: more pixels than any slide has at the highest magnification.
MAX_SCAN_PIXELS = 40_000_000_000
#: Limit of one tile or strip, which is decoded at once.
MAX_SEGMENT_PIXELS = 2**24
#: Size of the cache of decoded tiles and strips, which neighbouring regions share.
_KEPT_BYTES = 192 * 2**20
#: Tiles or strips of 16-bit samples from which the bits that a scan uses are found.
_DEPTH_SAMPLES = 16
_SUFFIXES = frozenset({".tif", ".tiff"})


class Region(Protocol):
    """An image from which windows can be read."""

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
    """An open slide scan, which is a `Region`. One scan must not be used by several threads.

    Args:
        path: the file.
        name: replaces the path in error messages.

    Raises:
        BadImageError: the file is no TIFF that can be read in regions, is damaged or too large, or
            has several pages.

    >>> with Scan("slide.tif") as scan:  # doctest: +SKIP
    ...     corner = scan.read((0, 0, 1000, 1000))
    """

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self._name = str(name or path)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        try:
            with open_tiff(path) as tiff:
                page: Any = photograph_page(tiff)
                if problem := _problem(page):
                    raise BadImageError(f"{quoted(self._name)}: {problem}")
                self._tags = {
                    code: page.tags[code].value for code in DECODING_TAGS if code in page.tags
                }
                self._order, self._segments = tiff.byteorder, segments(page)
                self._size_hw = int(page.imagelength), int(page.imagewidth)
                is_deep = page.bitspersample == 16
            self._file = open(path, "rb")  # noqa: SIM115 (close() closes it)
        except BadImageError:
            raise
        except Exception as problem:  # the parser raises nearly any exception on a damaged file
            why = quoted(problem) if str(problem) else type(problem).__name__
            raise BadImageError(
                f"{quoted(self._name)}: expected a TIFF, got a damaged one ({why})"
            ) from problem

        self._bits = 16
        if is_deep:
            self._bits = self._used_bits()

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self._size_hw

    def _used_bits(self) -> int:
        """The bits that the 16-bit samples use, the same for all tiles and strips."""
        n = self._segments.across * -(-self._size_hw[0] // self._segments.height)
        chosen = np.unique(np.linspace(0, n - 1, _DEPTH_SAMPLES).astype(int))
        # At 16 bits a segment has the upper bytes of its samples.
        return max(
            used_bits(self._decoded(number).astype(np.uint16) << 8) for number in chosen.tolist()
        )

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
                # The part of the window that this segment covers, in pixels of the page.
                low_y, low_x = max(y0, top), max(x0, left)
                high_y, high_x = min(y1, top + height), min(x1, left + width)
                part = pixels[low_y - top : high_y - top, low_x - left : high_x - left]
                region[low_y - y0 : high_y - y0, low_x - x0 : high_x - x0] = part
        return region

    def _segment(self, number: int) -> np.ndarray:
        if number not in self._kept:
            self._kept[number] = self._decoded(number)
            while len(self._kept) > 1 and self._kept_bytes() > _KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _kept_bytes(self) -> int:
        return sum(pixels.nbytes for pixels in self._kept.values())

    def _decoded(self, number: int) -> np.ndarray:
        offset, count, height = self._segments.place(number)
        if count == 0:  # scanners do not store tiles without content
            return np.full((height, self._segments.width, 3), 255, np.uint8)
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) < count:
            raise BadImageError(f"{quoted(self._name)}: the image is cut short; copy it again")
        pixels = read_picture(
            single_strip_file(self._tags, data, (height, self._segments.width), self._order),
            name=f"{self._name} (part {number})",
            max_pixels=MAX_SEGMENT_PIXELS,
            bits=self._bits,
        ).pixels
        if pixels.shape[:2] != (height, self._segments.width):
            raise BadImageError(
                f"{quoted(self._name)}: expected parts of {self._segments.width}x{height} pixels, "
                f"got {pixels.shape[1]}x{pixels.shape[0]}; save it again"
            )
        return pixels

    def close(self) -> None:
        """Close the file and clear the cache."""
        self._file.close()
        self._kept.clear()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_scan(path: str | Path) -> bool:
    """Whether a file is a TIFF of more than MIN_SCAN_PIXELS; False if it cannot be parsed."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        return False
    try:
        with open_tiff(path) as tiff:
            page = photograph_page(tiff) or tiff.pages[0]
            return bool(page.imagelength * page.imagewidth > MIN_SCAN_PIXELS)
    except Exception:  # read_image will raise an error that names the defect
        return False


def _problem(page: Any | None) -> str:
    """The reason why a TIFF cannot be read in regions, or an empty string."""
    if page is None:
        return "expected one scan, got several pages; save the page you mean on its own"
    height, width = page.imagelength, page.imagewidth
    if not 0 < height * width <= MAX_SCAN_PIXELS:
        return f"expected at most {MAX_SCAN_PIXELS:,} pixels, got {width}x{height}"
    if page.samplesperpixel > 1 and page.planarconfig != 1:
        return "expected interleaved colours, got planes; save it as RGB"
    if page.tags.valueof(ORIENTATION, 1) != 1:
        return "expected an upright scan, got one with an orientation tag; save it upright"
    if page.is_tiled:
        across, down = page.tilewidth, page.tilelength
    else:
        across, down = width, min(page.rowsperstrip, height)
    # An uncompressed strip may be larger: it is read in parts.
    if across * down > MAX_SEGMENT_PIXELS and (page.is_tiled or page.compression != UNCOMPRESSED):
        limit = f"tiles or strips of at most {MAX_SEGMENT_PIXELS:,} pixels"
        return f"expected {limit}, got {across}x{down}; save it as a tiled TIFF"
    return ""


__all__ = [
    "LARGE_PIXELS",
    "MAX_SCAN_PIXELS",
    "MIN_SCAN_PIXELS",
    "Pixels",
    "Region",
    "Scan",
    "Window",
    "is_scan",
]
