"""detect: tiles see what the whole image shows, many images are as one by one, what is no model or
image is named."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.detect.model import Model, load_model
from spherodetect.errors import BadImageError, BadModelError, SpherodetectError
from spherodetect.fields import scan as scans
from spherodetect.geometry import box_iou
from spherodetect.synthetic import draw_field

UM_PER_PX = 0.193


@pytest.fixture(scope="module")
def model(bundled_model) -> Model:
    return load_model(bundled_model)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    return draw_field(
        np.random.default_rng(5), n_cells=70, spherocyte_fraction=0.3, um_per_px=UM_PER_PX
    ).image


def same(one: Cells, other: Cells) -> bool:
    names = (
        "box_yxyx",
        "class_id",
        "confidence",
        "class_probabilities",
        "p_spherocyte",
        "countable",
        "masks",
    )
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


def pairs(one: Cells, other: Cells) -> int:
    """How many cells of one are in the other too."""
    return int((box_iou(one.box_yxyx, other.box_yxyx).max(axis=1, initial=0) > 0.6).sum())


# --- tiles


@pytest.mark.parametrize("um_per_px", [None, UM_PER_PX])
@pytest.mark.parametrize("tile_px", [170, 333])
def test_tiles_find_the_cells_of_the_whole_field_once(model, field, um_per_px, tile_px):
    whole = model.detect(field, um_per_px)
    tiled = model.detect(field, um_per_px, tile_px=tile_px)
    assert len(whole) > 60 and abs(len(tiled) - len(whole)) <= 0.02 * len(whole) + 1
    assert pairs(tiled, whole) >= 0.97 * len(tiled)
    overlap = box_iou(tiled.box_yxyx, tiled.box_yxyx) - np.eye(len(tiled))
    assert overlap.max() < 0.5, "no cell is found by two tiles"
    assert abs(int(tiled.countable.sum()) - int(whole.countable.sum())) <= 2
    assert (tiled.image_size_hw, tiled.um_per_px) == (whole.image_size_hw, whole.um_per_px)
    assert tiled.rbc_diameter_px == pytest.approx(whole.rbc_diameter_px, rel=0.02)


def test_tiles_believe_in_the_prevalence_of_the_whole(model):
    """A tile of a few cells knows less of it, and would judge the same cell otherwise."""
    rich = draw_field(
        np.random.default_rng(6), n_cells=70, spherocyte_fraction=0.9, um_per_px=UM_PER_PX
    ).image
    whole, tiled = model.detect(rich, UM_PER_PX), model.detect(rich, UM_PER_PX, tile_px=120)
    agree = box_iou(tiled.box_yxyx, whole.box_yxyx)
    known = agree.max(axis=1) > 0.9
    p, same_cell = tiled.p_spherocyte[known], whole.p_spherocyte[agree.argmax(axis=1)[known]]
    assert known.sum() > 60 and abs(np.median(p - same_cell)) < 1e-3
    assert (
        abs(int((tiled.names == "spherocyte").sum()) - int((whole.names == "spherocyte").sum()))
        <= 2
    )


def test_an_image_of_more_than_the_network_sees_is_looked_at_by_tiles(model, field, monkeypatch):
    from spherodetect.detect import model as detect

    monkeypatch.setattr(detect, "_ONCE_NETWORK_PIXELS", 100_000)
    seen = []
    monkeypatch.setattr(
        detect.Model,
        "_look",
        lambda self, image, *rest, look=Model._look: (
            seen.append(image.shape),
            look(self, image, *rest),
        )[1],
    )
    cells = model.detect(field, UM_PER_PX)
    assert len(seen) >= 2 and len(cells) > 60
    monkeypatch.setattr(detect, "_ONCE_NETWORK_PIXELS", 3_000_000)
    seen.clear()
    assert pairs(cells, model.detect(field, UM_PER_PX)) >= 0.97 * len(cells) and not seen


def test_a_scan_is_read_by_regions_and_gives_the_same_cells(model, field, tmp_path, monkeypatch):
    import tifffile

    slide = np.full(
        (1500, 2000, 3), np.median(field.reshape(-1, 3), axis=0).astype(np.uint8), np.uint8
    )
    slide[400:880, 900:1540] = field
    tifffile.imwrite(
        tmp_path / "scan.tif", slide, photometric="rgb", tile=(256, 256), compression="zlib"
    )
    at_once = model.detect(field, UM_PER_PX)
    monkeypatch.setattr(scans, "MIN_SCAN_PIXELS", 1_000_000)
    cells = model.detect_file(tmp_path / "scan.tif", UM_PER_PX, field_id="a/scan.tif")
    assert cells.field_id == "a/scan.tif" and cells.image_size_hw == (1500, 2000)
    inside = at_once[~at_once.at_border].moved((400, 900), (1500, 2000))
    assert pairs(inside, cells) >= 0.97 * len(inside)
    center = (cells.box_yxyx[:, :2] + cells.box_yxyx[:, 2:]) / 2
    assert ((center > (395, 895)) & (center < (885, 1545))).all()
    empty = np.full((1300, 1400, 3), 228, np.uint8)
    tifffile.imwrite(tmp_path / "empty.tif", empty, photometric="rgb")
    nothing = model.detect_file(tmp_path / "empty.tif")
    assert (
        len(nothing) == 0
        and nothing.image_size_hw == (1300, 1400)
        and nothing.masks.shape == (0, 28, 28)
    )


# --- many images


def test_many_images_are_as_one_by_one_and_errors_lose_no_other(model, field, tmp_path):
    Image.fromarray(field).save(tmp_path / "a.png")
    (tmp_path / "torn.png").write_bytes(b"no image")
    images = [
        field,
        tmp_path / "torn.png",
        str(tmp_path / "a.png"),
        field.astype(float),
        tmp_path / "none.png",
        field,
    ]
    found = list(model.detect_many(iter(images), UM_PER_PX))
    assert [type(one) for one in found] == [
        Cells,
        BadImageError,
        Cells,
        SpherodetectError,
        BadImageError,
        Cells,
    ]
    alone = model.detect(field, UM_PER_PX)
    assert all(same(found[k], alone) for k in (0, 2, 5))
    assert found[2].field_id.endswith("a.png")
    assert "torn.png" in str(found[1]) and "none.png" in str(found[4])
    assert list(model.detect_many([])) == []


def test_images_are_fetched_no_further_ahead_than_is_said(model, field):
    fetched = []

    def images():
        for k in range(8):
            fetched.append(k)
            yield field[:64, :64]

    first = next(model.detect_many(images()))
    assert isinstance(first, Cells) and len(fetched) <= 3


def test_threads_get_the_same_bytes(model, field):
    images = [field, field[:, ::-1].copy(), field[:300, :400].copy()]
    expected = [model.detect(image) for image in images]
    wrong: list[int] = []

    def work(k: int) -> None:
        order = [(k + step) % 3 for step in range(3)]
        if k % 2:
            found = model.detect_many(images[i] for i in order)
        else:
            found = (model.detect(images[i]) for i in order)
        wrong.extend(
            i for i, cells in zip(order, found, strict=True) if not same(cells, expected[i])
        )

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what is no image and no model


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.full((64, 64, 3), np.nan, np.float32), "float32 (64, 64, 3) with NaN"),
        (np.zeros((64, 64, 3), np.uint16), "uint16 (64, 64, 3)"),
        (np.zeros((64, 64), np.uint8), "uint8 (64, 64)"),
        (np.zeros((64, 64, 4), np.uint8), "uint8 (64, 64, 4)"),
        (np.zeros((3, 0, 3), np.uint8), "at least 16x16"),
        (np.zeros((1, 64, 64, 3), np.uint8), "uint8 (1, 64, 64, 3)"),
        (None, "object"),
    ],
)
def test_what_is_no_image_is_told_with_expected_and_got(model, image, got):
    with pytest.raises(SpherodetectError, match="expected") as caught:
        model.detect(image, field_id="p/a\n.png")
    assert got in str(caught.value) and "'p/a\\n.png': expected" in str(caught.value)


def changed_card(folder: Path, **changes) -> None:
    card = json.loads((folder / "model.json").read_text())
    for key, value in changes.items():
        card.pop(key) if value is None else card.update({key: value})
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda f: (f / "model.json").unlink(),
            "expected a model folder with model.json, got none",
        ),
        (lambda f: (f / "model.json").write_text("{"), "expected JSON"),
        (lambda f: (f / "model.json").write_text("[1]"), "expected format, name"),
        (lambda f: changed_card(f, format=7), "expected model format 2, got '7'"),
        (lambda f: changed_card(f, thresholds=None), "got none of thresholds"),
        (
            lambda f: changed_card(f, class_names="rbc"),
            "expected class_names to be a list, got 'rbc'",
        ),
        (lambda f: changed_card(f, checksums={"../secret": "0"}), "expected a path inside"),
        (
            lambda f: (f / "saved_model/saved_model.pb").unlink(),
            "saved_model.pb': expected a file of the model",
        ),
        (lambda f: (f / "MODEL_CARD.md").write_text("other"), "MODEL_CARD.md': expected sha256"),
        (
            lambda f: (f / "saved_model/saved_model.pb").write_bytes(b"x"),
            "saved_model.pb': expected sha256",
        ),
        (
            lambda f: (shutil.rmtree(f / "saved_model"), changed_card(f, checksums={})),
            "expected a SavedModel of ours",
        ),
    ],
)
def test_a_folder_that_is_no_model_says_which_piece(spoil, expected, bundled_model, tmp_path):
    folder = tmp_path / "model\n"
    shutil.copytree(bundled_model, folder)
    spoil(folder)
    with pytest.raises(BadModelError) as caught:
        load_model(folder)
    assert (
        expected in str(caught.value)
        and str(caught.value).isprintable()
        and "model\\n" in str(caught.value)
    )


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadModelError, match="none-here"):
        load_model(tmp_path / "none-here")
