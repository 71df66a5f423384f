"""The files of a result besides its pages: tables, and cells for other programs.

They are written field by field, so that the memory does not depend on the number of fields.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from spherodetect.cells import Cells
from spherodetect.examined import Examined
from spherodetect.fields.image import MAX_PIXELS
from spherodetect.report import interop, tables
from spherodetect.report.charts import write_bar_chart
from spherodetect.report.coco import coco_head, to_result
from spherodetect.report.extras import Extras
from spherodetect.report.fhir import FhirContext, to_observation
from spherodetect.report.results import Result, ResultsFolder, pseudonym_key_path
from spherodetect.report.streams import JsonList, TableFiles
from spherodetect.safety import atomic_write, csv_cell, safe_name, write_json
from spherodetect.score.counts import PatientScore

_TABLES = ("cells", "quality", "counts", "objects")
_FEATURES = "features"
#: The name that HemaDetect gives its table, and the end of the names of its pictures.
_HEMADETECT_TABLE, HEMADETECT_RESULT = "output_recognized_objects", "_result.png"
#: Said in cells.geojson.
_ALL_FIELDS = (
    "Cells of all fields, each in the pixels of its own image. For QuPath: geojson/FIELD.geojson"
)


class CellFiles:
    """Writer of the files about cells: tables, COCO and GeoJSON of all fields, files of each field.

    masks/FIELD.tif is the label image of a field. masks/FIELD_CLASS.png is a binary mask of a
    class; a slide scan has none. geojson/FIELD.geojson holds the cells that QuPath shows on that
    field. The files of all fields appear when the `with` block ends.

    charts/ has two bar charts by class.

    Args:
        results: the folder.
        hemadetect_names: name files as HemaDetect does.
        pixels: returns the image of a field; if it is given, the features of each cell are written.

    Attributes:
        written: name to path of the files of all fields.

    Raises:
        SpherodetectError: a file cannot be written.

    >>> with ResultsFolder(Path("out")) as results, CellFiles(results) as files:  # doctest: +SKIP
    ...     for one in examine("smears"):
    ...         files.add(one)
    """

    def __init__(
        self,
        results: ResultsFolder,
        *,
        hemadetect_names: bool = False,
        pixels: Callable[[Examined], np.ndarray | None] | None = None,
    ) -> None:
        self._results = results
        self._pixels = pixels
        self._table_names = {name: name for name in (*_TABLES, *([_FEATURES] if pixels else []))}
        self._mask_end = ".png"
        if hemadetect_names:
            self._table_names["objects"] = _HEMADETECT_TABLE
            self._mask_end = HEMADETECT_RESULT
        self._n_fields = 0
        self._by_class: dict[str, np.ndarray] = {}
        self._open = contextlib.ExitStack()
        self._tables: dict[str, TableFiles] = {}
        self._images, self._annotations, self._detections, self._features = (
            JsonList() for _ in range(4)
        )
        self._class_names: tuple[str, ...] | None = None
        self._n_images = self._n_annotations = 0
        self.written: dict[str, Path] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._open.close)
            for one in (self._images, self._annotations, self._detections, self._features):
                self._open.callback(one.close)
            for name in self._table_names:
                paths = {
                    file: self._results.path(file) for file in _table_files(self._table_names[name])
                }
                self.written |= paths
                self._tables[name] = self._open.enter_context(TableFiles(*paths.values()))
            undo.pop_all()
        return self

    def add_unreadable(self, field: Examined) -> None:
        """Write the row of a field that could not be read."""
        self._tables["quality"].add(tables.quality_frame([_quality_row(field)]))

    def add(self, field: Examined) -> None:
        """Write one field.

        Raises:
            ValueError: its classes differ from those of the previous fields.
        """
        cells, patient_id = field.cells, field.patient_id
        accepted = field.accepted
        self._tables["cells"].add(
            tables.cells_frame(cells, patient_id=patient_id, accepted=accepted)
        )
        self._tables["quality"].add(tables.quality_frame([_quality_row(field)]))
        self._tables["counts"].add(
            tables.counts_frame(cells, patient_id=patient_id, accepted=accepted)
        )
        self._tables["objects"].add(tables.objects_frame(cells))
        if self._pixels and (image := self._pixels(field)) is not None:
            features = tables.features_frame(cells, image, patient_id=patient_id)
            self._tables[_FEATURES].add(features)
        self._add_to_charts(cells)
        self._add_coco(field)
        collection = interop.to_geojson(cells, accepted=accepted)
        for feature in collection["features"]:
            self._features.add(feature)
        path = self._results.field_path
        write_json(collection, path("geojson", field.field_id, ".geojson"), indent=None)
        interop.to_label_tiff(cells, path("masks", field.field_id, ".tif"))
        # A PNG is encoded in memory as a whole, which a slide scan is too large for.
        if np.prod(cells.image_size_hw) <= MAX_PIXELS:
            for name in cells.class_names:
                interop.to_class_mask(
                    cells, name, path("masks", field.field_id, f"_{name}{self._mask_end}")
                )

    def _add_to_charts(self, cells: Cells) -> None:
        """Add up the cells of each class, their areas, and the cells of known area."""
        self._n_fields += 1
        areas = np.asarray(cells.measurements.get("area_px", np.full(len(cells), np.nan)), float)
        for name in cells.class_names:
            own = areas[cells.names == name]
            known = own[np.isfinite(own)]
            added = np.array([len(own), known.sum(), len(known)])
            self._by_class[name] = self._by_class.get(name, np.zeros(3)) + added

    def _write_charts(self) -> None:
        """Write the mean number of cells in a field and the mean area of a cell, by class."""
        counts = {name: n / self._n_fields for name, (n, _, _) in self._by_class.items()}
        areas = {name: area / n if n else math.nan for name, (_, area, n) in self._by_class.items()}
        path = self._results.path
        write_bar_chart(path("charts", "mean_count.svg"), "Mean count", counts, unit="a field")
        write_bar_chart(path("charts", "mean_area.svg"), "Mean area", areas, unit="square pixels")

    def _add_coco(self, field: Examined) -> None:
        """Append the field's image and annotations, with ids that continue over all fields."""
        names = field.cells.class_names
        self._class_names = self._class_names or names
        if names != self._class_names:
            raise ValueError(
                f"{field.field_id!r}: expected the classes {self._class_names}, got {names}"
            )
        counted = replace(field.cells, countable=field.counted)
        coco = interop.to_coco([counted], patient_ids=[field.patient_id])
        self._n_images += 1
        for image in coco["images"]:
            self._images.add(image | {"id": self._n_images})
        for annotation in coco["annotations"]:
            self._n_annotations += 1
            ids = {"id": self._n_annotations, "image_id": self._n_images}
            self._annotations.add(annotation | ids)
            self._detections.add(to_result(annotation | ids))

    def _finish(self) -> None:
        """Write the files that need the items of all fields."""
        if self._n_fields:
            self._write_charts()
        coco = coco_head(self._class_names or ())
        images, annotations = self._images.text(), self._annotations.text()
        coco |= {"images": images, "annotations": annotations}
        _write_object(self._place("coco.json"), coco)
        with atomic_write(self._place("coco_results.json"), text=True) as file:
            file.writelines([*self._detections.text(), "\n"])
        collection: dict[str, Any] = {"type": "FeatureCollection", "description": _ALL_FIELDS}
        features = {"features": self._features.text()}
        _write_object(self._place("cells.geojson"), collection | features)

    def _place(self, name: str) -> Path:
        """Return the path of a file of all fields, and record it."""
        self.written[name] = self._results.path(name)
        return self.written[name]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as problem:
            self._open.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._open.__exit__(kind, error, trace)


