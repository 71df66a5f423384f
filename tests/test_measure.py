"""measure: closed forms, agreement with scikit-image, invariants, pallor of real spherocytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from spherodetect.cells import Cells
from spherodetect.errors import BadImageError
from spherodetect.measure import MEASUREMENTS, measure, relative_to_patient
from spherodetect.photograph import Photograph
from spherodetect.segment import optical_density, segment

CHULA = Path(__file__).parents[2] / "shared/data/chula-rbc-12"
SLIDE = 200
SHAPE = (
    "area_px",
    "diameter_px",
    "perimeter_px",
    "circularity",
    "solidity",
    "major_axis_px",
    "minor_axis_px",
    "aspect_ratio",
)


def _ellipse(major: float, minor: float, angle: float = 0.0) -> np.ndarray:
    """A filled ellipse in the middle of a square window."""
    side = int(np.ceil(major)) + 3
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (2 * along / major) ** 2 + (2 * across / minor) ** 2 <= 1


def _blobs(rng: np.random.Generator, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """One connected, irregular blob of about each size, cropped to its box."""
    blobs = []
    for size in sizes:
        rough = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 8)
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        labels, _ = ndimage.label(np.hypot(y, x) / size + 3 * rough < 0.42)
        blob = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
        blobs.append(blob[ndimage.find_objects(blob.astype(int))[0]])
    return blobs


def _scene(
    masks: list[np.ndarray], *, density: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, Cells]:
    """The masks in a row on a clean slide, each with its own texture and a pale centre."""
    rng = np.random.default_rng(seed)
    gap = 6
    height = max(m.shape[0] for m in masks) + 2 * gap
    width = sum(m.shape[1] + gap for m in masks) + gap
    od, boxes, x = np.zeros((height, width)), [], gap
    for mask in masks:
        h, w = mask.shape
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        texture = ndimage.gaussian_filter(rng.normal(0, 0.1, mask.shape), 2)
        od[gap : gap + h, x : x + w][mask] = (
            density * (1.2 - 0.7 * depth / depth.max()) + texture
        )[mask]
        boxes.append((gap, x, gap + h, x + w))
        x += w + gap
    grey = np.rint(SLIDE * 10 ** -np.clip(od, 0, 1.5)).astype(np.uint8)
    cells = Cells.from_labels(
        np.array(boxes), np.ones(len(masks)), masks, image_size_hw=grey.shape, field_id="drawn"
    )
    return np.repeat(grey[..., None], 3, axis=2), cells


def _single(mask: np.ndarray) -> dict[str, float]:
    image, cells = _scene([mask])
    return {name: float(values[0]) for name, values in measure(cells, image).measurements.items()}


@pytest.mark.parametrize("diameter", [16, 20, 29.5, 40, 60, 100, 280])
def test_a_disc_has_the_measures_of_a_disc(diameter):
    disc = _single(_ellipse(diameter, diameter))
    assert disc["area_px"] == pytest.approx(np.pi / 4 * diameter**2, rel=0.025)
    assert disc["diameter_px"] == pytest.approx(diameter, rel=0.012)
    # A disc that is centred on a pixel is the worst case: single pixels stick out on four sides.
    assert disc["circularity"] == pytest.approx(1, abs=0.02 if diameter >= 29 else 0.045)
    assert disc["aspect_ratio"] == pytest.approx(1, abs=1e-6)
    assert disc["solidity"] > (0.96 if diameter >= 29 else 0.93)


@pytest.mark.parametrize("angle", [0, 0.4, np.pi / 4, 1.2])
@pytest.mark.parametrize(("major", "minor"), [(48, 24), (40, 32), (150, 90)])
def test_an_ellipse_has_its_axes_and_circularity_in_every_direction(major, minor, angle):
    ellipse = _single(_ellipse(major, minor, angle))
    a, b = major / 2, minor / 2
    h = ((a - b) / (a + b)) ** 2
    perimeter = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))  # Ramanujan (1914)
    assert ellipse["major_axis_px"] == pytest.approx(major, rel=0.02)
    assert ellipse["minor_axis_px"] == pytest.approx(minor, rel=0.02)
    assert ellipse["aspect_ratio"] == pytest.approx(minor / major, rel=0.02)
    assert ellipse["circularity"] == pytest.approx(
        4 * np.pi * np.pi * a * b / perimeter**2, rel=0.04
    )


def test_a_square_is_its_own_hull_and_a_cross_is_not():
    cross = np.zeros((60, 60), bool)
    cross[20:40] = cross[:, 20:40] = True
    assert _single(np.ones((40, 40), bool))["solidity"] == pytest.approx(1, abs=0.01)
    # Five of nine squares, in a hull of seven: the four corner triangles are missing.
    assert _single(cross)["solidity"] == pytest.approx(5 / 7, abs=0.015)


@pytest.mark.parametrize("diameter", [40, 90, 240])
@pytest.mark.parametrize("centre", [0.04, 0.1, 0.2])
def test_a_cell_with_a_drawn_centre_has_the_drawn_ratio_and_pallor(diameter, centre):
    mask = _ellipse(diameter, diameter)
    depth = ndimage.distance_transform_edt(mask)
    part = depth / depth.max()
    image, cells = _scene([mask])
    window = image[6 : 6 + mask.shape[0], 6 : 6 + mask.shape[1]]
    window[mask] = np.rint(SLIDE * 10 ** -np.where(part > 0.55, centre, 0.2))[mask][:, None]
    found = measure(cells, image).measurements
    pallor = ((part > 0.55) & mask).sum() / ((part > 0.15) & mask).sum() if centre < 0.14 else 0
    assert found["center_rim_ratio"][0] == pytest.approx(centre / 0.2, abs=0.02)
    assert found["pallor_fraction"][0] == pytest.approx(pallor, abs=0.02)


def test_the_circularity_of_discs_is_one_on_average_wherever_they_lie():
    rng = np.random.default_rng(1)
    masks = []
    for diameter in rng.uniform(20, 60, 60):
        y, x = np.mgrid[:66, :66] - 32 - rng.random((2, 1, 1))
        masks.append(np.hypot(y, x) <= diameter / 2)
    image, cells = _scene(masks)
    circularity = measure(cells, image).measurements["circularity"]
    assert circularity.mean() == pytest.approx(1, abs=0.003)
    assert np.abs(circularity - 1).max() < 0.025


def test_common_definitions_agree_with_scikit_image():
    from skimage.measure import perimeter_crofton, regionprops

    masks = _blobs(np.random.default_rng(5), (14, 25, 40, 40, 63, 90, 200))
    image, cells = _scene(masks)
    found = measure(cells, image).measurements
    labels = np.zeros(image.shape[:2], int)
    for i, (mask, (y, x)) in enumerate(cells.pixel_masks(), 1):
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = i
    for i, region in enumerate(regionprops(labels, optical_density(image)[..., 1])):
        expected = {
            "y_px": region.centroid[0] + 0.5,
            "x_px": region.centroid[1] + 0.5,
            "area_px": region.area,
            "diameter_px": region.equivalent_diameter_area,
            "major_axis_px": region.axis_major_length,
            "minor_axis_px": region.axis_minor_length,
            "mean_od": region.intensity_mean,
            "integrated_od": region.intensity_mean * region.area,
        }
        assert {k: found[k][i] for k in expected} == pytest.approx(expected, rel=1e-4)
        # scikit-image's perimeter uses four directions, ours eight. Its hull is a count of pixels,
        # ours is computed from the support function.
        assert found["perimeter_px"][i] == pytest.approx(
            perimeter_crofton(region.image, 4), rel=0.04
        )
        assert found["solidity"][i] == pytest.approx(
            region.solidity, abs=0.03 if region.area > 300 else 0.08
        )


def test_pallor_agrees_with_its_definition_pixel_by_pixel():
    image, cells = _scene(_blobs(np.random.default_rng(8), (20, 33, 40, 47, 60)))
    od = optical_density(image)[..., 1]
    found = measure(cells, image).measurements
    for i, (mask, (y, x)) in enumerate(cells.pixel_masks()):
        values = od[y : y + mask.shape[0], x : x + mask.shape[1]]
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] / _radius(mask)
        rim = np.percentile(values[(depth > 0.2) & (depth < 0.5)], 75)
        assert found["center_rim_ratio"][i] == pytest.approx(
            values[depth > 0.75].mean() / rim, rel=1e-4
        )
        assert found["pallor_fraction"][i] == pytest.approx(
            (values[depth > 0.15] < 0.7 * rim).mean(), abs=1e-6
        )


def _radius(mask: np.ndarray) -> float:
    return float(ndimage.distance_transform_edt(np.pad(mask, 1)).max())


def test_large_cells_averaged_in_blocks_have_nearly_the_profile_of_every_pixel():
    mask = _ellipse(260, 230, 0.3)
    image, cells = _scene([mask])
    found = measure(cells, image).measurements
    od = optical_density(image)[6 : 6 + mask.shape[0], 6 : 6 + mask.shape[1], 1]
    depth = ndimage.distance_transform_edt(mask) / _radius(mask)
    rim = np.percentile(od[(depth > 0.2) & (depth < 0.5)], 75)
    assert found["center_rim_ratio"][0] == pytest.approx(od[depth > 0.75].mean() / rim, abs=0.03)
    assert found["pallor_fraction"][0] == pytest.approx(
        (od[depth > 0.15] < 0.7 * rim).mean(), abs=0.03
    )
    assert found["mean_od"][0] == pytest.approx(od[mask].mean(), rel=1e-5)


def test_a_quarter_turn_changes_no_measurement():
    image, cells = _scene(_blobs(np.random.default_rng(2), (18, 40, 41, 66, 150)))
    height, width = image.shape[:2]
    ymin, xmin, ymax, xmax = cells.box_yxyx.T
    turned = Cells.from_labels(
        np.stack([width - xmax, ymin, width - xmin, ymax], 1),
        cells.class_id,
        [np.rot90(m) for m in cells.masks],
        image_size_hw=(width, height),
    )
    before, after = (
        measure(cells, image).measurements,
        measure(turned, np.rot90(image).copy()).measurements,
    )
    for name in set(MEASUREMENTS) - {"x_px", "y_px", "diameter_um"}:
        np.testing.assert_allclose(after[name], before[name], rtol=2e-4, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(after["x_px"], before["y_px"], atol=1e-3)
    np.testing.assert_allclose(after["y_px"], width - before["x_px"], atol=1e-3)


def test_a_cell_has_the_same_measurements_alone_and_in_a_batch():
    image, cells = _scene(_blobs(np.random.default_rng(3), (12, 30, 45, 130)))
    photograph = Photograph(image)
    together = measure(cells, photograph).measurements
    for i in range(len(cells)):
        alone = measure(cells[i : i + 1], photograph).measurements
        for name in set(MEASUREMENTS) - {"relative_diameter", "relative_od", "nearest_px"}:
            np.testing.assert_allclose(alone[name][0], together[name][i], rtol=1e-5, err_msg=name)
        assert np.isnan(alone["nearest_px"][0])


def test_probability_masks_have_the_measurements_of_their_outline():
    y, x = (np.mgrid[:28, :28] + 0.5) / 28 - 0.5
    probability = 1 / (1 + np.exp((np.hypot(y, x) - 0.5) * 60))
    masks = np.repeat(probability[None].astype(np.float32), 2, axis=0)
    cells = Cells.from_labels(
        [[10, 10, 50, 50], [60.5, 20.25, 160.5, 120.25]], [1, 1], masks, image_size_hw=(180, 140)
    )
    found = measure(cells, np.full((180, 140, 3), SLIDE, np.uint8)).measurements
    np.testing.assert_allclose(found["diameter_px"], [40, 100], rtol=0.03)
    np.testing.assert_allclose(found["y_px"], [30, 110.5], atol=0.15)
    np.testing.assert_allclose(found["x_px"], [30, 70.25], atol=0.15)
    np.testing.assert_allclose(found["nearest_px"], np.hypot(80.5, 40.25), atol=0.2)


def test_the_input_is_not_modified_and_other_measurements_are_kept():
    image, cells = _scene(_blobs(np.random.default_rng(4), (30, 70)))
    cells.measurements["drawn"] = np.array([1.0, 2.0])
    image_before, masks_before = image.copy(), [m.copy() for m in cells.masks]
    found = measure(cells, image)
    assert (image == image_before).all()
    assert all((a == b).all() for a, b in zip(cells.masks, masks_before, strict=True))
    assert list(cells.measurements) == ["drawn"]
    assert found.measurements["drawn"].tolist() == [1, 2]


def test_no_cells_give_typed_empty_columns():
    found = measure(
        Cells.empty(field_id="a", image_size_hw=(9, 9)), np.zeros((9, 9, 3), np.uint8)
    ).measurements
    assert tuple(found) == MEASUREMENTS
    assert all(values.shape == (0,) and values.dtype == np.float32 for values in found.values())


def test_an_impossible_measurement_is_nan_and_never_an_error():
    masks = [
        np.zeros((9, 9), bool),
        np.ones((1, 1), bool),
        np.ones((1, 12), bool),
        np.ones((5, 5), bool),
    ]
    boxes = [[0, 0, 9, 9], [3, 3, 4, 4], [20, 2, 21, 14], [200, 200, 205, 205]]
    cells = Cells.from_labels(boxes, [1] * 4, masks, image_size_hw=(40, 40))
    found = measure(cells, np.full((40, 40, 3), SLIDE, np.uint8)).measurements
    for name in MEASUREMENTS:
        # An empty mask, and a box outside the image.
        assert np.isnan(found[name][[0, 3]]).all(), name
    assert found["area_px"][[1, 2]].tolist() == [1, 12]
    assert np.isnan(found["center_rim_ratio"][[1, 2]]).all()
    assert np.isnan(found["diameter_um"]).all()


def test_an_image_of_another_shape_or_type_is_refused():
    image, cells = _scene([_ellipse(20, 20)])
    with pytest.raises(BadImageError, match=r"'drawn'.*\(35, 35, 3\).*\(34, 35, 3\)"):
        measure(cells, image[:-1])
    with pytest.raises(BadImageError, match="float"):
        measure(cells, image.astype(float))


def test_relative_measures_are_against_the_countable_red_cells_of_field_or_patient():
    from dataclasses import replace

    def measured(diameters: list[int], class_id: list[int], um_per_px: float | None) -> Cells:
        image, cells = _scene([_ellipse(d, d) for d in diameters])
        ids = np.array(class_id, np.int32)
        return measure(replace(cells, class_id=ids, um_per_px=um_per_px, countable=ids < 3), image)

    field = measured([40, 40, 40, 20, 90, 90, 90, 90], [1, 1, 1, 2, 3, 3, 3, 3], None)
    np.testing.assert_allclose(
        field.measurements["relative_diameter"][[0, 3, 4]], [1, 0.5, 2.25], rtol=0.02
    )
    patient = relative_to_patient([field, measured([20] * 9, [1] * 9, None)])
    np.testing.assert_allclose(
        patient[0].measurements["relative_diameter"][[0, 3]], [2, 1], rtol=0.02
    )
    # If each pixel size is known, cells of two magnifications are compared in µm.
    scaled = relative_to_patient(
        [measured([40] * 3, [1] * 3, 0.2), measured([80] * 3, [2] * 3, 0.1)]
    )
    np.testing.assert_allclose(
        np.concatenate([f.measurements["relative_diameter"] for f in scaled]), 1, rtol=0.01
    )
    np.testing.assert_allclose(scaled[1].measurements["diameter_um"], 8, rtol=0.01)
    without = measured([40, 40], [3, 3], None)
    assert np.isnan(without.measurements["relative_od"]).all()
    assert relative_to_patient([]) == []


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    above = (positive[:, None] > negative).mean()
    return float(above + 0.5 * (positive[:, None] == negative).mean())


@pytest.mark.skipif(not CHULA.is_dir(), reason="the Chula RBC-12 fields are not at ../shared/data")
def test_real_spherocytes_lack_the_pallor_of_real_normal_cells():
    from PIL import Image

    ratio: dict[str, list[float]] = {"0": [], "3": []}
    for points in sorted(CHULA.glob("labels/*.txt"), key=lambda path: int(path.stem))[::30]:
        image = np.asarray(Image.open(CHULA / f"images/{points.stem}.jpg").convert("RGB"))
        labels = segment(image).labels
        slices = ndimage.find_objects(labels)
        masks = [labels[where] == i for i, where in enumerate(slices, 1)]
        boxes = np.array([(y.start, x.start, y.stop, x.stop) for y, x in slices])
        cells = measure(
            Cells.from_labels(boxes, np.ones(len(masks)), masks, image_size_hw=labels.shape), image
        )
        whole = cells.countable & (cells.measurements["solidity"] > 0.93)
        for line in points.read_text().splitlines():
            x, y, kind = ([*line.split(), "", "", ""])[:3]
            if kind not in ratio or int(y) >= 480 or int(x) >= 640:
                continue
            cell = labels[int(y), int(x)] - 1
            if cell >= 0 and whole[cell]:
                ratio[kind].append(float(cells.measurements["center_rim_ratio"][cell]))
    assert min(map(len, ratio.values())) > 30
    assert _auc(np.array(ratio["3"]), np.array(ratio["0"])) > 0.95
    assert 0.85 < np.median(ratio["3"]) < 1
    assert 0.3 < np.median(ratio["0"]) < 0.6
