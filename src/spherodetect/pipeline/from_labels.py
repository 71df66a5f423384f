"""Scores from human labels: COCO files or a whole export, without any model.

An export may hold several copies of a photograph: the copy with most annotations counts, once.
Boxes that touch the border do not count. The other red cells are the denominator. Scores from
labels are not corrected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, canonical_name, touches_border
from spherodetect.fields.find import patient_in
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.source import read_unmapped, recipe_for
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
) -> Result:
    """Score the patients of COCO label files.

    Args:
        paths: the files or export folders.
        out: the folder to write patients.csv and index.html to, or None to write nothing.
        scheme: the table of the grades.
        patient_regex: a pattern that finds the patient in a file name.
        pseudonymise: write numbers for patients, and a file that is the key to them.

    Raises:
        SpherodetectError: a file that is not COCO.
    """
    best: dict[tuple[str, str], LabelledField] = {}
    problems: list[str] = []
    for path in paths:
        labels = read_unmapped(recipe_for(path))
        malformed = [f for f in labels.findings if f.severity == "error" and f.code == "malformed"]
        problems += [f"{quoted(f.file)}: {f.message}" for f in malformed]
        for labelled in labels.fields:
            patient = (
                patient_in(labelled.file, patient_regex) if patient_regex else labelled.patient_id
            )
            key = (patient or labelled.source_id, labelled.source_id)
            if key not in best or len(labelled.annotations) > len(best[key].annotations):
                best[key] = labelled
    patients: dict[str, list[LabelledField]] = {}
    for (patient, _), labelled in sorted(best.items(), key=lambda item: item[0]):
        patients.setdefault(patient, []).append(labelled)
    scores = [_score(patient, fields, scheme) for patient, fields in patients.items()]
    return write_scores(scores, out, scheme=scheme, problems=problems, pseudonymise=pseudonymise)


def _score(patient: str, fields: Sequence[LabelledField], scheme: Any) -> PatientScore:
    spherocytes, countable, n_cells = [], [], 0
    for labelled in fields:
        names = np.array([canonical_name(a.name) or "" for a in labelled.annotations], dtype=object)
        box = np.array(
            [a.outline_box_yxyx or (0, 0, 0, 0) for a in labelled.annotations], float
        ).reshape(-1, 4)
        whole = np.isin(names, list(RED_CELLS)) & ~touches_border(box, labelled.size_hw)
        countable.append(int(whole.sum()))
        spherocytes.append(int((whole & (names == "spherocyte")).sum()))
        n_cells += len(names)
    return score_counts(
        spherocytes, countable, patient_id=patient, n_cells=n_cells, grade_scheme=scheme
    )
