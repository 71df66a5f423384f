"""Files that are read up to a stated size and parsed without executing anything."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.safety.text import os_reason, quoted

MAX_TEXT_BYTES = 64 * 2**20
MAX_JSON_BYTES = 512 * 2**20
MAX_YAML_BYTES = 256 * 2**10
MAX_YAML_ALIASES = 16
MAX_YAML_DEPTH = 64
#: Bytes from the start of a text that tell UTF-16 without a BOM.
_START_BYTES = 400
#: A formula that is only a text: Excel's users write it to keep the zeros of a number.
_FORMULA_TEXT = re.compile(r'^="([^"]*)"$')


def read_text(
    path: str | Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    error: type[SpherodetectError] = SpherodetectError,
    any_encoding: bool = False,
) -> str:
    """The text of a UTF-8 file, with or without BOM. A byte that is not UTF-8 becomes U+FFFD.

    With any_encoding, UTF-16 with a BOM is read too, and a file that is not UTF-8 as Windows-1252.

    Raises:
        error: path is not a readable file, or has more than max_bytes.
    """
    data = read_bytes(path, max_bytes=max_bytes, error=error)
    return _decoded(data) if any_encoding else data.decode("utf-8-sig", errors="replace")


def read_bytes(
    path: str | Path,
    *,
    max_bytes: int,
    error: type[SpherodetectError] = SpherodetectError,
    name: str | None = None,
) -> bytes:
    """The bytes of a regular file; a device or a pipe is refused.

    Args:
        path: the file.
        max_bytes: limit of its size.
        error: class of the exception.
        name: replaces the path in error messages.

    Raises:
        error: path is not a readable regular file, or has more than max_bytes.
    """
    path, shown = Path(path), quoted(name or path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            got = "folder" if path.is_dir() else "device or pipe"
            raise error(f"{shown}: expected a file, got a {got}")
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as problem:
        raise error(
            f"{shown}: cannot be read ({os_reason(problem)}); check the path and its permissions"
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
        error: path is not a readable file, has more than max_bytes, is not JSON, or is nested too
            deeply.
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
        error: path is not a readable file, has more than max_bytes or max_aliases, is not YAML, is
            nested too deeply, or has a tag that would construct an object.
    """
    import yaml

    data = read_bytes(path, max_bytes=max_bytes, error=error)
    try:
        text = data.decode("utf-8-sig")
        # Aliases are limited because of the "billion laughs" attack: aliases of aliases are cheap
        # to load, but the result grows exponentially when it is walked. The depth is limited
        # because the parser's time grows with its square.
        aliases = depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            if aliases > max_aliases or depth > MAX_YAML_DEPTH:
                limits = f"{max_aliases} aliases and {MAX_YAML_DEPTH} levels"
                raise error(
                    f"{quoted(path)}: expected YAML of at most {limits}, got more; "
                    "write it without aliases"
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
    """Line number and cells of each row that is not empty.

    Spaces around cells and empty cells at the end of a row are removed. The formats of European
    Excel are understood: UTF-8 or UTF-16 with a BOM, code page 1252 where the text is not UTF-8,
    semicolons or tabs as separators, a first line `sep=;`, and text as ="007".

    Raises:
        error: path is not a readable file, has more than max_bytes, or has a cell whose quotation
            mark is not closed.
    """
    data = read_bytes(path, max_bytes=max_bytes, error=error)
    if data.startswith(b"PK\x03\x04"):
        raise error(
            f"{quoted(path)}: expected a CSV, got an Excel workbook or a zip; save it as CSV"
        )
    text = _decoded(data)
    stated = re.match(r"sep=(.)\r?\n", text)
    delimiter = stated[1] if stated else max(",;\t", key=text.lstrip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = [_FORMULA_TEXT.sub(r"\1", cell.strip()).strip() for cell in row]
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
    if b"\0" in (start := data[:_START_BYTES]):
        # UTF-16 without a BOM: every second byte of most letters is 0.
        is_big = start[::2].count(0) > start[1::2].count(0)
        return data.decode("utf-16-be" if is_big else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
