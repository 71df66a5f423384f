"""The main job: photographs of patients in, scores, tables, overlays and reports out.

A field that cannot be used is named in `Result.problems`, and the others go on. Patients are
processed one at a time: the memory that a run needs does not grow with their number. Each file is
written whole or not at all; tables and pages appear at the end, so that a run that was cut off
leaves finished fields and a folder that says so (see `ResultsFolder`). Percentages are 0 to 100.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spherodetect.detect.detector import Detector, as_detector, error_rates_of, name_of
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import FieldList
from spherodetect.fields.find import find_fields, find_images, is_label_source
from spherodetect.fields.hints import hints
from spherodetect.fields.patients import patient_pattern
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.notes import patient_notes, provenance
from spherodetect.pipeline.overlay_files import OverlayFiles
from spherodetect.pipeline.patient import field_counts, relative, score_patient
from spherodetect.pipeline.pseudonyms import pseudonymised
from spherodetect.pipeline.scale_warnings import ScaleWarnings
from spherodetect.pipeline.store import FieldStore
from spherodetect.report.results import HIDDEN, Result, ResultsFolder
from spherodetect.report.tables import cells_frame, joined, no_cells_frame
from spherodetect.safety import quoted, safe_name
from spherodetect.score.counts import PatientScore, limit_of_blank, more_fields_needed
from spherodetect.score.grades import GradeScheme, load_grade_scheme

if TYPE_CHECKING:
    import pandas as pd

    from spherodetect.report.files import CellFiles

logger = logging.getLogger(__name__)

#: Decoded photographs and overlays of one patient that are kept in memory until the report is
#: written; the others are read again for it.
_PICTURE_BYTES = 256 * 2**20

#: Called with the number of finished fields, the number of all fields, and the next one's name.
Progress = Callable[[int, int, str], None]


def no_progress(done: int, total: int, label: str) -> None:
    """Show nothing."""


def detect_images(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | Detector | None = None,
    um_per_px: float | None = None,
    scale_bar_um: float | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Find and measure the cells of images; write cells.csv, quality.csv, overlays and the exchange
    formats.

    Fields that an earlier run into the same folder finished are taken from it.

    Args:
        paths: images and folders.
        out: the folder to write to.
        model: a model folder, a loaded model, or an object with `detect(image, um_per_px)`; by
            default the bundled model.
        um_per_px: pixel size in µm, if it is known.
        scale_bar_um: the length of burnt-in scale bars in µm, if it is known.
        progress: told of every field.

    Raises:
        SpherodetectError: no image was found or could be used, the model is unusable, or an output
            cannot be written.
    """
    from spherodetect.report.files import CellFiles

    out = Path(out)
    found = find_images(_paths(paths), um_per_px=um_per_px, exclude=[out])
    _make(out)
    detector = as_detector(model)
    with ResultsFolder(out) as results, _examining(results) as (store, overlays):
        fields = _reported(
            found, examine(found, detector, store=store, scale_bar_um=scale_bar_um), progress
        )
        problems = list(found.problems)
        warnings = ScaleWarnings()
        n_used = 0
        with CellFiles(results) as files:
            for one in fields:
                if one.problem:
                    problems.append(one.problem)
                    continue
                n_used += 1
                warnings.add(one.field_id, one.scale)
                files.add(overlays.draw(one))
            _require_some(n_used, problems)
        warnings.log()
        return Result(problems=tuple(problems), tables=files.written)


