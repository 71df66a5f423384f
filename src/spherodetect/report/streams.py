"""Tables and JSON lists that are written field by field.

The memory does not depend on the number of fields. A file appears under its name when it is
complete, and has the same bytes as if it had been written at once.
"""

from __future__ import annotations

import contextlib
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from spherodetect.report import tables
from spherodetect.safety import atomic_write

if TYPE_CHECKING:
    import pandas as pd

#: Rows of one row group of a Parquet file; so many cells take about 30 MB of memory.
ROWS_PER_GROUP = 100_000
#: Bytes of JSON text that are kept in memory; a longer list continues on disk.
_SPOOL_BYTES = 8 * 2**20


class TableFiles:
    """One table as CSV and as Parquet, written part by part.

    Args:
        csv_path, parquet_path: the files.

    Raises:
        SpherodetectError: a file cannot be written.
    """

    def __init__(self, csv_path: Path, parquet_path: Path) -> None:
        self._paths = csv_path, parquet_path
        self._open = contextlib.ExitStack()
        self._writer: Any = None
        self._rows: Any = None
        self._parquet_file: IO[bytes] | None = None
        self._gathered: list[pd.DataFrame] = []
        self._n_gathered = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._open.close)
            file = self._open.enter_context(atomic_write(self._paths[0], text=True))
            self._parquet_file = self._open.enter_context(atomic_write(self._paths[1]))
            self._rows = csv.writer(file, lineterminator="\n")
            undo.pop_all()
        return self

    def add(self, frame: pd.DataFrame) -> None:
        """Write the rows of a table; all tables have the same columns."""
        if self._writer is None and not self._gathered:
            self._rows.writerow(frame.columns)
        self._rows.writerows(tables.csv_rows(frame))
        self._gathered.append(frame)
        self._n_gathered += len(frame)
        if self._n_gathered >= ROWS_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        """Write the gathered rows as one row group; keep an empty table for the columns' types."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(tables.joined(self._gathered), preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._parquet_file, table.schema, compression="snappy")
        self._writer.write_table(table.cast(self._writer.schema))
        self._gathered, self._n_gathered = self._gathered[:1], 0
        self._gathered = [frame.iloc[:0] for frame in self._gathered]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self._n_gathered or self._writer is None:
                    self._write_group()
                self._writer.close()
        except BaseException as problem:
            self._open.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._open.__exit__(kind, error, trace)


class JsonList:
    """The items of a JSON list, kept as text in memory, and on disk if they are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115  # closed by `close`
            _SPOOL_BYTES, "w+", encoding="utf-8", newline=""
        )
        self._empty = True

    def add(self, item: Any) -> None:
        """Append a value.

        Raises:
            ValueError: it contains NaN or infinity, which JSON cannot express.
        """
        self._file.write(("" if self._empty else ", ") + json.dumps(item, allow_nan=False))
        self._empty = False

    def text(self) -> Iterator[str]:
        """Yield the list as JSON text, piece by piece."""
        self._file.seek(0)
        yield "["
        while piece := self._file.read(1 << 20):
            yield piece
        yield "]"

    def close(self) -> None:
        """Free the memory or the temporary file."""
        self._file.close()


__all__ = ["ROWS_PER_GROUP", "JsonList", "TableFiles"]
