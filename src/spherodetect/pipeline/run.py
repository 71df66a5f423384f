"""Images of patients in, tables, overlays and reports out: what `detect`, `score` and `demo` do.

A field that cannot be used is named in `RunResult.problems` and the others go on. Each file is
written whole or not at all; tables and pages come last, so that a run that is cut off leaves
finished fields and a folder that says so (see `ResultsFolder`). Percentages are 0 to 100.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherodetect.errors import SpherodetectError
from spherodetect.fields.find import find_fields, find_images, is_label_source, patient_pattern
from spherodetect.fields.hints import hints
from spherodetect.pipeline.examine import LostField, Progress, look_at
from spherodetect.pipeline.notes import look_alike_notes, provenance, scale_note, stain_notes
from spherodetect.pipeline.patient import by_patient, field_counts, relative, score_fields
from spherodetect.pipeline.pseudonyms import pseudonymised
from spherodetect.report.results import ResultsFolder, RunResult
from spherodetect.report.scored_field import ReportField
from spherodetect.safety import quoted, safe_name
from spherodetect.score.counts import PatientScore, limit_of_blank, more_fields_needed

if TYPE_CHECKING:
    from spherodetect.detect.model import Model

logger = logging.getLogger(__name__)


def _no_progress(done: int, total: int, label: str) -> None:
    pass


def detect_images(
    paths: Sequence[Path],
    out: Path,
    *,
    model: Path | None = None,
    um_per_px: float | None = None,
    scale_bar_um: float | None = None,
    progress: Progress = _no_progress,
) -> RunResult:
    """Find and measure the cells of images; writes cells.csv, quality.csv, overlays and the
    exchange formats.

    Fields that an earlier run into the same folder finished are taken from it.

    Raises:
        SpherodetectError: nothing to read, an unusable model, or an output that cannot be written.
    """
    found = find_images(paths, um_per_px=um_per_px, exclude=[out])
    _make(out)
    loaded = _load(model)
    from spherodetect.report.files import write_cells

    with ResultsFolder(out) as results:
        seen, lost = look_at(found, loaded, results, progress, scale_bar_um=scale_bar_um)
        problems = [*found.problems, *(one.message for one in lost)]
        _require_some(seen, problems)
        return RunResult(problems=tuple(problems), tables=write_cells(seen, results))


def score_paths(
    paths: Sequence[Path],
    out: Path,
    *,
    model: Path | None = None,
    um_per_px: float | None = None,
    scale_bar_um: float | None = None,
    patient_regex: str | None = None,
    grade_scheme: str = "icsh2015",
    pseudonymise: bool = False,
    progress: Progress = _no_progress,
) -> RunResult:
    """Score the patients of folders, manifests, labels or another tool's cells; writes tables,
    overlays and reports.

    Labels and cells without their images give patients.csv and index.html alone. Label images
    beside photographs stand in for the model's own outlines. Fields that an earlier run into the
    same folder finished are taken from it.

    Raises:
        SpherodetectError: nothing to read, an unusable model, option or output.
    """
    from spherodetect.pipeline.from_cells import is_cell_source, score_cells
    from spherodetect.pipeline.label_images import outlined_fields
    from spherodetect.score.grades import load_grade_scheme

    scheme, pattern = load_grade_scheme(grade_scheme), patient_pattern(patient_regex)
    if any(is_cell_source(p) for p in paths):
        finder = _load(model) if model is not None else None
        return score_cells(
            paths,
            out,
            scheme=scheme,
            model=finder,
            patient_regex=pattern,
            pseudonymise=pseudonymise,
        )
    labels = [is_label_source(p) for p in paths]
    if any(labels):
        if not all(labels):
            raise SpherodetectError(
                "expected either images or COCO labels, got both; score them one after the other"
            )
        from spherodetect.pipeline.from_labels import score_labels

        return score_labels(
            paths, out, scheme=scheme, patient_regex=pattern, pseudonymise=pseudonymise
        )
    found = find_fields(paths, patient_regex=patient_regex, um_per_px=um_per_px, exclude=[out])
    found, outlines = outlined_fields(found)
    if pattern is None and not any(p.suffix.lower() == ".csv" for p in paths):
        for hint in hints(found):
            logger.warning("%s", hint)
    _make(out)
    loaded = _load(model)
    if pseudonymise:
        found = pseudonymised(found, out)
    with ResultsFolder(out) as results:
        seen, lost = look_at(
            found, loaded, results, progress, scale_bar_um=scale_bar_um, outlines=outlines
        )
        problems = [*found.problems, *(one.message for one in lost)]
        _require_some(seen, problems)
        patients = by_patient(relative(seen))
        without = dict.fromkeys(
            one.field.patient_id for one in lost if one.field.patient_id not in patients
        )
        problems += [
            f"patient {quoted(p)}: no field could be read; it has no score" for p in without
        ]
        return _write_results(patients, lost, problems, loaded, scheme, results)


def _write_results(
    patients: Mapping[str, Sequence[ReportField]],
    lost: Sequence[LostField],
    problems: Sequence[str],
    model: Model,
    scheme: Any,
    results: ResultsFolder,
) -> RunResult:
    from spherodetect.report.files import write_cells, write_patients
    from spherodetect.report.index import write_index

    tables = write_cells([field for fields in patients.values() for field in fields], results)
    scores, rows = [], []
    for patient, fields in patients.items():
        unread = [one for one in lost if one.field.patient_id == patient]
        score = score_fields(patient, fields, model, scheme, n_unread=len(unread))
        page = results.path("reports", f"{safe_name(patient)}.html")
        _write_report(page, score, fields, unread, model, scheme)
        scores.append(score)
        rows.append((score, page.relative_to(results.root).as_posix()))
    tables |= write_patients(scores, results)
    index = results.path("index.html")
    write_index(index, rows, scheme=scheme, problems=problems)
    return RunResult(tuple(scores), tuple(problems), tables, index)


def _make(out: Path) -> None:
    """Make the folder of the results before anything costly is done for it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise SpherodetectError(
            f"{quoted(out)}: cannot be written ({reason}); name a folder with --out that can"
        ) from error


def _load(folder: Path | None) -> Model:
    from spherodetect.detect.model import load_model

    return load_model(folder)


def _require_some(seen: Sequence[ReportField], problems: Sequence[str]) -> None:
    if not seen:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SpherodetectError(
            f"no image could be used: {problems[0] if problems else 'none was given'}{more}"
        )


def _write_report(
    page: Path,
    score: PatientScore,
    fields: Sequence[ReportField],
    lost: Sequence[LostField],
    model: Model,
    scheme: Any,
) -> None:
    from spherodetect.report.patient import write_patient_report

    spherocytes, countable = field_counts(fields)
    write_patient_report(
        page,
        score,
        fields,
        scheme=scheme,
        provenance=provenance(model, score, fields),
        unread={
            o.field.field_id: o.message.removeprefix(f"{quoted(o.field.field_id)}: ") for o in lost
        },
        notes=[
            *stain_notes(model.card.stains_seen),
            scale_note(fields),
            *look_alike_notes(fields, model.card.rates.blocks),
        ],
        limit_of_blank=limit_of_blank(score.n_countable, model=model.rates),
        more_fields=more_fields_needed(spherocytes, countable, model=model.rates)
        if sum(countable)
        else None,
    )


__all__ = ["RunResult", "detect_images", "score_paths"]
