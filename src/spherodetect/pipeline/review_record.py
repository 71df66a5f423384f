"""`ReviewRecord`: what was drawn, shown and answered for one patient, kept with the results.

RESULTS/reviews/PATIENT.jsonl holds one JSON object a line and is only ever appended to. Kinds of
lines:

    draw     the cells that a review is drawn from: ids, probabilities and places, and the seed.
             They are frozen: a later run that finds other cells does not change them.
    shown    the number of cells of the order that pages have shown so far, and where batches end.
    answers  what one reviewer answered, and the checksum of the file that said so.

A last line that was cut off by a crash is passed over, and removed before the next is written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.safety import quoted, read_bytes, safe_name, sha256
from spherodetect.safety.text import os_reason
from spherodetect.score.review import FIRST_CELLS
from spherodetect.score.review_draw import review_order

FOLDER = "reviews"
#: A cell that lies within this many pixels of its former place is the same cell.
SAME_PLACE_PX = 3.0
_MAX_BYTES = 256 * 2**20
_BLOCK = 2**16
_COLUMNS = ("field_id", "cell_id", "group", "p", "x_px", "y_px")


@dataclass(frozen=True)
class ReviewCell:
    """One countable cell as it was when the review was drawn.

    Attributes:
        field_id, cell_id: as in cells.csv.
        group: what counts as its field, which for a slide scan is a part of it.
        p: p_spherocyte.
        x_px, y_px: as in cells.csv, or the middle of the box.
    """

    field_id: str
    cell_id: int
    group: str
    p: float
    x_px: float
    y_px: float

    @property
    def key(self) -> str:
        """The cell's name within a patient."""
        return f"{self.field_id}#{self.cell_id}"

    def is_same(self, other: ReviewCell) -> bool:
        """Whether both are the same cell: same name, same place."""
        apart = max(abs(self.x_px - other.x_px), abs(self.y_px - other.y_px))
        return self.key == other.key and apart <= SAME_PLACE_PX


@dataclass(frozen=True, eq=False)
class Draw:
    """The frozen cells of one patient, and the seed that orders them."""

    patient_id: str
    seed: int
    cells: tuple[ReviewCell, ...]

    @cached_property
    def name(self) -> str:
        """A checksum of everything that the order follows from."""
        rows = [[cell.key, cell.p, cell.group] for cell in self.cells]
        return sha256(json.dumps([self.patient_id, self.seed, rows]).encode())[:16]

    @cached_property
    def cells_sha256(self) -> str:
        """A checksum of the cells in any order: other programs may list the fields otherwise."""
        rows = sorted([cell.key, cell.p, cell.group] for cell in self.cells)
        return sha256(json.dumps(rows).encode())

    @cached_property
    def p(self) -> np.ndarray:
        """(M,) probabilities."""
        return np.array([cell.p for cell in self.cells])

    @cached_property
    def ids(self) -> list[str]:
        """(M,) names of the cells."""
        return [cell.key for cell in self.cells]

    @cached_property
    def groups(self) -> list[str]:
        """(M,) what counts as the field of each cell."""
        return [cell.group for cell in self.cells]

    @cached_property
    def by_key(self) -> dict[str, ReviewCell]:
        """The cells by their names."""
        return {cell.key: cell for cell in self.cells}

    @cached_property
    def order(self) -> list[str]:
        """(M,) names of the cells in the order of the review."""
        return [self.ids[i] for i in review_order(self.p, self.ids, self.seed)]


def has_changed(draw: Draw, cells: Sequence[ReviewCell]) -> bool:
    """Whether a run no longer has the very cells that a review was drawn from.

    Their probabilities may differ: the draw keeps its own.
    """
    same = (c.key in draw.by_key and c.is_same(draw.by_key[c.key]) for c in cells)
    return len(cells) != len(draw.cells) or not all(same)


def frozen_cells(fields: Sequence[Examined]) -> tuple[ReviewCell, ...]:
    """The countable cells of the fields of one patient that passed quality control."""
    cells: list[ReviewCell] = []
    for one in fields:
        found = one.cells
        ymin, xmin, ymax, xmax = found.box_yxyx.astype(float).T
        x_px = found.measurements.get("x_px", (xmin + xmax) / 2)
        y_px = found.measurements.get("y_px", (ymin + ymax) / 2)
        part = found.measurements["part"] if one.parts else None
        for k in np.flatnonzero(one.counted).tolist():
            cells.append(
                ReviewCell(
                    one.field_id,
                    int(found.cell_id[k]),
                    one.field_id if part is None else f"{one.field_id} part {int(part[k])}",
                    float(found.p_spherocyte[k]),
                    round(float(x_px[k]), 1),
                    round(float(y_px[k]), 1),
                )
            )
    return tuple(cells)


