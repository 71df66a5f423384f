"""store: a field is stored and loaded unchanged, for the same bytes and settings and no others."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spherodetect.cells import Cells
from spherodetect.cells_file import read_cells, write_cells
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline import store as store_module
from spherodetect.pipeline.store import FieldStore, FinishedField
from spherodetect.quality import FieldQuality
from spherodetect.scale.find import Scale

QUALITY = FieldQuality(
    accepted=np.bool_(False), reason="out of focus: 3.1 édge", focus=np.float32(3.1), exposure=0.1,
    density=math.nan, n_cells=np.int64(3), rbc_diameter_px=40.0, median_od=math.inf, no_pallor=0.0,
    burnt=0.0, grain=1 / 3,
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
def test_a_stored_field_is_loaded_unchanged(n, um_per_px, tmp_path):
    rng = np.random.default_rng(n)
    cells = _cells(rng.random((n, 28, 28), np.float32), um_per_px=um_per_px)
    cells = dataclasses.replace(cells, cell_id=np.arange(7, 7 + n, dtype=np.int32))
    scale = Scale(0.2, "cells", math.nan, "doubt")
    store = FieldStore(str(tmp_path))
    store.save("k", FinishedField(cells, QUALITY, scale, (True, False)))
    back = FieldStore(tmp_path).load("k")
    _same(cells, back.cells)
    assert back.cells.field_id == ""  # a name belongs to the run, not to the image
    assert repr(back.quality) == repr(
        dataclasses.replace(QUALITY, accepted=False, focus=float(np.float32(3.1)), n_cells=3)
    )
    assert repr(back.scale) == repr(scale)
    assert back.parts == (True, False)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(masks=st.lists(arrays(bool, st.tuples(st.integers(0, 9), st.integers(0, 9))), max_size=5))
def test_cells_round_trip_to_disk_whatever_their_masks(masks, tmp_path):
    cells = _cells(masks)
    write_cells(cells, tmp_path / "cells.npz")
    back = read_cells(str(tmp_path / "cells.npz"))
    _same(cells, back)
    assert back.field_id == cells.field_id


def test_a_key_depends_on_bytes_settings_and_code(tmp_path, monkeypatch):
    store = FieldStore(tmp_path)
    keys = [
        store.key("x"),
        store.key("y"),
        store.key("x", "y"),
        store.key("x", um_per_px=0.2),
        store.key("xy"),
        store.key("x", um_per_px=0.1),
        store.key("x", um_per_px=None),
        store.key("x", model="b"),
    ]
    assert len(set(keys)) == len(keys)
    assert store.key("x") == keys[0]
    monkeypatch.setattr("spherodetect.pipeline.store._code", lambda: "other code")
    assert store.key("x") != keys[0]


def test_the_code_that_cells_follow_from_is_all_there():
    # A module that moves must not fall out of the key in silence.
    for name in store_module._CODE:
        assert store_module._modules(Path(store_module.__file__).parents[1] / name), name


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
    store = FieldStore(tmp_path)
    assert store.load("k") is None
    cells = _cells(np.ones((2, 28, 28), np.float32))
    store.save("k", FinishedField(cells, QUALITY, Scale(None)))
    path = tmp_path / "k.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert store.load("k") is None
    with pytest.raises(SpherodetectError, match=r"k\.npz"):
        read_cells(path)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "k.npz", head=np.array([{"a": 1}], dtype=object))
    assert FieldStore(tmp_path).load("k") is None


def test_only_fields_that_were_not_used_are_pruned(tmp_path):
    cells = _cells(np.ones((1, 28, 28), np.float32))
    for key in ("a", "b"):
        FieldStore(tmp_path).save(key, FinishedField(cells, QUALITY, Scale(None)))
    store = FieldStore(tmp_path)
    assert store.load("b") is not None
    store.save("c", FinishedField(cells, QUALITY, Scale(None)))
    store.prune()
    assert {path.stem for path in tmp_path.glob("*.npz")} == {"b", "c"}


def test_an_overlay_waits_once_and_is_not_taken_if_it_is_torn(tmp_path):
    store = FieldStore(tmp_path)
    assert store.overlay("c") is None
    for content in ("c", "torn", "left"):
        store.put_overlay(content, b"picture")
    assert store.overlay("c") == b"picture"
    assert store.overlay("c") is None
    (torn,) = tmp_path.glob("torn*")
    torn.write_bytes(torn.read_bytes()[:-1] + b"\0")  # as after a power failure
    assert store.overlay("torn") is None
    store.prune()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [b"", b"\0", "zeros", "half"])
def test_a_file_that_a_power_failure_tore_is_examined_again(torn, tmp_path):
    store = FieldStore(tmp_path)
    cells = _cells(np.random.default_rng(0).random((3, 28, 28), np.float32))
    store.save("k", FinishedField(cells, QUALITY, Scale(None)))
    path = tmp_path / "k.npz"
    whole = path.read_bytes()
    for part in range(0, len(whole), 512):  # each page of the disk
        content = {
            "zeros": whole[:part] + bytes(len(whole[part : part + 512])) + whole[part + 512 :],
            "half": whole[:part],
        }.get(torn if isinstance(torn, str) else "", torn)
        path.write_bytes(content)
        assert FieldStore(tmp_path).load("k") is None
