"""Finds the images that a label file names, also where tools wrote the names differently.

A name is first taken as it is. Otherwise an image is accepted if its name is the only one that
fits: by its last path components, then regardless of letter case, Unicode form, percent-encoding
and spaces at the ends, then regardless of the suffix. Two names never get the same image this way.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

#: Near misses are searched for so many names, among so many images at most.
_MOST_NEAR, _MOST_COMPARED = 20, 5000
#: The query parameter of Label Studio's local files that holds the path.
_QUERY = re.compile(r"\?(?:d=)?(?P<path>[^&]*)")


class ImageIndex:
    """The images below a root, by their path relative to it with forward slashes."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self._n_near = 0
        hows = (_as_is, _same_letters, _without_suffix)
        self._tiers = [(how, _grouped(files, how)) for how in hows]

    def locate(
        self, names: Iterable[str], folders: Sequence[PurePosixPath]
    ) -> dict[str, str | None]:
        """The image of each name, or None.

        Args:
            names: as the label file writes them.
            folders: where the names may be relative to, the likely ones first.
        """
        names = list(dict.fromkeys(names))
        found = {name: self._exact(name, folders) for name in names}
        taken = {file for file in found.values() if file}
        guesses = {name: self._guess(name) for name in names if found[name] is None}
        n_claims: dict[str, int] = {}
        for file in guesses.values():
            if file:
                n_claims[file] = n_claims.get(file, 0) + 1
        for name, file in guesses.items():
            if file and file not in taken and n_claims[file] == 1:
                found[name] = file
        return found

    def near(self, name: str) -> str | None:
        """The image with the most similar name, for a message; None if none is similar."""
        # The comparison is slow, and a few examples suffice in a list of missing images.
        self._n_near += 1
        if self._n_near > _MOST_NEAR or len(self.files) > _MOST_COMPARED:
            return None
        names = {PurePosixPath(file).name: file for file in self.files}
        close = difflib.get_close_matches(_components(name)[-1], names, n=1, cutoff=0.75)
        return names[close[0]] if close else None

    def _exact(self, name: str, folders: Sequence[PurePosixPath]) -> str | None:
        parts = name.replace("\\", "/").split("/")
        if name.startswith("/") or ".." in parts:
            return None
        for folder in folders:
            file = (folder / PurePosixPath(*parts)).as_posix()
            if file in self.files:
                return file
        return None

    def _guess(self, name: str) -> str | None:
        for how, grouped in self._tiers:
            parts = [how(part) for part in _components(name)]
            alike = grouped.get(parts[-1], [])
            if not alike:
                continue
            # Of several images of that name, the one that shares most folders with it.
            n_shared = [_n_shared(parts, [how(p) for p in file.split("/")]) for file in alike]
            best = [file for file, n in zip(alike, n_shared, strict=True) if n == max(n_shared)]
            return best[0] if len(best) == 1 else None
        return None


def pair_by_name(images: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    """The image of each label file that has one: of the same key, or else of the same letters.

    Args:
        images: image file to its key, from `files.keys_below`.
        labels: label file to its key.
    """
    found: dict[str, str] = {}
    for how in (_as_is, _same_letters):
        taken = set(found.values())
        image_of: dict[str, str] = {}
        for image, key in images.items():
            if image not in taken:
                image_of.setdefault("/".join(map(how, key.split("/"))), image)
        for label, key in labels.items():
            if label not in found and (name := "/".join(map(how, key.split("/")))) in image_of:
                found[label] = image_of.pop(name)
    return found


def _components(name: str) -> list[str]:
    """The path components of a name, of an URL or a Windows path too; at least one."""
    path = name
    if (query := _QUERY.search(name)) is not None:
        # A signed URL has its path before the query; Label Studio's local files within it.
        path = query["path"] if "/" in query["path"] else name[: query.start()]
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    return parts or [name]


def _as_is(part: str) -> str:
    return part


def _same_letters(part: str) -> str:
    return unicodedata.normalize("NFC", unquote(part)).casefold().strip()


def _without_suffix(part: str) -> str:
    plain = _same_letters(part)
    return re.sub(r"\.(?:jpe?g|jpe|jfif|png|tiff?|bmp|dib|webp)$", "", plain)


def _grouped(files: Iterable[str], how: Callable[[str], str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for file in files:
        grouped.setdefault(how(PurePosixPath(file).name), []).append(file)
    return grouped


def _n_shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many last components two paths share."""
    n = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        n += 1
    return n
