"""Hints about folders that are probably not arranged as intended.

Nothing is left out because of a hint, so hints are kept apart from the problems of a `FieldList`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from spherodetect.fields.field import Field, FieldList
from spherodetect.safety import quoted

_PATIENT = re.compile(r"(?:patient|pat|subject|case)[-_ ]?[0-9]+", re.IGNORECASE)


def hints(found: FieldList) -> Iterator[str]:
    """A sentence for each patient that probably stands for several patients.

    Either the paths of its fields name several patients, or all fields lie two or more folders
    deep.

    >>> list(hints(FieldList(())))
    []
    """
    patients = found.patients
    for patient_id, fields in patients.items():
        paths = [PurePosixPath(field.field_id) for field in fields]
        matches = [_PATIENT.search(_below_patient(path, patient_id)) for path in paths]
        named = sorted({match[0].casefold() for match in matches if match})
        folders = sorted({str(path.parent) for path in paths})
        as_one = f"{quoted(patient_id)} is counted as one patient"
        if len(named) > 1:
            pattern = re.sub("[0-9]+", "[0-9]+", named[0])
            yield (
                f"{as_one}, but its paths name {len(named)} patients: {_listed(named)}; "
                "make one folder for each patient, "
                f"or use --patient-regex '(?i)({pattern})'"
            )
        elif len(patients) == 1 and len(folders) > 1 and all(len(path.parts) > 2 for path in paths):
            yield (
                f"{as_one}, in the folders {_listed(folders)}; "
                f"if each of them is a patient, score {quoted(_common(fields))}"
            )


def alike_patients(found: FieldList) -> Iterator[str]:
    """A sentence for patients whose ids differ only in case, blanks, dashes or leading zeros.

    >>> fields = tuple(Field(p, p, PurePosixPath()) for p in ("P 1", "p1", "2"))
    >>> list(alike_patients(FieldList(fields)))
    ["'P 1', 'p1' are counted as several patients; if they are one, write them alike"]
    """
    groups: dict[str, list[str]] = {}
    for patient_id in found.patients:
        groups.setdefault(_plain(patient_id), []).append(patient_id)
    for names in groups.values():
        if len(names) > 1:
            yield (
                f"{_listed(names)} are counted as several patients; "
                "if they are one, write them alike"
            )


def _plain(patient_id: str) -> str:
    text = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", patient_id).casefold())
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", text) or text


def _below_patient(path: PurePosixPath, patient_id: str) -> str:
    """The path without its first folder, if that is the patient's own."""
    return "/".join(path.parts[1:] if path.parts[0] == patient_id else path.parts)


def _common(fields: Sequence[Field]) -> str:
    return os.path.commonpath([field.path.parent for field in fields])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(quoted, names[:3])) + more
