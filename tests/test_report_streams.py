"""streams: files that grow part by part are those that are written at once, in bounded memory."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from reporting import some_cells
from spherodetect.report import streams, tables
from spherodetect.report.streams import JsonList, TableFiles


def parts(n: int) -> list[pd.DataFrame]:
    return [tables.cells_frame(some_cells(f"p/{i}.png"), patient_id="p") for i in range(n)]


@pytest.mark.parametrize("n", [1, 5])
def test_a_table_by_parts_has_the_bytes_of_the_whole(n, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_FRAMES_PER_TABLE", 2)
    frames = parts(n)
    with TableFiles(tmp_path / "a.csv", tmp_path / "a.parquet") as table:
        for frame in frames:
            table.add(frame)
    tables.write_csv(tables.joined(frames), tmp_path / "b.csv")
    tables.write_parquet(tables.joined(frames), tmp_path / "b.parquet")
    for suffix in ("csv", "parquet"):
        whole = (tmp_path / f"b.{suffix}").read_bytes()
        assert (tmp_path / f"a.{suffix}").read_bytes() == whole


def test_many_rows_become_row_groups_with_the_same_content(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "ROWS_PER_GROUP", 7)
    frames = parts(6)
    with TableFiles(tmp_path / "a.csv", tmp_path / "a.parquet") as table:
        for frame in frames:
            table.add(frame)
    read = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read, tables.joined(frames))


def test_a_table_without_rows_has_its_columns(tmp_path):
    with TableFiles(tmp_path / "a.csv", tmp_path / "a.parquet") as table:
        table.add(tables.no_cells_frame())
    assert (tmp_path / "a.csv").read_text().strip() == ",".join(tables.CELL_COLUMNS)
    assert list(pd.read_parquet(tmp_path / "a.parquet").columns) == list(tables.CELL_COLUMNS)


def test_a_table_that_is_cut_off_leaves_no_file(tmp_path):
    files = TableFiles(tmp_path / "a.csv", tmp_path / "a.parquet")
    with pytest.raises(ZeroDivisionError), files as table:
        table.add(parts(1)[0])
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_json_list_is_that_of_json(monkeypatch):
    monkeypatch.setattr(streams, "_SPOOL_BYTES", 50)
    items = [{"é": i, "x": [1.5, None]} for i in range(20)]
    for n in (0, 1, 20):
        some = JsonList()
        for item in items[:n]:
            some.add(item)
        assert "".join(some.text()) == json.dumps(items[:n])
        some.close()


def test_memory_does_not_grow_with_the_number_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "ROWS_PER_GROUP", 1000)
    frame = tables.cells_frame(
        some_cells("p/1.png", p=tuple(np.linspace(0, 1, 100))), patient_id="p"
    )

    def peak(n: int) -> int:
        tracemalloc.start()
        with TableFiles(tmp_path / "a.csv", tmp_path / "a.parquet") as table:
            for _ in range(n):
                table.add(frame.copy())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(20)  # imports
    assert peak(120) < 1.3 * peak(30)
