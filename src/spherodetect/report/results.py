"""`Result`, the outcome of a run, and `ResultsFolder`, the folder that holds its files.

A folder of results belongs to one run. During a run, and after one that was cut off, it holds
INCOMPLETE.txt, and the tables and pages of the previous run are gone. Files that this program did
not write are left alone.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, inside, quoted, safe_name
from spherodetect.score.counts import PatientScore

if TYPE_CHECKING:
    import pandas as pd

#: Sub-folder of what a later run into the same folder may use again.
HIDDEN = ".spherodetect"
#: Tells people, and programs that look for it, that a run has not ended.
MARKER = "INCOMPLETE.txt"
_MARKER_TEXT = (
    "These results are not complete: a run into this folder is going on, or was cut off.\n"
    "The same command again goes on from the last finished field; this file goes when it has ended.\n"
)
_PART = re.compile(r"\.[0-9a-f]{16}\.part")  # what `atomic_write` leaves if it is killed


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of a run.

    Attributes:
        scores: one a patient, in order.
        problems: a line for each file or label that was left out.
        tables: name to path of the files written; empty if nothing was written.
        report: the page to open first, or None.
        cells_in_memory: the table of cells of a run that wrote nothing, else None.
    """

    scores: tuple[PatientScore, ...] = ()
    problems: tuple[str, ...] = ()
    tables: Mapping[str, Path] = field(default_factory=dict)
    report: Path | None = None
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
        """One row a cell, with the columns of cells.csv; without rows for scores from labels.

        A run that wrote its results reads them from cells.parquet, so that they are not kept in
        memory.
        """
        import pandas as pd

        from spherodetect.report.tables import no_cells_frame

        if self.cells_in_memory is not None:
            return self.cells_in_memory
        if path := self.tables.get("cells.parquet"):
            return pd.read_parquet(path)
        return no_cells_frame()


class ResultsFolder:
    """The folder of one run's results, from its beginning (`with`) to its end.

    Every file gets its place from `path`, which records it in a journal. A later run thus knows the
    files of this program: it keeps overlays, to use them again, removes the other files at the
    beginning, and removes what it did not write again at the end.

    Raises:
        SpherodetectError: on entering, a folder that cannot be written, or that another run writes
            to.

    >>> with ResultsFolder(Path("results")) as results:  # doctest: +SKIP
    ...     write_csv(frame, results.path("patients.csv"))
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journal = root / HIDDEN / "written.txt"
        self._old: set[str] = set()
        self._new: set[str] = set()
        self._open = contextlib.ExitStack()
        self._notes: IO[str] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._open.close)
            self._begin()
            undo.pop_all()
        return self

    def _begin(self) -> None:
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._notes = self._open.enter_context(self._journal.open("a", encoding="utf-8"))
        except OSError as error:
            raise SpherodetectError(
                f"{quoted(self.root)}: cannot be written ({error.strerror or error}); name a folder with --out that can"
            ) from error
        with atomic_write(self.root / MARKER, text=True) as file:
            file.write(_MARKER_TEXT)
        self._old = self._noted()
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
                with atomic_write(self._journal, text=True) as file:
                    file.writelines(f"{json.dumps(name)}\n" for name in sorted(self._new))
                (self.root / MARKER).unlink(missing_ok=True)

    def path(self, *parts: str) -> Path:
        """The place of a file, by parts that are names of ours."""
        name = PurePosixPath(*parts).as_posix()
        if name not in self._new and self._notes is not None:
            self._new.add(name)
            self._notes.write(f"{json.dumps(name)}\n")
            self._notes.flush()
        return self.root / name

    def field_path(self, folder: str, field_id: str, suffix: str) -> Path:
        """FOLDER/FIELD.suffix with the field's own sub-folders; each name made harmless, so that it
        stays inside."""
        *parents, name = (safe_name(part) for part in field_id.split("/"))
        return self.path(folder, *parents, name + suffix)

    def _lock(self) -> None:
        import fcntl

        lock = self._open.enter_context(self._journal.with_name("lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpherodetectError(
                f"{quoted(self.root)}: another run writes here; wait for it, or name another folder with --out"
            ) from error
        except OSError:  # some network drives know no locks
            pass

    def _noted(self) -> set[str]:
        """What runs into this folder wrote; a line that was cut short, or names a place outside, is
        passed over."""
        names = set()
        for line in self._journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, SpherodetectError):
                inside(self.root, name := json.loads(line))
                names.add(name)
        return names

    def _remove(self, names: set[str]) -> None:
        for name in names:
            path = self.root / name
            with contextlib.suppress(OSError):
                path.unlink()
                for folder in path.parents[: len(PurePosixPath(name).parts) - 1]:
                    folder.rmdir()  # fails, as it should, where something is left


__all__ = ["HIDDEN", "MARKER", "Result", "ResultsFolder"]
