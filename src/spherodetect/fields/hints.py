"""What is probably not meant: photographs that were found, but lie otherwise than patients'
photographs should.

Nothing is left out for it, so these are hints, not problems.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from spherodetect.fields.find import Field, FieldList
from spherodetect.safety import quoted

_PATIENT = re.compile(r"(?:patient|pat|subject|case)[-_ ]?[0-9]+", re.IGNORECASE)


def hints(found: FieldList) -> Iterator[str]:
    """A sentence for each patient who is probably several: folders that lie too deep, or none at
    all.

    >>> list(hints(FieldList(())))
    []
    """
    patients = found.patients
    for patient_id, fields in patients.items():
        paths = [PurePosixPath(field.field_id) for field in fields]
        named = sorted(
            {
                name[0].casefold()
                for path in paths
                if (name := _PATIENT.search(_own(path, patient_id)))
            }
        )
        folders = sorted({str(path.parent) for path in paths})
        as_one = f"{quoted(patient_id)} is counted as one patient"
        if len(named) > 1:
            pattern = re.sub("[0-9]+", "[0-9]+", named[0])
            yield (
                f"{as_one}, but its paths speak of {len(named)}: {_listed(named)}; make a folder a patient, or find "
                f"them by --patient-regex '(?i)({pattern})'"
            )
        elif len(patients) == 1 and len(folders) > 1 and all(len(path.parts) > 2 for path in paths):
            yield f"{as_one}, in the folders {_listed(folders)}; if each is a patient, score {quoted(_common(fields))}"


def _own(path: PurePosixPath, patient_id: str) -> str:
    """What the path says beyond the folder that is the patient."""
    return "/".join(path.parts[1:] if path.parts[0] == patient_id else path.parts)


def _common(fields: Sequence[Field]) -> str:
    return os.path.commonpath([field.path.parent for field in fields])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(quoted, names[:3])) + more
