"""The reports of `spherodetect score`, written again with what people corrected and reviewed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from spherodetect.app.errors import Conflict
from spherodetect.app.jobs import Job, Work
from spherodetect.app.methods.mask_rcnn import examined
from spherodetect.app.patients import SCHEME
from spherodetect.app.project import RESULTS, Project
from spherodetect.app.reviews import patient_review_of
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import FieldRow, all_fields
from spherodetect.app.store.labels import active_set, labels_of
from spherodetect.corrections import Correction
from spherodetect.examined import Examined
from spherodetect.fields.field import Field, FieldList
from spherodetect.pipeline.overlay_files import OverlayFiles
from spherodetect.pipeline.patient import corrected
from spherodetect.pipeline.patients_run import PatientsRun
from spherodetect.pipeline.review_score import Reviews
from spherodetect.report.results import ResultsFolder
from spherodetect.score.grades import load_grade_scheme
from spherodetect.score.patient_review import PatientReview
from spherodetect.vocabulary import canonical_name


class _StoredReviews(Reviews):
    """The reviews of the project in place of those of a folder."""

    def __init__(self, base: Database) -> None:
        super().__init__(None)
        self._base = base

    def of(self, patient_id: str, fields: Sequence[Examined]) -> PatientReview | None:
        return patient_review_of(self._base, patient_id)


def write_reports(project: Project) -> Work:
    """A job that writes tables, overlays and pages of the fields that the model examined."""

    def work(job: Job) -> Generator[None]:
        fields = [f for f in all_fields(project.base) if f.model_run_id is not None]
        if not fields:
            raise Conflict(
                "expected fields that the model examined, got none; run Mask R-CNN first"
            )
        out = project.folder / RESULTS
        found = FieldList(
            tuple(Field(f.patient, f.name, project.path_of(f), f.um_per_px) for f in fields)
        )
        run = PatientsRun(
            found,
            project.detector(),
            load_grade_scheme(SCHEME),
            lab=None,
            reviews=_StoredReviews(project.base),
        )
        read = _corrected(project, fields, job)
        with ResultsFolder(out) as results:
            overlays = OverlayFiles(results)
            result = run.into(results, overlays, read)
            overlays.close()
        files = [path.relative_to(project.folder).as_posix() for path in result.tables.values()]
        job.result = {
            "folder": out.name,
            "files": sorted([*files, f"{out.name}/index.html"]),
            "problems": list(result.problems),
        }
        yield from ()

    return work


def corrections_of(project: Project, field: FieldRow, one: Examined) -> list[Correction]:
    """What people changed about the cells that the model found in a field.

    A label of the meaning ignore, or a deleted outline, removes a cell; a label of an unknown class
    leaves it as it is.
    """
    base = project.base
    labels = {label.id: label for label in labels_of(base, active_set(base))}
    rows = base.rows(
        "SELECT t.cell_id, o.visible, c.label_id FROM outline t "
        "JOIN object o ON o.id = t.object_id "
        "LEFT JOIN current_label c ON c.object_id = o.id AND c.set_id = ? "
        "WHERE o.field_id = ? AND t.run_id = ? ORDER BY t.cell_id",
        (active_set(base), field.id, field.model_run_id),
    )
    there = set(one.cells.cell_id.tolist())
    found = []
    for row in rows:
        label = labels.get(row["label_id"])
        name = canonical_name(label.name) if label else None
        if row["cell_id"] not in there:
            continue
        if not row["visible"] or (label and label.meaning == "ignore"):
            found.append(Correction(row["cell_id"], removed=True))
        elif label and label.meaning == "class" and name in one.cells.class_names:
            found.append(Correction(row["cell_id"], class_name=name))
    return found


def _corrected(project: Project, fields: Sequence[FieldRow], job: Job) -> Iterator[Examined]:
    for number, field in enumerate(fields):
        job.progress(number, len(fields), field.name)
        one = examined(project, field)
        if one.problem:
            yield one
            continue
        changes = corrections_of(project, field, one)
        yield corrected(replace(one, image=project.path_of(field)), changes)


__all__ = ["corrections_of", "write_reports"]
