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
from pathlib import Path

from spherodetect.detect.detector import Detector, as_detector, with_convention
from spherodetect.detect.model import Model
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import FieldList
from spherodetect.fields.find import find_fields, find_images
from spherodetect.fields.hints import alike_patients, hints
from spherodetect.fields.manifest import is_manifest
from spherodetect.fields.patients import patient_pattern
from spherodetect.labels.formats import is_label_source
from spherodetect.pipeline.batch import Batch
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.examine_scan import PartProgress
from spherodetect.pipeline.field_warnings import FieldWarnings
from spherodetect.pipeline.lab import with_lab
from spherodetect.pipeline.look_ahead import examined_ahead, stop_if_abandoned
from spherodetect.pipeline.overlay_files import OverlayFiles
from spherodetect.pipeline.patients_run import PatientsRun, require_some
from spherodetect.pipeline.pseudonyms import pseudonymised
from spherodetect.pipeline.review_score import Reviews
from spherodetect.pipeline.run_file import RunSettings, save_run
from spherodetect.pipeline.store import FieldStore
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext
from spherodetect.report.results import HIDDEN, Result, ResultsFolder, pseudonym_key_path
from spherodetect.safety import quoted
from spherodetect.score.grades import GradeScheme, load_grade_scheme
from spherodetect.score.lab_rates import LabRates, load_lab_rates

logger = logging.getLogger(__name__)

#: Called with the number of finished fields, the number of all fields, and the next one's name.
Progress = Callable[[int, int, str], None]
#: Examines fields in order, as `examine` does and with its arguments.
Examining = Callable[..., Iterator[Examined]]


def no_progress(done: int, total: int, label: str) -> None:
    """Show nothing."""


