"""Scores from cells that another tool found, without any image: COCO results or a table of cells.

COCO results are a .json file: a list of detections, or a data set whose annotations have a score. A
table of cells is a .csv file with the columns patient_id, field_id and class_name. The columns
countable, cell_id and a box (xmin_px, ymin_px, xmax_px, ymax_px) are optional, so that cells.csv
can be scored again as it was written. Label images beside a table give the outlines of its cells.

A red cell counts if its source says so (`countable`). If the source says nothing, a red cell counts
if it does not touch the border and does not overlap another cell, as far as boxes and image sizes
are known. An unknown class name is an error: to skip a kind of red cell would raise the percentage.
Scores are corrected only if the model that found the cells is given. Detections of a tool whose
error rates are not known get the status uncalibrated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spherodetect.detect.detector import Detector, error_rates_of
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.fields.field import FieldList
from spherodetect.fields.find import find_fields
from spherodetect.fields.names import natural_key
from spherodetect.pipeline.counted import CountedField
from spherodetect.pipeline.from_coco import from_results, tool_name
from spherodetect.pipeline.from_table import from_table
from spherodetect.pipeline.label_images import split_label_images
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.files import write_scores
from spherodetect.report.results import Result
from spherodetect.safety import MAX_JSON_BYTES, quoted, read_bytes, read_csv, read_json
from spherodetect.score.counts import score_counts
from spherodetect.score.rates import unknown_rates

_SCORED = re.compile(rb'"score"\s*:')


def is_cell_source(path: str | Path) -> bool:
    """Whether a path is COCO results or a table of cells. Label files and manifests are not."""
    path = Path(path)
    if not path.is_file():
        return False
    if path.suffix.lower() == ".json":
        data = read_bytes(path, max_bytes=MAX_JSON_BYTES)
        return (
            data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
            or _SCORED.search(data) is not None
        )
    if path.suffix.lower() == ".csv":
        header = next((cells for _, cells in read_csv(path, max_bytes=MAX_JSON_BYTES)), [])
        return "class_name" in {name.lower() for name in header}
    return False


def score_cells(
    paths: Sequence[Path],
    out: Path | None,
    *,
    scheme: Any,
    detector: Detector | None = None,
    patient_regex: re.Pattern[str] | None = None,
    pseudonymise: bool = False,
    fhir: FhirContext | None = None,
    extras: Extras | None = None,
    classes: Mapping[str, str] | None = None,
) -> Result:
    """Score the patients of COCO results and tables of cells.

    COCO data sets among the paths name the images and classes of the results. Label images give
    the outlines of the cells of the tables.

    Args:
        paths: the files.
        out: the folder to write to, or None to write nothing.
        scheme: the table of the grades.
        detector: the model that found the cells; its error rates correct the score, and its
            classes explain category ids. Without it the score is not corrected.
        patient_regex: a pattern that finds the patient in a field's path.
        pseudonymise: write numbers for patients, and a file that is the key to them.
        fhir: times and the system of the patient ids for the FHIR Observations.
        extras: outputs on request.

    Raises:
        SpherodetectError: a file that is none of these, a class that is unknown, or nothing to
            count.
    """
    problems: list[str] = []
    results = {p: read_json(p, error=BadLabelsError) for p in paths if p.suffix.lower() == ".json"}
    tables = [p for p in paths if p.suffix.lower() == ".csv"]
    rest = [p for p in paths if p not in results and p not in tables]
    outlines: Mapping[str, Path] = {}
    if rest:
        found, outlines = split_label_images(find_fields(rest, exclude=[out] if out else []))
        problems += _spare(found)
    class_names = getattr(detector, "class_names", ())
    fields = from_results(results, class_names, patient_regex, problems, classes)
    for table in tables:
        fields += from_table(table, outlines, problems, classes)
    if not fields:
        raise SpherodetectError(f"{quoted(paths[0])}: expected cells, got none; export them again")
    patients: dict[str, list[CountedField]] = {}
    for field in fields:
        patients.setdefault(field.patient_id, []).append(field)
    tool = "" if detector else tool_name(results.values())
    rates = error_rates_of(detector) if detector else unknown_rates(tool) if tool else None
    scores = [
        score_counts(
            [int((f.countable & (f.names == "spherocyte")).sum()) for f in counted],
            [int(f.countable.sum()) for f in counted],
            model=rates,
            patient_id=patient,
            n_cells=sum(len(f.names) for f in counted),
            n_fields_rejected=len(mine) - len(counted),
            grade_scheme=scheme,
        )
        for patient, mine in sorted(patients.items(), key=lambda item: natural_key(item[0]))
        for counted in [[f for f in mine if not f.rejected]]
    ]
    return write_scores(
        scores,
        out,
        scheme=scheme,
        problems=problems,
        pseudonymise=pseudonymise,
        fhir=fhir,
        extras=extras,
    )


def _spare(found: FieldList) -> list[str]:
    return [f"{quoted(f.field_id)}: left out, its cells come from the table" for f in found]


__all__ = ["is_cell_source", "score_cells"]
