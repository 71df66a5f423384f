"""What `spherodetect review` does: draw cells for a person, apply the answers, make rates of them.

`review_draw` draws. What was answered is kept with the results (see review_record.py), and the run
that the results are of is done again with it, from its stored fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spherodetect.detect.detector import Detector, name_of
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.review_answers import Answered, checked, missing, read_answers
from spherodetect.pipeline.review_draw import Drawn, DrawResult, draw_review, reviewed_run
from spherodetect.pipeline.review_record import Draw, ReviewRecord, all_records, frozen_cells
from spherodetect.pipeline.run import Progress, no_progress, score_again
from spherodetect.pipeline.run_file import RunSettings
from spherodetect.pipeline.store import FieldStore
from spherodetect.report.results import HIDDEN, Result
from spherodetect.safety import csv_cell, quoted, write_json
from spherodetect.score.lab_rates import ReviewedCells, lab_rates


def apply_review(
    results: str | Path,
    files: Sequence[str | Path],
    *,
    model: Detector | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Take in what people answered, and write the tables and pages of the results again.

    Answers of one patient in one file are taken in together or not at all. What cannot be taken in
    is named in the result's problems; the files themselves never change.

    Args:
        results: the folder that the cells were drawn from.
        files: answers that the page saved, or filled tables.
        model: the object that found the cells, if that was somebody's own detector.
        progress: told of every field.

    Raises:
        SpherodetectError: no results, or nothing in the files that can be taken in.
    """
    results = Path(results)
    settings, detector = reviewed_run(results, model)
    problems: list[str] = []
    taken: dict[str, ReviewRecord] = {}
    reviewers: dict[str, set[str]] = {}
    names = {csv_cell(patient_id): patient_id for patient_id in settings.found.patients}
    for path in map(Path, files):
        try:
            parts = read_answers(path)
        except SpherodetectError as error:
            problems.append(str(error))
            continue
        for answered in parts:
            patient_id = names.get(answered.patient_id, answered.patient_id)
            try:
                record = _take_in(results, answered, patient_id, settings, detector)
            except SpherodetectError as error:
                problems.append(str(error))
                continue
            taken[patient_id] = record
            reviewers.setdefault(patient_id, set()).add(answered.reviewer)
    if not taken:
        raise SpherodetectError(problems[0] if problems else "expected files of answers, got none")
    for patient_id, record in taken.items():
        for reviewer in sorted(reviewers[patient_id]):
            if lack := missing(record, reviewer):
                n = record.complete(reviewer)
                problems.append(
                    f"patient {quoted(patient_id)}: {quoted(reviewer)} left {lack[0]} of the "
                    f"{lack[1]} cells of a batch unanswered, so the first {n} cells count; answer "
                    "them and apply the file again"
                )
    again = score_again(results, settings, detector, progress=progress)
    return replace(again, problems=(*again.problems, *problems))


def _take_in(
    results: Path, answered: Answered, patient_id: str, settings: RunSettings, detector: Detector
) -> ReviewRecord:
    if patient_id not in settings.found.patients:
        raise SpherodetectError(
            f"{quoted(answered.file)}: expected patients of {quoted(results)}, got "
            f"{quoted(answered.patient_id)}; name the results that the page was drawn from"
        )
    record = ReviewRecord.open(results, patient_id)
    if answered.batches:
        _draw_as(answered, record, results, patient_id, settings, detector)
    answers = checked(answered, record)
    before = record.answers.get(answered.reviewer, {})
    # A file that was applied before, or a page saved twice, says nothing new.
    if new := {key: answer for key, answer in answers.items() if key not in before}:
        record.add_answers(answered.reviewer, new, answered.file_sha256)
    return record


def _draw_as(
    answered: Answered,
    record: ReviewRecord,
    results: Path,
    patient_id: str,
    settings: RunSettings,
    detector: Detector,
) -> None:
    """Note the draw of the app with these results, if it is of their very cells.

    Raises:
        SpherodetectError: it is of other cells, or a review with another seed was begun here.
    """
    where = f"{quoted(answered.file)}, patient {quoted(patient_id)}"
    draw = record.draw
    if draw is None:
        fields = examine(
            settings.found.patients[patient_id],
            detector,
            store=FieldStore(results / HIDDEN / "fields"),
            scale_bar_um=settings.scale_bar_um,
            label_images=settings.label_images,
        )
        found = frozen_cells([replace(one, photograph=None) for one in fields if not one.problem])
        draw = Draw(patient_id, answered.seed or 0, found)
    if draw.seed != answered.seed:
        raise SpherodetectError(
            f"{where}: expected the seed {draw.seed} with which a review was begun here, got "
            f"{answered.seed}; begin the review in the app with that seed"
        )
    if draw.cells_sha256 != answered.cells_sha256:
        raise SpherodetectError(
            f"{where}: expected answers about the cells of {quoted(results)}, got some about cells "
            "that another model or another run found; name the results of the same run"
        )
    if answered.batches[-1] > len(draw.order):
        raise SpherodetectError(
            f"{where}: expected batches of at most {len(draw.order)} cells, got "
            f"{answered.batches[-1]}; save the answers again"
        )
    if record.draw is None:
        record.add_draw(draw)
    if answered.batches[-1] > record.shown:
        record.add_shown([*record.batches, *(n for n in answered.batches if n > record.shown)])


def write_lab_rates(results: str | Path, path: str | Path, *, model: Detector | None = None) -> int:
    """Write LAB.json from the reviewed patients of a folder of results; returns how many there are.

    The laboratory's name is that of the file.

    Raises:
        SpherodetectError: no results, fewer than three reviewed patients, or an output that cannot
            be written.
    """
    results, path = Path(results), Path(path)
    settings, detector = reviewed_run(results, model)
    patients = []
    for patient_id, record in all_records(results).items():
        draw = record.draw
        if draw is not None and record.readers and patient_id in settings.found.patients:
            answers = record.first_answers(record.readers[0])
            patients.append(ReviewedCells.of(draw.p, draw.ids, answers, draw.seed))
    try:
        lab = lab_rates(patients, name=path.stem, model=name_of(detector))
    except ValueError as problem:
        raise SpherodetectError(
            f"{quoted(results)}: {problem}; review more patients first"
        ) from problem
    write_json(lab.to_json(), path)
    return len(patients)


__all__ = ["DrawResult", "Drawn", "apply_review", "draw_review", "write_lab_rates"]
