"""Stable cell ids: a later detection of a field takes over the ids of an earlier one.

Cells are matched one to one by the overlap of their masks. What splits, merges or is new cannot be
matched surely; it is listed for a person to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

#: Two masks are one cell from this intersection over union on. Of two disjoint masks at most one
#: can overlap a third by more than a half, so the match is one to one.
MIN_MASK_IOU = 0.5
#: From this on, if neither of the two meets another mask and most of the smaller one lies in the
#: larger: an outline that is much tighter or wider.
_MIN_ALONE_IOU, _WITHIN = 0.3, 0.8
#: A mask that covers less than this share of another has nothing to do with it.
_TOUCHES = 0.1


@dataclass(frozen=True, eq=False)
class Redetected:
    """A later detection with the ids of an earlier one.

    Attributes:
        cells: the later cells; matched ones have their earlier ids, the others ids that were never
            used in this field.
        matched: (M,) ids of the cells that both detections have.
        gone: (G,) earlier ids that no later cell has.
        unsure: later id to the earlier ids whose masks it overlaps without matching one of them: a
            split, a merger, or another outline.
    """

    cells: Cells
    matched: np.ndarray
    gone: np.ndarray
    unsure: dict[int, tuple[int, ...]]


def keep_ids(before: Cells, after: Cells) -> Redetected:
    """Give the cells of a later detection the ids that the same cells had before.

    Args:
        before: the cells of a field.
        after: the cells of another detection of the same image.

    Raises:
        SpherodetectError: the images differ in size.
    """
    if before.image_size_hw != after.image_size_hw:
        raise SpherodetectError(
            f"{quoted(after.field_id)}: expected an image of {before.image_size_hw} (height, "
            f"width), as when its cells were numbered, got {after.image_size_hw}"
        )
    overlap = mask_overlaps(before, after)
    ids = np.zeros(len(after), np.int32)
    taken: set[int] = set()
    near: dict[int, list[int]] = {}
    sure = sure_pairs(overlap)
    for a, b, _, share in sorted(overlap, key=lambda one: (-one[2], one[1], one[0])):
        if (a, b) in sure and not ids[b] and a not in taken:
            ids[b] = before.cell_id[a]
            taken.add(a)
        elif share >= _TOUCHES:
            near.setdefault(b, []).append(int(before.cell_id[a]))
    new = np.flatnonzero(ids == 0)
    matched = np.sort(ids[ids > 0])
    used = int(before.cell_id.max(initial=0))
    ids[new] = used + np.arange(1, len(new) + 1, dtype=np.int32)
    unsure = {int(ids[b]): tuple(sorted(near[b])) for b in new.tolist() if b in near}
    gone = np.setdiff1d(before.cell_id, matched)
    return Redetected(replace(after, cell_id=ids), matched, gone, unsure)


def sure_pairs(overlaps: Sequence[tuple[int, int, float, float]]) -> set[tuple[int, int]]:
    """The pairs of masks that may be one cell, from what `mask_overlaps` returns."""
    meeting = [(a, b) for a, b, _, share in overlaps if share >= _TOUCHES]
    n_of_a, n_of_b = Counter(a for a, _ in meeting), Counter(b for _, b in meeting)

    def least_iou(a: int, b: int, share: float) -> float:
        is_alone = n_of_a[a] == n_of_b[b] == 1
        return _MIN_ALONE_IOU if is_alone and share >= _WITHIN else MIN_MASK_IOU

    return {(a, b) for a, b, iou, share in overlaps if iou >= least_iou(a, b, share)}


def mask_overlaps(before: Cells, after: Cells) -> list[tuple[int, int, float, float]]:
    """Rows of both detections, intersection over union, and the intersection's share of the
    smaller mask, of all pairs of masks that meet."""
    ours, theirs = list(before.pixel_masks()), list(after.pixel_masks())
    found = []
    boxes = before.box_yxyx
    for b, (mask, (y, x)) in enumerate(theirs):
        ymin, xmin, ymax, xmax = after.box_yxyx[b]
        meets = (boxes[:, 0] < ymax) & (boxes[:, 2] > ymin)
        meets &= (boxes[:, 1] < xmax) & (boxes[:, 3] > xmin)
        for a in np.flatnonzero(meets).tolist():
            other, (v, u) = ours[a]
            top, left = max(y, v), max(x, u)
            bottom = min(y + mask.shape[0], v + other.shape[0])
            right = min(x + mask.shape[1], u + other.shape[1])
            if bottom <= top or right <= left:
                continue
            mine = mask[top - y : bottom - y, left - x : right - x]
            both = int((mine & other[top - v : bottom - v, left - u : right - u]).sum())
            if both:
                areas = int(mask.sum()), int(other.sum())
                found.append((a, b, both / (sum(areas) - both), both / min(areas)))
    return found


__all__ = ["Redetected", "keep_ids", "mask_overlaps", "sure_pairs"]
