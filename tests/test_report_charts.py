"""charts and files: bars are true to scale, and files have HemaDetect's names on request."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree

from reporting import HOSTILE, a_field
from spherodetect.report.charts import write_bar_chart
from spherodetect.report.files import CellFiles
from spherodetect.report.results import ResultsFolder

SVG = "{http://www.w3.org/2000/svg}"


def _chart(path: Path) -> tuple[list[float], list[str]]:
    """Heights of the bars, and all texts."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("fill") == "#0048ba"]
    return [float(one.get("height")) for one in bars], ["".join(t.itertext()) for t in root]


def test_bars_are_true_to_scale_and_say_their_values(tmp_path):
    bars = {"rbc": 40.0, "spherocyte": 10.0, "wbc": 0.0, "platelet": math.nan, HOSTILE: 20.0}
    write_bar_chart(tmp_path / "c.svg", "Mean count", bars, unit="a field")
    heights, texts = _chart(tmp_path / "c.svg")
    assert [h / heights[0] for h in heights] == pytest.approx([1, 0.25, 0, 0, 0.5], abs=1e-3)
    assert {"40.0", "10.0", "0.0", "\N{EN DASH}", "20.0"} <= set(texts)
    before = (tmp_path / "c.svg").read_bytes()
    write_bar_chart(tmp_path / "c.svg", "Mean count", bars, unit="a field")
    assert (tmp_path / "c.svg").read_bytes() == before


@pytest.mark.parametrize("names", [False, True])
def test_the_charts_and_counts_agree_with_the_cells(tmp_path, names):
    out = tmp_path / "out"
    with ResultsFolder(out) as results, CellFiles(results, hemadetect_names=names) as files:
        files.add(a_field(tmp_path, "p/1.png"))
        files.add(a_field(tmp_path, "p/2.png", p=(0.9, 0.2)))
    table = "output_recognized_objects" if names else "objects"
    assert {f"{table}.csv", f"{table}.parquet"} <= set(files.written)
    end = "_result.png" if names else ".png"
    masks = {path.name for path in (out / "masks" / "p").glob("*.png")}
    assert f"1_spherocyte{end}" in masks and len(masks) == 2 * 4
    with open(out / "cells.csv", encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    _, texts = _chart(out / "charts" / "mean_count.svg")
    n = [sum(c["class_name"] == name for c in cells) for name in ("rbc", "spherocyte")]
    assert [f"{k / 2:.1f}" in texts for k in n] == [True, True]
    assert (out / "charts" / "mean_area.svg").is_file()
    with open(out / "counts.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            areas = [
                float(c["area_px"])
                for c in cells
                if (c["field_id"], c["class_name"]) == (row["field_id"], row["class_name"])
                and c["area_px"]
            ]
            mean = float(row["mean_area_px"]) if row["mean_area_px"] else None
            assert mean == (pytest.approx(sum(areas) / len(areas), abs=0.1) if areas else None)


def test_features_have_the_rows_of_the_cells(tmp_path):
    import pandas as pd

    from spherodetect.measure.textures import FEATURES

    field = a_field(tmp_path, "p/1.png")
    grey = np.full((*field.cells.image_size_hw, 3), 120, np.uint8)
    with (
        ResultsFolder(tmp_path / "out") as results,
        CellFiles(results, pixels=lambda one: grey) as files,
    ):
        files.add(field)
    table = pd.read_parquet(files.written["features.parquet"])
    assert list(table.columns) == ["patient_id", "field_id", "cell_id", *FEATURES]
    assert table["cell_id"].tolist() == field.cells.cell_id.tolist()
    assert set(table["bf_intensity_Mean"]) == {120.0}
    assert set(table["shape_PixelSurface"]) == {18.0 * 18}