def _write_object(path: Path, members: dict[str, Any]) -> None:
    """Write a JSON object; a member may be an iterator of pieces of JSON text."""
    import json

    with atomic_write(path, text=True) as file:
        for number, (name, value) in enumerate(members.items()):
            file.write(f"{', ' if number else '{'}{json.dumps(name)}: ")
            pieces: Iterable[str] = value if hasattr(value, "__next__") else [json.dumps(value)]
            file.writelines(pieces)
        file.write("}\n")


def write_patients(
    scores: Sequence[PatientScore], results: ResultsFolder, *, fhir: FhirContext | None = None
) -> dict[str, Path]:
    """Write patients.csv and patients.parquet, and each score as fhir/PATIENT.json.

    Args:
        scores: one a patient.
        results: the folder.
        fhir: times and the system of the patient ids for the latter.

    Returns:
        name to path of the tables.

    Raises:
        SpherodetectError: a file cannot be written.
    """
    for score in scores:
        path = results.path("fhir", f"{safe_name(score.patient_id)}.json")
        write_json(to_observation(score, fhir), path)
    paths = {file: results.path(file) for file in _table_files("patients")}
    with TableFiles(*paths.values()) as table:
        table.add(tables.patients_frame(scores))
    return paths


def write_excel(
    scores: Sequence[PatientScore], results: ResultsFolder, written: Mapping[str, Path]
) -> dict[str, Path]:
    """Write results.xlsx from the scores and the tables that were written.

    Returns:
        name to path of the workbook.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    import pandas as pd

    from spherodetect.report import workbook

    sheets = {"patients": tables.patients_frame(scores)}
    if "cells.parquet" in written:
        sheets["cells"] = workbook.cell_summary(written["cells.parquet"])
        sheets["quality"] = pd.read_parquet(written["quality.parquet"])
    path = results.path(workbook.FILE)
    workbook.write_workbook(path, sheets)
    return {workbook.FILE: path}


def _table_files(name: str) -> tuple[str, str]:
    """Return the names of the two files of a table."""
    return f"{name}.csv", f"{name}.parquet"


def _quality_row(field: Examined) -> dict[str, Any]:
    """Return the row of quality.csv."""
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
    out: Path | None,
    *,
    scheme: Any,
    problems: Sequence[str],
    pseudonymise: bool = False,
    fhir: FhirContext | None = None,
    extras: Extras | None = None,
) -> Result:
    """Write the tables of the patients and index.html for scores without images.

    Args:
        scores: one a patient.
        out: the folder, or None to write nothing.
        scheme: the table of the grades.
        problems: a line for each file or label that was left out.
        pseudonymise: write a number in place of each patient id, and a key with the patient ids
            beside the folder.
        fhir: for the Observations.
        extras: outputs on request; of these files, the workbook.

    Returns:
        the scores, the problems and the files that were written.

    Raises:
        SpherodetectError: a file cannot be written.
    """
    from spherodetect.report.index import write_index

    if out is None:
        return Result(tuple(scores), tuple(problems))
    key = pseudonym_key_path(out) if pseudonymise else None
    with ResultsFolder(out) as results:
        if key:
            numbers = {score.patient_id: f"patient_{i:03d}" for i, score in enumerate(scores, 1)}
            with atomic_write(key, text=True) as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(("pseudonym", "patient_id"))
                rows.writerows(
                    (pseudonym, csv_cell(patient)) for patient, pseudonym in numbers.items()
                )
            scores = [replace(score, patient_id=numbers[score.patient_id]) for score in scores]
        written = write_patients(scores, results, fhir=fhir)
        if extras and extras.excel:
            written |= write_excel(scores, results, {})
        index = results.path("index.html")
        entries = [(score, None) for score in scores]
        write_index(index, entries, scheme=scheme, problems=problems, context=fhir)
        return Result(tuple(scores), tuple(problems), written, index, key)


__all__ = ["CellFiles", "write_excel", "write_patients", "write_scores"]
