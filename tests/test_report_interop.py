"""interop: other programs read the same masks that were written."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.geometry import largest_part
from spherodetect.report import interop, label_images
from spherodetect.report.coco import to_result

SIZE_HW = (60, 90)


def _disc(radius: int, hole: int = 0) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (y * y + x * x <= radius * radius) & (y * y + x * x >= hole * hole)


def _cells(*, confidence=(0.9, 0.8, 0.7, 0.95)) -> Cells:
    """A disc, a ring, two separate blobs in one box that reaches the last pixel, and a disc over
    the first one."""
    blobs = np.zeros((20, 30), bool)
    blobs[:5, :7] = blobs[12:, 21:] = True
    masks = [_disc(10), _disc(12, hole=5), blobs, _disc(8)]
    corners = [(0, 0), (5, 40), (40, 60), (10, 10)]
    box = [
        (y, x, y + mask.shape[0], x + mask.shape[1])
        for (y, x), mask in zip(corners, masks, strict=True)
    ]
    cells = Cells.from_labels(
        box, [1, 2, 4, 3], masks, image_size_hw=SIZE_HW, field_id='p/"1".jpg', um_per_px=0.2
    )
    cells.confidence[:] = confidence
    cells.measurements["diameter_px"] = np.array([21.0, np.nan, 7.5, 17.0])
    return cells


def _full(cells: Cells, *, parts: str = "all") -> list[np.ndarray]:
    """The masks in whole frames, with all their parts or the largest alone."""
    frames = []
    for whole, (y, x) in cells.pixel_masks():
        mask = largest_part(whole) if parts == "largest" else whole
        frame = np.zeros(cells.image_size_hw, bool)
        frame[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        frames.append(frame)
    return frames


def test_coco_masks_are_the_masks():
    decode = pytest.importorskip("pycocotools.mask")
    cells = _cells()
    annotations = interop.to_coco([cells])["annotations"]
    for annotation, truth in zip(annotations, _full(cells, parts="largest"), strict=True):
        np.testing.assert_array_equal(decode.decode(annotation["segmentation"]).astype(bool), truth)
        assert decode.area(annotation["segmentation"]) == annotation["area"] == truth.sum()
        # Readers cut the mask by the box.
        assert annotation["bbox"] == decode.toBbox(annotation["segmentation"]).tolist()


def test_coco_results_are_loaded_beside_the_data_set(tmp_path):
    coco_module = pytest.importorskip("pycocotools.coco")
    document = interop.to_coco([_cells(), _cells()])
    results = [to_result(annotation) for annotation in document["annotations"]]
    for name, content in (("coco.json", document), ("coco_results.json", results)):
        (tmp_path / name).write_text(json.dumps(content, allow_nan=False))
    loaded = coco_module.COCO(str(tmp_path / "coco.json"))
    found = loaded.loadRes(str(tmp_path / "coco_results.json"))
    for one, other in zip(found.dataset["annotations"], document["annotations"], strict=True):
        assert one["score"] == other["score"]
        np.testing.assert_array_equal(found.annToMask(one), loaded.annToMask(other))


@settings(max_examples=80, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), data=st.data())
def test_any_mask_anywhere_survives_coco(mask, data):
    decode = pytest.importorskip("pycocotools.mask")
    height, width = (
        mask.shape[0] + data.draw(st.integers(0, 2000)),
        mask.shape[1] + data.draw(st.integers(0, 40)),
    )
    y, x = (
        data.draw(st.integers(0, height - mask.shape[0])),
        data.draw(st.integers(0, width - mask.shape[1])),
    )
    box = [[y, x, y + mask.shape[0], x + mask.shape[1]]]
    cells = Cells.from_labels(box, [1], [mask], image_size_hw=(height, width))
    (annotation,) = interop.to_coco([cells])["annotations"]
    np.testing.assert_array_equal(
        decode.decode(annotation["segmentation"]).astype(bool), _full(cells, parts="largest")[0]
    )
    truth = decode.encode(np.asfortranarray(_full(cells, parts="largest")[0].astype(np.uint8)))
    assert annotation["segmentation"]["counts"] == truth["counts"].decode()


def test_probability_masks_are_pasted_over_their_boxes():
    decode = pytest.importorskip("pycocotools.mask")
    y, x = (np.mgrid[:28, :28] + 0.5) / 28 - 0.5
    disc = 1 / (1 + np.exp(60 * (np.hypot(y, x) - 0.4)))
    cells = Cells.from_labels(
        [[10.5, 20.25, 50.5, 60.25]], [1], disc[None], image_size_hw=(480, 640)
    )
    (annotation,) = interop.to_coco([cells])["annotations"]
    rows, columns = np.nonzero(decode.decode(annotation["segmentation"]))
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((30.5, 40.25), abs=0.2)
    assert annotation["area"] == pytest.approx(np.pi * 16**2, rel=0.02)


def test_a_coco_document_of_several_fields_is_consistent(tmp_path):
    coco_module = pytest.importorskip("pycocotools.coco")
    fields = [_cells(), Cells.empty(field_id="empty.jpg", image_size_hw=(10, 20)), _cells()]
    document = interop.to_coco(fields, patient_ids=["a", "b", "a"])
    assert [a["id"] for a in document["annotations"]] == list(range(1, 9))
    assert [a["image_id"] for a in document["annotations"]] == [1] * 4 + [3] * 4
    assert [image["patient_id"] for image in document["images"]] == ["a", "b", "a"]
    assert [(image["height"], image["width"]) for image in document["images"]] == [
        (60, 90),
        (10, 20),
        (60, 90),
    ]
    assert {c["id"]: c["name"] for c in document["categories"]} == {
        1: "rbc",
        2: "spherocyte",
        3: "wbc",
        4: "platelet",
    }
    assert [a["category_id"] for a in document["annotations"][:4]] == [1, 2, 4, 3]
    assert [(a["score"], a["attributes"]) for a in document["annotations"][:2]] == [
        (0.9, {"p_spherocyte": 0, "countable": 0}),
        (0.8, {"p_spherocyte": 1, "countable": 1}),
    ]
    (tmp_path / "coco.json").write_text(json.dumps(document, allow_nan=False))
    loaded = coco_module.COCO(str(tmp_path / "coco.json"))
    assert len(loaded.getAnnIds(catIds=[2])) == 2
    assert loaded.annToMask(loaded.loadAnns(1)[0]).sum() == document["annotations"][0]["area"]


def test_coco_refuses_fields_that_do_not_belong_together():
    other = Cells.from_labels(np.zeros((0, 4)), [], [], image_size_hw=(9, 9), class_names=("x",))
    with pytest.raises(ValueError, match="same classes"):
        interop.to_coco([_cells(), other])
    with pytest.raises(ValueError, match="zip"):
        interop.to_coco([_cells()], patient_ids=["a", "b"])
    assert interop.to_coco([])["images"] == []


def _rasterised(geometry: dict, size_hw: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside, by the even-odd rule over all rings."""
    from skimage.measure import points_in_poly

    polygons = (
        [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    )
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(centres), bool)
    for ring in (ring for polygon in polygons for ring in polygon):
        inside ^= points_in_poly(centres, ring)
    return inside.reshape(size_hw)


