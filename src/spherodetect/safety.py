"""Text, paths and files that come from outside, made harmless before anything else sees them.

File names, patient ids and category names are hostile text; a path inside a label file, manifest,
recipe or zip may not leave its root; what is parsed has a stated size. What is written appears
whole or not at all. Unusable input raises `SpherodetectError`, or the more exact class that the
caller names.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from spherodetect.errors import BadImageError, SpherodetectError

MAX_TEXT_BYTES = 64 * 2**20
MAX_JSON_BYTES = 512 * 2**20
MAX_YAML_BYTES = 256 * 2**10
MAX_YAML_ALIASES = 16
MAX_YAML_DEPTH = 64
MAX_ZIP_BYTES = 8 * 2**30
MAX_ZIP_RATIO = 100.0
MAX_ZIP_MEMBERS = 100_000

_MAX_NAME_BYTES = (
    100  # a file system allows 255, of which hash, suffix and the browser's own additions want some
)
_RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"
}
# A spreadsheet may split the line at another separator than the comma, so a formula may start
# behind any of them.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])(?=[ \t\r\n]*[=+\-@＝＋－＠]|[\t\r])")
_RATIO_FROM_BYTES = 2**20  # a small file may well shrink a thousandfold, and does no harm


def quoted(text: object, *, max_chars: int = 160) -> str:
    """Text for an error line: in quotes, on one line, nothing invisible in it, its middle left out
    if it is long.

    >>> quoted("a\\nb.jpg")
    "'a\\\\nb.jpg'"
    """
    shown = str(text)
    if len(shown) > max_chars:
        shown = f"{shown[: max_chars // 2]}…{shown[len(shown) - max_chars // 2 :]}"
    return repr(shown)


def safe_name(text: str) -> str:
    """A file name, without suffix, that stands for a patient or field id and for no other.

    Letters and digits of any script, `-`, `_`, `.` and inner spaces stay; an id made of them is its
    own name. Any other id gets `~` and ten digits of its SHA-256 behind what is left of it. Ids
    that differ by case give names that do.

    >>> safe_name("patient 07"), safe_name("../x")
    ('patient 07', '_x~d6b96a97d1')
    """
    kept = "".join(
        c if c.isalnum() or c in "-_. " else "_" for c in unicodedata.normalize("NFC", text)
    )
    kept = kept.lstrip(" .-").encode()[:_MAX_NAME_BYTES].decode(errors="ignore").rstrip(" .")
    if kept.partition(".")[0].rstrip().upper() in _RESERVED:
        kept = f"_{kept}"
    if kept and kept == text:
        return kept
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{kept}~{digest[:10]}"


def csv_cell(value: Any) -> Any:
    """A value for a CSV cell: text that a spreadsheet would run as a formula gets an apostrophe;
    numbers stay numbers.

    >>> csv_cell("=1+1"), csv_cell(-1.5)
    ("'=1+1", -1.5)
    """
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def inside(
    root: str | Path, relative: str | Path, *, error: type[SpherodetectError] = SpherodetectError
) -> Path:
    """The path root/relative, which need not exist.

    Raises:
        error: relative is absolute, holds `..`, names a drive, or leaves root through a link.
    """
    root = Path(root)
    # Read as Windows would, `\\` separates as well as `/`: stricter than POSIX, and the same
    # everywhere.
    given = PureWindowsPath(relative)
    try:
        leaves = bool(given.anchor) or ".." in given.parts
        leaves = leaves or not (root / relative).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
        leaves = True
    if leaves:
        raise error(
            f"{quoted(relative)}: expected a path inside {quoted(root)}, got one that leaves it; state it from there"
        )
    return root / relative


def read_text(
    path: str | Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    error: type[SpherodetectError] = SpherodetectError,
) -> str:
    """The text of a UTF-8 file, with or without BOM; a byte that is no text becomes U+FFFD.

    Raises:
        error: not a file that can be read, or more than max_bytes.
    """
    return read_bytes(path, max_bytes=max_bytes, error=error).decode("utf-8-sig", errors="replace")


def read_bytes(
    path: str | Path,
    *,
    max_bytes: int,
    error: type[SpherodetectError] = SpherodetectError,
    name: str | None = None,
) -> bytes:
    """The bytes of a regular file (no device, no pipe); name stands for the path in errors.

    Raises:
        error: not a file that can be read, or more than max_bytes.
    """
    path, shown = Path(path), quoted(name or path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(
                f"{shown}: expected a file, got a {'folder' if path.is_dir() else 'device or pipe'}"
            )
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as problem:
        raise error(
            f"{shown}: cannot be read ({_reason(problem)}); check the path and its permissions"
        ) from problem
    if len(data) > max_bytes:
        raise error(
            f"{shown}: expected at most {max_bytes:,} bytes, got more; is it the right file?"
        )
    return data


def read_json(
    path: str | Path,
    *,
    max_bytes: int = MAX_JSON_BYTES,
    error: type[SpherodetectError] = SpherodetectError,
) -> Any:
    """The content of a JSON file in UTF-8, with or without BOM.

    Raises:
        error: not a file that can be read, more than max_bytes, not JSON, or nested too deeply.
    """
    data = read_bytes(path, max_bytes=max_bytes, error=error)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno}: {problem.msg}"
        raise error(
            f"{quoted(path)}: expected JSON, got something else ({where}); export it again"
        ) from problem
    except (ValueError, RecursionError) as problem:
        raise error(
            f"{quoted(path)}: expected JSON in UTF-8, got something else; export it again"
        ) from problem


def read_yaml(
    path: str | Path,
    *,
    max_bytes: int = MAX_YAML_BYTES,
    max_aliases: int = MAX_YAML_ALIASES,
    error: type[SpherodetectError] = SpherodetectError,
) -> Any:
    """The content of a YAML file, as plain dicts, lists, text and numbers.

    Raises:
        error: not a file that can be read, more than max_bytes or max_aliases, not YAML, nested too
            deeply, or a tag that makes an object.
    """
    import yaml

    data = read_bytes(path, max_bytes=max_bytes, error=error)
    try:
        text = data.decode("utf-8-sig")
        # An alias costs nothing when loaded, but ten of ten of ten fill the memory when walked; and
        # the parser's time grows with the square of the depth.
        aliases = depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            if aliases > max_aliases or depth > MAX_YAML_DEPTH:
                limits = f"{max_aliases} aliases and {MAX_YAML_DEPTH} levels"
                raise error(
                    f"{quoted(path)}: expected YAML of at most {limits}, got more; write it out plainly"
                )
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        why = quoted(getattr(problem, "problem", None) or "not text")
        raise error(f"{quoted(path)}: expected YAML, got something else{where}: {why}") from problem


def read_csv(
    path: str | Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    error: type[SpherodetectError] = SpherodetectError,
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not empty, without the spaces around cells and
    empty cells at the end.

    Also as European Excel writes it: UTF-8 or UTF-16 with a mark, else the Western code page where
        it is no UTF-8;
    semicolons or tabs; a first line `sep=;`.

    Raises:
        error: not a file that can be read, more than max_bytes, or a cell that does not end.
    """
    text = _decoded(read_bytes(path, max_bytes=max_bytes, error=error))
    stated = re.match(r"sep=(.)\r?\n", text)
    delimiter = stated[1] if stated else max(",;\t", key=text.lstrip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells and not (stated and reader.line_num == 1):
                yield reader.line_num, cells
    except csv.Error as problem:
        where = f"line {reader.line_num}: {problem}"
        raise error(
            f"{quoted(path)}: expected a CSV table, got something else ({where})"
        ) from problem


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def write_json(data: Any, path: str | Path, *, indent: int | None = 2) -> None:
    """Write JSON, whole or not at all; NaN is refused, for JSON has none."""
    with atomic_write(path, text=True) as file:
        file.write(json.dumps(data, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_write(path: str | Path, *, text: bool = False) -> Iterator[IO[Any]]:
    """A file to write into, binary or UTF-8, which becomes path only when the block ends well.

    Written beside path under a hidden name; missing folders are made; a killed run leaves the old
    file or none.

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
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as problem:
        raise SpherodetectError(
            f"{quoted(path)}: cannot be written ({_reason(problem)}); name a place that can be written, with space left"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def extract_zip(
    path: str | Path,
    into: str | Path,
    *,
    max_bytes: int = MAX_ZIP_BYTES,
    max_ratio: float = MAX_ZIP_RATIO,
    max_members: int = MAX_ZIP_MEMBERS,
    error: type[SpherodetectError] = SpherodetectError,
) -> list[Path]:
    """Unpack a zip into a folder that is empty or absent, and return its files in the archive's
    order.

    All members are judged before the first is written; what was written is removed again if the
    archive is damaged. What the Mac adds (__MACOSX, .DS_Store) stays behind.

    Raises:
        error: not a zip; a member that is absolute, holds `..`, is a link, is encrypted or is there
            twice; or more than max_bytes unpacked, max_ratio times the archive's own size, or
            max_members.
    """
    path, into = Path(path), Path(into)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise error(
            f"{quoted(into)}: expected an empty folder to unpack {quoted(path)} into, got one with files in it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members, into, max_bytes, max_ratio, max_members, error)
            return [
                _extract(archive, m, into)
                for m in members
                if not m.is_dir() and not _is_mac_debris(m.filename)
            ]
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as problem:
        for child in into.iterdir() if into.is_dir() else ():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = (
            f"free some in {quoted(into.parent)}, or set TMPDIR to another place"
            if full
            else "download it again"
        )
        raise error(f"{quoted(path)}: cannot be unpacked ({_reason(problem)}); {mend}") from problem


def _check_members(
    path: Path,
    members: list[zipfile.ZipInfo],
    into: Path,
    max_bytes: int,
    max_ratio: float,
    max_members: int,
    error: type[SpherodetectError],
) -> None:
    if len(members) > max_members:
        raise error(f"{quoted(path)}: expected at most {max_members:,} files, got {len(members):,}")
    # zipfile never reads more of a member than its declared size, so the declared sizes bound what
    # is written.
    total, packed = sum(m.file_size for m in members), max(path.stat().st_size, 1)
    if total > max_bytes:
        raise error(f"{quoted(path)}: expected at most {max_bytes:,} bytes unpacked, got {total:,}")
    if total > max(max_ratio * packed, _RATIO_FROM_BYTES):
        raise error(
            f"{quoted(path)}: expected at most {max_ratio:g} times its size unpacked, got {total / packed:.0f}"
        )
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise error(
                f"{quoted(path)}: expected plain files, got the link {quoted(member.filename)}; zip the files"
            )
        if member.flag_bits & 1:
            raise error(
                f"{quoted(path)}: expected plain files, got {quoted(member.filename)} encrypted; unlock it"
            )
        try:
            inside(into, member.filename)
        except SpherodetectError:
            raise error(
                f"{quoted(path)}: expected files inside the archive's own folder, got {quoted(member.filename)}; do "
                "not trust it"
            ) from None


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> Path:
    target = into / member.filename.replace("\\", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(target, "xb") as file:
        shutil.copyfileobj(source, file, 2**20)
    return target


def _is_mac_debris(name: str) -> bool:
    parts = PureWindowsPath(name).parts
    return (
        "__MACOSX" in parts or not parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._")
    )


def _reason(problem: BaseException) -> str:
    """Why the system refused, in its own words but without the paths it repeats."""
    return (problem.strerror if isinstance(problem, OSError) else None) or quoted(problem)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal.

    Raises:
        BadImageError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise BadImageError(f"{quoted(path)}: cannot be read ({problem.strerror})") from problem
