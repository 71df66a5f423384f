"""detect: tiles, many images, threads, loading, and errors that name the file and the key."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.detect import by_tiles
from spherodetect.detect.frame import Frame
from spherodetect.detect.model import Model, load_model
from spherodetect.detect.model_folder import ModelCard, read_card
from spherodetect.detect.saved_graph import SavedGraph
from spherodetect.errors import BadImageError, BadModelError, SpherodetectError
from spherodetect.fields import scan as scans
from spherodetect.geometry import box_iou
from spherodetect.safety import file_sha256
from spherodetect.synthetic import draw_field

UM_PER_PX = 0.193


@pytest.fixture(scope="module")
def model(loaded_model) -> Model:
    return loaded_model


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
    # Suppression is at 0.5, of boxes that fit the masks a little less.
    assert overlap.max() < 0.6, "two tiles detect no cell twice"
    assert abs(int(tiled.countable.sum()) - int(whole.countable.sum())) <= 2
    assert (tiled.image_size_hw, tiled.um_per_px) == (whole.image_size_hw, whole.um_per_px)
    assert tiled.rbc_diameter_px == pytest.approx(whole.rbc_diameter_px, rel=0.02)


def test_tiles_use_the_prevalence_of_the_whole(model):
    """The prevalence in one tile of few cells would change the class of a cell."""
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


def test_an_image_that_is_too_large_for_the_network_is_tiled(model, field, monkeypatch):
    calls: list[tuple[int, ...]] = []

    def tile(self: SavedGraph, image: np.ndarray, *rest: Any, tile: Any = SavedGraph.tile) -> Any:
        calls.append(image.shape)
        return tile(self, image, *rest)

    monkeypatch.setattr(SavedGraph, "tile", tile)
    whole = model.detect(field, UM_PER_PX)
    assert not calls
    monkeypatch.setattr(by_tiles, "MAX_NETWORK_PIXELS", 100_000)
    cells = model.detect(field, UM_PER_PX)
    assert len(calls) >= 2 and len(cells) > 60
    assert pairs(cells, whole) >= 0.97 * len(cells)


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


def test_at_most_two_images_are_read_ahead(model, field):
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


# --- the frame and model.json as records


def test_a_frame_is_seven_numbers_and_back():
    frame = Frame(32.0, 30.5, 7.25, 8.75, 5.0, 0.5, 1.0)
    assert Frame.from_array(frame.to_array()) == frame
    assert frame.to_array().tolist() == [32.0, 30.5, 7.25, 8.75, 5.0, 0.5, 1.0]
    assert frame.moved((10, -3)) == Frame(32.0, 30.5, 17.25, 5.75, 5.0, 0.5, 1.0)


def test_model_json_comes_back_byte_for_byte(bundled_model):
    file = bundled_model / "model.json"
    written = json.dumps(read_card(bundled_model).to_json(), indent=1, sort_keys=True) + "\n"
    assert written.encode() == file.read_bytes()


def test_keys_of_a_later_version_are_kept(bundled_model):
    content = json.loads((bundled_model / "model.json").read_text())
    laboratories = {"laboratory a": {"threshold": 0.4}}
    card = ModelCard.from_json({**content, "laboratories": laboratories})
    assert card.to_json()["laboratories"] == laboratories


# --- loading


def test_models_in_use_are_shared_and_a_new_export_is_loaded_again(bundled_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(bundled_model, folder)
    first = load_model(folder)
    assert load_model(str(folder)) is first
    changed_card(folder, name="exported again")
    second = load_model(folder)
    assert (first.name, second.name) == (load_model(bundled_model).name, "exported again")


def test_a_model_that_nobody_uses_is_freed(bundled_model, tmp_path, field):
    folder = tmp_path / "model"
    shutil.copytree(bundled_model, folder)
    one = load_model(folder)
    one.detect(field[:128, :128], UM_PER_PX)
    graph = weakref.ref(one._graph)
    del one
    gc.collect()
    assert graph() is None


def test_loading_and_detecting_leave_the_settings_of_tensorflow_alone(bundled_model, field):
    import tensorflow as tf
    from tensorflow.python.eager import context

    before = tf.config.optimizer.get_experimental_options()
    options = context.context().function_call_options.config_proto_serialized
    load_model(bundled_model).detect(field[:128, :128], UM_PER_PX)
    assert tf.config.optimizer.get_experimental_options() == before
    assert context.context().function_call_options.config_proto_serialized == options


# --- errors


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
def test_an_unusable_image_is_named_with_expected_and_got(model, image, got):
    with pytest.raises(SpherodetectError, match="expected") as caught:
        model.detect(image, field_id="p/a\n.png")
    assert got in str(caught.value) and "'p/a\\n.png': expected" in str(caught.value)


def changed_card(folder: Path, **changes) -> None:
    card = json.loads((folder / "model.json").read_text())
    for key, value in changes.items():
        card.pop(key) if value is None else card.update({key: value})
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: (f / "model.json").unlink(),
            "expected a model folder with model.json, got none",
        ),
        (lambda f: (f / "model.json").write_text("{"), "expected JSON"),
        (lambda f: (f / "model.json").write_text("[1]"), "expected a JSON object, got '[1]'"),
        (lambda f: (f / "model.json").write_text("{}"), "stains_seen"),
        (lambda f: changed_card(f, format=7), "expected model format 2, got '7'"),
        (lambda f: changed_card(f, thresholds=None), "named thresholds;"),
        (lambda f: changed_card(f, stains_seen=None), "named stains_seen;"),
        (lambda f: changed_card(f, provenance=None), "named provenance;"),
        (lambda f: changed_card(f, stains_seen="MGG"), "stains_seen to be a list of texts"),
        (lambda f: changed_card(f, rbc_px=0), "rbc_px to be a number above 0, got '0'"),
        (lambda f: changed_card(f, rates={"blocks": 3}), "rates.blocks"),
        (lambda f: changed_card(f, rates={"blocks": [{"name": "x"}]}), "rates.blocks"),
        (lambda f: changed_card(f, thresholds={"confidence": 0.1}), "p_spherocyte"),
        (lambda f: changed_card(f, class_names=["rbc", "rbc"]), "class_names"),
        (lambda f: changed_card(f, checksums={}), "expected checksums"),
        (lambda f: changed_card(f, checksums={"a": "0"}), "checksums.a to be a SHA-256"),
        (
            lambda f: changed_card(f, class_names="rbc"),
            "expected class_names to be a list of texts, got 'rbc'",
        ),
        (lambda f: changed_card(f, checksums={"../secret": "0" * 64}), "expected a path inside"),
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
            lambda f: (
                shutil.rmtree(f / "saved_model"),
                changed_card(f, checksums={"MODEL_CARD.md": file_sha256(f / "MODEL_CARD.md")}),
            ),
            "expected a SavedModel",
        ),
    ],
)
def test_an_unusable_model_folder_is_refused_with_its_file_and_key(
    damage, expected, bundled_model, tmp_path
):
    folder = tmp_path / "model\n"
    shutil.copytree(bundled_model, folder)
    damage(folder)
    with pytest.raises(BadModelError) as caught:
        load_model(folder)
    assert (
        expected in str(caught.value)
        and str(caught.value).isprintable()
        and "model\\n" in str(caught.value)
    )


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadModelError, match="none-here"):
        load_model(tmp_path / "none-here")
