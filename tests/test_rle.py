"""Run-length masks against COCO's own code, and what lies about its size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spherodetect.rle import pack_runs, read_rle, run_lengths, unpack_runs

masks = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def runs_of(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges, mask.size]).tolist()


@settings(max_examples=60, deadline=None)
@given(masks)
def test_packed_and_plain_counts_give_the_mask_that_cocoapi_gives(mask):
    coco = pytest.importorskip("pycocotools.mask")
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (packed["counts"].decode(), runs_of(mask)):
        read = read_rle({"size": list(mask.shape), "counts": counts}, mask.shape)
        assert np.array_equal(np.asarray(read), mask)
        assert read.area_px == mask.sum()
        assert np.array_equal(read[1:5, 2:9], mask[1:5, 2:9])


def test_the_box_is_tight_and_half_open():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 7:8] = True
    assert read_rle({"size": [20, 30], "counts": runs_of(mask)}, (20, 30)).box_yxyx() == (
        4,
        7,
        9,
        8,
    )
    assert read_rle({"size": [20, 30], "counts": [600]}, (20, 30)).box_yxyx() is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_packing_keeps_every_pixel(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    packed = run_lengths(mask)
    assert packed.shape == mask.shape
    assert packed.area_px == mask.sum()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if mask.any() else None
    assert packed.box_yxyx() == box
    np.testing.assert_array_equal(np.asarray(packed), mask)
    again = read_rle({"size": [height, width], "counts": packed.runs.tolist()}, (height, width))
    np.testing.assert_array_equal(np.asarray(again), mask)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"size": [20, 30]},
        {"size": [20, 30], "counts": [599]},
        {"size": [20, 30], "counts": [300, 301]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30], "counts": [599.5, 0.5]},
        {"size": [20, 30], "counts": [float("nan"), 600.0]},
        {"size": [20, 30], "counts": [True, 599]},
        {"size": [20, 30], "counts": [None]},
        {"size": [20, 30], "counts": "\x00"},
        {"size": [20, 30], "counts": "o" * 100},
        {"size": [20, 30], "counts": "P"},
        {"size": [20, 30], "counts": "é1"},
        {"size": [20, 30], "counts": [0] * 100_000},
        {"size": [2_000_000_000, 2_000_000_000], "counts": [600]},
        {"size": [30, 20], "counts": [600]},
        {"size": "20x30", "counts": [600]},
    ],
)
def test_a_lie_is_refused(data):
    with pytest.raises(ValueError, match="expected"):
        read_rle(data, (20, 30))


def test_the_text_uses_the_characters_from_0_to_o():
    assert read_rle({"size": [1, 31], "counts": "o0"}, (1, 31)).runs.tolist() == [31]
    # Without the check these would be the lengths [31] and [0, 31].
    for outside in ("/0", "po0"):
        with pytest.raises(ValueError, match="packed text"):
            read_rle({"size": [1, 31], "counts": outside}, (1, 31))


@pytest.mark.parametrize("runs", [[31], [0, 31], [1, 2, 3, 4, 5], [600], [0, 1, 0, 1, 29]])
def test_packed_runs_are_unpacked(runs):
    assert unpack_runs(pack_runs(np.array(runs))) == runs


def test_a_window_of_a_field_is_packed_as_the_whole_field():
    mask = np.zeros((9, 7), bool)
    mask[3:9, 2:7] = np.random.default_rng(1).random((6, 5)) < 0.5
    mask[8, 6] = True
    of_window = run_lengths(mask[3:, 2:], origin_yx=(3, 2), size_hw=mask.shape)
    assert of_window.runs.tolist() == run_lengths(mask).runs.tolist()
    np.testing.assert_array_equal(np.asarray(of_window), mask)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=20)
    | st.text("0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmno", max_size=20)
)
def test_any_text_is_a_mask_of_the_image_or_refused(text):
    try:
        mask = read_rle({"size": [5, 7], "counts": text}, (5, 7))
    except ValueError:
        return
    assert np.asarray(mask).shape == (5, 7)
