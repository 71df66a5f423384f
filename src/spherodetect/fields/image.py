"""Decode an image file safely to uint8 RGB (H, W, 3).

The image is turned upright as its EXIF orientation says. Colour profiles are not applied. 16-bit
samples keep the upper 8 of the bits that they use. Transparent pixels are drawn on white.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, _imaging

from spherodetect.errors import BadImageError
from spherodetect.fields import samples, tiff
from spherodetect.fields.contents import contents_of, is_heic
from spherodetect.fields.pages import MOST_PAGES, Page, page_of, photograph_pages
from spherodetect.safety import quoted, read_bytes

MAX_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 2**30
#: The formats of Pillow that are read. The last two depend on how Pillow was built.
FORMATS = (
    "JPEG", "PNG", "TIFF", "BMP", "WEBP",
    *(("JPEG2000",) if hasattr(_imaging, "jpeg2k_decoder") else ()),
    *(("AVIF",) if importlib.util.find_spec("PIL._avif") else ()),
)  # fmt: skip
#: The formats in an error message.
FORMAT_NAMES = "JPEG, PNG, TIFF, BMP, WebP, JPEG 2000, AVIF or HEIC"

#: Pixel modes of Pillow that are 8-bit greys or colours, or bits.
_MODES_8_BIT = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK"}
)
_TIFF_STARTS = b"II*\0", b"MM\0*"
#: Files of these formats may have further pictures, such as depth; the first is the photograph.
_FIRST_COUNTS = frozenset({"MPO", "HEIF"})
#: An alpha channel that leaves less than this part of an image visible is a mistake of a program.
_MIN_VISIBLE = 0.01
#: Pillow issues warnings, and the filters for warnings belong to the whole process. Therefore only
#: one thread at a time may change them.
_PILLOW = threading.Lock()

# Without a handler, Python prints the records of Pillow's logger to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8 RGB (H, W, 3).
        notes: one sentence for each thing about the file that its user should know.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The pixels of an image file, uint8 RGB (H, W, 3).

    JPEG, PNG, TIFF, BMP and WebP are read; JPEG 2000 and AVIF if Pillow was built with them, and
    HEIC with the extra [heic]. The size in the header is checked before anything is decoded. The
    function is thread-safe.

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
    return read_picture(source, name=name, max_pixels=max_pixels).pixels


def read_picture(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    bits: int | None = None,
) -> Picture:
    """`read_image` with notes on the file.

    Args:
        source: as for read_image.
        name: as for read_image.
        max_pixels: as for read_image.
        bits: the bits that 16-bit samples use; by default those of the image's own range.

    Raises:
        BadImageError: as for read_image.
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
        return _File(data, shown, max_pixels, bits).picture()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """A block in which Pillow issues no warnings; only one thread at a time is inside."""
    with _PILLOW, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


