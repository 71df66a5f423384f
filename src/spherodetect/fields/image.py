"""Decode an image file safely to uint8 RGB (H, W, 3)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, _imaging

from spherodetect.errors import BadImageError
from spherodetect.safety import quoted, read_bytes

MAX_PIXELS = 100_000_000


MAX_IMAGE_BYTES = 2**30


FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")


_FORMAT_NAMES = "JPEG, PNG, TIFF, BMP or WebP"


_TIFF_STARTS = b"II*\0", b"MM\0*"


_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262


# Pillow speaks through warnings, whose filters are global: one reader at a time may change them.
_PILLOW = threading.Lock()


def read_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode a JPEG, PNG, TIFF, BMP or WebP file to uint8 RGB (H, W, 3); may be called from several
    threads.

    The header's size is judged before anything is decoded. max_pixels beyond Pillow's own limit has
    no effect. name stands for the file in errors.

    Raises:
        BadImageError: not an image, damaged, cut short, too large, of several pages, or of pixels
            that are not greys or colours of 8 or 16 bits.

    >>> read_image("patient_01/field_01.jpg").shape  # doctest: +SKIP
    (1800, 2400, 3)
    """
    if isinstance(source, bytes):
        data, shown = source, quoted(name or "image")
    else:
        data = read_bytes(source, max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=name)
        shown = quoted(name or source)
    if not data:
        raise BadImageError(
            f"{shown}: expected an image, got an empty file; copy it again from the camera"
        )
    _hush_libtiff()
    with _PILLOW, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        image = _open(data, shown, max_pixels)
        try:
            image.load()
        except Exception as problem:  # hostile bytes make Pillow raise nearly anything
            why = quoted(problem) if str(problem) else type(problem).__name__
            raise BadImageError(
                f"{shown}: the image is damaged or cut short ({why}); copy it again"
            ) from problem
        return _rgb(_upright(image), image, shown)


def _open(data: bytes, shown: str, max_pixels: int) -> Image.Image:
    too_large = f"{shown}: expected at most {max_pixels:,} pixels, got {{}}; save the field itself, not the whole slide"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as problem:
        raise BadImageError(too_large.format("far more")) from problem
    except Exception as problem:
        expected, got = f"a {_FORMAT_NAMES} image", "something else"
        if data.startswith(_TIFF_STARTS):
            expected, got = "a TIFF of 8- or 16-bit greys or colours", "other samples"
        raise BadImageError(
            f"{shown}: expected {expected}, got {got} or a damaged header; save it as RGB"
        ) from problem
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(too_large.format(f"{width}x{height}"))
    # A telephone's JPEG (MPO) may carry a second picture for depth; its first is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise BadImageError(
            f"{shown}: expected one image, got several pages; save the page you mean on its own"
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (
        Exception
    ):  # a broken EXIF block says nothing about the pixels, and a cell has no upright
        return image


def _rgb(image: Image.Image, original: Image.Image, shown: str) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16") or (
        mode == "I" and original.format == "PNG"
    ):  # "I" is how older Pillow reads 16 bits
        tags = getattr(original, "tag_v2", {})
        bits = max(tags.get(_TIFF_BITS, (16,)))
        values = np.asarray(image).astype(np.uint16)
        if (
            tags.get(_TIFF_PHOTOMETRIC) == 0
        ):  # white is zero, which Pillow leaves to us at this depth
            values = 2**bits - 1 - values
        return np.repeat((values >> (bits - 8)).astype(np.uint8)[..., None], 3, axis=2)
    if mode not in {
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "YCbCr",
        "CMYK",
    }:
        raise BadImageError(
            f"{shown}: expected 8- or 16-bit greys or colours, got {mode} pixels; save it as RGB"
        )
    if mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("LA") if mode == "La" else image
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.array(image.convert("RGB"))


@functools.cache
def _hush_libtiff() -> None:
    """Stop libtiff from printing to stderr what Pillow raises anyway; where it is linked in
    statically, it goes on."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
