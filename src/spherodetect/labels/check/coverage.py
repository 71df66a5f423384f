"""Holds labels against what segmentation sees: points beside cells, and cells without a label.

Only fields with an image and a label file are looked at. A segmented cell counts as labelled if a
point lies in it or a box covers its centre; cells at the image's edge are left out of the count.
Counting needs no fine outline: a smaller copy of the field is segmented, and the field itself only
where a point seems to miss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.cells import touches_border
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.errors import BadImageError
from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe

if TYPE_CHECKING:
    from spherodetect.segment import Segmentation

#: A point may lie this far from a cell, in diameters, and still mean it.
REACH = 0.2
#: Less density than this, in thresholds of the foreground, is slide: on Chula RBC-12 it reads 0.24
#: at most around points beside cells, and 0.52 at least in the ghosts of cells that segmentation
#: misses.
FAINT = 0.35
#: Segmentation divides a cell, or takes dirt for one, less often than this.
MIN_UNLABELLED_SHARE = 0.05
#: A red cell this wide suffices: Chula RBC-12 then has 64.2 % of its cells without a label, at full
#: size 63.9 %.
_ENOUGH_PX = 19
_ENOUGH_SIDE_PX = 640  # where nobody knows how wide a cell is


@dataclass(frozen=True)
class FieldCoverage:
    """One field: ids of the points beside any cell, and how many of the whole cells carry no
    label."""

    beside: tuple[str, ...]
    n_cells: int
    n_unlabelled: int
    problem: str = ""


def lint_images(
    labels: LabelSet,
    recipe: Recipe,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """The findings point-beside-cell and unlabelled-cells, and malformed for images that cannot be
    decoded.

    Args:
        labels: what was read.
        recipe: whether cells without a label are known to be unknown.
        workers: processes that look at images; with more than one, a script needs the usual
            `__main__` guard.
        progress: called with images looked at and in all.
    """
    fields = fields_to_look_at(labels)
    n_cells: dict[str | None, int] = defaultdict(int)
    n_unlabelled: dict[str | None, int] = defaultdict(int)
    for done, (field, seen) in enumerate(zip(fields, _look(fields, workers), strict=True), 1):
        n_cells[field.split] += seen.n_cells
        n_unlabelled[field.split] += seen.n_unlabelled
        if seen.problem:
            yield Finding(
                "malformed",
                "error",
                field.file,
                field.split,
                1,
                (),
                seen.problem,
                "put an image there that opens, or delete it and its labels",
            )
        if seen.beside:
            yield Finding(
                "point-beside-cell",
                "warning",
                labels.label_files.get(field.file, field.file),
                field.split,
                len(seen.beside),
                seen.beside,
                "points lie on empty slide, beside every cell",
                "move them onto their cells, or delete them",
            )
        progress(done, len(fields))
    for split, total in n_cells.items():
        count = n_unlabelled[split]
        if count > MIN_UNLABELLED_SHARE * total:
            known = recipe.unlabelled_cells_unknown
            where = labels.where(f for f in fields if f.split == split)
            yield Finding(
                "unlabelled-cells",
                "warning" if known else "error",
                where,
                split,
                count,
                (),
                f"{count:,} of {total:,} whole cells carry no label; as background they teach a model to miss cells",
                "the recipe makes them cells of unknown class"
                if known
                else "label them, or say unlabelled_cells: unknown in a recipe",
            )


def fields_to_look_at(labels: LabelSet) -> list[LabelledField]:
    """The fields that have an image and a label file, be it an empty one."""
    return [f for f in labels.fields if f.path and f.labelled]


def look(field: LabelledField) -> FieldCoverage:
    """Hold one field's labels against its segmentation."""
    from PIL import Image

    from spherodetect.fields.image import read_image

    assert field.path is not None
    try:
        image = read_image(field.path, name=field.file)
    except BadImageError as problem:
        return FieldCoverage((), 0, 0, str(problem))
    if (
        image.shape[:2] != field.size_hw
    ):  # found on reading; where the labels lie is then anyone's guess
        return FieldCoverage((), 0, 0)
    factor = _reduction(field)
    if factor == 1:
        return _hold(field, image)
    small = np.asarray(Image.fromarray(image).reduce(factor))
    seen = _hold(_reduced(field, factor, small.shape[:2]), small)
    return replace(seen, beside=_hold(field, image).beside) if seen.beside else seen