class _File:
    """One image file while it is decoded."""

    def __init__(self, data: bytes, shown: str, max_pixels: int, bits: int | None) -> None:
        self.data, self.shown, self.max_pixels, self.bits = data, shown, max_pixels, bits
        self.notes: list[str] = []

    def picture(self) -> Picture:
        pages = self._pages()
        if len(pages) > 1:
            self.notes.append("its three grey pages were read as red, green and blue")
            planes = [self._loaded(self._page(page)) for page in pages]
            pixels = self._joined([_upright(plane) for plane in planes], planes)
            return Picture(pixels, tuple(self.notes))
        return Picture(self._rgb(pages[0]), tuple(self.notes))

    def _open(self) -> Image.Image:
        too_large = (
            f"{self.shown}: expected at most {self.max_pixels:,} pixels, got {{}}; "
            "save the field itself, not the whole slide"
        )
        try:
            image = Image.open(io.BytesIO(self.data), formats=_formats(self.data))
        except Image.DecompressionBombError as problem:
            raise BadImageError(too_large.format("far more")) from problem
        except Exception as problem:
            raise BadImageError(f"{self.shown}: {_refusal(self.data)}") from problem
        width, height = image.size
        if width * height > self.max_pixels:
            raise BadImageError(too_large.format(f"{width}x{height}"))
        return image

    def _pages(self) -> tuple[int, ...]:
        """The page that is the photograph, or its red, green and blue pages."""
        image = self._open()
        if not getattr(image, "is_animated", False) or image.format in _FIRST_COUNTS:
            return (0,)
        chosen: tuple[int, ...] = ()
        described: list[Page] = []
        if image.format == "TIFF":
            with contextlib.suppress(EOFError):
                for number in range(MOST_PAGES + 1):
                    image.seek(number)
                    described.append(page_of(image))
            chosen = photograph_pages(described) if len(described) <= MOST_PAGES else ()
        if not chosen:
            raise BadImageError(
                f"{self.shown}: expected one image, got several pages; "
                "save the page you mean on its own"
            )
        if chosen != (0,) and len(chosen) == 1:
            height, width = described[chosen[0]].size_hw
            self.notes.append(f"its largest page was read, {width}x{height} pixels")
        return chosen

    def _page(self, number: int) -> Image.Image:
        """A page that is not decoded yet."""
        image = self._open()
        if number:
            image.seek(number)
            width, height = image.size
            if width * height > self.max_pixels:
                raise BadImageError(
                    f"{self.shown}: expected at most {self.max_pixels:,} pixels, "
                    f"got {width}x{height}; save the field itself, not the whole slide"
                )
        return image

    def _loaded(self, image: Image.Image) -> Image.Image:
        try:
            image.load()
        except Exception as problem:  # Pillow raises nearly any exception on a damaged file
            why = quoted(problem) if str(problem) else type(problem).__name__
            raise BadImageError(
                f"{self.shown}: the image is damaged or cut short ({why}); copy it again"
            ) from problem
        return image

    def _rgb(self, number: int) -> np.ndarray:
        original = self._page(number)
        is_deep_colour = samples.is_deep_colour(original)
        image = _upright(self._loaded(original))
        if samples.is_deep_grey(image, original):
            return self._joined([image] * 3, [original] * 3)
        if image.mode not in _MODES_8_BIT:
            raise BadImageError(
                f"{self.shown}: expected 8- or 16-bit greys or colours, got {image.mode} pixels; "
                "save it as RGB"
            )
        if is_deep_colour:
            image = self._with_used_bits(image, number)
        return self._on_white(image)

    def _joined(self, planes: list[Image.Image], originals: list[Image.Image]) -> np.ndarray:
        """(H, W, 3) of three grey images, which may be the same one."""
        if not samples.is_deep_grey(planes[0], originals[0]):
            return np.stack([np.asarray(plane.convert("L")) for plane in planes], axis=-1)
        tags = [getattr(original, "tag_v2", {}) for original in originals]
        values = np.stack(
            [samples.grey_values(*pair, self.bits) for pair in zip(planes, tags, strict=True)],
            axis=-1,
        )
        return samples.eight_bits(values, self._depth(samples.depth_of(values, tags[0], self.bits)))

    def _with_used_bits(self, image: Image.Image, number: int) -> Image.Image:
        """The colours of 16 bits with the upper 8 of the bits that they use; alpha as it is."""
        high = np.asarray(image)
        n_colours = 1 if image.mode in {"LA", "La"} else 3

        def low() -> np.ndarray:
            decoded = self._loaded(samples.low_bytes(self._page(number)))
            return np.asarray(_upright(decoded))[..., :n_colours]

        if self.bits == 16:
            return image
        values = samples.colour_values(high[..., :n_colours], low)
        bits = self._depth(self.bits or samples.used_bits(values))
        if bits == 16:
            return image
        changed = np.concatenate([samples.eight_bits(values, bits), high[..., n_colours:]], axis=-1)
        return Image.frombytes(image.mode, image.size, changed.tobytes())

    def _depth(self, bits: int) -> int:
        """The used bits, with a note if a file of 16 bits uses fewer."""
        if bits < 16 and self.bits is None:
            self.notes.append(f"its 16-bit samples use {bits} bits only; they were scaled to these")
        return bits

    def _on_white(self, image: Image.Image) -> np.ndarray:
        if not (image.mode[-1] in "Aa" or "transparency" in image.info):
            return np.array(image.convert("RGB"))
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = np.asarray(straight.convert("RGBA"))
        if (rgba[..., 3] >= 128).mean() < _MIN_VISIBLE:
            self.notes.append("its alpha channel hides the image; it was ignored")
            # Colours that were multiplied by the alpha are stored as they are.
            stored = np.asarray(image)[..., :3] if image.mode == "RGBa" else rgba[..., :3]
            return np.ascontiguousarray(stored)
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(straight.convert("RGBA"))
        return np.array(white.convert("RGB"))


def _formats(data: bytes) -> tuple[str, ...]:
    """The formats to try; a HEIC image needs a plug-in of Pillow, which is an extra."""
    if is_heic(data) and importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
        return (*FORMATS, "HEIF")
    return FORMATS


def _refusal(data: bytes) -> str:
    """What was expected and what came, for bytes that Pillow cannot open."""
    if data.startswith(_TIFF_STARTS):
        got = tiff.described(data)
        return f"expected a TIFF of 8- or 16-bit greys or colours, got {got}; save it as RGB"
    if contents := contents_of(data):
        return f"expected a {FORMAT_NAMES} image, got {contents.name}; {contents.next_step}"
    return (
        f"expected a {FORMAT_NAMES} image, got something else or a damaged header; save it as RGB"
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # A broken EXIF block does not damage the pixels, and no measurement of a cell depends on
        # its orientation.
        return image


@functools.cache
def _hush_libtiff() -> None:
    """Stop libtiff from printing errors to stderr, since Pillow raises them as well.

    This has no effect where libtiff is linked statically.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
