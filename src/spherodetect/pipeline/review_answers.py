"""Files of answers, read and checked: the JSON that a review page saved, or a filled review.csv.

Each thing that is wrong becomes one sentence that names the file. Answers of the other patients of
a file are not affected, and nothing in a file of answers is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.review_record import SAME_PLACE_PX, ReviewRecord
from spherodetect.safety import csv_cell, file_sha256, quoted, read_csv, read_json
from spherodetect.score.review import ANSWERS

_MAX_BYTES = 64 * 2**20
_MAX_REVIEWER = 60
_NEEDED = ("patient_id", "field_id", "cell_id", "answer", "reviewer")
#: What people write in a table, in lower case.
_SHORT = {
    "s": "spherocyte", "spherocytes": "spherocyte", "o": "other", "other red cell": "other",
    "x": "excluded", "exclude": "excluded", "not a cell": "excluded",
    "not a single cell": "excluded", "u": "unsure",
}  # fmt: skip


@dataclass
class Answered:
    """What one file says of one patient.

    Attributes:
        file: the file.
        file_sha256: its checksum.
        patient_id: the patient.
        reviewer: who answered.
        answers: (line or number, field_id, cell_id, answer, x_px, y_px); places are None where the
            file does not state them.
        draw: the name of the draw, empty where the file does not state it.
        seed, cells_sha256, batches: of a draw that the app made by itself, which these results may
            not have yet: its seed, a checksum of its cells, and where its batches end.
    """

    file: Path
    file_sha256: str
    patient_id: str
    reviewer: str
    draw: str = ""
    seed: int | None = None
    cells_sha256: str = ""
    batches: tuple[int, ...] = ()
    answers: list[tuple[str, str, str, str, float | None, float | None]] = field(
        default_factory=list
    )


def read_answers(path: Path) -> list[Answered]:
    """What a file of answers says, by patient and reviewer; rows without an answer are left out.

    Raises:
        SpherodetectError: the file cannot be read, or is no file of answers.
    """
    if path.suffix.lower() == ".json":
        return [_from_json(path)]
    return list(_from_csv(path))


def _from_json(path: Path) -> Answered:
    read = read_json(path, max_bytes=_MAX_BYTES)
    try:
        if read["spherodetect_review"] != 1:
            raise ValueError("another format")
        answered = Answered(
            path,
            file_sha256(path),
            str(read["patient_id"]),
            _reviewer(str(read["reviewer"]), path),
            str(read.get("draw", "")),
        )
        if "batches" in read:
            answered.seed, answered.cells_sha256 = int(read["seed"]), str(read["cells_sha256"])
            answered.batches = tuple(int(n) for n in read["batches"])
            if not answered.batches or list(answered.batches) != sorted(set(answered.batches)):
                raise ValueError("batches")
        elif not answered.draw:
            raise KeyError("draw")
        for number, one in enumerate(read["answers"], 1):
            answered.answers.append(
                (
                    f"answer {number}",
                    str(one["field_id"]),
                    str(one["cell_id"]),
                    str(one["answer"]),
                    None,
                    None,
                )
            )
    except (KeyError, TypeError, ValueError) as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected the answers that a review page saved, got {problem!r:.60}; "
            "save them from the page again"
        ) from problem
    return answered


def _from_csv(path: Path) -> Iterator[Answered]:
    digest = file_sha256(path)
    rows = _rows(path)
    names = list(dict.fromkeys(row["reviewer"] for _, row in rows if row["reviewer"]))
    found: dict[tuple[str, str], Answered] = {}
    for line, row in rows:
        if not row["answer"]:
            continue
        # Who fills in a table writes the name once.
        name = row["reviewer"] or (names[0] if len(names) == 1 else "")
        reviewer = _reviewer(name, path)
        one = found.setdefault(
            (row["patient_id"], reviewer), Answered(path, digest, row["patient_id"], reviewer)
        )
        place = _number(row.get("x_px", "")), _number(row.get("y_px", ""))
        one.answers.append((f"line {line}", row["field_id"], row["cell_id"], row["answer"], *place))
    if not found:
        raise SpherodetectError(
            f"{quoted(path)}: expected answers in the column answer, got none; fill it in"
        )
    yield from found.values()


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    header: list[str] = []
    rows = []
    for line, cells in read_csv(path, max_bytes=_MAX_BYTES):
        if not header:
            header = [cell.lower() for cell in cells]
            if missing := [name for name in _NEEDED if name not in header]:
                raise SpherodetectError(
                    f"{quoted(path)}: expected the columns of review.csv, got no "
                    f"{', '.join(missing)}; keep the first line of the table"
                )
            continue
        rows.append((line, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))))
    return rows


def _reviewer(name: str, path: Path) -> str:
    name = " ".join(name.split())
    if not name or len(name) > _MAX_REVIEWER or not name.isprintable():
        raise SpherodetectError(
            f"{quoted(path)}: expected the reviewer's name, of 1 to {_MAX_REVIEWER} characters, "
            f"got {quoted(name)}; fill in who answered"
        )
    return name


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def checked(answered: Answered, record: ReviewRecord) -> dict[str, str]:
    """Cell name to answer, of a file's answers about one patient.

    Answers that the record has already, from the same reviewer, are among them.

    Raises:
        SpherodetectError: cells of another run, seed or draw, an unknown answer, two answers about
            one cell, or another answer than the same reviewer gave before.
    """
    where = f"{quoted(answered.file)}, patient {quoted(answered.patient_id)}"
    draw = record.draw
    if draw is None:
        raise SpherodetectError(
            f"{where}: no review of this patient was drawn from these results; name the results "
            "that the page was drawn from"
        )
    if answered.draw and answered.draw != draw.name and answered.draw not in record.former:
        raise SpherodetectError(
            f"{where}: the answers are of another run or another seed; name the results that the "
            "page was drawn from"
        )
    known = {(csv_cell(cell.field_id), str(cell.cell_id)): cell for cell in draw.cells}
    known |= {(cell.field_id, str(cell.cell_id)): cell for cell in draw.cells}
    shown = set(draw.order[: record.shown])
    before = record.answers.get(answered.reviewer, {})
    answers: dict[str, str] = {}
    unknown, not_shown, moved = [], [], []
    for at, field_id, cell_id, said, x_px, y_px in answered.answers:
        cell = known.get((field_id, cell_id.removesuffix(".0")))
        answer = _answer(said)
        if answer is None:
            raise SpherodetectError(
                f"{where}, {at}: expected {', '.join(ANSWERS)}, got {quoted(said)}; correct it"
            )
        if cell is None:
            unknown.append(f"{field_id} #{cell_id}")
            continue
        if x_px is not None and y_px is not None:
            apart = max(abs(x_px - cell.x_px), abs(y_px - cell.y_px))
            if apart > SAME_PLACE_PX:
                moved.append(cell.key)
                continue
        if cell.key not in shown:
            not_shown.append(cell.key)
            continue
        if answers.setdefault(cell.key, answer) != answer:
            raise SpherodetectError(
                f"{where}, {at}: cell {quoted(cell.key)} is {answers[cell.key]} and {answer}; "
                "leave one of the two"
            )
        if before.get(cell.key, answer) != answer:
            raise SpherodetectError(
                f"{where}, {at}: {quoted(answered.reviewer)} called cell {quoted(cell.key)} "
                f"{before[cell.key]} before, and {answer} now; a second reading needs another "
                "reviewer's name"
            )
    _require_known(where, unknown, moved, not_shown, former=answered.draw in record.former)
    return answers


def _require_known(
    where: str,
    unknown: Sequence[str],
    moved: Sequence[str],
    not_shown: Sequence[str],
    *,
    former: bool,
) -> None:
    """Raise if answers are about cells that this review did not show.

    A page of a former draw may hold cells that the run no longer has; they are passed over.
    """
    if former:
        return
    for cells, what in (
        (unknown, "are not in this run; was it scored anew, or is this another run?"),
        (moved, "lie elsewhere in this run; the run has changed since the review was drawn"),
        (not_shown, "were not drawn for review; was the page drawn with another seed?"),
    ):
        if cells:
            n = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
            raise SpherodetectError(f"{where}: {n}, first {quoted(cells[0])}, {what}")


def _answer(said: str) -> str | None:
    text = " ".join(said.lower().split())
    return text if text in ANSWERS else _SHORT.get(text)


def missing(record: ReviewRecord, reviewer: str) -> tuple[int, int] | None:
    """How many cells of the first incomplete batch a reviewer left open, and the batch's cells.

    None where no batch was begun and left.
    """
    if record.draw is None:
        return None
    n, said = 0, record.answers.get(reviewer, {})
    for end in record.batches:
        batch = record.draw.order[n:end]
        open_cells = sum(key not in said for key in batch)
        if open_cells:
            begun = any(key in said for key in record.draw.order[n : record.shown])
            return (open_cells, len(batch)) if begun else None
        n = end
    return None


__all__ = ["Answered", "checked", "missing", "read_answers"]
