"""Patients and fields under pseudonyms, and the key file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spherodetect.fields.field import FieldList


def pseudonymised(found: FieldList, out: Path) -> FieldList:
    """The fields with numbers in the place of patients and paths.

    pseudonym_key.csv, in the folder out, is the only file with the real names.

    Raises:
        SpherodetectError: the key cannot be written.
    """
    from spherodetect.safety import atomic_write, csv_cell

    patients = {
        p: f"patient_{i:03d}" for i, p in enumerate(dict.fromkeys(f.patient_id for f in found), 1)
    }
    renamed, lines = [], ["pseudonym,patient_id,field_id,path"]
    for number, one in enumerate(found, 1):
        pseudonym = f"{patients[one.patient_id]}/field_{number:04d}"
        row = pseudonym, one.patient_id, one.field_id, str(one.path.resolve())
        lines.append(",".join(_csv_text(csv_cell(value)) for value in row))
        renamed.append(replace(one, patient_id=patients[one.patient_id], field_id=pseudonym))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "pseudonym_key.csv", text=True) as file:
        file.write("\n".join(lines) + "\n")
    return FieldList(tuple(renamed), found.problems)


def _csv_text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