def score_patients(
    paths: str | Path | Sequence[str | Path],
    *,
    model: str | Path | Detector | None = None,
    out: str | Path | None = None,
    um_per_px: float | None = None,
    scale_bar_um: float | None = None,
    patient_regex: str | None = None,
    grade_scheme: str | Path | GradeScheme = "icsh2015",
    pseudonymise: bool = False,
    classes: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Score the patients of folders, manifests, labels, or cells that another tool found.

    With `out`, tables, overlays and reports are written, and fields that an earlier run into the
    same folder finished are taken from it. Without `out`, nothing is written. Labels and cells
    without their images give the patients' table and index.html alone. Label images beside
    photographs replace the model's outlines.

    Args:
        paths: a folder of patients' folders, images, a manifest.csv, COCO labels or results, or a
            table of cells; or several of one kind.
        model: a model folder, a loaded model, or an object with `detect(image, um_per_px)`; by
            default the bundled model. Cells of another tool are corrected only if it is given.
        out: the folder to write to.
        um_per_px: pixel size in µm, if it is known.
        scale_bar_um: the length of burnt-in scale bars in µm, if it is known.
        patient_regex: a pattern that finds the patient in a field's path.
        grade_scheme: a scheme, its name, or the file of a laboratory's own.
        pseudonymise: replace patient ids and paths by numbers; the key is a file of its own.
        classes: names of labels to classes, in addition to the known names (see `read_classes`).
        progress: told of every field.

    Returns:
        the scores, and the tables `.patients` and `.cells` as data frames.

    Raises:
        SpherodetectError: nothing to read, an unusable model or option, or an output that cannot be
            written.

    >>> score_patients("smears").patients[["patient_id", "hs_score"]]  # doctest: +SKIP
    """
    from spherodetect.pipeline.from_cells import is_cell_source, score_cells
    from spherodetect.pipeline.label_images import outlined_fields

    sources = _paths(paths)
    folder = Path(out) if out is not None else None
    if pseudonymise and folder is None:
        raise SpherodetectError("pseudonymise: expected a folder for the key; pass out")
    scheme = grade_scheme
    if not isinstance(scheme, GradeScheme):
        scheme = load_grade_scheme(scheme)
    pattern = patient_pattern(patient_regex)
    if any(is_cell_source(p) for p in sources):
        return score_cells(
            sources,
            folder,
            scheme=scheme,
            detector=as_detector(model) if model is not None else None,
            patient_regex=pattern,
            pseudonymise=pseudonymise,
            classes=classes,
        )
    labels = [is_label_source(p) for p in sources]
    if any(labels):
        if not all(labels):
            raise SpherodetectError(
                "expected either images or COCO labels, got both; score them one after the other"
            )
        from spherodetect.pipeline.from_labels import score_labels

        return score_labels(
            sources,
            folder,
            scheme=scheme,
            patient_regex=pattern,
            pseudonymise=pseudonymise,
            classes=classes,
        )
    found = find_fields(
        sources,
        patient_regex=patient_regex,
        um_per_px=um_per_px,
        exclude=[folder] if folder else [],
    )
    found, label_images = outlined_fields(found)
    if pattern is None and not any(p.suffix.lower() == ".csv" for p in sources):
        for hint in hints(found):
            logger.warning("%s", hint)
    if folder:
        _make(folder)
    detector = as_detector(model)
    if pseudonymise and folder:
        found = pseudonymised(found, folder)
    # One patient's fields lie side by side, so that a patient is finished before the next begins.
    found = FieldList(tuple(f for fs in found.patients.values() for f in fs), found.problems)
    run = _Run(found, detector, scheme)
    examined = partial(
        examine, found, detector, scale_bar_um=scale_bar_um, label_images=label_images
    )
    if folder is None:
        return run.in_memory(_reported(found, examined(), progress))
    with ResultsFolder(folder) as results, _examining(results) as (store, overlays):
        return run.into(results, overlays, _reported(found, examined(store=store), progress))


class _Run:
    """One run over the photographs of patients."""

    def __init__(self, found: FieldList, detector: Detector, scheme: GradeScheme) -> None:
        self.found, self.detector, self.scheme = found, detector, scheme
        self.rates = error_rates_of(detector)
        self.scores: list[PatientScore] = []
        self.problems = list(found.problems)
        self.without_fields: list[str] = []
        self.warnings = ScaleWarnings()

    def in_memory(self, fields: Iterator[Examined]) -> Result:
        """Score, and write nothing."""
        frames: list[pd.DataFrame] = []
        for patient in self._patients(fields, lambda one: replace(one, photograph=None)):
            frames += [_cells_table(one) for one in patient if not one.problem]
            self._score(patient)
        problems = self._all_problems()
        cells = joined(frames) if frames else no_cells_frame()
        return Result(tuple(self.scores), problems, cells_in_memory=cells)

    def into(
        self, results: ResultsFolder, overlays: OverlayFiles, fields: Iterator[Examined]
    ) -> Result:
        """Score, and write everything into a folder."""
        from spherodetect.report.files import CellFiles, write_patients
        from spherodetect.report.index import write_index

        rows = []
        with CellFiles(results) as files:
            for patient in self._patients(fields, overlays.draw):
                rows.append(self._report(patient, files, results))
            problems = self._all_problems()
        written = files.written | write_patients(self.scores, results)
        index = results.path("index.html")
        write_index(index, rows, scheme=self.scheme, problems=problems)
        return Result(tuple(self.scores), problems, written, index)

    def _patients(
        self, fields: Iterator[Examined], drawn: Callable[[Examined], Examined]
    ) -> Iterator[list[Examined]]:
        """The examined fields of each patient of whom at least one could be read."""
        for patient_id, own in self.found.patients.items():
            patient, held = [], 0
            for _ in own:
                one = next(fields)
                if one.problem:
                    self.problems.append(one.problem)
                else:
                    self.warnings.add(one.field_id, one.scale)
                    one, held = _within_budget(drawn(one), held)
                patient.append(one)
            if all(one.problem for one in patient):
                self.without_fields.append(patient_id)
            else:
                yield relative(patient)

    def _score(self, patient: Sequence[Examined]) -> PatientScore:
        score = score_patient(patient, self.rates, grade_scheme=self.scheme)
        if self.rates is None:
            score = replace(score, model=name_of(self.detector))
        self.scores.append(score)
        return score

    def _report(
        self, patient: Sequence[Examined], files: CellFiles, results: ResultsFolder
    ) -> tuple[PatientScore, str]:
        """Write the files of one patient; returns the row of the index."""
        from spherodetect.report.patient import write_patient_report

        readable = [one for one in patient if not one.problem]
        for one in readable:
            files.add(one)
        score = self._score(patient)
        page = results.path("reports", f"{safe_name(score.patient_id)}.html")
        spherocytes, countable = field_counts(readable)
        write_patient_report(
            page,
            score,
            readable,
            scheme=self.scheme,
            provenance=provenance(self.detector, score, readable),
            unread={
                one.field_id: one.problem.removeprefix(f"{quoted(one.field_id)}: ")
                for one in patient
                if one.problem
            },
            notes=patient_notes(self.detector, readable),
            limit_of_blank=limit_of_blank(score.n_countable, model=self.rates),
            more_fields=more_fields_needed(spherocytes, countable, model=self.rates)
            if sum(countable)
            else None,
        )
        return score, page.relative_to(results.root).as_posix()

    def _all_problems(self) -> tuple[str, ...]:
        """What was left out; raises if that is everything."""
        _require_some(len(self.scores), self.problems)
        self.warnings.log()
        without = (
            f"patient {quoted(p)}: no field could be read; it has no score"
            for p in self.without_fields
        )
        return (*self.problems, *without)


def _within_budget(one: Examined, held: int) -> tuple[Examined, int]:
    """The field without its pictures where the patient's pictures would take too much memory."""
    photograph, picture = one.photograph, one.overlay_image
    size = photograph.image.nbytes if photograph else 0
    size += 3 * picture.width * picture.height if picture else 0
    if held + size > _PICTURE_BYTES:
        return replace(one, photograph=None, overlay_image=None), held
    # Only the pixels are kept: the densities take four times as much.
    kept = Photograph(photograph.image) if photograph else None
    return replace(one, photograph=kept), held + size


@contextlib.contextmanager
def _examining(results: ResultsFolder) -> Iterator[tuple[FieldStore, OverlayFiles]]:
    """The store and the overlays of a folder of results, tidied up if the run ends well."""
    store, overlays = FieldStore(results.root / HIDDEN / "fields"), OverlayFiles(results)
    yield store, overlays
    store.prune()
    overlays.close()


def _reported(
    found: FieldList, fields: Iterable[Examined], progress: Progress
) -> Iterator[Examined]:
    """The fields, with the progress shown before each and at the end."""
    names, total = [one.field_id for one in found], len(found)
    progress(0, total, names[0] if names else "")
    for number, one in enumerate(fields, 1):
        yield one
        progress(number, total, names[number] if number < total else "")


def _cells_table(one: Examined) -> pd.DataFrame:
    return cells_frame(one.cells, patient_id=one.patient_id, accepted=one.accepted)


def _paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _make(out: Path) -> None:
    """Make the folder of the results before anything costly is done for it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise SpherodetectError(
            f"{quoted(out)}: cannot be written ({reason}); name a folder with --out that can"
        ) from error


def _require_some(n_used: int, problems: Sequence[str]) -> None:
    if not n_used:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        first = problems[0] if problems else "none was given"
        raise SpherodetectError(f"no image could be used: {first}{more}")


__all__ = ["Progress", "detect_images", "score_patients"]
