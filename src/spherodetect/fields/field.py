"""The records of a search: one field, and the list of fields that were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Field:
    """One image of a patient.

    Attributes:
        patient_id: the patient.
        field_id: relative path of the file with forward slashes, unique within a list of fields.
        path: the file.
        um_per_px: pixel size in µm that the user stated, or None.
        taken: when it was photographed, if a manifest states it, or None.
    """

    patient_id: str
    field_id: str
    path: Path
    um_per_px: float | None = None
    taken: datetime | None = None


@dataclass(frozen=True)
class FieldList:
    """The fields that were found, in order.

    Attributes:
        fields: the fields.
        problems: one line for each file or row that was left out.
    """

    fields: tuple[Field, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    @property
    def patients(self) -> dict[str, tuple[Field, ...]]:
        """The fields of each patient, with the patients in order of first appearance."""
        groups: dict[str, list[Field]] = {}
        for field in self.fields:
            groups.setdefault(field.patient_id, []).append(field)
        return {patient_id: tuple(fields) for patient_id, fields in groups.items()}
