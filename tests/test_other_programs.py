"""The outputs of a run, read by programs of other people: pycocotools, supervision, shapely,
fhir.resources, tifffile and openpyxl.

    pip install '.[readers]' && python -m pytest -m slow tests/test_other_programs.py

The truth is cells.csv and the masks of the cells themselves.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from reporting import a_score
from spherodetect.cells import Cells
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.pipeline.examine import examine
from spherodetect.report.fhir import FhirContext
from spherodetect.report.files import CellFiles, write_excel, write_patients
from spherodetect.report.results import ResultsFolder
from spherodetect.synthetic import draw_field

pytestmark = pytest.mark.slow


class Written(NamedTuple):
    folder: Path
    fields: list[Examined]
    rows: list[dict[str, str]]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    """Two drawn fields of one patient, with what the bundled model found in them."""
    from PIL import Image

    from spherodetect.detect.model import load_model

    smears = tmp_path_factory.mktemp("smears")
    found = []
    for k in range(2):
        drawn = draw_field(np.random.default_rng(k), n_cells=60, spherocyte_fraction=0.2)
        Image.fromarray(drawn.image).save(smears / f"{k}.png")
        found.append(Field("p", f"p/{k}.png", smears / f"{k}.png", 0.193))
    fields = list(examine(found, load_model()))
    folder = smears / "out"
    with ResultsFolder(folder) as results:
        with CellFiles(results) as files:
            for field in fields:
                files.add(field)
        context = FhirContext("2026-11-30", "2026-11-30T09:00:00+01:00", made_by="Laboratory 1")
        scores = [a_score(), a_score(patient_id="q", status="unseen_stain", grade="")]
        tables = files.written | write_patients(scores, results, fhir=context)
        write_excel(scores, results, tables)
    with open(folder / "cells.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 80
    return Written(folder, fields, rows)


def _masks(cells: Cells) -> list[np.ndarray]:
    """The mask of each cell in its whole field, its largest part only."""
    from scipy import ndimage

    masks = []
    for mask, (y, x) in cells.pixel_masks():
        parts, n = ndimage.label(mask)
        if n > 1:
            mask = parts == 1 + np.argmax(ndimage.sum_labels(mask, parts, range(1, n + 1)))
        whole = np.zeros(cells.image_size_hw, bool)
        whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        masks.append(whole)
    return masks


def test_pycocotools_reads_masks_boxes_and_results(written):
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    coco = coco_module.COCO(str(written.folder / "coco.json"))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len(written.rows)
    truth = [mask for field in written.fields for mask in _masks(field.cells)]
    for annotation, mask in zip(annotations, truth, strict=True):
        read = coco.annToMask(annotation).astype(bool)
        # A polygon is rasterised again, and may differ by pixels of the outline.
        assert (read ^ mask).sum() <= 0.12 * mask.sum() + 4
        y, x = np.nonzero(mask)
        box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
        assert np.abs(np.subtract(annotation["bbox"], box)).max() <= 1
    results = coco.loadRes(str(written.folder / "coco_results.json"))
    for kind in ("bbox", "segm"):
        judged = evaluation.COCOeval(coco, results, kind)
        judged.params.maxDets = [1, 10, 500]
        judged.evaluate()
        judged.accumulate()
        precision = judged.eval["precision"][..., 0, -1]
        assert precision[precision > -1].min() > 0.999


def test_supervision_reads_the_data_set(written):
    supervision = pytest.importorskip("supervision")
    images = written.folder.parent
    data = supervision.DetectionDataset.from_coco(
        images_directory_path=str(images / ""),
        annotations_path=str(written.folder / "coco.json"),
        force_masks=True,
    )
    n = sum(len(found) for found in data.annotations.values())
    assert n == len(written.rows)
    assert {"rbc", "spherocyte"} <= set(data.classes)


def test_shapely_finds_valid_polygons_whose_count_gives_the_figure(written):
    geometry = pytest.importorskip("shapely.geometry")
    countable = spherocytes = 0
    for field in written.fields:
        name = Path(field.field_id).with_suffix(".geojson")
        collection = json.loads((written.folder / "geojson" / name).read_text())
        for feature, mask in zip(collection["features"], _masks(field.cells), strict=True):
            polygon = geometry.shape(feature["geometry"])
            assert polygon.is_valid and polygon.geom_type == "Polygon"
            assert polygon.area == pytest.approx(mask.sum(), rel=0.05, abs=3)
            counts = feature["properties"]["measurements"]["countable"] == 1
            countable += counts
            spherocytes += (
                counts and feature["properties"]["classification"]["name"] == "spherocyte"
            )
    rows = [row for row in written.rows if row["countable"] == "1"]
    assert countable == len(rows)
    assert spherocytes == sum(row["class_name"] == "spherocyte" for row in rows)


def test_tifffile_reads_the_ids_of_the_cells(written):
    tifffile = pytest.importorskip("tifffile")
    for field in written.fields:
        labels = tifffile.imread(
            written.folder / "masks" / Path(field.field_id).with_suffix(".tif")
        )
        assert labels.shape == field.cells.image_size_hw
        ids = set(field.cells.cell_id.tolist())
        assert set(np.unique(labels).tolist()) - {0} <= ids
        areas = np.bincount(labels.ravel(), minlength=max(ids) + 1)
        for cell_id, (mask, _) in zip(field.cells.cell_id, field.cells.pixel_masks(), strict=True):
            assert 0 < areas[cell_id] <= mask.sum()


def test_fhir_resources_takes_the_observations(written):
    observation = pytest.importorskip("fhir.resources.R4B.observation").Observation
    files = sorted((written.folder / "fhir").iterdir())
    assert len(files) == 2
    for path in files:
        read = observation.model_validate_json(path.read_text())
        assert read.performer[0].display == "Laboratory 1"
        assert bool(read.valueCodeableConcept) != bool(read.dataAbsentReason)


def test_openpyxl_reads_the_workbook(written):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(written.folder / "results.xlsx")
    head, *rows = book["cells"].iter_rows(values_only=True)
    n = {row[head.index("class_name")]: row[head.index("n_cells")] for row in rows}
    assert sum(n.values()) == len(written.rows)
