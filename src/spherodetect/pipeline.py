"""Images of patients in, tables, overlays and reports out: what `detect`, `score` and `demo` do.

A field that cannot be used is named in `RunResult.problems` and the others go on. Pictures, tables and reports are each
written whole or not at all. Percentages are 0 to 100.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields import (
    Field,
    FieldList,
    find_fields,
    find_images,
    is_label_source,
    patient_pattern,
    read_image,
)
from spherodetect.results import RunResult
from spherodetect.safety import quoted, safe_name, write_json
from spherodetect.score import PatientScore, limit_of_blank, more_fields_needed, score_counts

if TYPE_CHECKING:
    from spherodetect.detect import Model
    from spherodetect.quality import FieldQuality

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
#: Pictures of flagged cells a patient; the report shows the most certain of them.
_GALLERY = 48
#: Part of the patient's median diameter that Chula's microcytes have (6.2 of 7.5 µm), and how many such cells are many:
#: of drawn normal cells 6 to 7 % are smaller.
_SMALL, _MANY_SMALL = 0.83, 0.15


@dataclass(frozen=True, eq=False)
class _Seen:
    """One field after detection; its pixels are kept on disk, not here."""

    field: Field
    cells: Cells
    quality: FieldQuality


def _no_progress(done: int, total: int, label: str) -> None:
    pass


def detect_images(
    paths: Sequence[Path], out: Path, *, model: Path | None = None, um_per_px: float | None = None,
    progress: Progress = _no_progress,
) -> RunResult:  # fmt: skip
    """Find and measure the cells of images; writes cells.csv, quality.csv, overlays and the exchange formats.

    Raises:
        SpherodetectError: nothing to read, an unusable model, or an output that cannot be written.
    """
    found = find_images(paths, um_per_px=um_per_px, exclude=[out])
    _make(out)
    loaded = _load(model)
    problems = list(found.problems)
    seen = list(_detect(found, loaded, out, problems, progress))
    _require_some(seen, problems)
    tables = _write_cells(seen, out)
    return RunResult(problems=tuple(problems), tables=tables)


def score_paths(
    paths: Sequence[Path], out: Path, *, model: Path | None = None, um_per_px: float | None = None,
    patient_regex: str | None = None, grade_scheme: str = "icsh2015", pseudonymise: bool = False,
    progress: Progress = _no_progress,
) -> RunResult:  # fmt: skip
    """Score the patients of folders, manifests, labels or another tool's cells; writes tables, overlays and reports.

    Labels and cells without their images give patients.csv and index.html alone. Label images beside photographs stand
    in for the model's own outlines.

    Raises:
        SpherodetectError: nothing to read, an unusable model, option or output.
    """
    from spherodetect.grades import load_grade_scheme
    from spherodetect.othercells import is_cell_source, score_cells
    from spherodetect.outlines import outlined_fields

    scheme, pattern = load_grade_scheme(grade_scheme), patient_pattern(patient_regex)
    if any(is_cell_source(p) for p in paths):
        rates = _load(model).rates if model is not None else None
        return score_cells(paths, out, scheme=scheme, rates=rates, patient_regex=pattern, pseudonymise=pseudonymise)
    labels = [is_label_source(p) for p in paths]
    if any(labels):
        if not all(labels):
            raise SpherodetectError("expected either images or COCO labels, got both; score them one after the other")
        from spherodetect.labelscore import score_labels

        return score_labels(paths, out, scheme=scheme, patient_regex=pattern, pseudonymise=pseudonymise)
    found = find_fields(paths, patient_regex=patient_regex, um_per_px=um_per_px, exclude=[out])
    found, outlines = outlined_fields(found)
    _make(out)
    loaded = _load(model)
    if pseudonymise:
        found = _pseudonyms(found, out)
    problems = list(found.problems)
    seen = list(_detect(found, loaded, out, problems, progress, outlines=outlines))
    _require_some(seen, problems)
    seen = _relative(seen)
    tables = _write_cells(seen, out)
    scores, rows = [], []
    patients = _by_patient(seen)
    lost = {
        patient: sum(f.patient_id == patient for f in found) for patient in dict.fromkeys(f.patient_id for f in found)
    }
    for patient, fields in patients.items():
        score = _score(patient, fields, loaded, scheme, n_unread=lost[patient] - len(fields))
        page = out / "reports" / f"{safe_name(patient)}.html"
        _write_report(page, score, fields, loaded, scheme, out)
        scores.append(score)
        rows.append((score, page.relative_to(out).as_posix()))
    problems += [f"patient {quoted(p)}: no field could be read; it has no score" for p in lost if p not in patients]
    from spherodetect.report import html
    from spherodetect.report import tables as write

    tables["patients.csv"] = out / "patients.csv"
    write.write_csv(write.patients_frame(scores), tables["patients.csv"])
    html.write_index(out / "index.html", rows)
    return RunResult(tuple(scores), tuple(problems), tables, out / "index.html")


def demo(out: Path, *, n_fields: int = 12, progress: Progress = _no_progress) -> RunResult:
    """Draw two synthetic patients, one with spherocytes and one without, and score them with the bundled model.

    The first is an extreme: error rates of the bundled model differ so much between slides that at 5 to 50 % its
    interval is wider than the 10 points that status ok allows.
    """
    from PIL import Image

    from spherodetect.synthetic import SmearStyle, draw_patient

    smears = out / "smears"
    for number, (patient, fraction) in enumerate({"with_spherocytes": 0.95, "without_spherocytes": 0.0}.items()):
        folder = smears / patient
        folder.mkdir(parents=True, exist_ok=True)
        fields = draw_patient(
            7 + number, n_fields=n_fields, spherocyte_fraction=fraction, style=SmearStyle(), patient_id=patient
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
    from spherodetect.detect import load_model

    return load_model(folder)


def _detect(
    found: FieldList, model: Model, out: Path, problems: list[str], progress: Progress, *,
    outlines: Mapping[Path, Path] | None = None,
) -> Iterator[_Seen]:  # fmt: skip
    """Detect, judge, measure and draw each field; only its cells stay in memory.

    outlines: photograph to its label image, which then says where the cells are.
    """
    from spherodetect.measure import measure
    from spherodetect.outlines import read_label_image, with_outlines
    from spherodetect.quality import assess
    from spherodetect.report.overlays import draw_overlay
    from spherodetect.segment import optical_density

    for number, one in enumerate(found):
        progress(number, len(found), one.field_id)
        try:
            image = read_image(one.path, name=one.field_id)
            cells = model.detect(image, one.um_per_px, field_id=one.field_id)
            if outlines:
                cells = with_outlines(cells, read_label_image(outlines[one.path]))
            density = optical_density(image)
            cells = measure(cells, image, density=density)
        except (BadImageError, SpherodetectError) as error:
            problems.append(str(error))
            continue
        quality = assess(image, cells, density=density)
        picture = draw_overlay(image, cells, accepted=quality.accepted, note=quality.reason)
        _save_picture(picture, _file_of(one, out / "overlays", ".png"))
        yield _Seen(one, cells, quality)
    progress(len(found), len(found), "")


def _file_of(one: Field, folder: Path, suffix: str) -> Path:
    """FOLDER/FIELD.suffix, with the field's own sub-folders; each name made harmless, so that it stays inside."""
    *parents, name = (safe_name(part) for part in one.field_id.split("/"))
    return folder.joinpath(*parents, name + suffix)