def detect_images(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | Detector | None = None,
    um_per_px: float | None = None,
    scale_bar_um: float | None = None,
    convention: str | None = None,
    hemadetect_names: bool = False,
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
        convention: name of the laboratory's convention; by default that of the films that look
            alike.
        hemadetect_names: name overlays, masks and the table of objects as HemaDetect does.
        progress: told of every field.

    Raises:
        SpherodetectError: no image was found or could be used, the model is unusable, or an output
            cannot be written.
    """
    from spherodetect.report.files import CellFiles

    out = Path(out)
    found = find_images(_paths(paths), um_per_px=um_per_px, exclude=[out])
    _make(out)
    detector = with_convention(as_detector(model), convention)
    with (
        ResultsFolder(out) as results,
        _examining(results, hemadetect_names=hemadetect_names) as (store, overlays),
        contextlib.ExitStack() as stack,
    ):
        examined = examine(
            found,
            detector,
            store=store,
            scale_bar_um=scale_bar_um,
            progress=_in_parts(found, progress),
        )
        fields = _reported(found, stack.enter_context(examined_ahead(examined)), progress)
        problems = list(found.problems)
        warnings = FieldWarnings()
        n_used = 0
        with CellFiles(results, hemadetect_names=hemadetect_names) as files:
            for one in overlays.drawn(fields):
                if one.problem:
                    problems.append(one.problem)
                    files.add_unreadable(one)
                    continue
                n_used += 1
                warnings.add(one)
                files.add(one)
            require_some(n_used, problems)
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
    rates: str | Path | LabRates | None = None,
    pseudonymise: bool = False,
    classes: Mapping[str, str] | None = None,
    convention: str | None = None,
    fhir: FhirContext | None = None,
    extras: Extras | None = None,
    examining: Examining | None = None,
    batch: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Score the patients of folders, manifests, labels, or cells that another tool found.

    With `out`, tables, overlays and reports are written, and fields that an earlier run into the
    same folder finished are taken from it. Without `out`, nothing is written. Labels and cells
    without their images give the patients' table and index.html alone. Label images beside
    photographs replace the model's outlines. Reviews that lie in `out` are counted.

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
        rates: what a laboratory's reviews made, or its file: calibration, cut and error rates in
            place of the model's.
        pseudonymise: replace patient ids and paths by numbers; the key lies beside the folder.
        classes: names of labels to classes, in addition to the known names (see `read_classes`).
        convention: name of the laboratory's convention; by default that of the films that look
            alike.
        fhir: times and the system of the patient ids for the FHIR Observations.
        extras: outputs on request, such as a workbook; they need `out`.
        examining: what examines the fields; by default `examine`, one after the other.
        batch: also write batch.html and summary.json, during the run too: progress, drift along the
            batch, and the patients who differ.
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
    extras = extras or Extras()
    extras.check()
    if batch and folder is None:
        raise SpherodetectError("batch: expected a folder for its page; pass out")
    scheme = grade_scheme
    if not isinstance(scheme, GradeScheme):
        scheme = load_grade_scheme(scheme)
    labels = [is_label_source(p) for p in sources]
    if batch and (any(labels) or any(is_cell_source(p) for p in sources)):
        raise SpherodetectError("batch: expected photographs, whose stain and focus it follows")
    lab = load_lab_rates(rates) if isinstance(rates, str | Path) else rates
    pattern = patient_pattern(patient_regex)
    if lab and (any(labels) or any(is_cell_source(p) for p in sources)):
        raise SpherodetectError(
            "rates: expected photographs, for the rates are of a model's cells in them"
        )
    if any(is_cell_source(p) for p in sources):
        return score_cells(
            sources,
            folder,
            scheme=scheme,
            detector=as_detector(model) if model is not None else None,
            patient_regex=pattern,
            pseudonymise=pseudonymise,
            classes=classes,
            fhir=fhir,
            extras=extras,
        )
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
            fhir=fhir,
            extras=extras,
        )
    found = find_fields(
        sources,
        patient_regex=patient_regex,
        um_per_px=um_per_px,
        exclude=[folder] if folder else [],
    )
    found, label_images = outlined_fields(found)
    by_folder = pattern is None and not any(map(is_manifest, sources))
    for hint in [*(hints(found) if by_folder else ()), *alike_patients(found)]:
        logger.warning("%s", hint)
    if folder:
        _make(folder)
    detector = with_convention(as_detector(model), convention)
    if pseudonymise and folder:
        found = pseudonymised(found, folder)
    # One patient's fields lie side by side, so that a patient is finished before the next begins.
    found = FieldList(tuple(f for fs in found.patients.values() for f in fs), found.problems)
    settings = RunSettings(
        found,
        label_images or {},
        detector.folder if isinstance(detector, Model) else None,
        not isinstance(detector, Model),
        scale_bar_um,
        scheme,
        lab,
        pseudonymise,
        convention,
        fhir,
        extras,
    )
    result = _scored(settings, detector, folder, progress, examining, batch=batch)
    return _with_key(result, pseudonym_key_path(folder)) if pseudonymise and folder else result


def _with_key(result: Result, key: Path) -> Result:
    """The result of a pseudonymised run, which says where the names are."""
    problems = result.problems
    if problems:
        problems = (*problems, f"{quoted(key)} says which files and patients these are")
    return replace(result, key=key, problems=problems)


def score_again(
    results: Path, settings: RunSettings, detector: Detector, *, progress: Progress = no_progress
) -> Result:
    """Do a run into a folder of results again, with the reviews that were added.

    Its fields come from the store.

    Raises:
        SpherodetectError: as for `score_patients`.
    """
    return _scored(settings, detector, results, progress)


def _scored(
    settings: RunSettings,
    detector: Detector,
    folder: Path | None,
    progress: Progress,
    examining: Examining | None = None,
    *,
    batch: bool = False,
) -> Result:
    found, lab = settings.found, settings.lab
    if settings.extras:
        settings.extras.check()
    run = PatientsRun(
        found,
        detector,
        settings.scheme,
        lab=lab,
        reviews=Reviews(folder),
        fhir=settings.fhir,
        extras=settings.extras,
    )

    def examined(store: FieldStore | None = None) -> Iterator[Examined]:
        fields = (examining or examine)(
            found,
            detector,
            store=store,
            scale_bar_um=settings.scale_bar_um,
            label_images=settings.label_images,
            progress=_in_parts(found, progress),
        )
        # A cluster is ahead by itself.
        ahead = fields if examining else stack.enter_context(examined_ahead(fields))
        return _reported(found, (with_lab(one, lab) for one in ahead), progress)

    stack = contextlib.ExitStack()
    if folder is None:
        with stack:
            return run.in_memory(examined())
    names = bool(settings.extras and settings.extras.hemadetect_names)
    with (
        ResultsFolder(folder) as results,
        _examining(results, hemadetect_names=names) as (store, overlays),
        stack,
    ):
        save_run(results.root, settings)
        if not batch:
            return run.into(results, overlays, examined(store))
        watch = Batch(found, results, show_dates=not settings.pseudonymised)
        result = run.into(results, overlays, watch.watching(examined(store)))
        return replace(result, tables={**result.tables, **watch.finish(result.problems)})


@contextlib.contextmanager
def _examining(
    results: ResultsFolder, *, hemadetect_names: bool = False
) -> Iterator[tuple[FieldStore, OverlayFiles]]:
    """The store and the overlays of a folder of results, tidied up if the run ends well."""
    store = FieldStore(results.root / HIDDEN / "fields")
    overlays = OverlayFiles(results, store=store, hemadetect_names=hemadetect_names)
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


def _in_parts(found: FieldList, progress: Progress) -> PartProgress:
    """The progress of the parts of a field, shown with its name."""
    number = {one.field_id: n for n, one in enumerate(found)}

    def update(name: str, part: int, n_parts: int) -> None:
        stop_if_abandoned()
        progress(number[name], len(found), f"{name}, part {part} of {n_parts}")

    return update


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


__all__ = ["Examining", "Progress", "detect_images", "score_again", "score_patients"]