@dataclass
class ReviewRecord:
    """The lines of one patient's file, read.

    Attributes:
        path: the file; it need not exist yet.
        draw: the draw in force, or None before the first.
        shown: cells of its order that pages have shown.
        batches: the numbers of cells at which its batches end, rising to `shown`.
        answers: reviewer to cell name to answer, in the order in which reviewers came; only those
            about cells of the draw in force.
        files: checksums of the files of answers that were taken in.
        former: names of draws that are no longer in force.
    """

    path: Path
    draw: Draw | None = None
    shown: int = 0
    batches: list[int] = field(default_factory=list)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    former: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, results: Path, patient_id: str) -> ReviewRecord:
        """The record of a patient, empty where no review was drawn.

        Raises:
            SpherodetectError: the file cannot be read or is damaged.
        """
        return cls.read(results / FOLDER / f"{safe_name(patient_id)}.jsonl")

    @classmethod
    def read(cls, path: Path) -> ReviewRecord:
        """A record from its file."""
        record = cls(path)
        if not path.is_file():
            return record
        *lines, _ = read_bytes(path, max_bytes=_MAX_BYTES).split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as problem:
                raise SpherodetectError(
                    f"{quoted(path)}, line {number}: expected a line of a review, got something "
                    "else; restore the file from a copy"
                ) from problem
        return record

    def _take(self, line: Mapping[str, Any]) -> None:
        kind = line["kind"]
        if kind == "draw":
            cells = tuple(ReviewCell(*row) for row in line["cells"])
            self._begin(Draw(line["patient_id"], int(line["seed"]), cells))
        elif kind == "shown":
            self.batches = [int(n) for n in line["batches"]]
            self.shown = self.batches[-1]
        elif kind == "answers":
            said = self.answers.setdefault(str(line["reviewer"]), {})
            said |= {str(key): str(answer) for key, answer in line["answers"].items()}
            self.files.add(str(line["file_sha256"]))

    def _begin(self, draw: Draw) -> None:
        """Put a draw in force; answers about cells that it has too are kept."""
        if self.draw is not None:
            self.former.add(self.draw.name)
            same = {
                key
                for key, cell in draw.by_key.items()
                if key in self.draw.by_key and cell.is_same(self.draw.by_key[key])
            }
            for reviewer, said in self.answers.items():
                self.answers[reviewer] = {key: said[key] for key in said if key in same}
        self.draw, self.shown, self.batches = draw, 0, []

    def add_draw(self, draw: Draw) -> None:
        """Put a draw in force."""
        self._append(
            {
                "kind": "draw",
                "patient_id": draw.patient_id,
                "seed": draw.seed,
                "name": draw.name,
                "columns": _COLUMNS,
                "cells": [[getattr(cell, name) for name in _COLUMNS] for cell in draw.cells],
            }
        )

    def add_shown(self, batches: Sequence[int]) -> None:
        """Note where the batches of the pages end, those of earlier pages included."""
        self._append({"kind": "shown", "batches": list(batches)})

    def add_answers(self, reviewer: str, answers: Mapping[str, str], file_sha256: str) -> None:
        """Note what a reviewer answered."""
        self._append(
            {
                "kind": "answers",
                "reviewer": reviewer,
                "file_sha256": file_sha256,
                "answers": dict(answers),
            }
        )

    def _append(self, line: dict[str, Any]) -> None:
        """Add one line to the file, as a whole or not at all, and to this record.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        text = json.dumps(line, separators=(",", ":"), allow_nan=False)
        with _locked(self.path) as handle:
            start = _end_of_lines(handle)
            os.ftruncate(handle, start)
            data = text.encode() + b"\n"
            try:
                if os.write(handle, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, start)
                raise
        self._take(json.loads(text))

    def complete(self, reviewer: str) -> int:
        """The number of cells, from the first, in batches that a reviewer answered completely."""
        draw, said = self.draw, self.answers.get(reviewer, {})
        if draw is None:
            return 0
        n = 0
        for end in self.batches:
            if not all(key in said for key in draw.order[n:end]):
                break
            n = end
        return n if n >= min(FIRST_CELLS, len(draw.order)) else 0

    def first_answers(self, reviewer: str) -> dict[str, str]:
        """The answers of a reviewer that count: those of the complete batches."""
        if self.draw is None:
            return {}
        said = self.answers.get(reviewer, {})
        return {key: said[key] for key in self.draw.order[: self.complete(reviewer)]}

    @property
    def readers(self) -> list[str]:
        """The reviewers with a complete batch, the one with the most cells first."""
        complete = {reviewer: self.complete(reviewer) for reviewer in self.answers}
        return sorted((r for r in complete if complete[r]), key=lambda r: -complete[r])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file open for reading and appending, locked against other programs."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # some network drives know no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)
    except OSError as problem:
        raise SpherodetectError(
            f"{quoted(path)}: cannot be written ({os_reason(problem)}); "
            "choose results in a folder with write permission and free space"
        ) from problem


def _end_of_lines(handle: int) -> int:
    """Where the last whole line of a file ends."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end:
        start = max(end - _BLOCK, 0)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def all_records(results: Path) -> dict[str, ReviewRecord]:
    """The records of a folder of results by patient.

    Raises:
        SpherodetectError: a file cannot be read or is damaged.
    """
    records = (ReviewRecord.read(path) for path in sorted((results / FOLDER).glob("*.jsonl")))
    return {record.draw.patient_id: record for record in records if record.draw is not None}


__all__ = ["Draw", "ReviewCell", "ReviewRecord", "all_records", "frozen_cells"]
