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
#: Data frames that are joined to one Arrow table: a small data frame takes 20 kB beside its rows.
_FRAMES_PER_TABLE = 32
#: Bytes of JSON text that are kept in memory; a longer list continues on disk.
_SPOOL_BYTES = 2**20


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
        self._has_header = False
        self._frames: list[pd.DataFrame] = []
        self._tables: list[Any] = []
        self._n_rows = 0

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
        if not self._has_header:
            self._rows.writerow(frame.columns)
            self._has_header = True
        self._rows.writerows(tables.csv_rows(frame))
        self._frames.append(frame)
        self._n_rows += len(frame)
        if len(self._frames) >= _FRAMES_PER_TABLE:
            self._join()
        if self._n_rows >= ROWS_PER_GROUP:
            self._write_group()

    def _join(self) -> None:
        """Join the data frames to one Arrow table, which has no Python object for each text."""
        import pyarrow as pa

        if self._frames:
            frame = tables.joined(self._frames)
            self._tables.append(pa.Table.from_pandas(frame, preserve_index=False))
            self._frames = []

    def _write_group(self) -> None:
        """Write the gathered rows as one row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._join()
        table = pa.concat_tables(self._tables).combine_chunks()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._parquet_file, table.schema, compression="snappy")
        self._writer.write_table(table.cast(self._writer.schema))
        self._tables, self._n_rows = [], 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self._n_rows or (self._writer is None and self._has_header):
                    self._write_group()
                if self._writer is not None:
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
