"""The fields of a project: one row for each photograph, found by the SHA-256 of its file.

A file that is moved or renamed stays the same field. A file that is gone keeps its row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spherodetect.app.store.database import Database
from spherodetect.fields.names import natural_key

#: Where a pixel size may come from; the first four are those of `scale`.
GIVEN, FILE, BAR, CELLS, MEASURED, COPIED = "given", "file", "bar", "cells", "measured", "copied"


@dataclass(frozen=True)
class FieldRow:
    """One field.

    Attributes:
        id, patient, name: of the field; the name is the file's path in the project.
        path: the file, relative to the project's folder or absolute.
        sha256: of the file.
        size_hw: height and width of the upright image.
        um_per_px: pixel size in µm, or None.
        scale_source: GIVEN, FILE, BAR, CELLS, MEASURED, COPIED, or None.
        scale_confirmed: whether a person confirmed it.
        scale_line: (x0, y0, x1, y1, length_um) as a person measured it, or None.
        bar: the scale bar that was found: box_yxyx, length_px, x0, y, x1 and length_um; or None.
        strip_rows: rows above a strip of text, or None without one.
        rbc_diameter_px: the usual diameter of the field's objects, or None.
        accepted: whether its cells may be counted, None where that was not judged.
        reason: why not.
        run_id: the last run that found its objects, or None.
        method: that run's method, or None.
        model_run_id: the last run of the model, or None; what it found is what counts.
    """

    id: int
    patient: str
    name: str
    path: str
    sha256: str
    size_hw: tuple[int, int]
    um_per_px: float | None
    scale_source: str | None
    scale_confirmed: bool
    scale_line: tuple[float, ...] | None
    bar: dict[str, Any] | None
    strip_rows: int | None
    rbc_diameter_px: float | None
    accepted: bool | None
    reason: str
    run_id: int | None
    method: str | None
    model_run_id: int | None


_SELECT = "SELECT field.*, run.method FROM field LEFT JOIN run ON run.id = field.run_id"


def add_field(
    base: Database,
    *,
    sha256: str,
    patient: str,
    name: str,
    path: str,
    size_hw: tuple[int, int],
    stamp: str = "",
    um_per_px: float | None = None,
    scale_source: str | None = None,
    bar: dict[str, Any] | None = None,
    strip_rows: int | None = None,
    rbc_diameter_px: float | None = None,
) -> tuple[int, bool]:
    """Add a field, or give the field of the same file its new place; the id, and whether it is
    new."""
    with base.writing():
        row = base.row("SELECT id FROM field WHERE sha256 = ?", (sha256,))
        if row is not None:
            base.execute(
                "UPDATE field SET patient = ?, name = ?, path = ?, stamp = ?, present = 1 "
                "WHERE id = ?",
                (patient, name, path, stamp, row["id"]),
            )
            base.changed("fields")
            return int(row["id"]), False
        added = base.insert(
            "field",
            sha256=sha256,
            patient=patient,
            name=name,
            path=path,
            stamp=stamp,
            height=size_hw[0],
            width=size_hw[1],
            um_per_px=um_per_px,
            scale_source=scale_source,
            bar=None if bar is None else json.dumps(bar),
            strip_rows=strip_rows,
            rbc_diameter_px=rbc_diameter_px,
        )
        base.changed("fields")
        return added, True


def known_files(base: Database) -> dict[str, tuple[str, int]]:
    """Path to the stamp of the file as it was read, and the field's id."""
    return {
        row["path"]: (row["stamp"], row["id"])
        for row in base.rows("SELECT path, stamp, id FROM field")
    }


def set_present(base: Database, ids: Iterable[int]) -> None:
    """Hide the fields whose files are gone; only these ids are there."""
    there = set(ids)
    with base.writing():
        for row in base.rows("SELECT id, present FROM field"):
            if row["present"] != (row["id"] in there):
                base.execute(
                    "UPDATE field SET present = ? WHERE id = ?", (row["id"] in there, row["id"])
                )
                base.changed("fields")


def all_fields(base: Database, patient: str | None = None) -> list[FieldRow]:
    """The fields whose files are there, in natural order of patients and names."""
    rows = base.rows(f"{_SELECT} WHERE field.present = 1")
    fields = [_field(row) for row in rows if patient is None or row["patient"] == patient]
    return sorted(fields, key=lambda f: (natural_key(f.patient), natural_key(f.name), f.id))


def one_field(base: Database, field_id: int) -> FieldRow | None:
    """A field by its id."""
    row = base.row(f"{_SELECT} WHERE field.id = ?", (field_id,))
    return None if row is None else _field(row)


def set_scale(
    base: Database,
    field_ids: Sequence[int],
    um_per_px: float,
    source: str,
    *,
    confirmed: bool,
    line: Sequence[float] | None = None,
) -> None:
    """Give fields a pixel size."""
    with base.writing():
        for field_id in field_ids:
            base.execute(
                "UPDATE field SET um_per_px = ?, scale_source = ?, scale_confirmed = ?, "
                "scale_line = ? WHERE id = ?",
                (um_per_px, source, confirmed, json.dumps(line) if line else None, field_id),
            )
        base.changed("scale")


def confirm_scale(base: Database, field_ids: Sequence[int]) -> None:
    """Confirm the pixel sizes that fields have."""
    with base.writing():
        for field_id in field_ids:
            base.execute(
                "UPDATE field SET scale_confirmed = 1 WHERE id = ? AND um_per_px IS NOT NULL",
                (field_id,),
            )
        base.changed("scale")


def _field(row: Any) -> FieldRow:
    return FieldRow(
        id=row["id"],
        patient=row["patient"],
        name=row["name"],
        path=row["path"],
        sha256=row["sha256"],
        size_hw=(row["height"], row["width"]),
        um_per_px=row["um_per_px"],
        scale_source=row["scale_source"],
        scale_confirmed=bool(row["scale_confirmed"]),
        scale_line=tuple(json.loads(row["scale_line"])) if row["scale_line"] else None,
        bar=json.loads(row["bar"]) if row["bar"] else None,
        strip_rows=row["strip_rows"],
        rbc_diameter_px=row["rbc_diameter_px"],
        accepted=None if row["accepted"] is None else bool(row["accepted"]),
        reason=row["reason"],
        run_id=row["run_id"],
        method=row["method"],
        model_run_id=row["model_run_id"],
    )


__all__ = [
    "BAR",
    "CELLS",
    "COPIED",
    "FILE",
    "GIVEN",
    "MEASURED",
    "FieldRow",
    "add_field",
    "all_fields",
    "confirm_scale",
    "known_files",
    "one_field",
    "set_present",
    "set_scale",
]
