"""The first sheet of an Excel workbook as rows of text, as `reading.read_csv` gives them."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.safety.archives import check_zip_size
from spherodetect.safety.reading import MAX_TEXT_BYTES
from spherodetect.safety.text import quoted

#: A workbook is a zip of XML, which shrinks to a tenth of its size or less.
_MAX_UNPACKED = 4 * MAX_TEXT_BYTES
_MAX_RATIO = 200.0
_ZIP = b"PK\x03\x04"


def is_workbook(path: Path) -> bool:
    """Whether a file is a zip archive, as an Excel workbook is, whatever its name says."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(_ZIP)) == _ZIP
    return False


def read_workbook(
    path: Path, *, error: type[SpherodetectError] = SpherodetectError
) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells of each row of the first sheet that is not empty.

    Raises:
        error: openpyxl is not installed, or path is no workbook, is damaged or too large.
    """
    try:
        import openpyxl
    except ModuleNotFoundError as problem:
        raise error(
            f"{quoted(path)}: expected a CSV, got an Excel workbook; save it as CSV, "
            "or pip install 'spherodetect[excel]'"
        ) from problem
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        check_zip_size(path, members, _MAX_UNPACKED, _MAX_RATIO, error=error)
        # openpyxl refuses a path with another suffix, and reads the same bytes from a file.
        with (
            open(path, "rb") as file,
            contextlib.closing(
                openpyxl.load_workbook(file, read_only=True, data_only=True)
            ) as book,
        ):
            for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), 1):
                cells = [_text(value) for value in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    yield number, cells
    except SpherodetectError:
        raise
    except Exception as problem:  # the parser raises nearly any exception on a damaged file
        why = quoted(problem) if str(problem) else type(problem).__name__
        raise error(
            f"{quoted(path)}: expected a CSV or an Excel workbook, got something else ({why}); "
            "save it as CSV"
        ) from problem


def _text(value: Any) -> str:
    if value is None:
        return ""
    # Excel keeps every number as a float.
    return (
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    )


__all__ = ["is_workbook", "read_workbook"]
