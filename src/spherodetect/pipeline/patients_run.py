"""One run over the photographs of patients: each is scored, reported and forgotten in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spherodetect.detect.detector import Detector, error_rates_of
from spherodetect.detect.model import Model
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import FieldList
from spherodetect.pipeline.field_warnings import FieldWarnings
from spherodetect.pipeline.notes import patient_notes, provenance
from spherodetect.pipeline.overlay_files import OverlayFiles, pixels_of
from spherodetect.pipeline.patient import (
    convention_of,
    convention_rates,
    field_counts,
    healthy_rates,
    relative,
    score_patient,
)
from spherodetect.pipeline.review_score import Reviews
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.results import Result, ResultsFolder
from spherodetect.report.tables import cells_frame, joined, no_cells_frame
from spherodetect.safety import quoted, safe_name
from spherodetect.score.blank import limit_of_blank
from spherodetect.score.counts import PatientScore, more_fields_needed
from spherodetect.score.grades import GradeScheme
from spherodetect.score.lab_rates import LabRates
from spherodetect.score.patient_review import PatientReview, reviewed_patient
from spherodetect.score.rates import ClassifierRates, HasRates

if TYPE_CHECKING:
    import pandas as pd

#: Decoded photographs and overlays of one patient that are kept in memory until the report is
#: written; the others are read again for it.
_PICTURE_BYTES = 256 * 2**20


class PatientsRun:
    """One run over the photographs of patients."""

    def __init__(
        self,
        found: FieldList,
        detector: Detector,
        scheme: GradeScheme,
        *,
        lab: LabRates | None,
        reviews: Reviews,
        fhir: FhirContext | None = None,
        extras: Extras | None = None,
    ) -> None:
        self.found, self.detector, self.scheme = found, detector, scheme
        self.lab, self.reviews, self.fhir = lab, reviews, fhir
        self.extras = extras or Extras()
        self.rates = lab.rates if lab else error_rates_of(detector)
        self.scores: list[PatientScore] = []
        self.problems = list(found.problems)
        self.without_fields: list[str] = []
        self.warnings = FieldWarnings()

    def in_memory(self, fields: Iterator[Examined]) -> Result:
        """Score, and write nothing."""
        frames: list[pd.DataFrame] = []
        for patient in self._patients(replace(one, photograph=None) for one in fields):
            frames += [_cells_table(one) for one in patient if not one.problem]
            if not _is_unread(patient):
                self._score(patient)
        problems = self._all_problems()
        cells = joined(frames) if frames else no_cells_frame()
        return Result(tuple(self.scores), problems, cells_in_memory=cells)

    def into(
        self, results: ResultsFolder, overlays: OverlayFiles, fields: Iterator[Examined]
    ) -> Result:
        """Score, and write everything into a folder."""
        from spherodetect.report.files import CellFiles, write_excel, write_patients
        from spherodetect.report.index import write_index

        rows = []
        names = self.extras.hemadetect_names
        pixels = pixels_of if self.extras.textures else None
        with CellFiles(results, hemadetect_names=names, pixels=pixels) as files:
            for patient in self._patients(overlays.drawn(fields)):
                for one in patient:
                    (files.add_unreadable if one.problem else files.add)(one)
                if not _is_unread(patient):
                    rows.append(self._report(patient, results))
                results.sync()
            problems = self._all_problems()
        written = files.written | write_patients(self.scores, results, fhir=self.fhir)
        if self.extras.excel:
            written |= write_excel(self.scores, results, written)
        index = results.path("index.html")
        write_index(index, rows, scheme=self.scheme, problems=problems, context=self.fhir)
        return Result(tuple(self.scores), problems, written, index)

    def _patients(self, fields: Iterator[Examined]) -> Iterator[list[Examined]]:
        """The examined fields of each patient."""
        for patient_id, own in self.found.patients.items():
            patient, held = [], 0
            for _ in own:
                one = next(fields)
                if one.problem:
                    self.problems.append(one.problem)
                else:
                    self.warnings.add(one)
                    one, held = _within_budget(one, held)
                patient.append(one)
            if _is_unread(patient):
                self.without_fields.append(patient_id)
            yield relative(patient)

    @property
    def _model(self) -> ClassifierRates | HasRates | None:
        """The laboratory's rates, or the model, which has rates of each convention."""
        if self.lab is None and isinstance(self.detector, Model):
            return self.detector
        return self.rates

    def _score(
        self, patient: Sequence[Examined], review: PatientReview | None = None
    ) -> PatientScore:
        score = score_patient(patient, self._model, grade_scheme=self.scheme)
        if review is not None:
            n_fields = sum(int((one.counts[:, 1] > 0).sum()) for one in patient if not one.problem)
            score = reviewed_patient(score, review, scheme=self.scheme, n_fields=n_fields)
        self.scores.append(score)
        return score

    def _report(
        self, patient: Sequence[Examined], results: ResultsFolder
    ) -> tuple[PatientScore, str]:
        """Write the page of one patient; returns the row of the index."""
        from spherodetect.report.patient import write_patient_report
        from spherodetect.report.pdf import write_pdf

        readable = [one for one in patient if not one.problem]
        review = self.reviews.of(readable[0].patient_id, readable)
        score = self._score(patient, review)
        page = results.path("reports", f"{safe_name(score.patient_id)}.html")
        spherocytes, countable = field_counts(readable)
        convention = convention_of([one for one in readable if one.quality.accepted])
        rates = convention_rates(self._model, convention)
        write_patient_report(
            page,
            score,
            readable,
            scheme=self.scheme,
            provenance=provenance(self.detector, score, readable, lab=self.lab),
            unread={
                one.field_id: one.problem.removeprefix(f"{quoted(one.field_id)}: ")
                for one in patient
                if one.problem
            },
            notes=patient_notes(self.detector, readable, lab=self.lab),
            limit_of_blank=limit_of_blank(
                score.n_countable, model=healthy_rates(self._model, convention) or rates
            ),
            more_fields=more_fields_needed(spherocytes, countable, model=rates)
            if sum(countable)
            else None,
            review=review,
            context=self.fhir,
        )
        if self.extras.pdf:
            write_pdf(page, results.path("reports", f"{safe_name(score.patient_id)}.pdf"))
        return score, page.relative_to(results.root).as_posix()

    def _all_problems(self) -> tuple[str, ...]:
        """What was left out; raises if that is everything."""
        require_some(len(self.scores), self.problems)
        self.warnings.log()
        without = (
            f"patient {quoted(p)}: no field could be read; it has no score"
            for p in self.without_fields
        )
        return (*self.problems, *without, *self.reviews.problems)


def _is_unread(patient: Sequence[Examined]) -> bool:
    """Whether no field of a patient could be read."""
    return all(one.problem for one in patient)


def _within_budget(one: Examined, held: int) -> tuple[Examined, int]:
    """The field without its pictures where the patient's pictures would take too much memory."""
    photograph, picture = one.photograph, one.overlay_image
    size = photograph.image.nbytes if photograph else 0
    size += 3 * picture.width * picture.height if picture else 0
    if held + size > _PICTURE_BYTES:
        return replace(one, photograph=None, overlay_image=None), held
    return one, held + size


def _cells_table(one: Examined) -> pd.DataFrame:
    return cells_frame(one.cells, patient_id=one.patient_id, accepted=one.accepted)


def require_some(n_used: int, problems: Sequence[str]) -> None:
    if not n_used:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        first = problems[0] if problems else "none was given"
        raise SpherodetectError(f"no image could be used: {first}{more}")


__all__ = ["PatientsRun", "require_some"]
