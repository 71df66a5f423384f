"""`FieldStore`: a folder of finished fields, by which a run that was cut off goes on.

A stored field is found by a key made of everything that its cells follow from: the bytes of its
image and label image, the detector, the settings, the code of this package and the libraries that
compute. Its name and its patient are not part of the key. The folder is independent of any folder
of results, and several runs may use it at once: each file is written whole or not at all. A file
that a power failure tore is found by its checksums, and its field is examined again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from spherodetect.cells import Cells
from spherodetect.cells_file import MAX_BYTES, from_arrays, read_npz, to_arrays, write_npz
from spherodetect.errors import SpherodetectError
from spherodetect.quality import FieldQuality
from spherodetect.safety import atomic_write, read_bytes, sha256
from spherodetect.scale.find import Scale

#: The code that a field's cells follow from. It may change without a new version number.
_CODE = (
    "cells.py", "cells_file.py", "constants.py", "geometry.py", "photograph.py", "measure",
    "quality", "detect", "fields", "pipeline/examine.py", "pipeline/examine_scan.py",
    "pipeline/label_images.py", "pipeline/store.py", "scale", "segment",
)  # fmt: skip
#: End of the name of an overlay that waits, and the letters of the checksum before its bytes.
_OVERLAY, _DIGEST = ".overlay", 64
_LIBRARIES = ("tensorflow", "numpy", "scipy", "scikit-image", "pillow", "rapidocr", "tifffile")


@dataclass(frozen=True, eq=False)
class FinishedField:
    """The result of examining one image.

    Attributes:
        cells: found and measured; without the field's name.
        quality: whether they may be counted.
        scale: the pixel size, also from the cells.
        parts: whether the cells of each part of a slide scan may be counted.
        notes: one sentence for each thing about the image that its user should know.
    """

    cells: Cells
    quality: FieldQuality
    scale: Scale
    parts: tuple[bool, ...] = ()
    notes: tuple[str, ...] = ()


class FieldStore:
    """A folder of finished fields.

    Args:
        folder: made when the first field is saved.

    Attributes:
        folder: the folder.

    >>> store = FieldStore("finished")
    >>> store.load(store.key("0" * 64)) is None
    True
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._used: set[str] = set()

    def __repr__(self) -> str:
        return f"FieldStore({str(self.folder)!r})"

    def key(self, *digests: str, **settings: Any) -> str:
        """The key of a field.

        Args:
            digests: SHA-256 of its image, and of its label image if it has one.
            settings: whatever else its cells follow from; JSON types.
        """
        everything = [digests, settings, _code(), _libraries()]
        return sha256(json.dumps(everything, sort_keys=True).encode())

    def load(self, key: str) -> FinishedField | None:
        """A stored field, or None if there is none, or if its file is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            head, arrays = read_npz(path)
            finished = FinishedField(
                from_arrays(head["cells"], arrays),
                FieldQuality(**head["quality"]),
                Scale(**head["scale"]),
                tuple(head["parts"]),
                tuple(head["notes"]),
            )
        except (SpherodetectError, KeyError, TypeError, ValueError):
            return None  # the field is examined again
        self._used.add(key)
        return finished

    def save(self, key: str, finished: FinishedField) -> None:
        """Store a field.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        values, arrays = to_arrays(finished.cells)
        head = {
            "cells": values | {"field_id": ""},
            "quality": dataclasses.asdict(finished.quality),
            "scale": dataclasses.asdict(finished.scale),
            "parts": finished.parts,
            "notes": finished.notes,
        }
        write_npz(head, arrays, self._path(key), sync=False)
        self._used.add(key)

    def content(self, key: str) -> bytes | None:
        """The file of a stored field, to be put into another store; None if there is none."""
        path = self._path(key)
        return read_bytes(path, max_bytes=MAX_BYTES) if path.is_file() else None

    def put(self, key: str, content: bytes) -> None:
        """Keep the file of a field that was stored elsewhere.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        with atomic_write(self._path(key), sync=False) as file:
            file.write(content)
        self._used.add(key)

    def put_overlay(self, content: str, png: bytes) -> None:
        """Keep a drawn overlay until it is taken.

        Args:
            content: the key of what the overlay follows from.
            png: the picture.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        with atomic_write(self.folder / f"{content}{_OVERLAY}", sync=False) as file:
            file.write(sha256(png).encode() + png)

    def overlay(self, content: str) -> bytes | None:
        """Take out a drawn overlay; None if there is none, or if its file is damaged."""
        path = self.folder / f"{content}{_OVERLAY}"
        if not path.is_file():
            return None
        data = read_bytes(path, max_bytes=MAX_BYTES)
        path.unlink(missing_ok=True)
        digest, png = data[:_DIGEST], data[_DIGEST:]
        return png if sha256(png).encode() == digest else None

    def prune(self) -> None:
        """Remove the fields that were neither loaded nor saved since this object was made."""
        for path in self.folder.glob(f"*{_OVERLAY}"):
            path.unlink(missing_ok=True)
        for path in self.folder.glob("*.npz"):
            if path.stem not in self._used:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


@cache
def _code() -> str:
    package = Path(__file__).parents[1]
    files = (file for name in _CODE for file in _modules(package / name))
    return sha256(b"".join(file.read_bytes() for file in files))


def _modules(path: Path) -> list[Path]:
    """The module, or all modules below a folder."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@cache
def _libraries() -> tuple[str, ...]:
    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:  # an extra, or tensorflow under another name
            return ""

    return tuple(f"{name} {version(name)}" for name in _LIBRARIES)


__all__ = ["FieldStore", "FinishedField"]
