"""Decode an image file safely to uint8 RGB (H, W, 3).

The image is turned upright as its EXIF orientation says. Colour profiles are not applied. 16-bit
samples keep their upper 8 bits. Transparent pixels are drawn on white.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, _imaging

from spherodetect.errors import BadImageError
from spherodetect.safety import quoted, read_bytes

MAX_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 2**30
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
#: The formats in an error message.
FORMAT_NAMES = "JPEG, PNG, TIFF, BMP or WebP"

#: Pixel modes of Pillow that are 8-bit greys or colours, or bits.
_MODES_8_BIT = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK"}
)
_TIFF_STARTS = b"II*\0", b"MM\0*"
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
#: Pillow issues warnings, and the filters for warnings belong to the whole process. Therefore only
#: one thread at a time may change them.
_PILLOW = threading.Lock()

# Without a handler, Python prints the records of Pillow's logger to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The pixels of a JPEG, PNG, TIFF, BMP or WebP file, uint8 RGB (H, W, 3).

    The size in the header is checked before anything is decoded. The function is thread-safe.

    Args:
        source: a path, or the bytes of a file.
        name: replaces the path in error messages.
        max_pixels: limit of the image's size. A value beyond Pillow's own limit has no effect.

    Raises:
        BadImageError: source is not an image, is damaged or truncated, is too large, has several
            pages, or has pixels that are not greys or colours of 8 or 16 bits.

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
    with quiet_pillow():
        image = _open(data, shown, max_pixels)
        try:
            image.load()
        except Exception as problem:  # Pillow raises nearly any exception on a damaged file
            why = quoted(problem) if str(problem) else type(problem).__name__
            raise BadImageError(
                f"{shown}: the image is damaged or cut short ({why}); copy it again"
            ) from problem
        return _rgb(_upright(image), image, shown)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """A block in which Pillow issues no warnings; only one thread at a time is inside."""
    with _PILLOW, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def _open(data: bytes, shown: str, max_pixels: int) -> Image.Image:
    too_large = (
        f"{shown}: expected at most {max_pixels:,} pixels, got {{}}; "
        "save the field itself, not the whole slide"
    )
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as problem:
        raise BadImageError(too_large.format("far more")) from problem
    except Exception as problem:
        expected, got = f"a {FORMAT_NAMES} image", "something else"
        if data.startswith(_TIFF_STARTS):
            expected, got = "a TIFF of 8- or 16-bit greys or colours", "other samples"
        raise BadImageError(
            f"{shown}: expected {expected}, got {got} or a damaged header; save it as RGB"
        ) from problem
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(too_large.format(f"{width}x{height}"))
    # The JPEG of a phone (MPO) may contain a second image with depth. The first is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise BadImageError(
            f"{shown}: expected one image, got several pages; save the page you mean on its own"
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # A broken EXIF block does not damage the pixels, and no measurement of a cell depends on
        # its orientation.
        return image


def _rgb(image: Image.Image, original: Image.Image, shown: str) -> np.ndarray:
    mode = image.mode
    # Older versions of Pillow read a 16-bit PNG in mode "I".
    if mode.startswith("I;16") or (mode == "I" and original.format == "PNG"):
        return _rgb_of_16_bit(image, getattr(original, "tag_v2", {}))
    if mode not in _MODES_8_BIT:
        raise BadImageError(
            f"{shown}: expected 8- or 16-bit greys or colours, got {mode} pixels; save it as RGB"
        )
    if mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("LA") if mode == "La" else image
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.array(image.convert("RGB"))


def _rgb_of_16_bit(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    """The upper 8 of the used bits; cameras also write 10, 12 or 14 bits in 16-bit samples."""
    bits = max(tags.get(_TIFF_BITS, (16,)))
    values = np.asarray(image).astype(np.uint16)
    # Photometric interpretation 0 is "white is zero". Pillow inverts 8-bit samples, but not these.
    if tags.get(_TIFF_PHOTOMETRIC) == 0:
        values = 2**bits - 1 - values
    return np.repeat((values >> (bits - 8)).astype(np.uint8)[..., None], 3, axis=2)


@functools.cache
def _hush_libtiff() -> None:
    """Stop libtiff from printing errors to stderr, since Pillow raises them as well.

    This has no effect where libtiff is linked statically.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
