"""The share of 20 real overlaps that come out as the right number of separate cells.

    python -m benchmarks.real_overlaps [--model MODEL] [--sheet FILE.png]
    python -m benchmarks.real_overlaps --candidates FOLDER

The overlaps are twelve of Chula RBC-12, four of Dataset A and four of TXL-PBC (../shared/data).
They were chosen by the labels and never by a detector: `candidates` lists pairs of labelled red
cells that lie closer than two cells can without overlap, in a random order with a fixed seed, one
in a field. A person looked at each, passed over pairs that only touch and one group of uncertain
number, and wrote down a box for every cell of the group. The networks of the bundled model saw the
fields of Chula, whose labels are points, and neither Dataset A nor TXL-PBC.

A cell is found if a detection's box has an IoU of at least 0.5 with its box, one to one. An overlap
is separated if all of its cells are found, and no further detection has its centre in one of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.classical import ROOT, segmented
from benchmarks.sheet import Tile, write_sheet
from spherodetect.cells import Cells, touches_border
from spherodetect.fields.image import read_image
from spherodetect.geometry import box_iou
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.recipe import load_recipe
from spherodetect.labels.repair.stretch import unstretch
from spherodetect.labels.source import read_labels

FOUND_IOU = 0.5
DATA_SETS = ("chula", "dataset_a_mgg", "txl_pbc")
#: Diameters between the labelled points of a pair, and IoU of its labelled boxes.
NEAR, BOX_IOU = (0.3, 0.85), (0.05, 0.4)
#: A labelled box that is this close to the edge of the image may be of a cell that it cuts.
_BORDER_PX = 4.0
_SEED, _SHOWN_CANDIDATES = 20, 28
NOT_RED = {"WBC", "Platelets", "0", "2"}


@dataclass(frozen=True, eq=False)
class Overlap:
    """A group of overlapping cells.

    Attributes:
        data_set: name of its recipe.
        file: the beginning of the image's name, relative to the data set.
        boxes: (ymin, xmin, ymax, xmax) of every cell, in pixels of the image without stretch.
    """

    data_set: str
    file: str
    boxes: tuple[tuple[int, int, int, int], ...]


# The boxes are those of whole cells, hidden parts included, to a few pixels.
_TABLE: dict[str, dict[str, list[tuple[int, int, int, int]]]] = {
    "chula": {
        "images/316.jpg": [(79, 71, 117, 110), (92, 62, 133, 100)],
        "images/198.jpg": [(249, 533, 307, 573), (245, 562, 291, 598)],
        "images/387.jpg": [(22, 396, 57, 434), (44, 388, 84, 425)],
        "images/2.jpg": [(367, 526, 400, 561), (376, 545, 415, 578)],
        "images/19.jpg": [(121, 447, 162, 486), (142, 460, 187, 505)],
        "images/311.jpg": [(4, 93, 47, 134), (23, 69, 68, 109)],
        "images/657.jpg": [(230, 357, 268, 395), (239, 354, 277, 394)],
        "images/654.jpg": [(60, 130, 94, 166), (69, 118, 103, 150)],
        "images/661.jpg": [(130, 20, 168, 58), (145, 7, 182, 45)],
        "images/260.jpg": [(135, 21, 172, 63), (165, 25, 205, 66)],
        "images/64.jpg": [(173, 401, 210, 437), (199, 388, 233, 447)],
        "images/298.jpg": [(375, 276, 419, 322), (401, 265, 440, 308)],
    },
    # The names begin so; the rest is a hash of the export.
    "dataset_a_mgg": {
        "train/patient_01_24_": [(158, 157, 220, 220), (182, 191, 247, 256)],
        "train/patient_03_25_": [(102, 110, 181, 198), (66, 166, 130, 232)],
        "train/patient_01_07_": [(267, 257, 334, 327), (313, 229, 395, 292), (216, 298, 287, 368)],
        "valid/patient_01_23_": [(10, 343, 75, 420), (8, 413, 76, 487)],
    },
    "txl_pbc": {
        "images/a701c209-": [(147, 270, 221, 340), (206, 260, 283, 337)],
        "images/e0a61e22-": [(84, 22, 160, 110), (127, 35, 211, 109)],
        "images/c8a4ebfb-": [(135, 31, 218, 98), (188, 23, 263, 92), (222, 59, 299, 134)],
        "images/5596025c-": [(35, 187, 120, 271), (46, 160, 122, 230)],
    },
}
OVERLAPS: tuple[Overlap, ...] = tuple(
    Overlap(data_set, file, tuple(boxes))
    for data_set, files in _TABLE.items()
    for file, boxes in files.items()
)


def separated(boxes: np.ndarray, found: np.ndarray) -> tuple[int, int]:
    """How many cells of an overlap are found, and how many detections are one too many.

    Args:
        boxes: (K, 4) of the cells.
        found: (N, 4) of all detections of the field.
    """
    from scipy.optimize import linear_sum_assignment

    iou = box_iou(boxes.astype(float), found.astype(float))
    iou = np.where(iou >= FOUND_IOU, iou, 0.0)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    hit = iou[rows, columns] > 0
    center = (found[:, :2] + found[:, 2:]) / 2
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    # The ellipse in the box, because the corners of a box belong to its neighbours.
    inside = (((center[:, None] - middle) / half) ** 2).sum(axis=2) < 1
    extra = inside.any(axis=1)
    extra[columns[hit]] = False
    return int(hit.sum()), int(extra.sum())


def fields_of(data_set: str) -> dict[str, LabelledField]:
    """The labelled fields of a data set by file."""
    recipe = load_recipe(ROOT / "tfrecords" / f"{data_set}.yaml")
    return {f.file: f for f in read_labels(recipe).fields if f.path is not None}


def opened(field: LabelledField) -> tuple[np.ndarray, LabelledField]:
    """A field's image without stretch, and its labels in the image's pixels."""
    assert field.path is not None, "only fields with an image are opened"
    image, field, _ = unstretch(read_image(field.path, name=field.file), field)
    return image, field


def candidates(data_set: str) -> Iterator[tuple[np.ndarray, LabelledField, np.ndarray]]:
    """Image, field and the two centres (2, 2) of a pair of each field, in a random order."""
    fields = fields_of(data_set)
    rng = np.random.default_rng(_SEED)
    for file in rng.permutation(sorted(fields)).tolist():
        image, field = opened(fields[file])
        pairs = list(_pairs(image, field))
        if pairs:
            yield image, field, pairs[int(rng.integers(len(pairs)))]


def _pairs(image: np.ndarray, field: LabelledField) -> Iterator[np.ndarray]:
    """The centres of the pairs of labelled red cells that are too close not to overlap."""
    red = [a for a in field.annotations if a.name not in NOT_RED or a.point_yx is not None]
    if len(red) < 2:
        return
    if all(a.point_yx is not None for a in red):
        from spherodetect.segment import estimate_rbc_diameter_px, green_density

        at = np.array([a.point_yx for a in red], float)
        distance = np.linalg.norm(at[:, None] - at[None], axis=2)
        diameter = estimate_rbc_diameter_px(green_density(image))
        near = (distance > NEAR[0] * diameter) & (distance < NEAR[1] * diameter)
        margin = diameter / 2
    else:
        box = np.array([a.box_yxyx for a in red], float)
        at, iou = (box[:, :2] + box[:, 2:]) / 2, box_iou(box, box)
        near, margin = (iou > BOX_IOU[0]) & (iou < BOX_IOU[1]), 0.0
        whole = ~touches_border(box, image.shape[:2], margin_px=_BORDER_PX)
        near &= whole[:, None] & whole
    inside = ((at > margin) & (at < np.array(image.shape[:2]) - margin)).all(axis=1)
    for a, b in np.argwhere(np.triu(near & inside[:, None] & inside, 1)):
        yield at[[a, b]]


def judge(
    methods: Mapping[str, Callable[[np.ndarray, float | None], Cells]],
) -> tuple[list[str], list[Tile]]:
    """A line for each overlap and the totals of each method, and pictures."""
    lines, tiles, right = [], [], {name: [] for name in methods}
    for data_set in DATA_SETS:
        fields = fields_of(data_set)
        for overlap in (o for o in OVERLAPS if o.data_set == data_set):
            file = next(name for name in fields if name.startswith(overlap.file))
            image, field = opened(fields[file])
            boxes = np.array(overlap.boxes, float)
            low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
            parts, shown = [], []
            for name, detect in methods.items():
                cells = detect(image, field.um_per_px)
                n_found, n_extra = separated(boxes, cells.box_yxyx)
                right[name].append(n_found == len(boxes) and not n_extra)
                parts.append(f"{name} {n_found} and {n_extra} extra")
                meets = (cells.box_yxyx[:, :2] < high).all(1) & (cells.box_yxyx[:, 2:] > low).all(1)
                shown.append(cells[meets])
            lines.append(f"{data_set} {overlap.file}: {len(boxes)} cells; {'; '.join(parts)}")
            center = (low + high) / 2
            side = int(1.5 * (high - low).max())
            tiles.append(Tile(image, (center[0], center[1]), side, shown, lines[-1][:60]))
    lines += [
        f"{name}: {sum(values)} of {len(values)} overlaps separated"
        for name, values in right.items()
    ]
    return lines, tiles


def main(argv: Sequence[str] | None = None) -> None:
    """Judge both methods, or show the candidates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model folder; by default the bundled one")
    parser.add_argument("--sheet", type=Path, help="write pictures of all overlaps to this PNG")
    parser.add_argument(
        "--candidates", type=Path, help="only write a sheet of pairs a data set to this folder"
    )
    args = parser.parse_args(argv)
    if args.candidates:
        for data_set in DATA_SETS:
            tiles = [
                Tile(image, tuple(pair.mean(axis=0)), image.shape[0] // 3, (), field.file[:30])
                for image, field, pair in islice(candidates(data_set), _SHOWN_CANDIDATES)
            ]
            write_sheet(tiles, args.candidates / f"{data_set}.png", size_px=240)
        return
    from spherodetect import load_model

    model = load_model(args.model) if args.model else load_model()
    lines, tiles = judge(
        {
            "Mask R-CNN": lambda image, um_per_px: model.detect(image, um_per_px),
            "watershed": lambda image, _: segmented(image),
        }
    )
    print("\n".join(lines))
    if args.sheet:
        write_sheet(tiles, args.sheet)


if __name__ == "__main__":
    main()
