"""SHA-256 of bytes and of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.safety.text import quoted


def sha256(data: bytes | Iterable[bytes]) -> str:
    """The SHA-256 of bytes, or of several pieces as if they were joined, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in (data,) if isinstance(data, bytes) else data:
        digest.update(piece)
    return digest.hexdigest()


def file_sha256(path: str | Path, *, error: type[SpherodetectError] = SpherodetectError) -> str:
    """The SHA-256 of a file of any size, in hexadecimal.

    Raises:
        error: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise error(f"{quoted(path)}: cannot be read ({problem.strerror})") from problem
