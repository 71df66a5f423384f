"""The files of a result beside its pages: tables, and the cells for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.fields.image import MAX_PIXELS
from spherodetect.report import interop, tables
from spherodetect.report.fhir import to_observation
from spherodetect.report.results import ResultsFolder, RunResult
from spherodetect.report.scored_field import ReportField
from spherodetect.safety import atomic_write, csv_cell, safe_name, write_json
from spherodetect.score.counts import PatientScore


def write_cells(fields: Sequence[ReportField], results: ResultsFolder) -> dict[str, Path]:
    """Write everything about cells: tables, COCO and GeoJSON of all fields, and the files of each
    field.

    masks/FIELD.tif is the label image, masks/FIELD_CLASS.png a binary mask (none of a slide scan),
    and geojson/FIELD.geojson what QuPath opens on that field.

    Returns:
        name to path of the files of all fields.

    Raises:
        SpherodetectError: a file cannot be written.
    """
    written: dict[str, Path] = {}
    frames = {
        "cells": [
            tables.cells_frame(f.cells, patient_id=f.patient_id, accepted=f.accepted)
            for f in fields
        ],
        "quality": [tables.quality_frame(_quality_row(f) for f in fields)],
        "counts": [
            tables.counts_frame(f.cells, patient_id=f.patient_id, accepted=f.accepted)
            for f in fields
        ],
        "objects": [tables.objects_frame(f.cells) for f in fields],
    }
    for name, parts in frames.items():
        written |= _write_table(name, parts, results)
    patient_ids = [f.patient_id for f in fields]
    written["coco.json"] = results.path("coco.json")
    write_json(
        interop.to_coco([f.cells for f in fields], patient_ids=patient_ids),
        written["coco.json"],
        indent=None,
    )
    features = []
    for field in fields:
        one = interop.to_geojson(field.cells)
        features += one["features"]
        write_json(one, results.field_path("geojson", field.field_id, ".geojson"), indent=None)
        interop.to_label_tiff(field.cells, results.field_path("masks", field.field_id, ".tif"))
        # A PNG is made in memory as a whole, so a scan has its label image only.
        for name in (
            field.cells.class_names if np.prod(field.cells.image_size_hw) <= MAX_PIXELS else ()
        ):
            interop.to_class_mask(
                field.cells, name, results.field_path("masks", field.field_id, f"_{name}.png")
            )
    written["cells.geojson"] = results.path("cells.geojson")
    write_json(
        {"type": "FeatureCollection", "features": features}, written["cells.geojson"], indent=None
    )
    return written


def write_patients(scores: Sequence[PatientScore], results: ResultsFolder) -> dict[str, Path]:
    """Write patients.csv and patients.parquet, and each score as fhir/PATIENT.json.

    Returns:
        name to path of the tables.

    Raises:
        SpherodetectError: a file cannot be written.
    """
    for score in scores:
        write_json(
            to_observation(score), results.path("fhir", f"{safe_name(score.patient_id)}.json")
        )
    return _write_table("patients", [tables.patients_frame(scores)], results)


def _write_table(name: str, parts: Sequence[Any], results: ResultsFolder) -> dict[str, Path]:
    frame = tables.joined(parts)
    written = {file: results.path(file) for file in (f"{name}.csv", f"{name}.parquet")}
    tables.write_csv(frame, written[f"{name}.csv"])
    tables.write_parquet(frame, written[f"{name}.parquet"])
    return written


def _quality_row(field: ReportField) -> dict[str, Any]:
    quality, cells, scale = field.quality, field.cells, field.scale
    return {
        "patient_id": field.patient_id,
        "field_id": field.field_id,
        "accepted": int(quality.accepted),
        "reason": quality.reason,
        "n_cells": len(cells),
        "focus": quality.focus,
        "exposure": quality.exposure,
        "density": quality.density,
        "um_per_px": scale.um_per_px,
        "um_per_px_source": scale.source,
        "um_per_px_error_percent": 100 * scale.relative_error,
        "rbc_diameter_px": cells.rbc_diameter_px,
    }


def write_scores(
    scores: Sequence[PatientScore],
    out: Path,
    *,
    scheme: Any,
    problems: Sequence[str],
    pseudonymise: bool = False,
) -> RunResult:
    """Write the patients' tables and index.html of scores without images, and the key of pseudonyms
    if wanted."""
    from spherodetect.report.index import write_index

    with ResultsFolder(out) as results:
        if pseudonymise:
            numbers = {score.patient_id: f"patient_{i:03d}" for i, score in enumerate(scores, 1)}
            with atomic_write(out / "pseudonym_key.csv", text=True) as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(("pseudonym", "patient_id"))
                rows.writerows(
                    (pseudonym, csv_cell(patient)) for patient, pseudonym in numbers.items()
                )
            scores = [replace(score, patient_id=numbers[score.patient_id]) for score in scores]
        written = write_patients(scores, results)
        index = results.path("index.html")
        write_index(index, [(score, None) for score in scores], scheme=scheme, problems=problems)
        return RunResult(tuple(scores), tuple(problems), written, index)
