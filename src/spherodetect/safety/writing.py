"""Output files that are written completely or not at all.

A file that must survive a power failure is synced when it is written. The many small files of a
field are not: a run syncs the whole folder once a patient, with `sync_folder`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from spherodetect.errors import SpherodetectError
from spherodetect.safety.text import os_reason, quoted

#: Errors of a full disk, and of one that refuses a file.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


def write_json(data: Any, path: str | Path, *, indent: int | None = 2, sync: bool = True) -> None:
    """Write a JSON file atomically; see `atomic_write`.

    Raises:
        ValueError: data contains NaN or infinity, which JSON cannot express.
        SpherodetectError: the file cannot be written.
    """
    with atomic_write(path, text=True, sync=sync) as file:
        file.write(json.dumps(data, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """A block in which a library writes a file; a failure of the system names the file.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    try:
        yield
    except Exception as problem:
        if reason := system_reason(problem):
            raise SpherodetectError(f"{quoted(path)}: cannot be written ({reason})") from problem
        raise


def system_reason(problem: BaseException) -> str:
    """Why the system refused something, and what to do; empty for any other error.

    TensorFlow's errors are no OSError, but have the system's words in them.
    """
    if isinstance(problem, MemoryError):
        return "out of memory; close other programs, or give it fewer or smaller images"
    numbers = [problem.errno] if isinstance(problem, OSError) else []
    if type(problem).__module__.startswith("tensorflow."):
        numbers = [n for n in (*_FULL, *_REFUSED) if os.strerror(n) in str(problem)]
    if isinstance(problem, OSError) or numbers:
        known = next((os.strerror(n) for n in numbers if n), os_reason(problem))
        is_full = bool(_FULL.intersection(numbers))
        return known + ("; free some space, or name another folder" if is_full else "")
    return ""


@contextlib.contextmanager
def atomic_write(path: str | Path, *, text: bool = False, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing, binary or UTF-8, that replaces path when the block ends well.

    The data goes to a hidden file beside path, which is renamed at the end. Missing folders are
    created. If the block raises or the process is killed, path stays as it was.

    Args:
        path: the file.
        text: UTF-8 text instead of bytes.
        sync: the file survives a power failure from now on. Without it, a power failure before the
            next `sync_folder` may leave the file torn; use it only for a file that is checked when
            it is read, or written anew by the next run.

    Raises:
        SpherodetectError: the file cannot be written.

    >>> with atomic_write("cells.csv", text=True) as file:  # doctest: +SKIP
    ...     file.write("patient_id,field_id\\n")
    """
    path = Path(path)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    mode: dict[str, Any] = {"mode": "xb"}
    if text:
        mode = {"mode": "x", "encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, **mode) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if sync:
            _sync_names(path.parent)
    except OSError as problem:
        raise SpherodetectError(
            f"{quoted(path)}: cannot be written ({os_reason(problem)}); "
            "choose a folder with write permission and free space"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def sync_folder(folder: str | Path) -> None:
    """Make all that was written below a folder survive a power failure.

    One call of the system syncs the file system of the folder, at less cost than each file.

    Raises:
        SpherodetectError: the disk failed.
    """
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if sync is None:  # a system without it, such as macOS
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if sync(handle) and ctypes.get_errno() != errno.ENOSYS:
            reason = os.strerror(ctypes.get_errno())
            raise SpherodetectError(
                f"{quoted(folder)}: cannot be written ({reason}); choose another folder"
            )
    finally:
        os.close(handle)


def _sync_names(folder: Path) -> None:
    """Make a rename survive a power failure, on systems that can sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
