"""The files below a folder, without hidden files, loops of links and earlier results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

from spherodetect.fields.names import natural_key
from spherodetect.safety import quoted

#: Folders that macOS adds to zips and that a NAS adds beside photographs; both hold thumbnails.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
#: A folder that contains both is the result of an earlier run; its overlays are no fields.
_RESULT_NAMES = {"cells.csv", "overlays"}


def files_below(
    root: Path, exclude: Collection[str], problems: list[str]
) -> Iterator[tuple[str, ...]]:
    """The path parts, relative to root, of all files below it, folder by folder.

    Linked folders are searched last, so that a file that is reachable twice is reported at its own
    place first.

    Args:
        root: the folder.
        exclude: real paths of folders that are not searched.
        problems: gets a line for each folder that cannot be read.
    """
    folders: deque[tuple[str, ...]] = deque([()])
    linked: deque[tuple[str, ...]] = deque()
    visited: set[tuple[str, tuple[str, ...]]] = set()
    while folders or linked:
        parts = (folders or linked).popleft()
        folder = root.joinpath(*parts)
        real = os.path.realpath(folder)
        is_loop = parts and Path(os.path.realpath(folder.parent)).is_relative_to(real)
        if is_loop or (real, parts[:1]) in visited or real in exclude:
            continue
        visited.add((real, parts[:1]))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
        except OSError as problem:
            problems.append(
                f"{quoted(folder)}: left out, the folder cannot be read ({problem.strerror})"
            )
            continue
        if {entry.name for entry in entries} >= _RESULT_NAMES:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append((*parts, entry.name))
            else:
                yield (*parts, entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
