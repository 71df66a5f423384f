"""The speed of `measure`, compared with scikit-image's `regionprops_table` with the same columns.

    python -m benchmarks.measure [--fields 4] [--cells 120] [--rounds 9]

Expected: at least 5 times as fast; half a minute on one core. Both get the same drawn fields of 640
x 480 pixels with the same pixels of each cell (as box-local masks, or as a label image). Both first
compute the optical density of the whole field with this package's function, because scikit-image
has none. Central pallor is an extra property of the peer. Two more lines show the parts: with the
density known on both sides, and without the peer's pallor columns.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks.timing import Comparison, side_by_side
from spherodetect.cells import Cells
from spherodetect.measure import measure
from spherodetect.photograph import Photograph
from spherodetect.segment import green_density
from spherodetect.synthetic import draw_field

BUILT_IN = (
    "centroid",
    "area",
    "equivalent_diameter_area",
    "perimeter_crofton",
    "solidity",
    "axis_major_length",
    "axis_minor_length",
    "intensity_mean",
)


def compare(*, fields: int = 4, cells: int = 120, rounds: int = 9) -> list[Comparison]:
    """The three comparisons; the first is the main one."""
    drawn = [_field(seed, cells) for seed in range(fields)]
    photographs = [Photograph(image) for image, _, _ in drawn]
    densities = [photograph.density for photograph in photographs]
    for image, labels, found in drawn:
        _require_agreement(measure(found, image).measurements, peer(labels, green_density(image)))
    n_cells = sum(len(found) for _, _, found in drawn)

    def ours(at_hand: bool) -> None:
        for (image, _, found), photograph in zip(drawn, photographs, strict=True):
            measure(found, photograph if at_hand else image)

    def theirs(at_hand: bool, pallor: bool) -> None:
        for (image, labels, _), density in zip(drawn, densities, strict=True):
            peer(labels, density[..., 1] if at_hand else green_density(image), pallor=pallor)

    return [
        side_by_side(
            name,
            partial(ours, at_hand),
            partial(theirs, at_hand, pallor),
            items=n_cells,
            unit="cells",
            rounds=rounds,
        )
        for name, at_hand, pallor in (
            ("measure(cells, image)", False, True),
            ("with the optical density at hand", True, True),
            ("the peer without pallor", False, False),
        )
    ]


def peer(labels: np.ndarray, density: np.ndarray, *, pallor: bool = True) -> dict[str, np.ndarray]:
    """The columns of `measure` by scikit-image, without those that follow from others."""
    from scipy.spatial import KDTree
    from skimage.measure import regionprops_table

    extra = (_pallor,) if pallor else ()
    table = regionprops_table(labels, density, properties=BUILT_IN, extra_properties=extra)
    centre = np.stack([table["centroid-0"], table["centroid-1"]], axis=1) + 0.5
    table["circularity"] = 4 * np.pi * table["area"] / table["perimeter_crofton"] ** 2
    table["nearest_px"] = KDTree(centre).query(centre, k=2)[0][:, 1]
    return table


def _pallor(mask: np.ndarray, density: np.ndarray) -> tuple[float, float]:
    """pallor_fraction and center_rim_ratio of one cell, see spherodetect.measure."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask]
    od, depth = density[mask], distance / distance.max(initial=1e-6)
    ring = od[(depth > 0.2) & (depth < 0.5)]
    if not ring.size:  # scikit-image calls the function on a few pixels to find out what it returns
        return float("nan"), float("nan")
    rim = np.percentile(ring, 75)
    return float((od[depth > 0.15] < 0.7 * rim).mean()), float(od[depth > 0.75].mean() / rim)


def _field(seed: int, cells: int) -> tuple[np.ndarray, np.ndarray, Cells]:
    """An image, its label image, and the same pixels as box-local masks."""
    from scipy.ndimage import find_objects

    drawn = draw_field(np.random.default_rng(seed), n_cells=cells)
    labels = np.zeros(drawn.image.shape[:2], np.int32)
    for number, (mask, (y, x)) in enumerate(drawn.cells.pixel_masks(), 1):
        labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = number
    windows = {number: window for number, window in enumerate(find_objects(labels), 1) if window}
    boxes = np.array([(y.start, x.start, y.stop, x.stop) for y, x in windows.values()])
    masks = [labels[window] == number for number, window in windows.items()]
    return (
        drawn.image,
        labels,
        Cells.from_labels(boxes, np.ones(len(masks)), masks, image_size_hw=labels.shape),
    )


def _require_agreement(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Assert that the columns agree; perimeter and hull have slightly different definitions."""
    alike = {
        "area_px": "area",
        "diameter_px": "equivalent_diameter_area",
        "major_axis_px": "axis_major_length",
        "minor_axis_px": "axis_minor_length",
        "mean_od": "intensity_mean",
        "nearest_px": "nearest_px",
        "pallor_fraction": "_pallor-0",
        "center_rim_ratio": "_pallor-1",
    }
    for name, other in alike.items():
        np.testing.assert_allclose(ours[name], theirs[other], rtol=1e-3, atol=1e-3, err_msg=name)
    large = ours["area_px"] > 300
    for name in ("circularity", "solidity"):
        np.testing.assert_allclose(ours[name][large], theirs[name][large], atol=0.1, err_msg=name)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("fields", 4), ("cells", 120), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print("\n".join(map(str, compare(**vars(parser.parse_args(argv))))))


if __name__ == "__main__":
    main()
