"""Compares labels with the images: labels beside cells, and cells without a label.

Only fields with an image and a label file are examined. A segmented cell counts as labelled if a
point lies in it or a box covers its centre. Cells at the image's edge are not counted. Counting
needs no fine outline, so a reduced copy of the field is segmented first, and the field itself only
if a point seems to miss every cell.
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
from spherodetect.labels.check.beside import labels_on_slide, misread_conventions, on_slide_finding
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe
from spherodetect.workers import working

if TYPE_CHECKING:
    from spherodetect.segment import Segmentation

#: A point may be this far from its cell, in red-cell diameters.
REACH = 0.2
#: Where the density is below this part of the segmentation threshold there is only slide. On Chula
#: RBC-12 it is at most 0.24 around points beside cells, and at least 0.52 in the ghosts of cells
#: that segmentation misses.
FAINT = 0.35
#: Segmentation splits a cell, or takes dirt for one, less often than this.
MIN_UNLABELLED_SHARE = 0.05
#: A red cell of this width suffices to count cells: on Chula RBC-12, 64.2 % of them are then
#: without a label, at full size 63.9 %.
_ENOUGH_PX = 19
#: The longer side of the reduced copy where the width of a cell is not known.
_ENOUGH_SIDE_PX = 640
#: Fields that `sampled_coverage` examines.
_SAMPLED_FIELDS = 24
#: A reduced copy keeps at least this many pixels a side.
_MIN_SIDE_PX = 64


@dataclass(frozen=True)
class FieldCoverage:
    """How far one field's cells are labelled.

    Attributes:
        beside: ids of the points that lie beside every cell.
        n_cells: whole cells that segmentation finds.
        n_unlabelled: those of them without a label.
        problem: why the image could not be read; empty if it could.
        on_slide: ids of the boxes and outlines that meet no cell.
    """

    beside: tuple[str, ...]
    n_cells: int
    n_unlabelled: int
    problem: str = ""
    on_slide: tuple[str, ...] = ()


def lint_images(
    labels: LabelSet,
    recipe: Recipe,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """The findings on labels beside cells, cells without a label, and unreadable images.

    Args:
        labels: the labels read.
        recipe: says whether cells without a label are of unknown class.
        workers: processes that examine images; with more than one, a script needs the usual
            `__main__` guard.
        progress: called with the number of images examined and the total.
    """
    fields = examinable(labels)
    n_cells: dict[str | None, int] = defaultdict(int)
    n_unlabelled: dict[str | None, int] = defaultdict(int)
    on_slide: dict[tuple[str, str | None], tuple[str, ...]] = defaultdict(tuple)
    for done, (field, found) in enumerate(zip(fields, _examine(fields, workers), strict=True), 1):
        n_cells[field.split] += found.n_cells
        n_unlabelled[field.split] += found.n_unlabelled
        if found.problem:
            yield Finding(
                "malformed",
                "error",
                field.file,
                field.split,
                1,
                (),
                found.problem,
                "put an image there that opens, or delete it and its labels",
            )
        if found.beside:
            yield Finding(
                "point-beside-cell",
                "warning",
                labels.label_files.get(field.file, field.file),
                field.split,
                len(found.beside),
                found.beside,
                "points lie on empty slide, beside every cell",
                "move them onto their cells, or delete them",
            )
        if found.on_slide:
            label_file = labels.label_files.get(field.file, field.file)
            on_slide[label_file, field.split] += found.on_slide
        progress(done, len(fields))
    misread = list(misread_conventions(labels))
    yield from misread
    for (file, split), ids in on_slide.items():
        if not any(set(ids) <= set(f.annotation_ids) for f in misread):
            yield on_slide_finding(file, split, ids)
    for split, total in n_cells.items():
        count = n_unlabelled[split]
        if has_unlabelled(count, total):
            known = recipe.unlabelled_cells_unknown
            yield Finding(
                "unlabelled-cells",
                "note" if known else "error",
                labels.where(f for f in fields if f.split == split),
                split,
                count,
                (),
                f"{count:,} of {total:,} whole cells carry no label; "
                "used as background they train the model to miss cells",
                "nothing: the recipe makes them cells of unknown class"
                if known
                else "label them, or set unlabelled_cells: unknown in a recipe",
            )


def sampled_coverage(labels: LabelSet) -> tuple[int, int]:
    """Whole cells without a label, and all whole cells, of at most 24 fields of a data set.

    Every k-th field is examined, so that each patient and slide has its part.
    """
    fields = examinable(labels)
    step = -(-len(fields) // _SAMPLED_FIELDS) or 1
    found = [examine(field) for field in fields[::step]]
    return sum(f.n_unlabelled for f in found), sum(f.n_cells for f in found)


def unstated_unlabelled(labels: LabelSet) -> list[Finding]:
    """The finding unlabelled-cells of a sample, where the recipe says nothing of such cells."""
    n_unlabelled, n_cells = sampled_coverage(labels)
    if not has_unlabelled(n_unlabelled, n_cells):
        return []
    return [
        Finding(
            "unlabelled-cells",
            "warning",
            labels.where(examinable(labels)),
            None,
            n_unlabelled,
            (),
            f"{n_unlabelled:,} of {n_cells:,} whole cells carry no label in a sample of the "
            "photographs, and the recipe says nothing of them; training takes them for background",
            "set unlabelled_cells: unknown in the recipe, or none if they are no cells",
        )
    ]


def has_unlabelled(n_unlabelled: int, n_cells: int) -> bool:
    """Whether so many cells carry no label that errors of segmentation do not explain it."""
    return n_unlabelled > MIN_UNLABELLED_SHARE * n_cells


def examinable(labels: LabelSet) -> list[LabelledField]:
    """The fields with an image and a label file, which may be empty."""
    return [f for f in labels.fields if f.path and f.labelled]


def examine(field: LabelledField) -> FieldCoverage:
    """Compare one field's labels with its segmentation."""
    from PIL import Image

    from spherodetect.fields.image import read_image
    from spherodetect.photograph import Photograph

    assert field.path is not None
    try:
        image = Photograph(read_image(field.path, name=field.file)).picture
    except BadImageError as problem:
        return FieldCoverage((), 0, 0, str(problem))
    if image.shape[:2] != field.size_hw:
        # The reader has noted this; the place of the labels on the image is not known.
        return FieldCoverage((), 0, 0)
    on_slide = labels_on_slide(image, field)
    factor = _reduction(field)
    small = np.asarray(Image.fromarray(image).reduce(factor)) if factor > 1 else image
    found = _compare(_reduced(field, factor, small.shape[:2]), small)
    if found.beside and factor > 1:
        found = replace(found, beside=_compare(field, image).beside)
    return replace(found, on_slide=on_slide)


