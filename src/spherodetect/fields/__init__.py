"""Photographs: find them, assign them to patients, decode them safely, read slide scans."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`find_fields`, imported at its first use: the modules of this package need none of it."""
    if name != "find_fields":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spherodetect.fields.find import find_fields

    return find_fields


__all__ = ["find_fields"]
