"""Paths that must stay inside a root folder."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from spherodetect.errors import SpherodetectError
from spherodetect.safety.text import quoted


def inside(
    root: str | Path, relative: str | Path, *, error: type[SpherodetectError] = SpherodetectError
) -> Path:
    """The path root/relative, which need not exist.

    Raises:
        error: relative is absolute, contains `..`, names a drive, or leaves root through a link.
    """
    root = Path(root)
    # The path is parsed by the rules of Windows, where `\\` separates as `/` does. They are
    # stricter than those of POSIX, and a path is then accepted or refused on every system alike.
    parsed = PureWindowsPath(relative)
    try:
        leaves = bool(parsed.anchor) or ".." in parsed.parts
        leaves = leaves or not (root / relative).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a long name, a NUL character
        leaves = True
    if leaves:
        raise error(
            f"{quoted(relative)}: expected a path inside {quoted(root)}, got one that leaves it; "
            "state the path relative to that folder"
        )
    return root / relative