def _reduction(field: LabelledField) -> int:
    """The factor by which a field may be reduced so that its cells can still be counted."""
    boxes = [a.outline_box_yxyx for a in field.annotations if a.outline_box_yxyx]
    if field.um_per_px:
        factor = RBC_DIAMETER_UM / field.um_per_px / _ENOUGH_PX
    elif boxes:
        drawn = np.array(boxes)
        factor = float(np.median(drawn[:, 2:] - drawn[:, :2])) / _ENOUGH_PX
    else:
        factor = max(field.size_hw) / _ENOUGH_SIDE_PX
    return max(1, min(int(factor), min(field.size_hw) // _MIN_SIDE_PX))


def _reduced(field: LabelledField, factor: int, size_hw: tuple[int, int]) -> LabelledField:
    """The field in the pixels of its reduced copy, with boxes instead of outlines."""

    def shrunk(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return tuple(v / factor for v in values) if values else None

    annotations = [
        Annotation(a.annotation_id, a.name, shrunk(a.outline_box_yxyx), shrunk(a.point_yx))  # type: ignore[arg-type]
        for a in field.annotations
    ]
    scale = field.um_per_px and field.um_per_px * factor
    return replace(field, size_hw=size_hw, annotations=tuple(annotations), um_per_px=scale)


def _compare(field: LabelledField, image: np.ndarray) -> FieldCoverage:
    """Compare a field's labels with the segmentation of its image, in the same pixels."""
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
        distance = ndimage.distance_transform_edt(found.labels == 0)
        for a in points:
            y, x = np.clip(np.array(a.point_yx, int), 0, size_hw - 1)
            labelled[found.labels[y, x]] = True
            if distance[y, x] > reach and _is_slide(found, y, x, reach):
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
    """Whether there is only slide around a point.

    Annotators see ghosts of cells that segmentation misses; those are no slide.
    """
    from scipy import ndimage

    around = int(2 * reach) + 1
    rows = slice(max(0, y - around), y + around + 1)
    columns = slice(max(0, x - around), x + around + 1)
    smooth = ndimage.gaussian_filter(found.density[rows, columns], 0.25 * reach)
    bottom, right = rows.start + smooth.shape[0], columns.start + smooth.shape[1]
    ys, xs = np.ogrid[rows.start : bottom, columns.start : right]
    return float(smooth[np.hypot(ys - y, xs - x) <= reach].max()) < FAINT * found.threshold


def _examine(fields: Sequence[LabelledField], workers: int) -> Iterator[FieldCoverage]:
    with working(workers if len(fields) >= 2 * workers else 1, chunk=4) as mapped:
        yield from mapped(examine, fields)
