"""Shared by the tests of reports: a score, fields with their pictures on disk, a parsed page."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.examined import Examined
from spherodetect.quality import FieldQuality
from spherodetect.score.counts import PatientScore

HOSTILE = "<script>alert(1)</script>\"'&\n\u202e{{7*7}}\udc80"
NOTHING = {
    "hs_score": math.nan, "hs_score_low": math.nan, "hs_score_high": math.nan,
    "raw_percent": math.nan, "grade": "", "p_above_5_percent": math.nan,
    "p_above_20_percent": math.nan, "n_cells": 0, "n_countable": 0, "n_spherocytes": 0,
}  # fmt: skip
SLIDE = 215


def a_score(**changes) -> PatientScore:
    values = {
        "patient_id": "patient 07",
        "status": "ok",
        "hs_score": 12.34,
        "hs_score_low": 9.1,
        "hs_score_high": 16.2,
        "raw_percent": 13.0,
        "grade": "2+",
        "grade_scheme": "icsh2015",
        "p_above_5_percent": 1.0,
        "p_above_20_percent": 0.003,
        "n_fields": 11,
        "n_fields_rejected": 1,
        "n_cells": 1500,
        "n_countable": 1200,
        "n_spherocytes": 156,
        "model": "small",
        "version": "0.1.0",
    }
    return PatientScore(**(values | changes))


def a_quality(reason: str = "") -> FieldQuality:
    return FieldQuality(
        accepted=not reason,
        reason=reason,
        focus=12.3,
        exposure=0.7,
        density=0.31,
        n_cells=3,
        rbc_diameter_px=40.0,
        median_od=0.15,
        no_pallor=0.1,
        burnt=0.0,
        grain=0.01,
        explained=1.0,
        red_to_green=0.4,
        brighter=0.0,
    )


def some_cells(
    field_id: str, p: tuple[float, ...] = (0.9, 0.1, 0.7), *, um_per_px: float | None = 0.2
) -> Cells:
    """Squares of 18 pixels in rows of twenty; with p above a half a spherocyte; centre/rim is p,
    all else alike."""
    n = len(p)
    boxes = np.array([[30 * (i // 20) + 10, 30 * (i % 20) + 10] for i in range(n)]).reshape(-1, 2)
    ids = np.where(np.array(p) > 0.5, 2, 1)
    masks = [np.ones((18, 18), bool)] * n
    box_yxyx = np.concatenate([boxes, boxes + 18], axis=1)
    cells = Cells.from_labels(box_yxyx, ids, masks, image_size_hw=(480, 640), field_id=field_id)
    measured = {
        "diameter_px": 36.0,
        "relative_diameter": 0.87,
        "pallor_fraction": 0.016,
        "relative_od": 1.29,
    }
    columns = {name: np.full(n, value) for name, value in measured.items()} | {
        "center_rim_ratio": np.array(p, float)
    }
    return replace(
        cells, p_spherocyte=np.array(p, float), um_per_px=um_per_px, measurements=columns
    )


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def a_field(
    folder: Path, field_id: str, *, reason: str = "", size: tuple[int, int] = (320, 250), **cells
) -> Examined:
    """A field with a photograph in which every cell has a shade of its own (its cell_id), and an
    overlay of noise."""
    found = some_cells(field_id, **cells)
    pixels = np.full((*found.image_size_hw, 3), SLIDE, np.uint8)
    for i, (y0, x0, y1, x1) in enumerate(found.box_yxyx.astype(int), 1):
        pixels[y0:y1, x0:x1] = i
    name = str(abs(hash(field_id)))
    Image.fromarray(pixels).save(folder / f"{name}.png")
    noise(*size).save(folder / f"{name}-overlay.png")
    return Examined(
        "patient 07",
        found,
        a_quality(reason),
        folder / f"{name}.png",
        folder / f"{name}-overlay.png",
        sha256="0" * 64,
    )


def _joined(words: list[str]) -> str:
    return " ".join(" ".join(words).split())


class Page(HTMLParser):
    """A parsed page; fails if an element is not closed.

    Attributes:
        tags: each element's name and attributes.
        text: all text outside of style sheets, with single spaces.
        rows: the texts of the cells of each row of all tables.
    """

    _VOID = frozenset({"meta", "img", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self._rows: list[list[list[str]]] = []
        self._sections: list[tuple[list[str], list[str]]] = [([], [])]
        self.feed(html)
        self.text = _joined(self.words)
        self.rows = [[_joined(cell) for cell in row] for row in self._rows]
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append([])
        if tag in ("h2", "footer"):
            self._sections.append(([], []))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self._rows[-1][-1].append(data)
        self._sections[-1]["h2" not in self.open].append(data)

    def section(self, start: str) -> str:
        """The text below the first heading that starts so; empty without such a heading."""
        found = [text for title, text in self._sections if _joined(title).startswith(start)]
        return _joined(found[0]) if found else ""

    def images(self) -> list[bytes]:
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [base64.b64decode(source.partition("base64,")[2]) for source in sources]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]
