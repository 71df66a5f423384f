"""Read the number at a burnt-in scale bar by OCR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from spherodetect.scale.bar import _THICK_PX, ScaleBar, _narrow, _unit

#: From here on the reader's own certainty is trusted.
_READ_CONFIDENCE = 0.85


#: It takes the µ for another letter, or for none; beside cells m and mm can be nothing else.
_LENGTH = re.compile(r"(\d{1,4}(?:[.,]\d{1,3})?)(?:(n)m|[µμum]m?)")


def read_length_um(image: np.ndarray, bar: ScaleBar) -> float | None:
    """The length that is written at a bar, in µm, or None where it cannot be read for certain or no
    reader is there.

    Needs the extra [ocr] (RapidOCR, whose models are in its package). A number without a unit is no
    length. It reads clear print and 105 of Chula's 151 green bars, none of the black ones, whose
    digits are five pixels high, and not one of them wrong. Bars have round lengths, of one digit or
    15 or 25: 22 µm is a 20 misread.
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
    length = lengths.pop() if len(lengths) == 1 else 0.0
    digits = f"{length:.6f}".replace(".", "").strip("0")
    return length if len(digits) == 1 or digits in ("15", "25") else None


def _text_lines(image: np.ndarray, bar: ScaleBar) -> Iterator[np.ndarray]:
    """Pictures of what may be the line of text above or below the middle of a bar, enlarged, as
    BGR."""
    from PIL import Image

    top, left, bottom, right = bar.box_yxyx
    unit, middle = _unit(image), (left + right) // 2
    reach, window = max(18 * unit, (right - left) // 3), _THICK_PX * unit + 1
    for y0, y1, nearest in (
        (max(0, top - reach), bottom - 3 * unit, -1),
        (bottom, bottom + reach, 0),
    ):
        near = image[y0:y1, max(0, middle - reach) : middle + reach]
        if min(near.shape[:2], default=0) < window:
            continue
        differs = np.subtract(bar.colour, np.median(near, axis=(0, 1)))
        channel = int(np.argmax(np.abs(differs)))
        ink = near[..., channel] if differs[channel] < 0 else 255 - near[..., channel]
        strokes = np.maximum(*(_narrow(ink, window, axis=axis) for axis in (0, 1))) > 0.35 * abs(
            differs[channel]
        )
        rows = np.flatnonzero(strokes.sum(axis=1) > 1)
        lines = [
            g
            for g in np.split(rows, np.flatnonzero(np.diff(rows) > unit) + 1)
            if len(g) >= 4 * unit
        ]
        if not lines:
            continue
        first, last = y0 + lines[nearest][0], y0 + lines[nearest][-1] + 1
        # A number with its unit is three to five times as wide as high, and more paper than that
        # disturbs the reader.
        for wide, margin in ((2.8, 3), (3.3, 4)):
            across, along = margin * unit, round(wide * (last - first))
            text = Image.fromarray(image).crop(
                (middle - along, first - across, middle + along, last + across)
            )
            yield np.asarray(
                text.resize((4 * text.width, 4 * text.height), Image.Resampling.BICUBIC)
            )[..., ::-1]


@cache
def _reader() -> Any:
    """RapidOCR, or None where the extra [ocr] is not installed."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        return None
    return RapidOCR(
        params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1}
    )
