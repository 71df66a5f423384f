"""SHA-256 of bytes and of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from spherodetect.errors import BadImageError
from spherodetect.safety.text import quoted


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal.

    Raises:
        BadImageError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise BadImageError(f"{quoted(path)}: cannot be read ({problem.strerror})") from problem
