"""The reports of `spherodetect score`, written again with what people corrected and reviewed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from spherodetect.app.corrected import corrected_field
from spherodetect.app.errors import Conflict
from spherodetect.app.jobs import Job, Work
from spherodetect.app.methods.mask_rcnn import examined
from spherodetect.app.patients import SCHEME
from spherodetect.app.project import RESULTS, Project
from spherodetect.app.reviews import patient_review_of
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import FieldRow, all_fields
from spherodetect.examined import Examined
from spherodetect.fields.field import Field, FieldList
from spherodetect.pipeline.overlay_files import OverlayFiles
from spherodetect.pipeline.patients_run import PatientsRun
from spherodetect.pipeline.review_score import Reviews
from spherodetect.report.results import ResultsFolder
from spherodetect.safety import quoted
from spherodetect.score.grades import load_grade_scheme
from spherodetect.score.patient_review import PatientReview


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
        problems: list[str] = []
        read = _corrected(project, fields, job, problems)
        with ResultsFolder(out) as results:
            overlays = OverlayFiles(results)
            result = run.into(results, overlays, read)
            overlays.close()
        files = [path.relative_to(project.folder).as_posix() for path in result.tables.values()]
        job.result = {
            "folder": out.name,
            "files": sorted([*files, f"{out.name}/index.html"]),
            "problems": [*result.problems, *problems],
        }
        yield from ()

    return work


def _corrected(
    project: Project, fields: Sequence[FieldRow], job: Job, problems: list[str]
) -> Iterator[Examined]:
    """The corrected fields; `problems` gets a sentence for what is left out."""
    for number, field in enumerate(fields):
        job.check()
        job.progress(number, len(fields), field.name)
        one = examined(project, field)
        if one.problem:
            yield one
            continue
        one, n_left = corrected_field(project, field, one)
        if n_left:
            drawn = "1 drawn outline" if n_left == 1 else f"{n_left} drawn outlines"
            problems.append(
                f"{quoted(field.name)}: {drawn} without a label of the model's classes left out"
            )
        yield replace(one, image=project.path_of(field))


__all__ = ["write_reports"]
