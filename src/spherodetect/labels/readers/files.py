"""The files of an export, and the headers of its images."""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from spherodetect.errors import BadLabelsError
from spherodetect.fields.image import FORMATS, MAX_PIXELS
from spherodetect.fields.names import natural_key
from spherodetect.labels.file_names import CONTENT_FOLDERS
from spherodetect.safety import inside, quoted

_ORIENTATION = 0x0112
#: EXIF orientations that swap rows and columns.
ON_ITS_SIDE = frozenset({5, 6, 7, 8})
#: Files that operating systems and photo programs leave behind.
_DEBRIS = re.compile(
    r"(^|/)(\._[^/]*|\.DS_Store|Thumbs\.db|desktop\.ini|__MACOSX(/.*)?)$", re.IGNORECASE
)


def listed(names: Iterable[object], *, most: int = 12) -> str:
    """Names for a message: quoted, the first few of many.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(quoted(name) for name in names[:most]) + rest


def list_files(folder: Path, suffixes: Collection[str], root: Path) -> dict[str, Path]:
    """Files below a folder by their path relative to root, in natural order, without debris."""
    found = {
        PurePosixPath(path.relative_to(root)).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file()
    }
    names = sorted(found, key=natural_key)
    return {name: found[name] for name in names if not _DEBRIS.search(name)}


def common_folder(files: Iterable[str]) -> str:
    """The deepest folder that holds all the relative paths; empty if they have none in common."""
    folders = [PurePosixPath("/", file).parent.as_posix() for file in files]
    return posixpath.commonpath(folders).lstrip("/") if folders else ""


def keys_below(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Each file's key: its path below a folder, without suffix and folders such as `images`.

    An image and its label file share the key.
    """
    keys = {}
    for name, path in files.items():
        below = PurePosixPath(path.relative_to(folder).as_posix())
        kept = [part for part in below.parent.parts if part.lower() not in CONTENT_FOLDERS]
        keys[name] = "/".join([*kept, below.stem])
    return keys


def folder_in(root: Path, name: str, key: str) -> Path:
    """The folder root/name, which must exist and lie inside root.

    Args:
        root: the data set's folder.
        name: the recipe's value.
        key: the recipe's key, for messages.

    Raises:
        BadLabelsError: there is no such folder.
    """
    if not root.is_dir():
        raise BadLabelsError(
            f"{quoted(root)}: expected the data set's folder, got none; name it with --root"
        )
    folder = inside(root, name, error=BadLabelsError) if name else root
    if not folder.is_dir():
        raise BadLabelsError(
            f"{quoted(folder)}: expected the folder of {key}, got none; mend {key}: in the recipe"
        )
    return folder


def header_size_hw(path: Path) -> tuple[int, int] | None:
    """Height and width of the upright image, from its header; None if it cannot be used."""
    header = read_header(path)
    return header[0] if header else None


def read_header(path: Path) -> tuple[tuple[int, int], int] | None:
    """Height and width of the upright image, and its EXIF orientation (1 is upright).

    No pixel is decoded. None for a file that is no image of a known format or size.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                orientation = image.getexif().get(_ORIENTATION, 1)
                width, height = image.size[::-1] if orientation in ON_ITS_SIDE else image.size
    except Exception:  # untrusted bytes make Pillow raise nearly anything
        return None
    return ((height, width), orientation) if height * width <= MAX_PIXELS else None
