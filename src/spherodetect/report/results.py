"""`Result`, the outcome of a run, and `ResultsFolder`, the folder of its files.

A folder of results belongs to one run. At the beginning of a run, the tables and pages of the
previous run are removed and INCOMPLETE.txt is written; it is removed at the end, so it stays if the
run is interrupted. Files that this program did not write are never changed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from spherodetect.errors import SpherodetectError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.safety import atomic_write, inside, quoted, safe_name, sync_folder
from spherodetect.score.counts import PatientScore

if TYPE_CHECKING:
    import pandas as pd

#: Sub-folder of what a later run into the same folder can use again.
HIDDEN = ".spherodetect"
#: File that shows people and programs that the results are not complete.
MARKER = "INCOMPLETE.txt"
_MARKER_TEXT = (
    "These results are not complete: a run into this folder is in progress or was interrupted.\n"
    "The same command continues after the last finished field. It removes this file at its end.\n"
)
#: Name of a file that `atomic_write` leaves behind if the process is killed.
_PART = re.compile(r"\.[0-9a-f]{16}\.part")


def pseudonym_key_path(results: Path) -> Path:
    """Return the place of the key of the pseudonyms: beside the folder of the results, so that the
    folder can be given away."""
    folder = Path(os.path.abspath(results))
    return folder.with_name(f"{folder.name}_pseudonym_key.csv")


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of a run.

    Attributes:
        scores: one a patient, in order.
        problems: a line for each file or label that was left out.
        tables: name to path of the files that were written; empty if nothing was written.
        report: the page to open first, or None.
        key: the key of the pseudonyms, or None.
        cells_in_memory: the table of cells of a run that wrote nothing, else None.
    """

    scores: tuple[PatientScore, ...] = ()
    problems: tuple[str, ...] = ()
    tables: Mapping[str, Path] = field(default_factory=dict)
    report: Path | None = None
    key: Path | None = None
    cells_in_memory: pd.DataFrame | None = None

    def __repr__(self) -> str:
        left_out = f", {len(self.problems)} problems" * bool(self.problems)
        where = f", written to {str(self.report.parent)!r}" if self.report else ""
        return f"Result({len(self.scores)} patients{left_out}{where})"

    @property
    def patients(self) -> pd.DataFrame:
        """One row a patient, with the columns of patients.csv."""
        from spherodetect.report.tables import patients_frame

        return patients_frame(self.scores)

    @property
    def cells(self) -> pd.DataFrame:
        """One row a cell, with the columns of cells.csv; no rows for scores from labels.

        If the run wrote its results, the table is read from cells.parquet at each call, so that it
        need not stay in memory.
        """
        import pandas as pd

        from spherodetect.report.tables import no_cells_frame

        if self.cells_in_memory is not None:
            return self.cells_in_memory
        if path := self.tables.get("cells.parquet"):
            return pd.read_parquet(path)
        return no_cells_frame()


class ResultsFolder:
    """The folder of one run's results; the run is the `with` block.

    Every file gets its place from `path`, which records it in a journal, so that a later run knows
    the files of this program. At its beginning, a later run removes these files, except overlays,
    which it may use again. At its end, it removes the overlays that it did not use.

    Raises:
        SpherodetectError: on entering, the folder cannot be written, or another run writes to it.

    >>> with ResultsFolder(Path("results")) as results:  # doctest: +SKIP
    ...     write_csv(frame, results.path("patients.csv"))
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journal = root / HIDDEN / "written.txt"
        self._old: set[str] = set()
        self._new: set[str] = set()
        #: The name of each field's files, and all of them in lower case.
        self._names: dict[str, tuple[str, ...]] = {}
        self._taken: set[str] = set()
        self._open = contextlib.ExitStack()
        self._journal_file: IO[str] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._open.close)
            self._begin()
            undo.pop_all()
        return self

    def _begin(self) -> None:
        """Lock the folder, write the marker and remove what the previous run left."""
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._journal_file = self._open.enter_context(self._journal.open("a", encoding="utf-8"))
        except OSError as error:
            raise SpherodetectError(
                f"{quoted(self.root)}: cannot be written ({error.strerror or error}); "
                "name a folder with --out that can"
            ) from error
        with atomic_write(self.root / MARKER, text=True) as file:
            file.write(_MARKER_TEXT)
        self._old = self._recorded()
        for folder in {(self.root / name).parent for name in self._old} | {self.root}:
            for part in folder.glob(".*.part"):
                if _PART.fullmatch(part.name):
                    part.unlink(missing_ok=True)
        self._remove(
            {name for name in self._old if not name.startswith((f"{HIDDEN}/", "overlays/"))}
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open:
            if kind is None:
                self._remove(self._old - self._new)
                self.sync()
                with atomic_write(self._journal, text=True) as file:
                    file.writelines(f"{json.dumps(name)}\n" for name in sorted(self._new))
                (self.root / MARKER).unlink(missing_ok=True)

    def path(self, *parts: str) -> Path:
        """Return the place of a file and record it; the parts must be names of this program."""
        name = PurePosixPath(*parts).as_posix()
        if name not in self._new and self._journal_file is not None:
            self._new.add(name)
            self._journal_file.write(f"{json.dumps(name)}\n")
            self._journal_file.flush()  # a killed process must not leave a file unrecorded
        return self.root / name

    def sync(self) -> None:
        """Make all that was written so far survive a power failure.

        Raises:
            SpherodetectError: the disk failed.
        """
        sync_folder(self.root)

    def field_path(self, folder: str, field_id: str, suffix: str) -> Path:
        """Return FOLDER/FIELD.suffix, with the field's sub-folders, and record it.

        FIELD is field_id without the suffix of its image. Where several images have the same name
        but for the suffix, only the first loses it. Each part of field_id becomes a safe name, so
        that the file stays inside the folder.
        """
        if field_id not in self._names:
            self._names[field_id] = self._new_name(field_id)
        *parents, name = self._names[field_id]
        return self.path(folder, *parents, name + suffix)

    def _new_name(self, field_id: str) -> tuple[str, ...]:
        *parents, last = field_id.split("/")
        path = PurePosixPath(last)
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else last
        numbered = (f"{last}~{n}" for n in itertools.count(2))
        for name in itertools.chain((stem, last), numbered):
            parts = tuple(safe_name(part) for part in (*parents, name))
            # Some file systems do not distinguish upper and lower case.
            if (key := "/".join(parts).casefold()) not in self._taken:
                self._taken.add(key)
                return parts
        raise AssertionError  # the numbers do not end

    def _lock(self) -> None:
        """Lock the folder against other runs until this one ends."""
        import fcntl

        lock = self._open.enter_context(self._journal.with_name("lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpherodetectError(
                f"{quoted(self.root)}: another run writes here; wait for it, "
                "or name another folder with --out"
            ) from error
        except OSError:  # some network drives do not support locks
            pass

    def _recorded(self) -> set[str]:
        """Return the files that earlier runs recorded.

        A line that is incomplete, or that names a place outside the folder, is ignored.
        """
        names = set()
        for line in self._journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, SpherodetectError):
                inside(self.root, name := json.loads(line))
                names.add(name)
        return names

    def _remove(self, names: set[str]) -> None:
        """Remove files and the folders that become empty."""
        for name in names:
            path = self.root / name
            with contextlib.suppress(OSError):
                path.unlink()
                for folder in path.parents[: len(PurePosixPath(name).parts) - 1]:
                    folder.rmdir()  # fails on purpose if the folder is not empty


__all__ = ["HIDDEN", "MARKER", "Result", "ResultsFolder", "pseudonym_key_path"]