def _save_picture(picture: Any, path: Path) -> None:
    from spherodetect.safety import atomic_write

    with atomic_write(path) as file:
        picture.save(file, "PNG")


def _require_some(seen: Sequence[_Seen], problems: Sequence[str]) -> None:
    if not seen:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SpherodetectError(f"no image could be used: {problems[0] if problems else 'none was given'}{more}")


def _relative(seen: Sequence[_Seen]) -> list[_Seen]:
    """Sizes and densities relative to the patient's own red cells, in the fields that count."""
    from spherodetect.measure import relative_to_patient

    by_field: dict[str, Cells] = {}
    for fields in _by_patient(seen).values():
        good = [s for s in fields if s.quality.accepted] or fields
        by_field |= {c.field_id: c for c in relative_to_patient([s.cells for s in good])}
    return [replace(s, cells=by_field.get(s.field.field_id, s.cells)) for s in seen]


def _by_patient(seen: Sequence[_Seen]) -> dict[str, list[_Seen]]:
    patients: dict[str, list[_Seen]] = {}
    for one in seen:
        patients.setdefault(one.field.patient_id, []).append(one)
    return patients


def _score(patient: str, fields: Sequence[_Seen], model: Model, scheme: Any, *, n_unread: int) -> PatientScore:
    good = [s for s in fields if s.quality.accepted]
    hint = None
    if not good:
        domain = all(s.quality.reason.startswith("out of domain") for s in fields)
        hint = "out_of_domain" if domain else "field_quality"
    return score_counts(
        [_called(s.cells) for s in good], [int(s.cells.countable.sum()) for s in good], model=model.rates,
        patient_id=patient, n_cells=sum(len(s.cells) for s in good), grade_scheme=scheme, status_hint=hint,
        n_fields_rejected=len(fields) - len(good) + n_unread,
    )  # fmt: skip


