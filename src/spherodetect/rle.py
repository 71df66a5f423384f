"""COCO's run-length masks: reading, which checks them, and writing.

A mask is written column by column, as the lengths of runs of 0 and 1 in turn; the first run is
of 0 and may be empty. The lengths are a list of numbers, or text: six bits a character of which
five are data, and from the fourth length on the difference to the last but one (cocoapi's
rleToString). Lengths that do not add up to the image are refused here, because native decoders
crash on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spherodetect.safety import quoted

#: The text's characters are those from `0` (no bit set) to `o` (all six bits set).
_FIRST_CHARACTER, _N_CHARACTERS = ord("0"), 64
_DATA, _SIGN, _MORE = 0x1F, 0x10, 0x20
#: A length of more bits than this is longer than any image.
_MOST_BITS = 40


class RunLengthMask:
    """A mask of a whole field that stays packed until its pixels are asked for.

    `np.asarray(mask)` unpacks it, `mask[y0:y1, x0:x1]` unpacks it and cuts out a window.

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
        """The box around the mask, half-open; None for an empty mask."""
        ends = np.cumsum(self.runs)
        first, last = ends[:-1:2], ends[1::2] - 1
        some = last >= first
        first, last = first[some], last[some]
        if not len(first):
            return None
        (left, top), (right, bottom) = (np.divmod(at, self.shape[0]) for at in (first, last))
        # A run that goes on into the next column touches the last row of its own and row 0 of that.
        goes_on = right > left
        top = np.where(goes_on, 0, top)
        bottom = np.where(goes_on, self.shape[0] - 1, bottom)
        return float(top.min()), float(left.min()), bottom.max() + 1.0, right.max() + 1.0

    def read_by_rows(self) -> RunLengthMask:
        """The mask that the same lengths mean along rows instead of columns."""
        values = np.arange(len(self.runs)) % 2 == 1
        return run_lengths(np.repeat(values, self.runs).reshape(self.shape))

    def to_coco(self) -> dict[str, Any]:
        """COCO's segmentation with the lengths as text: `{"size": [h, w], "counts": "..."}`."""
        return {"size": list(self.shape), "counts": pack_runs(self.runs)}


def run_lengths(
    mask: np.ndarray, *, origin_yx: tuple[int, int] = (0, 0), size_hw: tuple[int, int] | None = None
) -> RunLengthMask:
    """A boolean mask (H, W), packed.

    Args:
        mask: the pixels.
        origin_yx: where the mask's first pixel lies in the field.
        size_hw: height and width of the field; those of the mask where none is given.
    """
    height, width = size_hw or mask.shape
    columns, rows = np.nonzero(np.asarray(mask, bool).T)
    pixels = (columns + origin_yx[1]) * height + rows + origin_yx[0]
    breaks = np.flatnonzero(np.diff(pixels) > 1)
    starts = np.concatenate([pixels[:1], pixels[breaks + 1]])
    ends = np.concatenate([pixels[breaks], pixels[-1:]]) + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    runs = np.diff(edges, prepend=0, append=height * width)
    # A mask that reaches the last pixel ends with its own run, not with an empty one.
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]
    return RunLengthMask(runs, (height, width))


def read_rle(data: dict[str, Any], size_hw: tuple[int, int]) -> RunLengthMask:
    """A mask of the image's size from COCO's `{"size": [h, w], "counts": ...}`.

    Raises:
        ValueError: the size is not the image's, or counts are of another type or do not add up.
    """
    counts, n_pixels = data.get("counts"), size_hw[0] * size_hw[1]
    size = data.get("size")
    # Some tools write whole numbers as floats. A list compares 480.0 as equal to 480.
    if size != list(size_hw):
        if size == list(size_hw[::-1]):
            raise ValueError(
                f"expected size [height, width] = {list(size_hw)} of a run-length mask, "
                f"got {size}: width and height are swapped"
            )
        got = "no size" if size is None else f"size {quoted(size, max_chars=60)}"
        raise ValueError(
            f"expected a run-length mask with the image's size {list(size_hw)}, got {got}"
        )
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        raise ValueError(
            "expected run-length counts as text, got the text of Python bytes (b'...'); "
            "decode counts before writing JSON"
        )
    if isinstance(counts, list) and any(type(c) is float for c in counts):
        whole = all(type(c) in (int, float) and abs(c) < 2**53 and c == int(c) for c in counts)
        counts = [int(c) for c in counts] if whole else counts
    # No length needs more than 13 characters, and each pixel starts at most one run.
    if isinstance(counts, str) and len(counts) <= 13 * (n_pixels + 1):
        runs = unpack_runs(counts)
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


def pack_runs(runs: np.ndarray) -> str:
    """Run lengths as COCO's text."""
    differences = runs.astype(np.int64)
    differences[3:] -= runs[1:-2]
    text = []
    for value in differences.tolist():
        more = True
        while more:
            bits, value = value & _DATA, value >> 5
            # The last character's sign bit says what all higher bits are.
            more = value != (-1 if bits & _SIGN else 0)
            text.append(chr(_FIRST_CHARACTER + bits + (_MORE if more else 0)))
    return "".join(text)


def unpack_runs(text: str) -> list[int]:
    """Run lengths from COCO's text.

    Raises:
        ValueError: a character outside `0` to `o`, a number longer than any image's, or a text
            that ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST_CHARACTER
        if not 0 <= code < _N_CHARACTERS or shift > _MOST_BITS:
            raise ValueError("expected run-length counts as packed text, got something else")
        value |= (code & _DATA) << shift
        shift += 5
        if not code & _MORE:
            if code & _SIGN:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("expected run-length counts as packed text, got one that is cut short")
    return runs
