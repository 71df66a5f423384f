"""A manifest: a table of fields with their patients and, if known, their pixel sizes.

It is a CSV, as European Excel writes it too, or the first sheet of an Excel workbook.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from spherodetect.errors import SpherodetectError
from spherodetect.fields.dates import parsed_date
from spherodetect.fields.field import Field
from spherodetect.fields.names import patient_name, valid_text
from spherodetect.safety import inside, is_workbook, quoted, read_csv, read_workbook

logger = logging.getLogger(__name__)

MANIFEST_SUFFIXES = frozenset({".csv", ".xlsx"})
#: Other names of the columns, without what is no letter.
_COLUMNS = {
    "patientid": "patient_id", "patient": "patient_id",
    "field": "field", "file": "field", "filename": "field", "image": "field", "path": "field",
    "umperpx": "um_per_px", "umpx": "um_per_px", "umperpixel": "um_per_px",
    "pixelsizeum": "um_per_px", "pixelsize": "um_per_px",
    "date": "date", "taken": "date", "datetaken": "date", "acquired": "date",
    "acquisitiondate": "date", "datum": "date",
}  # fmt: skip
#: Rows above the header, such as a title.
_MOST_TITLES = 10
_UNITS_UM = {"": 1.0, "um": 1.0, "µm": 1.0, "nm": 1e-3}
_NUMBER = re.compile(r"([0-9.,]+(?:e[+-]?[0-9]+)?)\s*(um|µm|nm)?(?:/px|/pixel)?", re.IGNORECASE)
#: A whole number as a table of decimal numbers writes it.
_WHOLE = re.compile(r"([0-9]+)[.,]0+")
_DECIMAL = re.compile(r"[0-9]+[.,][0-9]+")


def is_manifest(path: Path) -> bool:
    """Whether a path has the name of a manifest."""
    return path.suffix.lower() in MANIFEST_SUFFIXES


def read_manifest(path: Path, um_per_px: float | None, problems: list[str]) -> Iterator[Field]:
    """The fields of a manifest, in its order.

    The columns are patient_id, field (a path relative to the manifest) and, optionally, um_per_px
    and date. Other columns, named or not, are ignored.

    Args:
        path: the CSV or workbook.
        um_per_px: pixel size in µm for rows that state none.
        problems: gets a line for each row that cannot be used; the other rows are read.

    Raises:
        SpherodetectError: the file cannot be read, or a column is missing.
    """
    header, rows = _table(path)
    files = _Files(path.parent)
    at = header.index("patient_id")
    names = _as_one_form(path, {line: cells[at] for line, cells in rows if len(cells) > at})
    told = False
    for line, cells in rows:
        where = f"{quoted(path)}, line {line}"
        row = dict(zip(header, cells, strict=False))
        try:
            if _is_torn(header, cells) or not (row.get("patient_id") and row.get("field")):
                raise SpherodetectError(
                    f"expected the cells {', '.join(filter(None, header))}, "
                    f"got {quoted('; '.join(cells))}"
                )
            relative = row["field"].replace("\\", "/")
            file = files.find(relative)
        except SpherodetectError as problem:
            problems.append(f"{where}: left out, {problem}")
            continue
        scale = um_per_px
        if stated := row.get("um_per_px"):
            scale = _positive(stated)
            if scale is None:
                problems.append(
                    f"{where}: expected um_per_px above 0, got {quoted(stated)}; "
                    "the field is treated as one without a stated pixel size"
                )
        taken = parsed_date(row.get("date", ""))
        if taken is None and row.get("date") and not told:
            told = True
            logger.warning(
                "%s: expected a date such as 2026-11-30, got %s; rows like this have no date",
                where, quoted(row["date"]),
            )  # fmt: skip
        field_id = valid_text(PurePosixPath(relative).as_posix())
        yield Field(names[line], field_id, file, scale, taken)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and number and cells of each row below them."""
    rows = list(read_workbook(path) if is_workbook(path) else read_csv(path))
    for number, (_, cells) in enumerate(rows[:_MOST_TITLES]):
        header = [_column(cell) for cell in cells]
        if {"patient_id", "field"} <= set(header):
            return header, rows[number + 1 :]
    first = ", ".join(rows[0][1]) if rows else "an empty file"
    raise SpherodetectError(
        f"{quoted(path)}: expected columns patient_id and field, got {quoted(first)}; "
        "name them in the first line"
    )


def _column(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    letters = re.sub("[^a-z]", "", plain.replace("μ", "u").replace("µ", "u"))
    return _COLUMNS.get(letters, plain)


def _is_torn(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether a decimal comma was taken for the end of a cell; other cells beyond are remarks."""
    last = len(header) - 1
    return len(cells) > len(header) and cells[last].isdigit() and cells[last + 1].isdigit()


def _as_one_form(path: Path, ids: dict[int, str]) -> dict[int, str]:
    """The patient of each line. 7.0 is patient 7 where no id has other decimals."""
    names = {line: patient_name(text) for line, text in ids.items()}
    decimal = {name for name in names.values() if _DECIMAL.fullmatch(name)}
    if decimal and all(_WHOLE.fullmatch(name) for name in decimal):
        first = min(decimal)
        whole = _WHOLE.sub(r"\1", first)
        logger.warning(
            "%s: patient ids are written as decimal numbers; %s is read as %s",
            quoted(path), quoted(first), quoted(whole),
        )  # fmt: skip
        names = {
            line: _WHOLE.sub(r"\1", name) if name in decimal else name
            for line, name in names.items()
        }
    return names


class _Files:
    """The files beside a manifest, found by their names as people write them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, list[str]] = {}

    def find(self, relative: str) -> Path:
        """The file of a relative path. Letter case, the form of accents and a missing suffix are
        forgiven where one file alone fits.

        Raises:
            SpherodetectError: there is no such file, or the path leaves the folder.
        """
        file = inside(self._root, relative)
        if file.is_file():
            return file
        folder = self._root
        parts = PurePosixPath(relative).parts
        for number, part in enumerate(parts):
            same = self._alike(folder, part, is_last=number == len(parts) - 1)
            if len(same) != 1:
                got = "a folder" if file.is_dir() else "no such file"
                raise SpherodetectError(
                    f"expected an image, got {got} {quoted(file)}; "
                    "a field's path is relative to the manifest"
                )
            folder = folder / same[0]
        return folder

    def _alike(self, folder: Path, part: str, *, is_last: bool) -> list[str]:
        if folder not in self._listed:
            names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = names
        names = [n for n in self._listed[folder] if (folder / n).is_file() == is_last]
        same = [name for name in names if _plain(name) == _plain(part)]
        if not same and is_last:
            same = [name for name in names if _plain(Path(name).stem) == _plain(part)]
        return [part] if part in same else same


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _positive(text: str) -> float | None:
    """A number of µm above 0, with a decimal point or comma and perhaps a unit, or None."""
    found = _NUMBER.fullmatch(unicodedata.normalize("NFKC", text).replace("μ", "µ").strip())
    if not found:
        return None
    try:
        value = float(found[1].replace(",", ".")) * _UNITS_UM[(found[2] or "").lower()]
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


__all__ = ["MANIFEST_SUFFIXES", "is_manifest", "read_manifest"]
