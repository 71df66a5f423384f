"""fieldcache: what comes out is what went in, for the same bytes, settings and model, and for no
other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spherodetect.cells import Cells
from spherodetect.pipeline.store import FieldCache, FinishedField
from spherodetect.quality import FieldQuality
from spherodetect.report.results import ResultsFolder
from spherodetect.scale.find import Scale

QUALITY = FieldQuality(
    accepted=np.bool_(False), reason="out of focus: 3.1 édge", focus=np.float32(3.1), exposure=0.1, density=math.nan,
    n_cells=np.int64(3), rbc_diameter_px=40.0, median_od=math.inf, no_pallor=0.0, burnt=0.0, grain=1 / 3,
    explained=1.0, red_to_green=0.4, brighter=0.0,
)  # fmt: skip


def _cells(masks, **changes) -> Cells:
    n = len(masks)
    box = np.tile(np.array([[1.5, 2, 9.25, 11]]), (n, 1))
    cells = Cells.from_labels(
        box, np.arange(n) % 4 + 1, masks, image_size_hw=(40, 50), field_id="p/1.png"
    )
    cells.measurements["diameter_px"] = np.linspace(0, 1, n).astype(np.float32)
    return dataclasses.replace(cells, rbc_diameter_px=np.float32(38.2), **changes)


def _same(one: Cells, other: Cells) -> None:
    for field in dataclasses.fields(Cells):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if field.name == "measurements":
            assert list(first) == list(second)
            assert all(
                (first[k] == second[k]).all() and first[k].dtype == second[k].dtype for k in first
            )
        elif isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype
        elif field.name == "masks":
            assert len(first) == len(second)
            assert all(
                a.dtype == b.dtype == bool and (a == b).all()
                for a, b in zip(first, second, strict=True)
            )
        elif field.name != "field_id":
            assert first == second
            assert type(first) is type(second) or isinstance(first, np.generic)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("um_per_px", [None, 0.193])
def test_what_comes_out_is_what_went_in(n, um_per_px, tmp_path):
    rng = np.random.default_rng(n)
    cells = _cells(rng.random((n, 28, 28), np.float32), um_per_px=um_per_px)
    with ResultsFolder(tmp_path) as results:
        cache = FieldCache(results, {"model": "a"})
        cache.save(
            "k", FinishedField(cells, QUALITY, Scale(0.2, "cells", math.nan, "doubt"), "f00")
        )
        back = cache.load("k")
    _same(cells, back.cells)
    assert back.cells.field_id == ""  # a name is the run's, not the picture's
    assert repr(back.quality) == repr(
        dataclasses.replace(QUALITY, accepted=False, focus=float(np.float32(3.1)), n_cells=3)
    )
    assert repr(back.scale) == repr(Scale(0.2, "cells", math.nan, "doubt"))
    assert back.overlay_sha256 == "f00"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(masks=st.lists(arrays(bool, st.tuples(st.integers(0, 9), st.integers(0, 9))), max_size=5))
def test_masks_of_pixels_come_back_whatever_their_shapes(masks, tmp_path):
    cells = _cells(masks)
    with ResultsFolder(tmp_path) as results:
        cache = FieldCache(results, {})
        cache.save("k", FinishedField(cells, QUALITY, Scale(None), ""))
        _same(cells, cache.load("k").cells)


def test_a_key_is_of_bytes_settings_and_model(tmp_path, monkeypatch):
    with ResultsFolder(tmp_path) as results:
        one, other = FieldCache(results, {"model": "a"}), FieldCache(results, {"model": "b"})
        keys = [
            one.key("x"),
            one.key("y"),
            one.key("x", "y"),
            one.key("x", um_per_px=0.2),
            one.key("xy"),
            one.key("x", um_per_px=0.1),
            one.key("x", um_per_px=None),
            other.key("x"),
        ]
        assert len(set(keys)) == len(keys)
        assert one.key("x") == keys[0]
        monkeypatch.setattr("spherodetect.pipeline.store._code", lambda: "other code")
        assert one.key("x") != keys[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: b"",
        lambda data: b"PK" + data[40:],
        lambda data: data.replace(b"head.npy", b"body.npy"),
    ],
)
def test_a_damaged_file_is_no_field(damage, tmp_path):
    with ResultsFolder(tmp_path) as results:
        cache = FieldCache(results, {})
        assert cache.load("k") is None
        cache.save(
            "k", FinishedField(_cells(np.ones((2, 28, 28), np.float32)), QUALITY, Scale(None), "")
        )
        path = results.root / ".spherodetect" / "fields" / "k.npz"
        path.write_bytes(damage(path.read_bytes()))
        assert cache.load("k") is None


def test_nothing_is_unpickled(tmp_path):
    with ResultsFolder(tmp_path) as results:
        cache = FieldCache(results, {})
        path = results.path(".spherodetect", "fields", "k.npz")
        path.parent.mkdir(parents=True)
        np.savez(path, head=np.array([{"a": 1}], dtype=object))
        assert cache.load("k") is None
