"""Scores human labels: COCO files or a whole export, without any model.

Red cells that do not touch the border are the denominator. Outlines of groups (COCO's iscrowd) are
not counted. Of the copies of a photograph the one with most labels is counted; labels and pixels
decide what a copy is. Everything that is not counted is reported. Scores from labels are not
corrected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, touches_border
from spherodetect.errors import BadLabelsError
from spherodetect.fields.patients import patient_in
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.photographs import tell_apart, without_copies
from spherodetect.labels.readers.files import listed
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.pipeline.counted import known_class_names
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.files import write_scores
from spherodetect.report.results import Result
from spherodetect.safety import quoted
from spherodetect.score.counts import PatientScore, score_counts


def score_labels(
    paths: Sequence[Path],
    out: Path | None,
    *,
    scheme: Any,
    patient_regex: re.Pattern[str] | None = None,
    pseudonymise: bool = False,
    fhir: FhirContext | None = None,
    extras: Extras | None = None,
    classes: Mapping[str, str] | None = None,
) -> Result:
    """Score the patients of label files.

    Args:
        paths: the files or export folders.
        out: the folder to write patients.csv and index.html to, or None to write nothing.
        scheme: the table of the grades.
        patient_regex: a pattern that finds the patient in a file name.
        pseudonymise: write numbers for patients, and a file that is the key to them.
        fhir: times and the system of the patient ids for the FHIR Observations.
        extras: outputs on request.
        classes: names to classes, in addition to the known names.

    Raises:
        SpherodetectError: a file without labels, or a class name that is not known.
    """
    fields: list[LabelledField] = []
    problems: list[str] = []
    kept: list[LabelSet] = []  # the unpacked zips, as long as their images are compared
    for path in paths:
        labels = read_unmapped(recipe_for(path))
        kept.append(labels)
        every_name = [a.name for f in labels.fields for a in f.annotations if not a.iscrowd]
        known_class_names(every_name, path, classes)
        problems += _left_out(labels, path)
        fields += [f for f in labels.fields if f.labelled]
    if len(paths) > 1:
        fields = list(tell_apart(fields))
    patients: dict[str, list[LabelledField]] = {}
    for field in sorted(fields, key=lambda f: (f.source_id, f.view, f.file)):
        named = patient_in(field.file, patient_regex) if patient_regex else field.patient_id
        patients.setdefault(named or field.source_id, []).append(field)
    copies: list[LabelledField] = []
    for patient, mine in patients.items():
        patients[patient], spare = without_copies(mine)
        copies += spare
    if copies:
        # File names may hold the names of patients.
        which = "" if pseudonymise else f": {listed([f.file for f in copies], most=6)}"
        problems.append(
            f"{len(copies):,} images left out, they are copies of photographs that are counted "
            f"already{which}"
        )
    if not any(f.annotations for mine in patients.values() for f in mine) and problems:
        raise BadLabelsError(f"no label could be counted: {problems[0]}")
    scores = [_score(patient, mine, scheme, classes) for patient, mine in sorted(patients.items())]
    return write_scores(
        scores,
        out,
        scheme=scheme,
        problems=problems,
        pseudonymise=pseudonymise,
        fhir=fhir,
        extras=extras,
    )


def _left_out(labels: LabelSet, path: Path) -> Iterator[str]:
    """A line for each kind of label of a source that is not counted."""
    malformed = [f for f in labels.findings if f.severity == "error" and f.code == "malformed"]
    yield from (f"{quoted(f.file)}: {f.message}" for f in malformed)
    others = Counter((u.file, u.reason) for u in labels.unread if u.reason != "malformed")
    for (file, reason), n in others.items():
        yield f"{quoted(file)}: {n:,} labels left out: {reason}"
    n_groups = sum(a.iscrowd for f in labels.fields for a in f.annotations)
    if n_groups:
        yield f"{quoted(path)}: {n_groups:,} outlines of groups (iscrowd) left out"
    if unlabelled := [f.file for f in labels.fields if not f.labelled]:
        yield f"{quoted(path)}: {len(unlabelled):,} images without labels left out"


def _score(
    patient: str, fields: Sequence[LabelledField], scheme: Any, classes: Mapping[str, str] | None
) -> PatientScore:
    spherocytes, countable, n_cells = [], [], 0
    for labelled in fields:
        single = [a for a in labelled.annotations if not a.iscrowd]
        names = known_class_names((a.name for a in single), Path(labelled.file), classes)
        boxes = [a.outline_box_yxyx or (0, 0, 0, 0) for a in single]
        box = np.array(boxes, float).reshape(-1, 4)
        whole = np.isin(names, list(RED_CELLS)) & ~touches_border(box, labelled.size_hw)
        countable.append(int(whole.sum()))
        spherocytes.append(int((whole & (names == "spherocyte")).sum()))
        n_cells += len(names)
    return score_counts(
        spherocytes, countable, patient_id=patient, n_cells=n_cells, grade_scheme=scheme
    )
