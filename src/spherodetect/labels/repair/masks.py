"""Points, boxes and outlines become instance masks, each with what is known about its class.

Images are uint8 RGB (H, W, 3), lengths are in their pixels, masks are boolean and box-local. What
is known about a class is a set of the classes it may be, written as bits: bit k for class k, bit 0
for background. A labelled spherocyte is {spherocyte}, a red cell of unknown kind {rbc, spherocyte},
an unlabelled cell anything at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, touches_border
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.geometry import fill_polygon, tight_box
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.readers.ledger import Unread
from spherodetect.labels.recipe import Meaning, Recipe
from spherodetect.labels.repair.refine import BESIDE, Refined, Refiner, tidy
from spherodetect.segment import Segmentation, segment

#: A refined mask of less quality than this is not believed: its label stays a box and teaches no
#: mask.
MIN_QUALITY = 0.3
#: Two points closer than this share of a red cell's diameter mark the same cell.
SAME_CELL = 0.35
#: So many whole red cells that people drew tell a red cell's diameter.
_ENOUGH_DRAWN = 5


@dataclass(frozen=True, eq=False)
class Instance:
    """One cell that teaches.

    Attributes:
        box_yxyx: (4,) float, tight on the mask where there is one.
        mask: boolean over the box's whole pixels, or None: then the box alone teaches.
        class_set: bits of the classes it may be.
        class_id: the class, or 0 where the set holds more than one.
        name: the annotator's own name for it, empty if nobody labelled it.
        annotation_id: empty if nobody labelled it.
        quality: 0 to 1, how sure the mask is (labels/refine.py); 1 where somebody drew it.
    """

    box_yxyx: np.ndarray
    mask: np.ndarray | None
    class_set: int
    class_id: int = 0
    name: str = ""
    annotation_id: str = ""
    quality: float = 1.0


@dataclass(frozen=True, eq=False)
class FieldInstances:
    """All that one field teaches, and the account of its annotations (read = written + dropped)."""

    instances: tuple[Instance, ...]
    rbc_diameter_px: float
    dropped: tuple[Unread, ...] = ()
    repaired: Counter[str] = field(default_factory=Counter)
    clipped: int = 0


def find_instances(image: np.ndarray, labelled: LabelledField, recipe: Recipe) -> FieldInstances:
    """Turn a field's annotations into instances; `labelled` is in the pixels of `image`.

    Cells that segmentation finds and nobody labelled are added with an unknown class where the
    recipe says so. Where the pixel size is not known, red cells that people drew tell a red cell's
    diameter, or else segmentation.
    """
    work = _Field(image, recipe, labelled)
    points = [a for a in labelled.annotations if a.point_yx is not None and not a.iscrowd]
    work.add_points(points)
    for annotation in labelled.annotations:
        if annotation.point_yx is None and not annotation.iscrowd:
            work.add_outlined(annotation)
    work.add_groups([a for a in labelled.annotations if a.iscrowd])
    if recipe.unlabelled_cells_unknown:
        work.add_unlabelled()
    diameter = work.rbc_diameter_px()
    return FieldInstances(
        tuple(work.instances), diameter, tuple(work.dropped), work.repaired, work.clipped
    )


def class_set(meaning: Meaning, class_names: Sequence[str]) -> int:
    """The bits of the classes that a label's meaning allows.

    >>> class_set(Meaning(0, None, "RBC", True), ("rbc", "spherocyte", "wbc"))
    6
    """
    if meaning.class_id:
        return 1 << meaning.class_id
    if meaning.red_cell:
        return sum(1 << k for k, name in enumerate(class_names, 1) if name in RED_CELLS)
    return unknown_set(class_names)


def unknown_set(class_names: Sequence[str]) -> int:
    """The bits of every class and of background: nothing is known."""
    return (1 << (len(class_names) + 1)) - 1


class _Field:
    """The state of one field's conversion: which segmented cells are taken, and the account so
    far."""

    def __init__(self, image: np.ndarray, recipe: Recipe, labelled: LabelledField) -> None:
        self.image, self.size_hw, self.recipe, self.file = (
            image,
            image.shape[:2],
            recipe,
            labelled.file,
        )
        self.known_diameter = RBC_DIAMETER_UM / labelled.um_per_px if labelled.um_per_px else None
        self.taken: set[int] = set()
        self.outlined: list[np.ndarray] = []  # boxes whose segmented cells are taken too
        self.drawn_diameters: list[float] = []
        self.instances: list[Instance] = []
        self.dropped: list[Unread] = []
        self.repaired: Counter[str] = Counter()
        self.clipped = 0

    @cached_property
    def segmentation(self) -> Segmentation:
        """Made when it is first asked for: a field whose cells were all drawn needs none."""
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
        return diameter if np.isfinite(diameter) else 40.0

    def rbc_diameter_px(self) -> float:
        """The diameter of a red cell of this field, NaN where nothing tells."""
        if self.known_diameter:
            return self.known_diameter
        enough = len(self.drawn_diameters) >= _ENOUGH_DRAWN
        return (
            float(np.median(self.drawn_diameters)) if enough else self.segmentation.rbc_diameter_px
        )

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
        """A box, or an outline that is more than its own box."""
        box = np.array(annotation.outline_box_yxyx, float)
        inner = np.clip(box, 0, [*self.size_hw, *self.size_hw])
        if (inner[2:] - inner[:2]).min() < 1:
            self.dropped.append(Unread(self.file, annotation.annotation_id, "outside-image"))
            return
        self.clipped += int(np.abs(inner - box).max() > 1e-6)
        drawn = self._drawn_mask(annotation, inner)
        self.outlined.append(inner)
        if drawn is None:
            self.repaired["box-to-mask"] += self._append_refined(
                annotation, self.refiner.in_box(inner), inner
            )
            return
        self._append_mask(annotation, drawn, np.floor(inner[:2]).astype(int), 1.0)
        if (
            self.recipe.meaning(annotation.name).red_cell
            and not touches_border(inner, self.size_hw)[0]
        ):
            self.drawn_diameters.append(2 * float(np.sqrt(drawn.sum() / np.pi)))

    def add_groups(self, groups: Sequence[Annotation]) -> None:
        """An outline around several cells says nothing of any one: those that nobody labelled
        singly stay unknown."""
        for annotation in groups:
            self.dropped.append(Unread(self.file, annotation.annotation_id, "group-of-cells"))
            box = np.clip(
                annotation.outline_box_yxyx or (0, 0, 0, 0), 0, [*self.size_hw, *self.size_hw]
            )
            self._add_unknown(self._covered(box))

    def add_unlabelled(self) -> None:
        self._add_unknown(
            {cell for cell, window in enumerate(self.windows, 1) if window is not None}
        )

    def _add_unknown(self, cells: set[int]) -> None:
        for box in self.outlined:
            self.taken |= self._covered(box)
        self.outlined = []
        for cell in sorted(cells - self.taken):
            y, x = self.windows[cell - 1]
            mask = tidy(self.labels[y, x] == cell)
            y0, x0, y1, x1 = tight = tight_box(mask)
            box = np.add(tight, [y.start, x.start] * 2).astype(float)
            self.instances.append(
                Instance(box, mask[y0:y1, x0:x1], unknown_set(self.recipe.class_names))
            )
        self.taken |= cells

    def _cell_at(self, point_yx: tuple[float, float]) -> int:
        """The segmented cell under a point, or the only one within a fifth of a diameter, or 0."""
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
            if apart and min(apart) < SAME_CELL * self.diameter:
                self.dropped.append(
                    Unread(self.file, annotation.annotation_id, "second-point-of-a-cell")
                )
            else:
                kept.append(annotation)
        return kept

    def _drawn_mask(self, annotation: Annotation, box: np.ndarray) -> np.ndarray | None:
        """The mask that the annotator drew, over the box's whole pixels; None where it is only a
        rectangle."""
        y0, x0 = np.floor(box[:2]).astype(int)
        y1, x1 = np.ceil(box[2:]).astype(int)
        if annotation.is_rectangle:
            return None
        if annotation.mask is not None:
            mask = np.asarray(annotation.mask[y0:y1, x0:x1])
            return mask if mask.any() else None
        outlines = [p for p in annotation.polygons if len(p) >= 3]
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for outline in outlines:
            mask |= fill_polygon(outline - [y0, x0], mask.shape)
        return mask if mask.any() else None

    def _covered(self, box: np.ndarray) -> set[int]:
        """The segmented cells that lie mostly in a box."""
        y0, x0 = np.floor(box[:2]).astype(int)
        y1, x1 = np.ceil(box[2:]).astype(int)
        return self._mostly(self.labels[y0:y1, x0:x1])

    def _mostly(self, labels: np.ndarray) -> set[int]:
        """The segmented cells of which more than half is among these labels."""
        cells, inside = np.unique(labels[labels > 0], return_counts=True)
        areas = [(self.labels[self.windows[cell - 1]] == cell).sum() for cell in cells]
        return {
            int(cell) for cell, n, area in zip(cells, inside, areas, strict=True) if 2 * n > area
        }

    def _under(self, refined: Refined) -> set[int]:
        """The segmented cells that lie mostly in a mask."""
        y, x = refined.origin_yx
        labels = self.labels[y : y + refined.mask.shape[0], x : x + refined.mask.shape[1]]
        return self._mostly(labels[refined.mask])

    def _append_refined(self, annotation: Annotation, refined: Refined, box: np.ndarray) -> bool:
        """Add the refined mask, or the box alone where the mask is not to be believed; whether it
        was."""
        believed = refined.quality >= MIN_QUALITY
        if believed:
            self._append_mask(annotation, refined.mask, refined.origin_yx, refined.quality)
        else:
            self._append(annotation, None, box, refined.quality)
        return believed

    def _append_mask(
        self, annotation: Annotation, mask: np.ndarray, origin: np.ndarray, quality: float
    ) -> None:
        y0, x0, y1, x1 = tight = tight_box(mask)
        self._append(
            annotation, mask[y0:y1, x0:x1], np.add(tight, [*origin, *origin]).astype(float), quality
        )

    def _append(
        self, annotation: Annotation, mask: np.ndarray | None, box: np.ndarray, quality: float
    ) -> None:
        meaning = self.recipe.meaning(annotation.name)
        bits = class_set(meaning, self.recipe.class_names)
        self.instances.append(
            Instance(
                box,
                mask,
                bits,
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