def test_geojson_outlines_are_the_masks():
    cells = _cells()
    features = interop.to_geojson(cells)["features"]
    assert [f["geometry"]["type"] for f in features] == ["Polygon"] * 4
    assert [len(f["geometry"]["coordinates"]) for f in features] == [1, 2, 1, 1]
    for feature, truth in zip(features, _full(cells, parts="largest"), strict=True):
        np.testing.assert_array_equal(_rasterised(feature["geometry"], SIZE_HW), truth)


def test_a_box_without_height_is_still_a_polygon_with_area():
    cells = Cells.from_labels(
        [[60, 20.9, 60, 40.7]], [1], [np.zeros((0, 21), bool)], image_size_hw=SIZE_HW
    )
    (feature,) = interop.to_geojson(cells)["features"]
    x, y = np.array(feature["geometry"]["coordinates"][0]).T
    assert 0.5 * abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) == pytest.approx(1.98)


def test_geojson_rings_are_closed_and_the_outer_comes_first():
    outer, hole = interop.to_geojson(_cells())["features"][1]["geometry"]["coordinates"]
    for ring in (outer, hole):
        assert ring[0] == ring[-1]
    assert np.ptp(outer, axis=0).min() > np.ptp(hole, axis=0).max()


@settings(max_examples=60, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.booleans()))
def test_any_mask_survives_geojson(mask):
    cells = Cells.from_labels(
        [[1, 2, 1 + mask.shape[0], 2 + mask.shape[1]]], [1], [mask], image_size_hw=(11, 12)
    )
    (feature,) = interop.to_geojson(cells)["features"]
    truth = _full(cells, parts="largest")[0]
    if mask.any():
        np.testing.assert_array_equal(_rasterised(feature["geometry"], (11, 12)), truth)
    else:
        # A cell without pixels is exported as its box.
        assert _rasterised(feature["geometry"], (11, 12)).sum() == mask.size


