"""COCO's run-length masks, checked before anything trusts them.

A mask is written down the columns as lengths of runs of 0 and 1 in turn, the first of 0; as a list,
or packed into text (six bits a character, five of them data, deltas to the run before last from the
fourth on). What does not add up to the image is refused here: native decoders crash on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class RunLengthMask:
    """A mask of a whole field that stays packed until it is looked at: `np.asarray(mask)`, or
    `mask[y0:y1, x0:x1]`.

    Attributes:
        shape: (height, width) in pixels.
        runs: (R,) int64 lengths down the columns, of 0 and 1 in turn.
    """

    def __init__(self, runs: np.ndarray, shape: tuple[int, int]) -> None:
        self.runs, self.shape = runs, shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.arange(len(self.runs)) % 2 == 1
        mask = np.repeat(values, self.runs).reshape(self.shape[::-1]).T
        return np.ascontiguousarray(mask, dtype=dtype or bool)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    @property
    def area_px(self) -> int:
        """Pixels in the mask."""
        return int(self.runs[1::2].sum())

    def box_yxyx(self) -> tuple[float, float, float, float] | None:
        """The tight box around the mask, half-open; None if it is empty."""
        last = np.cumsum(self.runs)[1::2] - 1
        first, last = (at[self.runs[1::2] > 0] for at in (last - self.runs[1::2] + 1, last))
        if not len(first):
            return None
        (left, top), (right, bottom) = (np.divmod(at, self.shape[0]) for at in (first, last))
        on = (
            right > left
        )  # a run that goes on into the next column has its foot, and the head of that one
        top, bottom = np.where(on, 0, top), np.where(on, self.shape[0] - 1, bottom)
        return float(top.min()), float(left.min()), bottom.max() + 1.0, right.max() + 1.0


def run_lengths(mask: np.ndarray) -> RunLengthMask:
    """A (H, W) boolean mask, packed."""
    pixels = np.asarray(mask, bool).T.ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=False))
    return RunLengthMask(np.diff(edges, prepend=0, append=pixels.size), mask.shape)


def read_rle(data: dict[str, Any], size_hw: tuple[int, int]) -> RunLengthMask:
    """A mask of the image's size from COCO's `{"size": [h, w], "counts": ...}`.

    Raises:
        ValueError: another size than the image's, counts that are no counts, or that do not add up
            to it.
    """
    if data.get("size") != list(size_hw):
        raise ValueError(f"expected a run-length mask of the image's size, {list(size_hw)}")
    counts, n_pixels = data.get("counts"), size_hw[0] * size_hw[1]
    if isinstance(counts, str) and len(counts) <= 13 * (n_pixels + 1):
        runs = _unpacked(counts)
    elif (
        isinstance(counts, list)
        and len(counts) <= n_pixels + 2
        and all(type(c) is int for c in counts)
    ):
        runs = counts
    else:
        raise ValueError("expected run-length counts as a list of whole numbers or as packed text")
    if any(not 0 <= run <= n_pixels for run in runs) or sum(runs) != n_pixels:
        raise ValueError("expected run-length counts that add up to height times width")
    return RunLengthMask(np.array(runs, np.int64), size_hw)


def _unpacked(text: str) -> list[int]:
    """Run lengths from packed text, as in cocoapi's rleFrString; a number longer than any image's
    is refused."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError("expected run-length counts as packed text, got something else")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("expected run-length counts as packed text, got one that is cut short")
    return runs
