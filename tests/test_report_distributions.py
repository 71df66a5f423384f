"""distributions: histograms have the shares of the cells at the right places, with a reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reporting import a_field
from spherodetect.report.distributions import ROW_HEIGHT, WIDTH, panels
from spherodetect.report.reference import QUANTILES


def _points(text: str) -> np.ndarray:
    return np.array([[float(v) for v in point.split(",")] for point in text.split()])


def _field(folder, diameter_um, *, flagged: int, **options):
    field = a_field(
        folder, "1", p=(0.9,) * flagged + (0.1,) * (len(diameter_um) - flagged), **options
    )
    columns = {"diameter_px": np.array(diameter_um) / 0.2}
    return replace(
        field, cells=replace(field.cells, measurements=field.cells.measurements | columns)
    )


def test_no_counted_cell_no_panel(tmp_path):
    assert panels([]) == []
    assert panels([a_field(tmp_path, "1", reason="too dense")]) == []


def test_bars_are_shares_at_their_places(tmp_path):
    size, _, _ = panels([_field(tmp_path, [6.1, 6.1, 6.1, 7.5, 8.1, 8.1], flagged=3)])
    others, flagged = size["rows"]
    assert (others["n"], flagged["n"]) == (3, 3)
    assert (others["median_label"], flagged["median_label"]) == ("8.10", "6.10")
    assert flagged["median"] == pytest.approx(WIDTH * (6.1 - 4) / 7, abs=0.1)
    bars = _points(flagged["bars"])
    assert bars[0].tolist() == [0, ROW_HEIGHT]
    assert bars[-1].tolist() == [WIDTH, ROW_HEIGHT]
    inside = bars[bars[:, 1] < ROW_HEIGHT]
    assert inside[:, 1].min() == 0  # all of them in one bin, which is the highest
    assert np.ptp(inside[:, 0]) == pytest.approx(WIDTH / 35, abs=0.2)
    heights = ROW_HEIGHT - _points(others["bars"])[:, 1]
    assert sorted(set(heights[heights > 0])) == pytest.approx([ROW_HEIGHT / 2, ROW_HEIGHT], abs=0.1)


def test_without_a_pixel_size_in_every_field_sizes_are_relative(tmp_path):
    known, unknown = a_field(tmp_path, "1"), a_field(tmp_path, "2", um_per_px=None)
    assert panels([known])[0]["title"] == "Size (diameter in µm)"
    assert panels([known, unknown])[0]["title"] == "Size (own median = 1)"


def test_a_group_without_cells_has_its_reference_alone(tmp_path):
    for panel in panels([a_field(tmp_path, "1", p=(0.1, 0.2))]):
        assert panel["rows"][1]["n"] == 0
        assert panel["rows"][1]["median"] is None
        assert _points(panel["rows"][1]["reference"])[:, 1].min() == 0


def test_the_reference_rises_and_tells_spherocytes_from_normal_cells():
    for classes in QUANTILES.values():
        for quantiles in classes.values():
            assert len(quantiles) == 21
            assert (np.diff(quantiles) >= 0).all()
    middle = {name: {c: q[10] for c, q in classes.items()} for name, classes in QUANTILES.items()}
    assert (
        middle["diameter_um"]["spherocyte"]
        < middle["diameter_um"]["normal"]
        == pytest.approx(7.5, abs=0.3)
    )
    assert middle["pallor_fraction"]["spherocyte"] < 0.05 < middle["pallor_fraction"]["normal"]
    assert middle["relative_od"]["normal"] == pytest.approx(1, abs=0.05)
    assert middle["relative_od"]["spherocyte"] > 1.1
