"""The number at a burnt-in scale bar, read by OCR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from spherodetect.scale.bar import ScaleBar
from spherodetect.scale.strokes import THICK_PX, black_top_hat, unit_px

#: Least confidence of the OCR for a text that is used.
_READ_CONFIDENCE = 0.85
#: The OCR reads the µ as another letter or leaves it out. Beside cells, "m" and "mm" can mean
#: nothing but µm.
_LENGTH = re.compile(r"(\d{1,4}(?:[.,]\d{1,3})?)(?:(n)m|[µμum]m?)")


def read_length_um(image: np.ndarray, bar: ScaleBar) -> float | None:
    """The length that is written at a bar, in µm, or None if it cannot be read with certainty.

    This needs the extra [ocr] (RapidOCR, whose models are in its package); without it the result is
    None. A number without a unit is not accepted. Bars have round lengths with one digit, 15 or 25;
    another number is a misreading, such as 22 for 20. Of Chula's 151 green bars 105 are read, all
    of them correctly. None of its black bars is read, whose digits are five pixels high.

    Args:
        image: (H, W, 3) uint8.
        bar: a bar in it.
    """
    reader = _reader()
    if reader is None:
        return None
    lengths = set()
    for line in _text_lines(image, bar):
        found = reader(line, use_det=False, use_cls=False, use_rec=True)
        for text, confidence in zip(found.txts or (), found.scores or (), strict=False):
            match = _LENGTH.fullmatch(text.replace(" ", ""))
            if match and confidence >= _READ_CONFIDENCE:
                lengths.add(float(match[1].replace(",", ".")) * (1e-3 if match[2] else 1.0))
    # Each bar is read in several crops. Two different numbers are no reading.
    length = lengths.pop() if len(lengths) == 1 else 0.0
    digits = f"{length:.6f}".replace(".", "").strip("0")
    return length if len(digits) == 1 or digits in ("15", "25") else None


def _text_lines(image: np.ndarray, bar: ScaleBar) -> Iterator[np.ndarray]:
    """Enlarged crops, BGR, of the possible lines of text above and below the middle of a bar."""
    from PIL import Image

    top, left, bottom, right = bar.box_yxyx
    unit, middle = unit_px(image), (left + right) // 2
    reach, window = max(18 * unit, (right - left) // 3), THICK_PX * unit + 1
    for y0, y1, nearest in (
        (max(0, top - reach), bottom - 3 * unit, -1),
        (bottom, bottom + reach, 0),
    ):
        near = image[y0:y1, max(0, middle - reach) : middle + reach]
        if min(near.shape[:2], default=0) < window:
            continue
        # The text has the bar's colour. Use the channel in which that differs most.
        differs = np.subtract(bar.colour, np.median(near, axis=(0, 1)))
        channel = int(np.argmax(np.abs(differs)))
        ink = near[..., channel] if differs[channel] < 0 else 255 - near[..., channel]
        contrast = np.maximum(*(black_top_hat(ink, window, axis=axis) for axis in (0, 1)))
        strokes = contrast > 0.35 * abs(differs[channel])
        rows = np.flatnonzero(strokes.sum(axis=1) > 1)
        groups = np.split(rows, np.flatnonzero(np.diff(rows) > unit) + 1)
        lines = [group for group in groups if len(group) >= 4 * unit]
        if not lines:
            continue
        first, last = y0 + lines[nearest][0], y0 + lines[nearest][-1] + 1
        # A number with its unit is three to five times as wide as it is high. More background than
        # that disturbs the OCR.
        for wide, margin in ((2.8, 3), (3.3, 4)):
            across, along = margin * unit, round(wide * (last - first))
            text = Image.fromarray(image).crop(
                (middle - along, first - across, middle + along, last + across)
            )
            size = (4 * text.width, 4 * text.height)
            yield np.asarray(text.resize(size, Image.Resampling.BICUBIC))[..., ::-1]


@cache
def _reader() -> Any:
    """RapidOCR, or None if the extra [ocr] is not installed."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        return None
    return RapidOCR(
        params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1}
    )
