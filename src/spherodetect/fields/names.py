"""File names: which suffixes are images, natural order, and names as valid text."""

from __future__ import annotations

import re
from typing import Any

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp"}
)
#: Image formats that `image.read_image` cannot decode. Such a file is reported as left out. Files
#: with any other suffix are ignored without a message.
FOREIGN_SUFFIXES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".psd", ".svs", ".ndpi", ".scn",
     ".mrxs", ".czi", ".nd2", ".lif", ".lsm", ".oib", ".vsi", ".dcm", ".raw", ".dng", ".cr2",
     ".cr3", ".nef", ".arw"}
)  # fmt: skip


def natural_key(text: str) -> tuple[tuple[Any, ...], str]:
    """A sort key that puts 2.jpg before 10.jpg and compares paths folder by folder."""
    chunks = re.split("([0-9]+)", text.casefold().replace("/", "\0"))
    # A number is compared by its length, then as text: int() refuses more than 4,300 digits.
    digits = [number.lstrip("0") for number in chunks[1::2]]
    return tuple(zip(chunks[::2], [*((len(n), n) for n in digits), ()], strict=True)), text


def valid_text(name: str) -> str:
    """A file name that can be encoded as UTF-8: bytes that are not UTF-8 become escapes."""
    return name.encode(errors="backslashreplace").decode()
