"""Zip archives, unpacked only after every member was checked."""

from __future__ import annotations

import errno
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from spherodetect.errors import SpherodetectError
from spherodetect.safety.paths import inside
from spherodetect.safety.text import os_reason, quoted

MAX_ZIP_BYTES = 8 * 2**30
MAX_ZIP_RATIO = 100.0
MAX_ZIP_MEMBERS = 100_000

#: Up to this unpacked size the ratio is not checked: a small text file may well shrink a
#: thousandfold, and it cannot fill a disk.
_RATIO_FROM_BYTES = 2**20


def extract_zip(
    path: str | Path,
    into: str | Path,
    *,
    max_bytes: int = MAX_ZIP_BYTES,
    max_ratio: float = MAX_ZIP_RATIO,
    max_members: int = MAX_ZIP_MEMBERS,
    error: type[SpherodetectError] = SpherodetectError,
) -> list[Path]:
    """Unpack a zip into a folder and return the files in the archive's order.

    All members are checked before the first is written. If the archive is damaged, the files that
    were written are removed again. Files that macOS adds (__MACOSX, .DS_Store) are not unpacked.

    Args:
        path: the zip.
        into: an empty folder, or one that does not exist yet.
        max_bytes: limit of the unpacked size.
        max_ratio: limit of the unpacked size over the size of the archive.
        max_members: limit of the number of members.
        error: class of the exception.

    Raises:
        error: into has files in it; path is not a zip; a limit is exceeded; or a member is
            absolute, contains `..`, is a link, is encrypted or occurs twice.
    """
    path, into = Path(path), Path(into)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise error(
            f"{quoted(into)}: expected an empty folder to unpack {quoted(path)} into, "
            "got one with files in it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_zip_size(path, members, max_bytes, max_ratio, max_members, error=error)
            _check_members(path, members, into, error)
            return [
                _extract(archive, member, into)
                for member in members
                if not member.is_dir() and not _is_mac_file(member.filename)
            ]
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as problem:
        for child in into.iterdir() if into.is_dir() else ():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
        next_step = (
            f"free some space in {quoted(into.parent)}, or set TMPDIR to another folder"
            if full
            else "download it again"
        )
        raise error(
            f"{quoted(path)}: cannot be unpacked ({os_reason(problem)}); {next_step}"
        ) from problem


def zip_names(path: str | Path, *, error: type[SpherodetectError] = SpherodetectError) -> list[str]:
    """The names of a zip's files, without those that macOS adds.

    Raises:
        error: path is not a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if not _is_mac_file(name)]
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        raise error(
            f"{quoted(path)}: expected a zip, got something else ({os_reason(problem)}); "
            "download it again"
        ) from problem


def check_zip_size(
    path: Path,
    members: list[zipfile.ZipInfo],
    max_bytes: int = MAX_ZIP_BYTES,
    max_ratio: float = MAX_ZIP_RATIO,
    max_members: int = MAX_ZIP_MEMBERS,
    *,
    error: type[SpherodetectError] = SpherodetectError,
) -> None:
    """Check what an archive would unpack to, before any member is read.

    Raises:
        error: a limit is exceeded, see `extract_zip`.
    """
    if len(members) > max_members:
        raise error(f"{quoted(path)}: expected at most {max_members:,} files, got {len(members):,}")
    # zipfile never reads more of a member than its declared size. So the sum of the declared sizes
    # is a limit of the bytes that will be written.
    total, packed = sum(m.file_size for m in members), max(path.stat().st_size, 1)
    if total > max_bytes:
        raise error(f"{quoted(path)}: expected at most {max_bytes:,} bytes unpacked, got {total:,}")
    if total > max(max_ratio * packed, _RATIO_FROM_BYTES):
        raise error(
            f"{quoted(path)}: expected at most {max_ratio:g} times its size unpacked, "
            f"got {total / packed:.0f} times"
        )


def _check_members(
    path: Path, members: list[zipfile.ZipInfo], into: Path, error: type[SpherodetectError]
) -> None:
    for member in members:
        name = quoted(member.filename)
        # The upper 16 bits of external_attr are the Unix mode.
        if stat.S_ISLNK(member.external_attr >> 16):
            raise error(f"{quoted(path)}: expected plain files, got the link {name}; zip the files")
        if member.flag_bits & 1:
            raise error(
                f"{quoted(path)}: expected plain files, got {name} encrypted; "
                "remove the password protection"
            )
        try:
            inside(into, member.filename)
        except SpherodetectError:
            raise error(
                f"{quoted(path)}: expected files inside the archive's own folder, got {name}; "
                "do not trust this archive"
            ) from None


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> Path:
    target = into / member.filename.replace("\\", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(target, "xb") as file:
        shutil.copyfileobj(source, file, 2**20)
    return target


def _is_mac_file(name: str) -> bool:
    parts = PureWindowsPath(name).parts
    return (
        "__MACOSX" in parts or not parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._")
    )
