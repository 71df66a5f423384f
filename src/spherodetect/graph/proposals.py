"""Region proposals and non-maximum suppression, with free or with fixed shapes.

Boxes are (N, 4) (ymin, xmin, ymax, xmax) in the network's pixels. XLA compiles fixed shapes only:
there each step has a constant number of rows, and `valid` (N,) says which of them are in use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from spherodetect.graph.boxes import clip, decode

#: More cells than this in one image are left out, and `truncated` says so.
MAX_CELLS = 2000
#: Subtracted from a score to place it below all scores that a network gives.
_BELOW_ALL_SCORES = 1e6
#: Proposals that agree more than this are one.
_PROPOSAL_IOU = 0.65
#: Candidates of the region proposal network for each cell that there could be.
_CANDIDATES_A_CELL = 5


def max_cells_in(pixels: Any, rbc_px: float) -> Any:
    """More cells than lie in an image of so many pixels; `rbc_px` is a red cell's diameter."""
    return pixels / (0.75 * rbc_px**2) + 50


@dataclass(frozen=True)
class Shapes:
    """The shapes of the steps after the network.

    Attributes:
        rbc_px: diameter of a red cell in the network's pixels.
        canvas_hw: height and width of the network's input where they are fixed, else None.
    """

    rbc_px: float
    canvas_hw: tuple[int, int] | None = None

    @property
    def fixed(self) -> bool:
        """Whether every step has a constant number of rows."""
        return self.canvas_hw is not None

    @property
    def max_cells(self) -> int:
        """The most cells of one image."""
        if self.canvas_hw is None:
            return MAX_CELLS
        return min(int(max_cells_in(math.prod(self.canvas_hw), self.rbc_px)), MAX_CELLS)

    def suppress(
        self, boxes: tf.Tensor, scores: tf.Tensor, limit: Any, iou: Any, *, above: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Non-maximum suppression across classes: rows to keep, best first, and `valid`.

        Args:
            limit: most rows to keep.
            iou: boxes with a higher IoU with a better box are dropped.
            above: scores at or below this are dropped.
        """
        if not self.fixed:
            keep = tf.image.non_max_suppression(boxes, scores, limit, iou, above)
            return keep, tf.ones_like(keep, tf.bool)
        keep, count = tf.image.non_max_suppression_padded(
            boxes, scores, limit, iou, above, pad_to_max_output_size=True
        )
        return keep, tf.range(tf.size(keep)) < count

    def without(
        self, keep: tf.Tensor, valid: tf.Tensor, dropped: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What `suppress` returned without the dropped rows; the rows in use stay first."""
        valid &= ~dropped
        if not self.fixed:
            return tf.boolean_mask(keep, valid), tf.boolean_mask(valid, valid)
        order = tf.argsort(tf.cast(~valid, tf.int32), stable=True)
        return tf.gather(keep, order), tf.gather(valid, order)

    def propose(
        self,
        scores: tf.Tensor,
        offsets: tf.Tensor,
        anchors: tf.Tensor,
        size: tf.Tensor,
        n_anchors: int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best boxes of the region proposal network, (P, 4), and `valid` (P,).

        Args:
            scores, offsets, anchors: (A,), (A, 4) and (A, 4), one row an anchor.
            size: (2,) of the image.
            n_anchors: A, needed where shapes are fixed.
        """
        cells = tf.cast(max_cells_in(tf.reduce_prod(size), self.rbc_px), tf.int32)
        if self.canvas_hw is not None and n_anchors is not None:
            most = int(max_cells_in(math.prod(self.canvas_hw), self.rbc_px))
            candidates = min(_CANDIDATES_A_CELL * most, n_anchors)
            limit = min(most, 2 * MAX_CELLS)
        else:
            candidates = tf.minimum(_CANDIDATES_A_CELL * cells, tf.size(scores))
            limit = tf.minimum(cells, 2 * MAX_CELLS)
        top = tf.math.top_k(scores, candidates)
        boxes = decode(
            tf.gather(offsets, top.indices), tf.gather(anchors, top.indices), (1.0, 1.0, 1.0, 1.0)
        )
        boxes = clip(boxes, size)
        in_use = tf.range(candidates) < _CANDIDATES_A_CELL * cells
        ranked = tf.where(in_use, top.values, -2 * _BELOW_ALL_SCORES)
        keep, valid = self.suppress(boxes, ranked, limit, _PROPOSAL_IOU, above=-_BELOW_ALL_SCORES)
        return tf.gather(boxes, keep), valid & (tf.range(tf.size(keep)) < cells)


def in_use_or_zero(values: dict[str, tf.Tensor], valid: tf.Tensor) -> dict[str, tf.Tensor]:
    """Values of each row, 0 in the rows that are not in use."""
    return {
        name: tf.where(_as_column(valid, value.shape.rank), value, tf.zeros_like(value))
        for name, value in values.items()
    }


def _as_column(valid: tf.Tensor, rank: int) -> tf.Tensor:
    shape: Sequence[int] = [-1] + [1] * (rank - 1)
    return tf.reshape(valid, shape)
