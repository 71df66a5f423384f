"""Label images: outlines of cells by another tool, one whole number a cell and 0 for the
background.

A label image is a TIFF with one channel of whole numbers. Its flat regions distinguish it from a
photograph. It belongs to the photograph whose path it begins with: `p1/f1_cp_masks.tif` and
`p1/f1.png.tif` belong to `p1/f1.png`. The model gives each outlined cell its class. Arrays are
(H, W).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from spherodetect.cells import RED_CELLS, Cells, touches_border
from spherodetect.detect.matching import match_points
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.field import FieldList
from spherodetect.fields.image import MAX_IMAGE_BYTES, MAX_PIXELS
from spherodetect.geometry import box_iou
from spherodetect.safety import quoted

#: Two cells overlap if the IoU of their boxes is larger, as in the exported graph.
MAX_OVERLAP_IOU = 0.12
#: Share of equal neighbouring pixels from which an image is a label image. In a photograph of 16
#: bits hardly any neighbours are equal.
_FLAT = 0.9
_ROWS = 512


def separate(box_yxyx: np.ndarray, image_size_hw: tuple[int, int]) -> np.ndarray:
    """(N,) bool, the boxes that touch neither the border of the image nor each other."""
    box = np.asarray(box_yxyx, float).reshape(-1, 4)
    free = ~touches_border(box, image_size_hw)
    for first in range(0, len(box), _ROWS):
        overlap = box_iou(box[first : first + _ROWS], box)
        overlap[np.arange(len(overlap)), first + np.arange(len(overlap))] = 0
        free[first : first + _ROWS] &= overlap.max(axis=1) < MAX_OVERLAP_IOU
    return free


def split_label_images(found: FieldList) -> tuple[FieldList, dict[str, Path]]:
    """The photographs of a list, and the label images by their field_id."""
    labels = {field.field_id: field.path for field in found if _is_label_image(field.path)}
    photographs = tuple(field for field in found if field.field_id not in labels)
    return FieldList(photographs, found.problems), labels


def outlined_fields(found: FieldList) -> tuple[FieldList, dict[Path, Path]]:
    """The photographs that have a label image, and photograph to label image.

    Without any label image all fields are returned.

    Raises:
        SpherodetectError: label images, none of which has a photograph.
    """
    photographs, labels = split_label_images(found)
    if not labels:
        return found, {}
    pairs = paired((field.field_id for field in photographs), labels)
    if not pairs:
        raise SpherodetectError(
            f"{quoted(next(iter(labels)))}: a label image has no classes; put the photograph of "
            "the "
            "same name beside it, or add a table of cells with patient_id, field_id, cell_id and "
            "class_name"
        )
    both = tuple(field for field in photographs if field.field_id in pairs)
    used = set(pairs.values())
    alone = [f.field_id for f in photographs if f.field_id not in pairs] + [
        k for k, path in labels.items() if path not in used
    ]
    problems = [
        f"{quoted(name)}: left out, it has no photograph or no label image of the same name"
        for name in alone
    ]
    return FieldList(both, (*found.problems, *problems)), {
        field.path: pairs[field.field_id] for field in both
    }


def paired(field_ids: Iterable[str], label_images: Mapping[str, Path]) -> dict[str, Path]:
    """field_id to its label image, for the fields that have one. If there are two, the first.

    >>> paired(["p1/f1.png", "p1/f1_b.png"], {"p1/f1_b_masks.tif": Path("x.tif")})
    {'p1/f1_b.png': PosixPath('x.tif')}
    """
    starts = {start: field_id for field_id in field_ids for start in (_stem(field_id), field_id)}
    pairs: dict[str, Path] = {}
    for name, path in label_images.items():
        stem = _stem(name)
        ends = (
            k
            for k in range(len(stem), 0, -1)
            if not stem[k : k + 1].isalnum() and stem[:k] in starts
        )
        if (end := next(ends, None)) is not None:
            pairs.setdefault(starts[stem[:end]], path)
    return pairs


def _stem(field_id: str) -> str:
    return PurePosixPath(field_id).with_suffix("").as_posix()


def _is_label_image(path: Path) -> bool:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        labels = read_label_image(path)
    except BadImageError:
        return False
    alike = labels[:, 1:] == labels[:, :-1]
    return alike.size > 0 and int(labels.min()) == 0 and float(alike.mean()) > _FLAT


def read_label_image(path: Path) -> np.ndarray:
    """The (H, W) labels of a TIFF of one channel of whole numbers.

    Raises:
        BadImageError: something else, damaged, or too large.
    """
    import tifffile

    expected = f"{quoted(path)}: expected a label image, a TIFF of one whole number a cell"
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ValueError("a file that is too large")
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if (
                len(page.shape) != 2
                or page.dtype is None
                or page.dtype.kind not in "ui"
                or len(file.pages) > 1
            ):
                raise ValueError(f"pixels {page.dtype} {page.shape}")
            if np.prod(page.shape, dtype=float) > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels")
            return np.maximum(page.asarray(), 0)
    except Exception as problem:  # hostile bytes make a decoder raise nearly anything
        raise BadImageError(f"{expected}, got {quoted(problem)}; export it again") from problem


def boxes_of(labels: np.ndarray) -> dict[float, tuple[float, float, float, float]]:
    """Label to its box (ymin, xmin, ymax, xmax)."""
    values, slices = _objects(labels)
    return {
        float(v): (float(y.start), float(x.start), float(y.stop), float(x.stop))
        for v, (y, x) in zip(values, slices, strict=True)
    }


def _objects(labels: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    from scipy import ndimage

    values, numbered = np.unique(
        labels, return_inverse=True
    )  # labels may be sparse, such as 4,000,000,000
    values, first = (values[1:], 0) if len(values) and values[0] == 0 else (values, 1)
    return values, ndimage.find_objects(numbered.reshape(labels.shape).astype(np.int32) + first)


def with_outlines(cells: Cells, labels: np.ndarray) -> Cells:
    """The cells of a label image, each with the class of the model's detection at that place.

    A cell without a matching detection has no class and is left out. A red cell is countable if it
    touches neither the border nor another outlined cell.

    Raises:
        BadImageError: the label image is of another size than the photograph.
    """
    if labels.shape != cells.image_size_hw:
        expected = f"{cells.image_size_hw[1]}x{cells.image_size_hw[0]} pixels, as the photograph"
        got = f"{labels.shape[1]}x{labels.shape[0]}"
        raise BadImageError(
            f"{quoted(cells.field_id)}: expected a label image of {expected}, got {got}"
        )
    values, slices = _objects(labels)
    masks = [labels[at] == value for value, at in zip(values, slices, strict=True)]
    box = np.array([(y.start, x.start, y.stop, x.stop) for y, x in slices], np.float32).reshape(
        -1, 4
    )
    centers = [
        np.argwhere(mask).mean(axis=0) + corner
        for mask, corner in zip(masks, box[:, :2], strict=True)
    ]
    detection = match_points(cells, np.array(centers).reshape(-1, 2)).detection
    seen = detection >= 0
    known = cells[detection[seen]]
    countable = np.isin(known.names, list(RED_CELLS)) & separate(box, labels.shape)[seen]
    return replace(
        known,
        box_yxyx=box[seen],
        masks=[m for m, s in zip(masks, seen, strict=True) if s],
        countable=countable,
    )