def test_geojson_features_say_what_they_are():
    features = interop.to_geojson([_cells(), _cells()])["features"]
    assert len(features) == 8
    first, second = features[:2]
    assert first["properties"] == {
        "objectType": "detection",
        "name": "1",
        "classification": {"name": "rbc", "color": [0, 114, 178]},
        "measurements": {
            "confidence": 0.9,
            "p_spherocyte": 0.0,
            "countable": 0.0,
            "diameter_px": 21.0,
        },
        "metadata": {"field_id": 'p/"1".jpg', "exclusion_reason": "border"},
    }
    assert "diameter_px" not in second["properties"]["measurements"]  # it was not a number
    assert first["id"] != second["id"]
    assert interop.to_geojson(_cells())["features"][0]["id"] == first["id"]
    json.dumps(features, allow_nan=False)


def test_the_countable_cells_of_geojson_are_those_of_the_score():
    cells = _cells()
    for accepted in (True, False):
        features = interop.to_geojson(cells, accepted=accepted)["features"]
        countable = [f["properties"]["measurements"]["countable"] for f in features]
        assert countable == (cells.countable & accepted).astype(float).tolist()
        reasons = [f["properties"]["metadata"].get("exclusion_reason", "") for f in features]
        assert reasons == cells.reason_in(accepted).tolist()


def test_geojson_polygons_are_valid():
    shapely = pytest.importorskip("shapely")
    cells = _cells()
    for feature, truth in zip(
        interop.to_geojson(cells)["features"], _full(cells, parts="largest"), strict=True
    ):
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        # An outline runs midway between pixels and cuts half a pixel off each corner.
        assert shape.area == pytest.approx(truth.sum(), abs=0.5 * shape.length)


def test_label_tiff(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    cells = _cells()
    interop.to_label_tiff(cells, tmp_path / "labels.tif")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        labels = file.asarray()
        tags = file.pages[0].tags
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / 0.2)
        assert tags["ResolutionUnit"].value == 3  # centimetre
    assert labels.dtype == np.uint16
    first, second, third, fourth = _full(cells)
    np.testing.assert_array_equal(labels == 4, fourth)  # the most confident lies on top
    np.testing.assert_array_equal(labels == 1, first & ~fourth)
    np.testing.assert_array_equal(labels == 2, second)
    np.testing.assert_array_equal(labels == 3, third)
    assert (first & fourth).any()


