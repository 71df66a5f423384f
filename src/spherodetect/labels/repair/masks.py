"""Turns points, boxes and outlines into instance masks.

Images are uint8 RGB (H, W, 3), lengths are in their pixels, masks are boolean and box-local.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from spherodetect.cells import touches_border
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.geometry import fill_polygon, tight_box
from spherodetect.labels.annotations import SAME_CELL_DIAMETERS, Annotation, LabelledField
from spherodetect.labels.readers.ledger import Unread
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import FieldInstances, Instance, class_set, unknown_set
from spherodetect.labels.repair.morphology import convex_hull, free_outline, tidy
from spherodetect.labels.repair.refine import BESIDE, Refined, Refiner
from spherodetect.segment import Segmentation, segment

#: A refined mask of lower quality is not used; training then sees the box alone.
MIN_QUALITY = 0.3
#: So many drawn whole red cells give the diameter of a red cell.
_ENOUGH_DRAWN = 5
#: The diameter of a red cell where neither the pixel size nor segmentation gives one.
_FALLBACK_DIAMETER_PX = 40.0
#: An unlabelled shape with at least this solidity, an area in this range of red cells, and at least
#: this share of its outline free of neighbours is a cell.
_MIN_SOLIDITY, _CELL_DISCS, _MIN_FREE = 0.93, (0.35, 1.8), 0.9
#: Of healthy people such a shape is a red cell where its area lies in this range of red cells, and
#: where at least this share of the field's whole cells is separate: no rouleaux and no thick part.
_HEALTHY_DISCS, _MIN_SEPARATE = (0.5, 1.5), 0.5


def find_instances(image: np.ndarray, labelled: LabelledField, recipe: Recipe) -> FieldInstances:
    """Turn a field's annotations into instances.

    If the recipe says so, cells that segmentation finds and nobody labelled are added with an
    unknown class. The diameter of a red cell follows from the pixel size, or else from drawn red
    cells, or else from segmentation.

    Args:
        image: (H, W, 3) uint8.
        labelled: the field, in the pixels of image.
        recipe: what the labels' names mean.
    """
    work = _Field(image, recipe, labelled)
    single = [a for a in labelled.annotations if not a.iscrowd]
    # Points come first: a point divides a clump, of which a box would take the whole.
    work.add_points([a for a in single if a.point_yx is not None])
    for annotation in single:
        if annotation.point_yx is None:
            work.add_outlined(annotation)
    work.add_groups([a for a in labelled.annotations if a.iscrowd])
    if recipe.unlabelled_cells_unknown:
        work.add_unlabelled()
    diameter = work.rbc_diameter_px()
    return FieldInstances(
        tuple(work.instances), diameter, tuple(work.dropped), work.repaired, work.clipped
    )


class _Field:
    """The state of one field's conversion.

    Attributes:
        taken: numbers of the segmented cells that belong to an instance.
        outlined: boxes of outlines whose segmented cells will be taken too.
        drawn_diameters: of the drawn whole red cells, in pixels.
        instances, dropped, repaired, clipped: as in FieldInstances.
    """

    def __init__(self, image: np.ndarray, recipe: Recipe, labelled: LabelledField) -> None:
        self.image, self.size_hw = image, image.shape[:2]
        self.recipe, self.file = recipe, labelled.file
        self.known_diameter = RBC_DIAMETER_UM / labelled.um_per_px if labelled.um_per_px else None
        self.taken: set[int] = set()
        self.outlined: list[np.ndarray] = []
        self.drawn_diameters: list[float] = []
        self.instances: list[Instance] = []
        self.dropped: list[Unread] = []
        self.repaired: Counter[str] = Counter()
        self.clipped = 0

    @cached_property
    def segmentation(self) -> Segmentation:
        """Made on first use: a field whose cells were all drawn needs none."""
        return segment(self.image, rbc_diameter_px=self.known_diameter)

    @cached_property
    def refiner(self) -> Refiner:
        return Refiner(self.segmentation, self.diameter)

    @property
    def labels(self) -> np.ndarray:
        return self.segmentation.labels

    @property
    def windows(self) -> Any:
        return self.refiner.windows

    @property
    def diameter(self) -> float:
        diameter = self.known_diameter or self.segmentation.rbc_diameter_px
        return diameter if np.isfinite(diameter) else _FALLBACK_DIAMETER_PX

    def rbc_diameter_px(self) -> float:
        """The diameter of a red cell of this field, NaN where it is not known."""
        if self.known_diameter:
            return self.known_diameter
        if len(self.drawn_diameters) >= _ENOUGH_DRAWN:
            return float(np.median(self.drawn_diameters))
        return self.segmentation.rbc_diameter_px

    def add_points(self, points: Sequence[Annotation]) -> None:
        by_cell: dict[int, list[Annotation]] = {}
        for annotation in points:
            by_cell.setdefault(self._cell_at(_point(annotation)), []).append(annotation)
        for cell, here in by_cell.items():
            here = self._without_doubles(here)
            if cell:
                self.taken.add(cell)
            self.repaired["split-by-points"] += len(here) if cell and len(here) > 1 else 0
            red = [self.recipe.meaning(a.name).red_cell for a in here]
            masks = self.refiner.at_points(cell, [_point(a) for a in here], red)
            for annotation, refined in zip(here, masks, strict=True):
                self.taken |= self._under(refined)
                around = _box_around(_point(annotation), self.diameter, self.size_hw)
                if not self._append_refined(annotation, refined, around):
                    self.repaired["point-beside-cell"] += cell == 0

    def add_outlined(self, annotation: Annotation) -> None:
        """Add a box, which is refined to a mask, or an outline, which is taken as drawn."""
        box = np.array(annotation.outline_box_yxyx, float)
        inner = np.clip(box, 0, [*self.size_hw, *self.size_hw])
        if (inner[2:] - inner[:2]).min() < 1:
            self.dropped.append(Unread(self.file, annotation.annotation_id, "outside-image"))
            return
        self.clipped += int(np.abs(inner - box).max() > 1e-6)
        drawn = self._drawn_mask(annotation, inner)
        self.outlined.append(inner)
        if drawn is None:
            refined = self.refiner.in_box(inner)
            self.repaired["box-to-mask"] += self._append_refined(annotation, refined, inner)
            return
        self._append_mask(annotation, drawn, np.floor(inner[:2]).astype(int), 1.0)
        is_red = self.recipe.meaning(annotation.name).red_cell
        if is_red and not touches_border(inner, self.size_hw)[0]:
            self.drawn_diameters.append(2 * float(np.sqrt(drawn.sum() / np.pi)))

    def add_groups(self, groups: Sequence[Annotation]) -> None:
        """Drop outlines around several cells; their cells without own labels become unknown."""
        for annotation in groups:
            self.dropped.append(Unread(self.file, annotation.annotation_id, "group-of-cells"))
            box = np.clip(
                annotation.outline_box_yxyx or (0, 0, 0, 0), 0, [*self.size_hw, *self.size_hw]
            )
            self._add_unknown(self._covered(box))

    def add_unlabelled(self) -> None:
        windows = enumerate(self.windows, 1)
        self._add_unknown({cell for cell, window in windows if window is not None})

    def _add_unknown(self, cells: set[int]) -> None:
        for box in self.outlined:
            self.taken |= self._covered(box)
        self.outlined = []
        found = []
        for cell in sorted(cells - self.taken):
            y, x = self.windows[cell - 1]
            mask = tidy(self.labels[y, x] == cell)
            y0, x0, y1, x1 = tight = tight_box(mask)
            box = np.add(tight, [y.start, x.start] * 2).astype(float)
            mask = mask[y0:y1, x0:x1]
            found.append((box, mask, self._is_some_cell(cell, mask, box)))
        self.instances += self._unlabelled(found)
        self.taken |= cells

    def _unlabelled(self, found: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> list[Instance]:
        """Instances of segmented shapes without a label: box, mask, and whether it is a cell."""
        anything = unknown_set(self.recipe.class_names)
        whole = [sure for box, _, sure in found if not touches_border(box, self.size_hw)[0]]
        spread = self.recipe.healthy and sum(whole) >= _MIN_SEPARATE * len(whole)
        red = self.recipe.class_names.index("rbc") + 1 if spread else 0
        instances = []
        for box, mask, sure in found:
            discs = mask.sum() / (np.pi / 4 * self.diameter**2)
            if sure and red and _HEALTHY_DISCS[0] <= discs <= _HEALTHY_DISCS[1]:
                instances.append(Instance(box, mask, 1 << red, red))
            else:
                instances.append(Instance(box, mask, anything & ~1 if sure else anything))
        return instances

    def _is_some_cell(self, cell: int, mask: np.ndarray, box: np.ndarray) -> bool:
        """Whether a segmented shape is certainly a cell of some class.

        Such a shape is whole, convex, separate and of usual size. Its class set excludes
        background, so that it raises the confidence of the detector.
        """
        discs = mask.sum() / (np.pi / 4 * self.diameter**2)
        if touches_border(box, self.size_hw)[0] or not _CELL_DISCS[0] <= discs <= _CELL_DISCS[1]:
            return False
        if mask.sum() < _MIN_SOLIDITY * convex_hull(mask).sum():
            return False
        y, x = (slice(max(0, side.start - 1), side.stop + 1) for side in self.windows[cell - 1])
        here = self.labels[y, x]
        return free_outline(here == cell, here > 0) >= _MIN_FREE

    def _cell_at(self, point_yx: tuple[float, float]) -> int:
        """The segmented cell under a point, or the only one near it, or 0."""
        height, width = self.size_hw
        y, x = int(np.clip(point_yx[0], 0, height - 1)), int(np.clip(point_yx[1], 0, width - 1))
        if self.labels[y, x]:
            return int(self.labels[y, x])
        reach = max(1, round(BESIDE * self.diameter))
        near = self.labels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        cells = np.unique(near[near > 0])
        return int(cells[0]) if len(cells) == 1 else 0

    def _without_doubles(self, here: list[Annotation]) -> list[Annotation]:
        kept: list[Annotation] = []
        for annotation in here:
            apart = [np.hypot(*np.subtract(_point(annotation), _point(other))) for other in kept]
            if apart and min(apart) < SAME_CELL_DIAMETERS * self.diameter:
                reason = "second-point-of-a-cell"
                self.dropped.append(Unread(self.file, annotation.annotation_id, reason))
            else:
                kept.append(annotation)
        return kept

    def _drawn_mask(self, annotation: Annotation, box: np.ndarray) -> np.ndarray | None:
        """The drawn mask over the box's whole pixels; None for a rectangle or an empty mask."""
        if annotation.is_rectangle:
            return None
        y0, x0 = np.floor(box[:2]).astype(int)
        y1, x1 = np.ceil(box[2:]).astype(int)
        if annotation.mask is not None:
            mask = np.asarray(annotation.mask[y0:y1, x0:x1])
            return mask if mask.any() else None
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for outline in annotation.polygons:
            if len(outline) >= 3:
                mask |= fill_polygon(outline - [y0, x0], mask.shape)
        return mask if mask.any() else None

    def _covered(self, box: np.ndarray) -> set[int]:
        """The segmented cells that lie mostly in a box."""
        y0, x0 = np.floor(box[:2]).astype(int)
        y1, x1 = np.ceil(box[2:]).astype(int)
        return self._mostly(self.labels[y0:y1, x0:x1])

    def _under(self, refined: Refined) -> set[int]:
        """The segmented cells that lie mostly in a mask."""
        y, x = refined.origin_yx
        labels = self.labels[y : y + refined.mask.shape[0], x : x + refined.mask.shape[1]]
        return self._mostly(labels[refined.mask])

    def _mostly(self, labels: np.ndarray) -> set[int]:
        """The segmented cells of which more than half is among these labels."""
        cells, inside = np.unique(labels[labels > 0], return_counts=True)
        areas = [(self.labels[self.windows[cell - 1]] == cell).sum() for cell in cells]
        return {
            int(cell) for cell, n, area in zip(cells, inside, areas, strict=True) if 2 * n > area
        }

    def _append_refined(self, annotation: Annotation, refined: Refined, box: np.ndarray) -> bool:
        """Add the refined mask if its quality suffices, or else the box alone; True for a mask."""
        suffices = refined.quality >= MIN_QUALITY
        if suffices:
            self._append_mask(annotation, refined.mask, refined.origin_yx, refined.quality)
        else:
            self._append(annotation, None, box, refined.quality)
        return suffices

    def _append_mask(
        self, annotation: Annotation, mask: np.ndarray, origin_yx: np.ndarray, quality: float
    ) -> None:
        y0, x0, y1, x1 = tight = tight_box(mask)
        box = np.add(tight, [*origin_yx, *origin_yx]).astype(float)
        self._append(annotation, mask[y0:y1, x0:x1], box, quality)

    def _append(
        self, annotation: Annotation, mask: np.ndarray | None, box: np.ndarray, quality: float
    ) -> None:
        meaning = self.recipe.meaning(annotation.name)
        self.instances.append(
            Instance(
                box,
                mask,
                class_set(meaning, self.recipe.class_names),
                meaning.class_id,
                meaning.fine_name,
                annotation.annotation_id,
                quality,
            )
        )


def _point(annotation: Annotation) -> tuple[float, float]:
    assert annotation.point_yx is not None, "only labelled points come here"
    return annotation.point_yx


def _box_around(
    point_yx: tuple[float, float], diameter_px: float, size_hw: tuple[int, int]
) -> np.ndarray:
    y, x = point_yx
    r = diameter_px / 2
    return np.clip([y - r, x - r, y + r, x + r], 0, [*size_hw, *size_hw])
