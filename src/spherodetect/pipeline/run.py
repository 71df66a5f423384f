"""Images of patients in, tables, overlays and reports out: what `detect`, `score` and `demo` do.

A field that cannot be used is named in `RunResult.problems` and the others go on. Each file is
written whole or not at all; tables and pages come last, so that a run that is cut off leaves
finished fields and a folder that says so (see `ResultsFolder`). Percentages are 0 to 100.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.fields.find import (
    FieldList,
    find_fields,
    find_images,
    is_label_source,
    patient_pattern,
)
from spherodetect.fields.hints import hints
from spherodetect.pipeline.examine import LostField, Progress, look_at
from spherodetect.pipeline.store import sha256
from spherodetect.report.results import ResultsFolder, RunResult
from spherodetect.report.scored_field import ReportField
from spherodetect.safety import quoted, safe_name
from spherodetect.scale.find import unread_bars
from spherodetect.score.counts import PatientScore, limit_of_blank, more_fields_needed, score_counts

if TYPE_CHECKING:
    from spherodetect.detect.model import Model
    from spherodetect.scale.find import Scale

logger = logging.getLogger(__name__)

#: Part of the patient's median diameter that Chula's microcytes have (6.2 of 7.5 µm), and how many
#: such cells are many: of drawn normal cells 6 to 7 % are smaller.
_SMALL, _MANY_SMALL = 0.83, 0.15
#: Files of a model whose checksums a report names, and what it calls them.
_NAMED_FILES = {
    "saved_model/saved_model.pb": "graph",
    "saved_model/variables/variables.data-00000-of-00001": "weights",
}
#: Where a pixel size comes from, as the report says it.
_SOURCES = {
    "given": "given",
    "scale bar": "from the scale bar",
    "cells": "from the red cells, taken as 7.5 µm wide,",
}


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
        found = _pseudonyms(found, out)
    with ResultsFolder(out) as results:
        seen, lost = look_at(
            found, loaded, results, progress, scale_bar_um=scale_bar_um, outlines=outlines
        )
        problems = [*found.problems, *(one.message for one in lost)]
        _require_some(seen, problems)
        patients = _by_patient(_relative(seen))
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
        score = _score(patient, fields, model, scheme, n_unread=len(unread))
        page = results.path("reports", f"{safe_name(patient)}.html")
        _write_report(page, score, fields, unread, model, scheme)
        scores.append(score)
        rows.append((score, page.relative_to(results.root).as_posix()))
    tables |= write_patients(scores, results)
    index = results.path("index.html")
    write_index(index, rows, scheme=scheme, problems=problems)
    return RunResult(tuple(scores), tuple(problems), tables, index)


def demo(out: Path, *, n_fields: int = 12, progress: Progress = _no_progress) -> RunResult:
    """Draw two synthetic patients, one with spherocytes and one without, and score them with the
    bundled model.

    The first is an extreme: error rates of the bundled model differ so much between slides that at
        5 to 50 % its
    interval is wider than the 10 points that status ok allows.
    """
    from PIL import Image

    from spherodetect.synthetic import SmearStyle, draw_patient

    smears = out / "smears"
    for number, (patient, fraction) in enumerate(
        {"with_spherocytes": 0.95, "without_spherocytes": 0.0}.items()
    ):
        folder = smears / patient
        folder.mkdir(parents=True, exist_ok=True)
        fields = draw_patient(
            7 + number,
            n_fields=n_fields,
            spherocyte_fraction=fraction,
            style=SmearStyle(),
            patient_id=patient,
        )
        for drawn in fields:
            Image.fromarray(drawn.image).save(folder / drawn.cells.field_id)
    return score_paths([smears], out, progress=progress)


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
    import tensorflow as tf

    from spherodetect.detect.model import load_model

    # Grappler gains nothing measurable here, and prints pages of errors about the cost of crops of
    # unknown number.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    return load_model(folder)


def _require_some(seen: Sequence[ReportField], problems: Sequence[str]) -> None:
    if not seen:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SpherodetectError(
            f"no image could be used: {problems[0] if problems else 'none was given'}{more}"
        )


def _relative(seen: Sequence[ReportField]) -> list[ReportField]:
    """Sizes and densities relative to the patient's own red cells, in the fields that count."""
    from spherodetect.measure import relative_to_patient

    by_field: dict[str, Cells] = {}
    for fields in _by_patient(seen).values():
        good = [s for s in fields if s.quality.accepted] or fields
        by_field |= {c.field_id: c for c in relative_to_patient([s.cells for s in good])}
    return [replace(s, cells=by_field.get(s.field_id, s.cells)) for s in seen]


def _by_patient(seen: Sequence[ReportField]) -> dict[str, list[ReportField]]:
    patients: dict[str, list[ReportField]] = {}
    for one in seen:
        patients.setdefault(one.patient_id, []).append(one)
    return patients


def _score(
    patient: str, fields: Sequence[ReportField], model: Model, scheme: Any, *, n_unread: int
) -> PatientScore:
    good = [s for s in fields if s.quality.accepted]
    hint = None
    if not good:
        domain = all(s.quality.reason.startswith("out of domain") for s in fields)
        hint = "out_of_domain" if domain else "field_quality"
    spherocytes, countable = _counts(fields)
    return score_counts(
        spherocytes,
        countable,
        model=model.rates,
        patient_id=patient,
        n_cells=sum(int(s.accepted.sum()) for s in good),
        grade_scheme=scheme,
        status_hint=hint,
        n_fields_rejected=sum(s.n_fields for s in fields) - len(countable) + n_unread,
    )