def _reduction(field: LabelledField) -> int:
    """By how much a field may shrink and still show its cells."""
    drawn = np.array([a.outline_box_yxyx for a in field.annotations if a.outline_box_yxyx]).reshape(
        -1, 4
    )
    if field.um_per_px:
        factor = RBC_DIAMETER_UM / field.um_per_px / _ENOUGH_PX
    elif len(drawn):
        factor = float(np.median(drawn[:, 2:] - drawn[:, :2])) / _ENOUGH_PX
    else:
        factor = max(field.size_hw) / _ENOUGH_SIDE_PX
    return max(1, min(int(factor), min(field.size_hw) // 64))


def _reduced(field: LabelledField, factor: int, size_hw: tuple[int, int]) -> LabelledField:
    """The field in the pixels of its reduced copy; boxes stand for outlines."""

    def shrunk(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return tuple(v / factor for v in values) if values else None

    annotations = [
        Annotation(a.annotation_id, a.name, shrunk(a.outline_box_yxyx), shrunk(a.point_yx))  # type: ignore[arg-type]
        for a in field.annotations
    ]
    scale = field.um_per_px and field.um_per_px * factor
    return replace(field, size_hw=size_hw, annotations=tuple(annotations), um_per_px=scale)


def _hold(field: LabelledField, image: np.ndarray) -> FieldCoverage:
    """Hold a field's labels against the segmentation of its image."""
    from scipy import ndimage

    from spherodetect.segment import segment

    size_hw = np.array(image.shape[:2])
    diameter = RBC_DIAMETER_UM / field.um_per_px if field.um_per_px else None
    found = segment(image, rbc_diameter_px=diameter)
    if not found.n_cells:
        return FieldCoverage(tuple(a.annotation_id for a in field.annotations if a.point_yx), 0, 0)
    labelled = np.zeros(found.n_cells + 1, bool)
    beside = []
    if points := [a for a in field.annotations if a.point_yx]:
        reach = REACH * (diameter or found.rbc_diameter_px)
        away = ndimage.distance_transform_edt(found.labels == 0)
        for a in points:
            y, x = np.clip(np.array(a.point_yx, int), 0, size_hw - 1)
            labelled[found.labels[y, x]] = True
            if away[y, x] > reach and _is_slide(found, y, x, reach):
                beside.append(a.annotation_id)
    windows = ndimage.find_objects(found.labels)
    box = np.array(
        [[rows.start, columns.start, rows.stop, columns.stop] for rows, columns in windows]
    )
    centre = (box[:, :2] + box[:, 2:]) / 2
    for a in field.annotations:
        if drawn := a.outline_box_yxyx:
            labelled[1:] |= ((centre >= drawn[:2]) & (centre <= drawn[2:])).all(axis=1)
    whole = ~touches_border(box, field.size_hw)
    return FieldCoverage(tuple(beside), int(whole.sum()), int((whole & ~labelled[1:]).sum()))


def _is_slide(found: Segmentation, y: int, x: int, reach: float) -> bool:
    """Whether nothing lies around a point: segmentation misses ghosts of cells, which annotators
    see."""
    from scipy import ndimage

    around = int(2 * reach) + 1
    rows, columns = (
        slice(max(0, y - around), y + around + 1),
        slice(max(0, x - around), x + around + 1),
    )
    smooth = ndimage.gaussian_filter(found.density[rows, columns], 0.25 * reach)
    ys, xs = np.ogrid[
        rows.start : rows.start + smooth.shape[0], columns.start : columns.start + smooth.shape[1]
    ]
    return float(smooth[np.hypot(ys - y, xs - x) <= reach].max()) < FAINT * found.threshold


def _look(fields: Sequence[LabelledField], workers: int) -> Iterator[FieldCoverage]:
    if workers <= 1 or len(fields) < 2 * workers:
        yield from map(look, fields)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Forking a process that runs TensorFlow's threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(look, fields, chunksize=4)
