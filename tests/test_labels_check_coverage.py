"""Labels against what segmentation sees, on drawn cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.check.coverage import _reduction, examine, lint_images
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe

CENTRES = [(y, x) for y in (50, 120, 190) for x in (50, 120, 190, 260)]
RADIUS = 18


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    y, x = np.mgrid[:240, :320]
    image = np.full((240, 320, 3), (225, 222, 228), np.uint8)
    for cy, cx in [*CENTRES, (120, 0)]:  # the last is cut by the edge
        image[np.hypot(y - cy, x - cx) < RADIUS] = (190, 130, 150)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 2, image.shape), 0, 255).astype(
        np.uint8
    )
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(noisy).save(path)
    return path


def field(path: Path, *annotations: Annotation, labelled: bool = True) -> LabelledField:
    return LabelledField(
        "a.png",
        path,
        (240, 320),
        annotations,
        "a",
        split="train",
        um_per_px=7.5 / (2 * RADIUS),
        labelled=labelled,
    )


def point(number: int, y: float, x: float) -> Annotation:
    return Annotation(str(number), "0", point_yx=(y, x))


def test_points_and_boxes_label_the_cells_they_lie_on(path):
    on_cells = [point(k, *CENTRES[k]) for k in range(5)]
    box = Annotation("box", "rbc", (32, 242, 68, 278))  # around the cell at (50, 260)
    seen = examine(field(path, *on_cells, box))
    assert seen.beside == ()
    assert (seen.n_cells, seen.n_unlabelled) == (12, 12 - 5 - (CENTRES.index((50, 260)) >= 5))


def test_a_point_beside_every_cell_is_named_and_one_at_the_rim_is_not(path):
    seen = examine(field(path, point(1, 85, 85), point(2, 50, 50 + RADIUS + 3)))
    assert seen.beside == ("1",)


def test_a_smaller_copy_says_the_same(path, tmp_path):
    """Three times as many pixels across, the field is looked at in a copy; a point beside is judged
    in the field."""
    large = tmp_path / "large.png"
    with Image.open(path) as image:
        image.resize((960, 720)).save(large)
    box = Annotation("box", "rbc", tuple(3.0 * v for v in (32, 242, 68, 278)))
    points = [point(k, *(3 * v for v in CENTRES[k])) for k in range(5)]
    for um_per_px in (7.5 / (6 * RADIUS), None):
        grown = replace(
            field(large, *points, point(9, 3 * 85, 3 * 85), box),
            size_hw=(720, 960),
            um_per_px=um_per_px,
        )
        seen = examine(grown)
        assert seen.beside == ("9",)
        assert (seen.n_cells, seen.n_unlabelled) == (12, 12 - 5 - (CENTRES.index((50, 260)) >= 5))
    assert _reduction(grown) == 108 // 19
    assert _reduction(replace(grown, annotations=())) == 960 // 640
    assert _reduction(replace(grown, um_per_px=1e-6)) == 720 // 64


def test_the_findings(path):
    labels = LabelSet(
        (field(path, *[point(k, *CENTRES[k]) for k in range(3)], point(9, 85, 85)),),
        label_files={"a.png": "a.txt"},
    )
    known = Recipe("mine", "points", path.parent, labels="labels", unlabelled_cells="unknown")
    steps = []
    beside, missing = lint_images(
        labels, known, progress=lambda done, total: steps.append((done, total))
    )
    assert (beside.code, beside.file, beside.annotation_ids) == (
        "point-beside-cell",
        "a.txt",
        ("9",),
    )
    assert (missing.code, missing.severity, missing.count, missing.split) == (
        "unlabelled-cells",
        "note",
        9,
        "train",
    )
    assert steps == [(1, 1)]
    unknown = Recipe("mine", "points", path.parent)
    assert [f.severity for f in lint_images(labels, unknown) if f.code == "unlabelled-cells"] == [
        "error"
    ]


def test_a_field_that_is_labelled_throughout_has_no_findings(path):
    labels = LabelSet((field(path, *[point(k, *at) for k, at in enumerate(CENTRES)]),))
    assert list(lint_images(labels, Recipe("mine", "points", path.parent))) == []


def test_an_image_that_nobody_labelled_is_not_looked_at(path):
    assert (
        list(
            lint_images(
                LabelSet((field(path, labelled=False),)), Recipe("mine", "points", path.parent)
            )
        )
        == []
    )


def test_an_image_that_breaks_off_is_named(tmp_path, path):
    cut = tmp_path / "a.png"
    cut.write_bytes(path.read_bytes()[:20_000])
    (finding,) = lint_images(
        LabelSet((field(cut, point(1, 5, 5)),)), Recipe("mine", "points", tmp_path)
    )
    assert (finding.code, finding.severity, finding.file) == ("malformed", "error", "a.png")
