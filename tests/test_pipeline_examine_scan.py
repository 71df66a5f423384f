"""examine_scan: a slide scan is as many fields as it has parts, and its results are those of its
cells."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.detect.model import Model
from spherodetect.errors import BadImageError
from spherodetect.fields import scan as scans
from spherodetect.fields.field import Field
from spherodetect.pipeline import run as pipeline
from spherodetect.pipeline.examine_scan import examine_scan
from spherodetect.report.overlays import shrunk
from spherodetect.report.results import Result
from spherodetect.synthetic import draw_field

tifffile = pytest.importorskip("tifffile")
UM_PER_PX = 0.193


@pytest.fixture(scope="module")
def model(loaded_model) -> Model:
    return loaded_model


@pytest.fixture(scope="module")
def small_scans() -> Iterator[None]:
    """From a million pixels on a TIFF is a scan."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scans, "MIN_SCAN_PIXELS", 1_000_000)
        yield


@pytest.fixture(scope="module")
def slide(tmp_path_factory, small_scans) -> Path:
    """Two fields, far apart on empty slide, in a folder of one patient."""
    folder = tmp_path_factory.mktemp("smears") / "p1"
    folder.mkdir()
    image = np.full((1300, 2600, 3), 228, np.uint8)
    for seed, (y, x) in enumerate([(150, 200), (700, 1800)]):
        drawn = draw_field(
            np.random.default_rng(seed), n_cells=70, spherocyte_fraction=0.3, um_per_px=UM_PER_PX
        ).image
        image[y : y + 480, x : x + 640] = np.clip(
            drawn * (228 / np.median(drawn, axis=(0, 1))), 0, 255
        )
    tifffile.imwrite(
        folder / "slide.tif", image, photometric="rgb", tile=(256, 256), compression="zlib"
    )
    return folder / "slide.tif"


