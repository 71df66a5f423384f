"""Patients and fields under pseudonyms, and the key file."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from spherodetect.fields.field import FieldList
from spherodetect.report.results import pseudonym_key_path

logger = logging.getLogger(__name__)


def pseudonymised(found: FieldList, out: Path) -> FieldList:
    """The fields with numbers in the place of patients and paths.

    The key, see `pseudonym_key_path`, is the only file with the real names. Files that were left
    out are named in the log alone.

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
    with atomic_write(pseudonym_key_path(out), text=True) as file:
        file.write("\n".join(lines) + "\n")
    for problem in found.problems:
        logger.warning("%s", problem)
    n = len(found.problems)
    left_out = f"files or rows that were left out before the run: {n}; their names were printed"
    return FieldList(tuple(renamed), (left_out,) if n else ())


def _csv_text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
