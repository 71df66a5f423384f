"""run.json: what a run into a folder of results read, so that it can be done again.

A review cuts cells out of the photographs, and rewrites the tables and pages of a finished run.
Both need the fields, the model and the settings of that run. They lie in
RESULTS/.spherodetect/run.json. Where patients were pseudonymised, the paths of the photographs
would give their names away; they are in the key file then.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field, FieldList
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.results import HIDDEN, pseudonym_key_path
from spherodetect.safety import quoted, read_json, write_json
from spherodetect.score.grades import GradeScheme
from spherodetect.score.lab_rates import LabRates, lab_rates_of

FILE = "run.json"
_FORMAT = 1
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class RunSettings:
    """What a run read.

    Attributes:
        found: the fields, under the names they have in the results.
        label_images: photograph to its label image.
        model: the model folder, or None for the bundled model.
        own_detector: whether an object of somebody's own found the cells: then only that program
            can do the run again.
        scale_bar_um: the length of burnt-in scale bars, or None.
        scheme: the grades.
        lab: a laboratory's own rates, or None.
        pseudonymised: whether paths are in the key file.
        convention: the stated convention of a laboratory, or None.
        fhir: what was stated for the FHIR Observations, or None.
        extras: outputs on request, or None.
    """

    found: FieldList
    label_images: Mapping[Path, Path]
    model: Path | None
    own_detector: bool
    scale_bar_um: float | None
    scheme: GradeScheme
    lab: LabRates | None
    pseudonymised: bool = False
    convention: str | None = None
    fhir: FhirContext | None = None
    extras: Extras | None = None


def save_run(results: Path, settings: RunSettings) -> None:
    """Write run.json.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    keep_paths = not settings.pseudonymised
    fields = []
    for one in settings.found:
        row: dict[str, Any] = {
            "patient_id": one.patient_id,
            "field_id": one.field_id,
            "um_per_px": one.um_per_px,
        }
        if keep_paths:
            row["path"] = str(one.path.resolve())
            if one.path in settings.label_images:
                row["label_image"] = str(settings.label_images[one.path].resolve())
        fields.append(row)
    data = {
        "format": _FORMAT,
        "fields": fields,
        "problems": [] if settings.pseudonymised else list(settings.found.problems),
        "model": str(settings.model.resolve()) if settings.model else None,
        "own_detector": settings.own_detector,
        "scale_bar_um": settings.scale_bar_um,
        "grade_scheme": {
            "name": settings.scheme.name,
            "grades": settings.scheme.grades,
            "from_percent": settings.scheme.from_percent,
        },
        "lab": settings.lab.to_json() if settings.lab else None,
        "pseudonymised": settings.pseudonymised,
        "convention": settings.convention,
        "fhir": asdict(settings.fhir) if settings.fhir else None,
        "extras": asdict(settings.extras) if settings.extras else None,
        "label_images": bool(settings.label_images),
    }
    write_json(data, results / HIDDEN / FILE, indent=None)


def load_run(results: Path) -> RunSettings:
    """Read run.json.

    Raises:
        SpherodetectError: there is none, it is damaged, or a photograph's path is not known.
    """
    path = results / HIDDEN / FILE
    if not path.is_file():
        raise SpherodetectError(
            f"{quoted(results)}: expected the results of `spherodetect score` on photographs, got "
            "no record of such a run; score the photographs into this folder"
        )
    read = read_json(path, max_bytes=_MAX_BYTES)
    try:
        key = _key(pseudonym_key_path(results)) if read["pseudonymised"] else {}
        if read["pseudonymised"] and read["label_images"]:
            raise SpherodetectError(
                f"{quoted(results)}: the paths of label images are not kept where patients are "
                "pseudonymised; score without --pseudonymise to review"
            )
        fields, label_images = [], {}
        for row in read["fields"]:
            own = row["path"] if "path" in row else key.get(row["field_id"])
            if own is None:
                raise SpherodetectError(
                    f"{quoted(pseudonym_key_path(results))}: expected the path of field "
                    f"{quoted(row['field_id'])}, got none; put the key file back"
                )
            file = Path(own)
            fields.append(Field(row["patient_id"], row["field_id"], file, row["um_per_px"]))
            if "label_image" in row:
                label_images[file] = Path(row["label_image"])
        scheme = read["grade_scheme"]
        return RunSettings(
            FieldList(tuple(fields), tuple(read["problems"])),
            label_images,
            Path(read["model"]) if read["model"] else None,
            bool(read["own_detector"]),
            read["scale_bar_um"],
            GradeScheme(scheme["name"], tuple(scheme["grades"]), tuple(scheme["from_percent"])),
            lab_rates_of(read["lab"]) if read["lab"] else None,
            bool(read["pseudonymised"]),
            read.get("convention"),
            FhirContext(**read["fhir"]) if read.get("fhir") else None,
            Extras(**read["extras"]) if read.get("extras") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected the record of a run, got something else; score the "
            "photographs into this folder again"
        ) from problem


def _key(path: Path) -> dict[str, str]:
    """Pseudonym of a field to the path of its photograph."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["pseudonym"]: row["path"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected the key of the pseudonyms with the paths of the "
            "photographs; put it back beside the folder of the results"
        ) from problem


__all__ = ["RunSettings", "load_run", "save_run"]
