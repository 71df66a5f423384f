"""Photographs of very many pixels: reduced where their cells are large, else examined in tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.detect.by_tiles import DetectedTile
from spherodetect.detect.tiles import Ownership, make_tiles
from spherodetect.examined import Examined
from spherodetect.fields import scan
from spherodetect.measure import measure
from spherodetect.photograph import Photograph
from spherodetect.pipeline import find_cells, overlay_files
from spherodetect.pipeline.examine_scan import examine_large
from spherodetect.pipeline.store import FinishedField
from spherodetect.quality import assess
from spherodetect.report import overlays, shown_cells
from spherodetect.scale.find import Scale
from spherodetect.synthetic import draw_field


@pytest.fixture(scope="module")
def drawn():
    """A drawn field with its true cells."""
    return draw_field(
        np.random.default_rng(2), n_cells=60, spherocyte_fraction=0.2, um_per_px=0.193
    )


class Truth:
    """A detector that finds the drawn cells in each tile."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells

    def detect_tiles(self, region, scale, **_):
        tiles = make_tiles(region.size_hw, 39.0, core_px=240)
        ownership = Ownership(39.0)
        for number, tile in enumerate(tiles, 1):
            y0, x0, y1, x1 = tile.window
            center = (self.cells.box_yxyx[:, :2] + self.cells.box_yxyx[:, 2:]) / 2
            inside = ((center >= (y0, x0)) & (center < (y1, x1))).all(axis=1)
            cells = self.cells[inside].moved((-y0, -x0), (y1 - y0, x1 - x0))
            own = ownership.of(tile, cells.box_yxyx)
            yield DetectedTile(tile, region.read(tile.window), cells, own, number, len(tiles))


def test_the_cells_of_tiles_are_those_of_the_whole_photograph(drawn):
    told: list[tuple[str, int, int]] = []
    cells = examine_large(
        Photograph(drawn.image),
        Scale(0.193),
        Truth(drawn.cells),
        field_id="f",
        progress=lambda *part: told.append(part),
    )
    whole = measure(drawn.cells, drawn.image)
    assert len(cells) == len(whole) and cells.image_size_hw == (480, 640)
    order, others = (np.lexsort(c.box_yxyx[:, :2].T) for c in (cells, whole))
    for name in ("area_px", "x_px", "diameter_px"):
        np.testing.assert_allclose(
            cells.measurements[name][order], whole.measurements[name][others], rtol=0.02, atol=0.5
        )
    assert told[-1] == ("f", 6, 6) and len(told) == 6


def test_a_photograph_is_reduced_only_if_its_cells_stay_large_enough(drawn, monkeypatch):
    large = Photograph(np.kron(drawn.image, np.ones((5, 5, 1), np.uint8)))
    assert find_cells._reduction(large) == 1, "few pixels"
    for module in (find_cells, scan):
        monkeypatch.setattr(module, "LARGE_PIXELS", 1_000_000)
    assert find_cells._reduction(Photograph(large.image)) == 2
    assert find_cells._reduction(Photograph(drawn.image)) == 1
    finished = FinishedField(
        measure(replace(drawn.cells, masks=np.ones((len(drawn.cells), 28, 28))), drawn.image),
        assess(drawn.image),
        Scale(0.4),
    )
    enlarged = find_cells._enlarged(finished, 5, (2403, 3202))
    assert enlarged.cells.image_size_hw == (2403, 3202)
    assert enlarged.scale.um_per_px == pytest.approx(0.08)
    assert enlarged.quality.rbc_diameter_px == 5 * finished.quality.rbc_diameter_px
    assert find_cells._enlarged(finished, 1, (480, 640)) is finished


def test_pictures_of_a_large_photograph_are_of_usual_size(drawn, monkeypatch, tmp_path):
    field = Examined("p", drawn.cells, assess(drawn.image), image=tmp_path / "f.png")
    photograph = Photograph(drawn.image)
    shown = replace(field, photograph=photograph)
    usual = shown_cells.cell_pictures(shown, drawn.cells[:4], window_px=60, size_px=40)
    for module in (overlay_files, shown_cells):
        monkeypatch.setattr(module, "LARGE_PIXELS", 100_000)
    monkeypatch.setattr(overlay_files, "_OVERLAY_PX", 320)
    monkeypatch.setattr(overlays, "draw_overlay", lambda image, cells, **_: (image, cells))
    image, cells = overlay_files._drawn(photograph, field)
    assert image.shape[:2] == cells.image_size_hw == (240, 320)
    cut = shown_cells.cell_pictures(shown, drawn.cells[:4], window_px=60, size_px=40)
    for one, other in zip(usual, cut, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() < 3