def _counts(fields: Sequence[ReportField]) -> tuple[list[int], list[int]]:
    """Counted spherocytes and countable cells of every field that passed."""
    counts = np.concatenate([np.zeros((0, 2), int), *(field.counts for field in fields)])
    return counts[:, 0].tolist(), counts[:, 1].tolist()


def _write_report(
    page: Path,
    score: PatientScore,
    fields: Sequence[ReportField],
    lost: Sequence[LostField],
    model: Model,
    scheme: Any,
) -> None:
    from spherodetect.report.patient import write_patient_report

    spherocytes, countable = _counts(fields)
    write_patient_report(
        page,
        score,
        fields,
        scheme=scheme,
        provenance=_provenance(model, score, fields),
        unread={
            o.field.field_id: o.message.removeprefix(f"{quoted(o.field.field_id)}: ") for o in lost
        },
        notes=[
            *_stains(model.card["stains_seen"]),
            _scales(fields),
            *_look_alikes(fields, model.card["rates"]["blocks"]),
        ],
        limit_of_blank=limit_of_blank(score.n_countable, model=model.rates),
        more_fields=more_fields_needed(spherocytes, countable, model=model.rates)
        if sum(countable)
        else None,
    )


def _stains(seen: Sequence[str]) -> list[str]:
    if any("MGG" in stain or "May-Grünwald" in stain for stain in seen):
        return []
    return [
        f"This model never saw May-Grünwald-Giemsa stain. Stains it has seen: {', '.join(seen)}."
    ]


def _scales(fields: Sequence[ReportField]) -> str:
    """A sentence on where the pixel sizes come from, and what speaks against them."""
    of_source: dict[str, list[Scale]] = {}
    for s in fields:
        of_source.setdefault(s.scale.source, []).append(s.scale)
    known = [
        f"{_SOURCES[source]} in {len(scales)} field{'s' * (len(scales) != 1)}{_error(scales)}"
        for source, scales in of_source.items()
    ]
    doubts = list(dict.fromkeys(s.scale.warning for s in fields if s.scale.warning))
    doubt = (
        f" Not all of it fits: {doubts[0]}{f' (and {len(doubts) - 1} more)' * (len(doubts) > 1)}."
        if doubts
        else ""
    )
    unread = unread_bars(s.scale for s in fields)
    return f"Pixel size: {', '.join(known)}.{doubt}{f' {unread[:1].upper()}{unread[1:]}.' if unread else ''}"


def _error(scales: Sequence[Scale]) -> str:
    """The scales' usual standard error in brackets, where it is known."""
    errors = [scale.relative_error for scale in scales if math.isfinite(scale.relative_error)]
    return f" (standard error {100 * np.median(errors):.2g} %)" if errors else ""


def _look_alikes(fields: Sequence[ReportField], blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where many of the cells that were not called are small, for such cells are called
    more often."""
    relative = [
        s.cells.measurements["relative_diameter"][
            s.cells.countable & (s.cells.names != "spherocyte")
        ]
        for s in fields
        if s.quality.accepted
    ]
    small = np.concatenate([*relative, np.zeros(0)]) < _SMALL
    if not small.size or small.mean() < _MANY_SMALL:
        return []
    fine = [
        (name, counts) for block in blocks for name, counts in block.get("fine_classes", {}).items()
    ]
    shares = []
    for wanted in (True, False):
        counts = [c for name, c in fine if name != "spherocyte" and (name == "microcyte") is wanted]
        shares.append(100 * sum(c["called"] for c in counts) / max(sum(c["n"] for c in counts), 1))
    return [
        f"{100 * small.mean():.0f} % of the other countable cells are small (below {_SMALL} of the patient's median "
        f"diameter). Of microcytes on held-out fields this model called {shares[0]:.1f} % spherocytes, of all other "
        f"cells {shares[1]:.1f} %: the score may be too high."
    ]


def _provenance(model: Model, score: PatientScore, fields: Sequence[ReportField]) -> dict[str, Any]:
    card, thresholds = model.card, model.card["thresholds"]
    photographs = sha256("".join(sorted(field.sha256 for field in fields)).encode())
    return {
        "Software": f"spherodetect {score.version}",
        "Model": model.name,
        "Stains it has seen": ", ".join(card["stains_seen"]),
        "Experiment": card["provenance"].get("experiment", "unknown"),
        "Settings": f"confidence from {thresholds['confidence']:.2f}, p_spherocyte from "
        f"{thresholds['p_spherocyte']:.2f}, grades of {score.grade_scheme}",
        **{
            f"sha256 of the {what}": card["checksums"].get(name, "unknown")
            for name, what in _NAMED_FILES.items()
        },
        "sha256 of the photographs": photographs,
    }


def _pseudonyms(found: FieldList, out: Path) -> FieldList:
    """Patients and fields under numbers; the key is the only file that knows the names."""
    from spherodetect.safety import atomic_write, csv_cell

    patients = {
        p: f"patient_{i:03d}" for i, p in enumerate(dict.fromkeys(f.patient_id for f in found), 1)
    }
    renamed, lines = [], ["pseudonym,patient_id,field_id"]
    for number, one in enumerate(found, 1):
        pseudonym = f"{patients[one.patient_id]}/field_{number:04d}"
        lines.append(
            ",".join(_csv_text(csv_cell(v)) for v in (pseudonym, one.patient_id, one.field_id))
        )
        renamed.append(replace(one, patient_id=patients[one.patient_id], field_id=pseudonym))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "pseudonym_key.csv", text=True) as file:
        file.write("\n".join(lines) + "\n")
    return FieldList(tuple(renamed), found.problems)


def _csv_text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


__all__ = ["RunResult", "demo", "detect_images", "score_paths"]
