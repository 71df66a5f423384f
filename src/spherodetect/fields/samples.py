"""16-bit samples as 8-bit ones.

Cameras write 10, 12 or 14 bits into samples of 16. The upper byte of such a sample is nearly black,
so the used bits are taken from the data's own range. Pillow keeps the upper byte of a 16-bit colour
only. The lower byte is decoded by the raw mode of the other byte order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

#: Bits that cameras use; from the lowest on.
_DEPTHS = 8, 10, 12, 14
#: Percentile of the samples that the used bits must hold. A burnt-in mark may be brighter than the
#: camera's white.
_RANGE_PERCENTILE = 99.5
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_DEEP_COLOURS = re.compile(r"(LA|RGB[AXa]?);16([LBN])")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def used_bits(values: np.ndarray) -> int:
    """The bits that uint16 samples use: 8, 10, 12, 14 or 16.

    >>> used_bits(np.array([0, 4080], np.uint16))
    12
    """
    top = float(np.percentile(values, _RANGE_PERCENTILE, method="higher")) if values.size else 0.0
    return next((bits for bits in _DEPTHS if top < 2**bits), 16)


def is_deep_grey(image: Image.Image, original: Image.Image) -> bool:
    """Whether an image has grey samples of more than 8 bits."""
    # Older versions of Pillow read a 16-bit PNG in mode "I".
    return image.mode.startswith("I;16") or (image.mode == "I" and original.format == "PNG")


def grey_values(image: Image.Image, tags: Mapping[int, Any], bits: int | None) -> np.ndarray:
    """(H, W) uint16 samples, where 0 is black.

    Args:
        image: of mode I;16.
        tags: of its TIFF, or empty.
        bits: the used bits if they are known.
    """
    values = np.asarray(image).astype(np.uint16)
    # Photometric interpretation 0 is "white is zero". Pillow inverts 8-bit samples, but not these.
    if tags.get(_TIFF_PHOTOMETRIC) == 0:
        values = 2 ** depth_of(values, tags, bits) - 1 - values
    return values


def depth_of(values: np.ndarray, tags: Mapping[int, Any], bits: int | None) -> int:
    """The used bits: the given ones, those that a TIFF states, else those of the data's range."""
    stated = max(tags.get(_TIFF_BITS, (16,)))
    return bits or (stated if 8 < stated < 16 else used_bits(values))


def eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """uint8: the upper 8 of the used bits."""
    return np.minimum(values >> (bits - 8), 255).astype(np.uint8)


def is_deep_colour(image: Any) -> bool:
    """Whether an image of Pillow that is not decoded yet has colours of 16 bits a sample."""
    return any(_DEEP_COLOURS.fullmatch(_raw_mode(tile)) for tile in image.tile)


def low_bytes(image: Any) -> Any:
    """The same image of Pillow, not decoded yet, with the lower bytes of its samples."""
    image.tile = [_with_raw_mode(tile, _swapped(_raw_mode(tile))) for tile in image.tile]
    return image


def colour_values(high: np.ndarray, low: Callable[[], np.ndarray]) -> np.ndarray:
    """uint16 samples of their upper bytes; the lower ones are decoded only if they are needed."""
    values = high.astype(np.uint16) << 8
    return values | low() if used_bits(values) < 16 else values


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    first = arguments if isinstance(arguments, str) else next(iter(arguments or ()), "")
    return first if isinstance(first, str) else ""


def _with_raw_mode(tile: Any, mode: str) -> Any:
    arguments = tile[3]
    changed = mode if isinstance(arguments, str) else (mode, *arguments[1:])
    codec, extents, offset = tile[:3]
    return type(tile)(codec, extents, offset, changed) if hasattr(tile, "_fields") else (
        codec, extents, offset, changed
    )  # fmt: skip


def _swapped(mode: str) -> str:
    found = _DEEP_COLOURS.fullmatch(mode)
    return f"{found[1]};16{_OTHER_ORDER[found[2]]}" if found else mode