def _called(cells: Cells) -> int:
    return int((cells.countable & (cells.names == "spherocyte")).sum())


def _write_cells(seen: Sequence[_Seen], out: Path) -> dict[str, Path]:
    import pandas as pd

    from spherodetect.report import interop, tables

    frames = [tables.cells_frame(s.cells, patient_id=s.field.patient_id, accepted=s.quality.accepted) for s in seen]
    # A table without rows has no dtypes to agree on; the first keeps the columns where no field has a cell.
    frame = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
    written = {name: out / name for name in ("cells.csv", "quality.csv", "cells.parquet", "coco.json", "cells.geojson")}
    tables.write_csv(frame, written["cells.csv"])
    tables.write_parquet(frame, written["cells.parquet"])
    tables.write_csv(tables.quality_frame(_quality_row(s) for s in seen), written["quality.csv"])
    cells = [s.cells for s in seen]
    patient_ids = [s.field.patient_id for s in seen]
    write_json(interop.to_coco(cells, patient_ids=patient_ids), written["coco.json"], indent=None)
    write_json(interop.to_geojson(cells), written["cells.geojson"], indent=None)
    for s in seen:
        target = _file_of(s.field, out / "masks", ".tif")
        target.parent.mkdir(parents=True, exist_ok=True)
        interop.to_label_tiff(s.cells, target, um_per_px=s.field.um_per_px)
    return written


def _quality_row(seen: _Seen) -> dict[str, Any]:
    quality, cells = seen.quality, seen.cells
    return {
        "patient_id": seen.field.patient_id, "field_id": seen.field.field_id, "accepted": int(quality.accepted),
        "reason": quality.reason, "n_cells": len(cells), "focus": quality.focus, "exposure": quality.exposure,
        "density": quality.density, "um_per_px": seen.field.um_per_px,
        "um_per_px_source": "user" if seen.field.um_per_px else "red cells",
        "rbc_diameter_px": cells.rbc_diameter_px,
    }  # fmt: skip


def _write_report(
    page: Path, score: PatientScore, fields: Sequence[_Seen], model: Model, scheme: Any, out: Path
) -> None:
    from PIL import Image

    from spherodetect.report import html

    counts = [(s, _called(s.cells)) for s in fields if s.quality.accepted]
    spherocytes, countable = [c for _, c in counts], [int(s.cells.countable.sum()) for s, _ in counts]
    shown = []
    for s in fields:
        with Image.open(_file_of(s.field, out / "overlays", ".png")) as picture:
            shown.append(html.ReportField(s.field.field_id, picture.convert("RGB"), s.quality, s.cells))
    html.write_patient_report(
        page, score, shown, _crops(fields), scheme=scheme, provenance=_provenance(model, score),
        notes=[
            "This model never saw May-Grünwald-Giemsa stain. "
            f"Stains it has seen: {', '.join(model.card['stains_seen'])}.",
            *_look_alikes(fields, model.card["rates"]["blocks"]),
        ],
        limit_of_blank=limit_of_blank(score.n_countable, model=model.rates),
        more_fields=more_fields_needed(spherocytes, countable, model=model.rates) if sum(countable) else None,
    )  # fmt: skip


