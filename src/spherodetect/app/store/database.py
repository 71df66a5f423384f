"""`Database`: the file review.sqlite, its version, its transactions and its copies.

One connection serves all threads of the program, one at a time. Other programs may have the same
file open: each writes in short transactions and waits for the others. Every change is on the disk
before it is confirmed (synchronous FULL).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spherodetect.app.errors import StorageError
from spherodetect.app.store.journal import journal_mode
from spherodetect.app.store.schema import MIGRATIONS, VERSION
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

FILE = "review.sqlite"
_WAIT_S = 20.0
#: SQLite takes at most this many values in one statement, whatever its version.
_VALUES = 900


class Database:
    """An open review.sqlite.

    Args:
        folder: the project's folder; the file is made there if there is none.

    Raises:
        SpherodetectError: the file cannot be opened, is damaged, or is of a later version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / FILE
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            mode = journal_mode(self.path.parent)
            self._connection.execute(f"PRAGMA journal_mode={mode}")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate()
        except sqlite3.Error as problem:
            raise SpherodetectError(
                f"{quoted(self.path)}: cannot be used ({problem}); restore the file from a copy, "
                "or check that the folder can be written"
            ) from problem

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Database]:
        """A transaction: all of it is stored, or nothing. A block inside of another joins it.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as problem:
                raise StorageError(
                    f"{quoted(self.path)}: cannot be written ({problem}); free some space, or "
                    "check that the folder can be written"
                ) from problem

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows that a statement gives."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row that a statement gives, or None."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
            return found

    def number(self, sql: str, values: Sequence[Any] = ()) -> int:
        """The whole number in the first row that a statement gives; 0 without one."""
        row = self.row(sql, values)
        return int(row[0] or 0) if row is not None else 0

    def rows_of(self, sql: str, ids: Iterable[int]) -> list[sqlite3.Row]:
        """The rows of a statement with `IN (?)`, for any number of ids."""
        found: list[sqlite3.Row] = []
        wanted = list(dict.fromkeys(ids))
        for first in range(0, len(wanted), _VALUES):
            part = wanted[first : first + _VALUES]
            found += self.rows(sql.replace("IN (?)", f"IN ({','.join('?' * len(part))})"), part)
        return found

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row inside of `writing`; returns its id."""
        columns = ", ".join(values)
        marks = ", ".join("?" * len(values))
        with self._lock:
            cursor = self._connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(values.values())
            )
            return int(cursor.lastrowid or 0)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement inside of `writing`; returns the number of rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def changed(self, kind: str, ref: int = 0) -> None:
        """Note for the browsers what a transaction changed."""
        self.insert("change", kind=kind, ref=ref)

    @property
    def cursor(self) -> int:
        """The number of the last noted change."""
        return self.number("SELECT max(id) FROM change")

    def backup(self, to: str | Path) -> Path:
        """Copy the whole file, while it is in use, to a path where no file lies.

        Raises:
            SpherodetectError: a file lies there, or it cannot be written.
        """
        to = Path(to)
        if to.exists():
            raise SpherodetectError(f"{quoted(to)}: a file lies there already; name another one")
        try:
            with contextlib.closing(sqlite3.connect(to)) as copy, self._lock:
                self._connection.backup(copy)
        except sqlite3.Error as problem:
            raise SpherodetectError(
                f"{quoted(to)}: cannot be written ({problem}); name a folder that can"
            ) from problem
        return to

    def _migrate(self) -> None:
        version = self.number("PRAGMA user_version")
        if version > VERSION:
            raise SpherodetectError(
                f"{quoted(self.path)}: expected version {VERSION} or earlier of its tables, got "
                f"{version}; install the newer spherodetect that wrote it"
            )
        if 0 < version < VERSION:
            kept = self.path.with_name(f"{self.path.stem}-version-{version}{self.path.suffix}")
            if not kept.exists():
                self.backup(kept)
        with self.writing():
            # Another program may have migrated the file in the meantime.
            for number in range(self.number("PRAGMA user_version"), VERSION):
                for statement in _statements(MIGRATIONS[number]):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version={number + 1}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger holds semicolons of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def now() -> str:
    """The time in UTC, to a millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


__all__ = ["FILE", "Database", "now"]
