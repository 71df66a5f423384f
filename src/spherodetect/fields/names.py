"""File names: which suffixes are images, natural order, and names as valid text."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp",
     ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif"}
)  # fmt: skip
#: Image formats that `image.read_image` cannot decode. Such a file is reported as left out. Files
#: with any other suffix are ignored without a message.
FOREIGN_SUFFIXES = frozenset(
    {".gif", ".jxl", ".psd", ".svs", ".ndpi", ".scn",
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


def patient_name(text: str) -> str:
    """A patient's id in one form: composed characters, and nothing invisible around it.

    >>> patient_name("Mu\u0308ller\u00a0") == "Müller"
    True
    """
    visible = unicodedata.normalize("NFC", valid_text(text))
    ends = [n for n, c in enumerate(visible) if not (c.isspace() or _is_invisible(c))]
    return visible[ends[0] : ends[-1] + 1] if ends else visible


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in {"Cf", "Cc"}