def _look_alikes(fields: Sequence[_Seen], blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where many of the cells that were not called are small, for such cells are called more often."""
    relative = [
        s.cells.measurements["relative_diameter"][s.cells.countable & (s.cells.names != "spherocyte")]
        for s in fields
        if s.quality.accepted
    ]
    small = np.concatenate([*relative, np.zeros(0)]) < _SMALL
    if not small.size or small.mean() < _MANY_SMALL:
        return []
    fine = [(name, counts) for block in blocks for name, counts in block.get("fine_classes", {}).items()]
    shares = []
    for wanted in (True, False):
        counts = [c for name, c in fine if name != "spherocyte" and (name == "microcyte") is wanted]
        shares.append(100 * sum(c["called"] for c in counts) / max(sum(c["n"] for c in counts), 1))
    return [
        f"{100 * small.mean():.0f} % of the other countable cells are small (below {_SMALL} of the patient's median "
        f"diameter). Of microcytes on held-out fields this model called {shares[0]:.1f} % spherocytes, of all other "
        f"cells {shares[1]:.1f} %: the score may be too high."
    ]


def _crops(fields: Sequence[_Seen]) -> list[Any]:
    """Pictures of the most certain flagged cells, at one scale for the patient."""
    from spherodetect.report.html import Crop
    from spherodetect.report.overlays import crop_gallery

    flagged = [
        (float(s.cells.p_spherocyte[k]), s, k)
        for s in fields
        if s.quality.accepted
        for k in np.flatnonzero(s.cells.countable & (s.cells.names == "spherocyte"))
    ]
    flagged = sorted(flagged, key=lambda item: (-item[0], item[1].field.field_id, item[2]))[:_GALLERY]
    diameters = [s.cells.rbc_diameter_px for s in fields if s.cells.rbc_diameter_px]
    window = 2 * float(np.median(diameters)) if diameters else None
    crops = []
    for s in dict.fromkeys(item[1] for item in flagged):
        rows = np.array([k for _, other, k in flagged if other is s])
        pictures = crop_gallery(read_image(s.field.path), s.cells[rows], window_px=window)
        crops += [Crop(s.field.field_id, int(k) + 1, p) for k, p in zip(rows, pictures, strict=True)]
    return crops


def _provenance(model: Model, score: PatientScore) -> dict[str, Any]:
    thresholds = model.card["thresholds"]
    return {
        "spherodetect": score.version,
        "model": model.name,
        "model checksum (saved_model.pb)": model.card["checksums"].get("saved_model/saved_model.pb", "")[:16],
        "trained from": model.card["provenance"].get("experiment", "unknown"),
        "confidence threshold": f"{thresholds['confidence']:.2f}",
        "p_spherocyte threshold": f"{thresholds['p_spherocyte']:.2f}",
        "grade scheme": score.grade_scheme,
    }


def _pseudonyms(found: FieldList, out: Path) -> FieldList:
    """Patients and fields under numbers; the key is the only file that knows the names."""
    from spherodetect.safety import atomic_write, csv_cell

    patients = {p: f"patient_{i:03d}" for i, p in enumerate(dict.fromkeys(f.patient_id for f in found), 1)}
    renamed, lines = [], ["pseudonym,patient_id,field_id"]
    for number, one in enumerate(found, 1):
        pseudonym = f"{patients[one.patient_id]}/field_{number:04d}"
        lines.append(",".join(_csv_text(csv_cell(v)) for v in (pseudonym, one.patient_id, one.field_id)))
        renamed.append(replace(one, patient_id=patients[one.patient_id], field_id=pseudonym))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "pseudonym_key.csv", text=True) as file:
        file.write("\n".join(lines) + "\n")
    return FieldList(tuple(renamed), found.problems)


def _csv_text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


__all__ = ["RunResult", "demo", "detect_images", "score_paths"]