def test_of_two_cells_alike_the_earlier_is_on_top_and_no_scale_is_made_up(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    cells = _cells(confidence=(0.5, 0.5, 0.5, 0.5))
    object.__setattr__(cells, "um_per_px", None)
    interop.to_label_tiff(cells, tmp_path / "labels.tif")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        np.testing.assert_array_equal(file.asarray() == 1, _full(cells)[0])
        assert file.pages[0].tags["ResolutionUnit"].value == 1  # none
    interop.to_label_tiff(cells, tmp_path / "scaled.tif", um_per_px=0.1)
    with tifffile.TiffFile(tmp_path / "scaled.tif") as file:
        assert file.pages[0].resolution == pytest.approx((1e5, 1e5))


def test_a_label_image_of_several_strips(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(label_images, "_STRIP_PX", 7 * SIZE_HW[1])
    cells = _cells()
    interop.to_label_tiff(cells, tmp_path / "labels.tif")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        assert len(file.pages[0].dataoffsets) == -(-SIZE_HW[0] // 7)
        np.testing.assert_array_equal(file.asarray(), cells.label_image())


def test_an_empty_field_is_a_black_label_image(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    empty = Cells.empty(field_id="a", image_size_hw=(10, 20))
    interop.to_label_tiff(empty, tmp_path / "a.tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "a.tif"), np.zeros((10, 20), np.uint16)
    )
    assert interop.to_geojson(empty)["features"] == []


def test_binary_masks_of_a_class_hold_its_cells_and_no_others(tmp_path):
    cells = _cells()
    first, second, third, fourth = _full(cells)
    for name, expected in {
        "rbc": first,
        "spherocyte": second,
        "platelet": third,
        "wbc": fourth,
    }.items():
        interop.to_class_mask(cells, name, tmp_path / "mask.png")
        with Image.open(tmp_path / "mask.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), np.where(expected, 255, 0))
    interop.to_class_mask(
        Cells.empty(field_id="a", image_size_hw=(4, 5)), "rbc", tmp_path / "mask.png"
    )
    with Image.open(tmp_path / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.zeros((4, 5)))


@st.composite
def _any_cells(draw) -> Cells:
    """Up to five cells of any masks at any places, also overlapping, empty, and cut by the
    border."""
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    masks, boxes = [], []
    for _ in range(draw(st.integers(0, 5))):
        mask = draw(arrays(bool, st.tuples(st.integers(1, height), st.integers(1, width))))
        y, x = (
            draw(st.integers(0, height - mask.shape[0])),
            draw(st.integers(0, width - mask.shape[1])),
        )
        masks.append(mask)
        boxes.append([y, x, y + mask.shape[0], x + mask.shape[1]])
    ids = draw(st.lists(st.integers(1, 4), min_size=len(masks), max_size=len(masks)))
    cells = Cells.from_labels(
        np.array(boxes).reshape(-1, 4), ids, masks, image_size_hw=(height, width), field_id="f"
    )
    cells.confidence[:] = draw(
        st.lists(st.floats(0, 1, width=32), min_size=len(masks), max_size=len(masks))
    )
    return cells


@settings(max_examples=60, deadline=None)
@given(cells=_any_cells())
def test_any_cells_survive_a_label_image_where_no_surer_cell_lies_on_them(cells):
    tifffile = pytest.importorskip("tifffile")
    with tempfile.TemporaryDirectory() as folder:
        interop.to_label_tiff(cells, f"{folder}/labels.tif", um_per_px=0.2)
        labels = tifffile.imread(f"{folder}/labels.tif")
    truth = _full(cells)
    np.testing.assert_array_equal(
        labels > 0, np.any(truth, axis=0) if truth else np.zeros(cells.image_size_hw, bool)
    )
    for i, mask in enumerate(truth):
        rank = (-cells.confidence[i], i)
        surer = [m for k, m in enumerate(truth) if (-cells.confidence[k], k) < rank]
        np.testing.assert_array_equal(
            labels == i + 1, mask & ~np.any(surer, axis=0) if surer else mask
        )


@settings(max_examples=60, deadline=None)
@given(cells=_any_cells())
def test_any_cells_survive_supervision(cells):
    pytest.importorskip("supervision")
    detections = interop.to_supervision(cells)
    assert len(detections) == len(cells)
    np.testing.assert_array_equal(detections.xyxy[:, [1, 0, 3, 2]], cells.box_yxyx)
    np.testing.assert_array_equal(detections.class_id + 1, cells.class_id)
    np.testing.assert_array_equal(detections.confidence, cells.confidence)
    if len(cells):
        np.testing.assert_array_equal(np.asarray(detections.mask), np.array(_full(cells)))


def test_supervision_knows_names_and_numbers_and_what_it_selects():
    supervision = pytest.importorskip("supervision")
    cells = _cells()
    detections = interop.to_supervision(cells)
    assert isinstance(detections, supervision.Detections)
    assert list(detections.data["class_name"]) == ["rbc", "spherocyte", "platelet", "wbc"]
    np.testing.assert_array_equal(detections.data["diameter_px"], cells.measurements["diameter_px"])
    sure = detections[detections.confidence > 0.85]
    assert list(sure.data["class_name"]) == ["rbc", "wbc"]
    np.testing.assert_array_equal(np.asarray(sure.mask), np.array(_full(cells))[[0, 3]])
    outside = Cells.from_labels(
        [[500, 500, 520, 520]], [1], [np.zeros((20, 20), bool)], image_size_hw=SIZE_HW
    )
    assert not np.asarray(interop.to_supervision(outside).mask).any()
    annotated = supervision.MaskAnnotator().annotate(np.zeros((*SIZE_HW, 3), np.uint8), detections)
    assert annotated[17, 45].any()


def test_class_colours_differ():
    colours = [*interop.CLASS_COLOURS.values(), interop.class_colour("unknown kind")]
    assert len(set(colours)) == 5
