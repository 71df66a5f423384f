"""results.xlsx: the tables of a run as one Excel workbook.

A spreadsheet that opens a CSV file guesses the kind of each value: a German one takes 12.5 for a
date and `3+` for 3. A workbook states the kinds. Numbers are numbers, rounded to the decimals of
the CSV files. Texts are texts, in which no formula begins. The same result gives the same bytes.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.report.tables import CELL_COLUMNS, COUNT, COUNT_COLUMNS, TEXT, column_kind
from spherodetect.safety import atomic_write, csv_cell
from spherodetect.score.counts import RESEARCH_USE

if TYPE_CHECKING:
    import pandas as pd

FILE = "results.xlsx"
#: Columns of the sheet cells: counts, counts by reason why a cell is not counted, and means.
_REASONS = ("border", "overlap", "overlay", "not_rbc", "field")
_MEANS = ("area_px", "diameter_px", "diameter_um", "circularity", "p_spherocyte")
#: Rows of cells.parquet that are in memory at a time.
_BATCH = 50_000
#: Excel refuses these characters, and longer texts.
_ILLEGAL, _MAX_CHARS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"), 32_000
_MAX_WIDTH = 44
_STAMPS = re.compile(rb"<dcterms:(created|modified)\b[^>]*>[^<]*</dcterms:\1>")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write_workbook(path: str | Path, sheets: Mapping[str, pd.DataFrame]) -> None:
    """Write tables of `report.tables` or `cell_summary` as the sheets of one workbook.

    Args:
        path: the .xlsx file.
        sheets: name to table.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    book.properties.creator = "spherodetect"
    book.properties.description = RESEARCH_USE
    for name, frame in sheets.items():
        _add_sheet(book, name, frame)
    content = io.BytesIO()
    book.save(content)
    with atomic_write(path) as file:
        file.write(_without_times(content.getvalue()))


def cell_summary(cells: Path) -> pd.DataFrame:
    """Return one row a patient and class, from cells.parquet, which is read part by part.

    `mean_` columns are means over all cells of the class whose measurement is known.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    keys = ["patient_id", "class_name"]
    columns = [*keys, "countable", "exclusion_reason", *_MEANS]
    sums: dict[tuple[str, str], np.ndarray] = {}
    with pq.ParquetFile(cells) as file:
        for batch in file.iter_batches(_BATCH, columns=columns):
            frame = batch.to_pandas()
            values = frame[list(_MEANS)].to_numpy(float)
            known = np.isfinite(values)
            reason = frame["exclusion_reason"].to_numpy()
            parts = [
                np.ones((len(frame), 1)),
                frame[["countable"]].to_numpy(float),
                *((reason == name)[:, None] for name in _REASONS),
                np.where(known, values, 0),
                known,
            ]
            table = np.concatenate(parts, axis=1)
            for key, rows in frame.groupby(keys, sort=False).indices.items():
                sums[key] = sums.get(key, 0) + table[rows].sum(axis=0)
    n_counts, n_means = 2 + len(_REASONS), len(_MEANS)
    rows = []
    for (patient_id, name), total in sorted(sums.items()):
        counts, added, known = np.split(total, [n_counts, n_counts + n_means])
        means = np.divide(added, known, out=np.full(n_means, np.nan), where=known > 0)
        rows.append((patient_id, name, *counts.astype(int), *means))
    head = ["n_cells", "n_countable", *(f"n_{reason}" for reason in _REASONS)]
    return pd.DataFrame(rows, columns=[*keys, *head, *(f"mean_{name}" for name in _MEANS)])


def _add_sheet(book: Any, name: str, frame: pd.DataFrame) -> None:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    sheet = book.create_sheet(name)
    sheet.freeze_panes = "B2"
    kinds = [_kind(column) for column in frame.columns]
    texts = [
        [_shown(value, kind) for value in frame[c]] for c, kind in zip(frame, kinds, strict=True)
    ]
    for number, (column, values) in enumerate(zip(frame.columns, texts, strict=True), 1):
        longest = max((len(str(value)) for value in (column, *values)), default=0)
        sheet.column_dimensions[get_column_letter(number)].width = min(longest + 2, _MAX_WIDTH)
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(kinds))}{len(frame) + 1}"
    sheet.oddFooter.left.text = RESEARCH_USE
    head = []
    for column in frame.columns:
        cell = WriteOnlyCell(sheet, column)
        cell.font = Font(bold=True)
        head.append(cell)
    sheet.append(head)
    for row in zip(*texts, strict=True):
        sheet.append([_cell(sheet, value, kind) for value, kind in zip(row, kinds, strict=True)])


def _kind(column: str) -> str | int:
    if column.startswith("mean_"):
        return CELL_COLUMNS[column.removeprefix("mean_")]
    return COUNT if column.startswith("n_") and column not in COUNT_COLUMNS else column_kind(column)


def _shown(value: Any, kind: str | int) -> str | int | float | None:
    """Return a value as the sheet shows it; an unknown one is empty."""
    import pandas as pd

    if pd.isna(value):
        return None
    if kind == TEXT:
        return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", csv_cell(value))[:_MAX_CHARS] or None
    return round(float(value), kind) + 0.0 if isinstance(kind, int) else int(value)


def _cell(sheet: Any, value: str | int | float | None, kind: str | int) -> Any:
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet)
    cell.value = value
    if kind == TEXT:
        # A text stays one when it is edited, and `=` begins no formula.
        cell.number_format = "@"
        if value is not None:
            cell.data_type = "s"
    elif isinstance(kind, int):
        cell.number_format = f"0.{'0' * kind}" if kind else "0"
    return cell


def _without_times(content: bytes) -> bytes:
    """Return a workbook without the time at which it was written."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = _STAMPS.sub(b"", data)
            new.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


__all__ = ["FILE", "cell_summary", "write_workbook"]