@pytest.fixture(scope="module")
def scored(slide, tmp_path_factory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("out")
    return pipeline.score_patients(slide.parents[1], out=out, um_per_px=UM_PER_PX), out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_every_cell_once_and_every_part_as_a_field(scored, model, slide):
    result, out = scored
    cells = model.detect_file(slide, UM_PER_PX)
    table = rows(out / "cells.csv")
    assert len(table) == len(cells) > 100
    found = np.array(
        [
            [float(row[side]) for side in ("ymin_px", "xmin_px", "ymax_px", "xmax_px")]
            for row in table
        ]
    )
    np.testing.assert_allclose(found, cells.box_yxyx, atol=0.01)
    (score,) = result.scores
    assert score.patient_id == "p1" and not result.problems
    assert score.n_fields + score.n_fields_rejected >= 2, "each part is a field"
    assert score.n_countable == sum(row["countable"] == "1" for row in table) > 50
    (quality,) = rows(out / "quality.csv")
    assert (quality["field_id"], quality["accepted"], quality["n_cells"]) == (
        "p1/slide.tif",
        "1",
        str(len(cells)),
    )


def test_the_label_image_is_that_of_the_whole_scan_and_the_overlay_a_small_copy(
    scored, model, slide
):
    _, out = scored
    labels = tifffile.imread(out / "masks" / "p1" / "slide.tif")
    cells = model.detect_file(slide, UM_PER_PX)
    assert labels.shape == (1300, 2600)
    np.testing.assert_array_equal(labels, cells.label_image())
    with Image.open(out / "overlays" / "p1" / "slide.png") as overlay:
        assert overlay.width == 2600 and overlay.height > 1300
    assert "slide.tif" in (out / "reports" / "p1.html").read_text()


def test_a_second_run_takes_what_the_first_found(scored, slide, monkeypatch):
    result, out = scored
    monkeypatch.setattr(Model, "detect_tiles", lambda *_, **__: pytest.fail("looked again"))
    (out / "overlays" / "p1" / "slide.png").unlink()
    again = pipeline.score_patients(slide.parents[1], out=out, um_per_px=UM_PER_PX)
    assert repr(again.scores) == repr(result.scores)
    assert (out / "overlays" / "p1" / "slide.png").is_file()


def test_what_shows_no_cell_and_what_has_outlines_are_named(model, small_scans, slide, tmp_path):
    empty = tmp_path / "empty.tif"
    tifffile.imwrite(empty, np.full((1100, 1200, 3), 228, np.uint8), photometric="rgb")
    with pytest.raises(BadImageError, match=r"'p/empty.tif': expected a smear, found no cell"):
        examine_scan(Field("p", "p/empty.tif", empty), model, None)
    with pytest.raises(
        BadImageError, match=r"'p/slide.tif': expected a field beside a label image"
    ):
        examine_scan(Field("p", "p/slide.tif", slide), model, tmp_path / "labels.tif")


def test_on_a_smaller_copy_cells_keep_their_place_and_size():
    cells = Cells.from_labels(
        [[10, 20, 30, 60]], [1], [np.ones((20, 40), bool)], image_size_hw=(200, 400)
    )
    small = shrunk(replace(cells, um_per_px=0.2), (50, 100))
    np.testing.assert_allclose(small.box_yxyx, [[2.5, 5, 7.5, 15]])
    assert small.image_size_hw == (50, 100) and small.um_per_px == pytest.approx(0.8)


_SCORE = """
import resource, sys
from pathlib import Path
import numpy as np, tifffile
from spherodetect import load_model
from spherodetect.pipeline.run import score_patients
from spherodetect.synthetic import draw_field
root, side, tile, um_per_px = Path(sys.argv[1]), 20_000, 512, 0.193
rng = np.random.default_rng(0)
field = draw_field(rng, n_cells=80, spherocyte_fraction=0.3, um_per_px=um_per_px).image
slide = np.median(field, axis=(0, 1)).astype(np.uint8)
places = [(y, x) for y in (80, 9600, 10_120) for x in (3000, 3680, 12_000)]
def tiles():
    for y in range(0, side, tile):
        for x in range(0, side, tile):
            pixels = np.full((tile, tile, 3), slide, np.uint8)
            for top, left in places:
                low = max(y, top), max(x, left)
                high = min(y + tile, top + 480), min(x + tile, left + 640)
                if low < high and low[1] < high[1] and low[0] < high[0]:
                    part = field[low[0] - top : high[0] - top, low[1] - left : high[1] - left]
                    pixels[low[0] - y : high[0] - y, low[1] - x : high[1] - x] = part
            yield pixels
path = root / "p1" / "slide.tif"
path.parent.mkdir()
tifffile.imwrite(path, tiles(), shape=(side, side, 3), dtype=np.uint8, photometric="rgb",
                 tile=(tile, tile),
                 compression="zlib")
model = load_model()
reds = lambda cells: int(np.isin(cells.names, ["rbc", "spherocyte"]).sum())
alone = reds(model.detect(field, um_per_px))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
cells = model.detect_file(path, um_per_px)
detecting = peak() - before
(score,) = score_patients(root / "p1", out=root / "out", um_per_px=um_per_px).scores
print(alone, reds(cells), len(cells), score.n_cells, detecting, peak() - before)
"""


@pytest.mark.slow
def test_a_scan_of_twenty_thousand_pixels_a_side_is_scored_in_little_memory(tmp_path):
    """Nine fields on empty slide, 1.2 GB of pixels: a minute and a half of one core.

    Platelets are left out of the comparison: of what is cut off at a drawn field's edge, some comes
        to look like one.
    """
    done = subprocess.run(
        [sys.executable, "-c", _SCORE, str(tmp_path)], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    alone, reds, found, scored, detecting_mb, scoring_mb = map(int, done.stdout.split()[-6:])
    assert abs(reds - 9 * alone) <= 0.01 * 9 * alone
    assert 0.9 * found <= scored <= found, "but for the cells of parts that are rejected"
    assert detecting_mb < 800 and scoring_mb < 1000
