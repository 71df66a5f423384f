"""Scores human labels: COCO files or a whole export, without any model.

Red cells that do not touch the border are the denominator. Outlines of groups (COCO's iscrowd) are
not counted. Of the copies of a photograph the one with most labels is counted. Everything that is
not counted is reported. Scores from labels are not corrected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, touches_border
from spherodetect.fields.patients import patient_in
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.file_names import tile_of
from spherodetect.labels.readers.files import listed
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.pipeline.counted import known_class_names
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
    classes: Mapping[str, str] | None = None,
) -> Result:
    """Score the patients of label files.

    Args:
        paths: the files or export folders.
        out: the folder to write patients.csv and index.html to, or None to write nothing.
        scheme: the table of the grades.
        patient_regex: a pattern that finds the patient in a file name.
        pseudonymise: write numbers for patients, and a file that is the key to them.
        classes: names to classes, in addition to the known names.

    Raises:
        SpherodetectError: a file without labels, or a class name that is not known.
    """
    best: dict[tuple[str, str], LabelledField] = {}
    copies: list[str] = []
    problems: list[str] = []
    for path in paths:
        labels = read_unmapped(recipe_for(path))
        malformed = [f for f in labels.findings if f.severity == "error" and f.code == "malformed"]
        problems += [f"{quoted(f.file)}: {f.message}" for f in malformed]
        every_name = [a.name for f in labels.fields for a in f.annotations if not a.iscrowd]
        known_class_names(every_name, path, classes)
        n_groups = sum(a.iscrowd for f in labels.fields for a in f.annotations)
        if n_groups:
            problems.append(f"{quoted(path)}: {n_groups:,} outlines of groups (iscrowd) left out")
        for labelled in labels.fields:
            patient = (
                patient_in(labelled.file, patient_regex) if patient_regex else labelled.patient_id
            )
            view = f"{labelled.source_id} {tile_of(labelled.file)}"
            key = (patient or labelled.source_id, view)
            other = best.get(key)
            if other is None:
                best[key] = labelled
                continue
            more = len(labelled.annotations) > len(other.annotations)
            copies.append((other if more else labelled).file)
            best[key] = labelled if more else other
    if copies:
        # File names may hold the names of patients.
        which = "" if pseudonymise else f": {listed(copies, most=6)}"
        problems.append(
            f"{len(copies):,} images left out; by their names they are copies of a photograph "
            f"that is counted already{which}"
        )
    patients: dict[str, list[LabelledField]] = {}
    for (patient, _), labelled in sorted(best.items(), key=lambda item: item[0]):
        patients.setdefault(patient, []).append(labelled)
    scores = [_score(patient, fields, scheme, classes) for patient, fields in patients.items()]
    return write_scores(scores, out, scheme=scheme, problems=problems, pseudonymise=pseudonymise)


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
