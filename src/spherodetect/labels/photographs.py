"""Which files show one photograph: the name says it, and labels and pixels decide.

Augmented copies of a photograph share its name. But tools that flatten folders also give one name
to photographs of several patients. So files of one name are copies only if their labels or pixels
agree, turned, mirrored or zoomed as they may be. Where neither can be compared, the name decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.check.duplicates import flatten, thumbnail
from spherodetect.labels.check.registration import SIZE, show_the_same

#: Fewer labels may agree by chance.
_MIN_LABELS = 12
#: Radius of the disc for a point, in pixels of the picture.
_POINT_RADIUS = 1.5
#: Correlation of two files of the same picture, saved twice; flattened pixels have a mean of 0 and
#: a standard deviation of 1.
_SAME_PIXELS = 0.95
#: Comparisons of one name; the names decide on the files that are left.
_MOST_COMPARISONS = 300


def tell_apart(fields: Sequence[LabelledField]) -> tuple[LabelledField, ...]:
    """The fields; those that share only the name of a photograph get a view of their own."""
    alike: dict[str, list[int]] = defaultdict(list)
    told = [replace(field, view_id="") for field in fields]
    for index, field in enumerate(told):
        alike[field.view].append(index)
    for view, members in alike.items():
        if len(members) > 1:
            for number, group in enumerate(_groups(told, members), 1):
                for index in group if number > 1 else ():
                    told[index] = replace(told[index], view_id=f"{view} #{number}")
    return tuple(told)


def without_copies(
    fields: Sequence[LabelledField],
) -> tuple[list[LabelledField], list[LabelledField]]:
    """The fields without copies of one view, and the copies; the one with most labels is kept.

    A picture that occurs again under another name is a copy, too.
    """
    best: list[LabelledField] = []
    spare: list[LabelledField] = []
    place: dict[str, int] = {}
    for field in fields:
        index = place.setdefault(field.view, len(best))
        if index == len(best):
            best.append(field)
            continue
        more = len(field.annotations) > len(best[index].annotations)
        spare.append(best[index] if more else field)
        best[index] = field if more else best[index]
    again: list[int] = []
    seen: list[np.ndarray] = []
    for index in sorted(range(len(best)), key=lambda k: -len(best[k].annotations)):
        pixels = _Picture(best[index]).pixels
        if pixels is None:
            continue
        if any(float((pixels * other).mean()) > _SAME_PIXELS for other in seen):
            again.append(index)
        else:
            seen.append(pixels)
    spare += [best[index] for index in again]
    return [field for index, field in enumerate(best) if index not in again], spare


def _groups(fields: Sequence[LabelledField], members: Sequence[int]) -> list[list[int]]:
    """The members in groups, each of copies of one photograph."""
    groups: list[tuple[_Picture, list[int]]] = []
    n_left = _MOST_COMPARISONS
    for index in members:
        picture = _Picture(fields[index])
        for first, group in groups:
            n_left -= 1
            if n_left < 0 or first.is_copy_of(picture):
                group.append(index)
                break
        else:
            groups.append((picture, [index]))
    return [group for _, group in groups]


class _Picture:
    """A field as small pictures of its labels and of its pixels."""

    def __init__(self, field: LabelledField) -> None:
        self.field = field

    def is_copy_of(self, other: _Picture) -> bool:
        n_compared = 0
        for which in ("labels", "pixels"):
            mine, theirs = getattr(self, which), getattr(other, which)
            if mine is not None and theirs is not None:
                n_compared += 1
                if show_the_same(mine, theirs):
                    return True
        return n_compared == 0

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(SIZE, SIZE) the labels drawn as discs; None for too few of them."""
        discs = np.zeros((SIZE, SIZE), np.float32)
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        scale = SIZE / np.tile(self.field.size_hw, 2)
        drawn = [a for a in self.field.annotations if not a.iscrowd]
        for annotation in drawn:
            if box := annotation.outline_box_yxyx:
                y0, x0, y1, x1 = np.array(box) * scale
            else:
                point = np.tile(annotation.point_yx or (0, 0), 2) * scale
                y0, x0, y1, x1 = point + _POINT_RADIUS * np.array([-1, -1, 1, 1])
            radius_y, radius_x = max((y1 - y0) / 2, 0.5), max((x1 - x0) / 2, 0.5)
            distance = np.hypot((y - (y0 + y1) / 2) / radius_y, (x - (x0 + x1) / 2) / radius_x)
            # The rims of touching cells stay apart.
            np.maximum(discs, np.clip(3 * (1 - distance), 0, 1), out=discs)
        return flatten(100 * discs) if len(drawn) >= _MIN_LABELS else None

    @cached_property
    def pixels(self) -> np.ndarray | None:
        """(SIZE, SIZE) the reduced image; None without an image, or one without content."""
        return thumbnail(self.field.path, (SIZE, SIZE)) if self.field.path else None
