"""`Examined`: one field of a patient after detection, measurement and quality control.

This record travels from pipeline/examine.py to the score, the tables and the pages.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.cells import Cells
from spherodetect.fields.field import Field
from spherodetect.quality import FieldQuality
from spherodetect.scale.find import Scale

if TYPE_CHECKING:
    from PIL.Image import Image

    from spherodetect.photograph import Photograph

_UNKNOWN = Scale(None)


@dataclass(frozen=True, eq=False, repr=False)
class Examined:
    """One field after examination. A slide scan counts as one field for each of its parts.

    Attributes:
        patient_id: the patient; empty where patients are not known.
        cells: the cells that were found, measured; none in a field that could not be read.
        quality: whether the cells may be counted; of a scan, whether those of any part may.
        image: the photograph's file, or None if no crops are to be shown.
        overlay: the picture of the field with its cells outlined, or None if none was written.
        scale: the pixel size and its source.
        sha256: checksum of the photograph's file, or empty.
        parts: whether the cells of each part of a scan may be counted; the measurement `part` says
            which part a cell belongs to.
        problem: why the field could not be used, in one line; empty for a field that was examined.
        notes: one sentence for each thing about the image that its user should know.
        photograph: the decoded image where it is still in memory, else None.
        overlay_image: the overlay's pixels where they are still in memory, else None.
    """

    patient_id: str
    cells: Cells
    quality: FieldQuality
    image: Path | None = None
    overlay: Path | None = None
    scale: Scale = _UNKNOWN
    sha256: str = ""
    parts: tuple[bool, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    photograph: Photograph | None = None
    overlay_image: Image | None = None

    @classmethod
    def unreadable(cls, field: Field, problem: str) -> Examined:
        """A field that could not be used: it has no cells, and its quality says why."""
        figures = {f.name: math.nan for f in dataclasses.fields(FieldQuality)}
        figures |= {"accepted": False, "reason": problem, "n_cells": 0}  # type: ignore[dict-item]
        return cls(
            field.patient_id,
            Cells.empty(field_id=field.field_id, image_size_hw=(0, 0)),
            FieldQuality(**figures),  # type: ignore[arg-type]
            image=field.path,
            problem=problem,
        )

    def __repr__(self) -> str:
        state = self.problem or str(self.quality)
        return f"Examined({self.field_id!r}, patient {self.patient_id!r}, {self.cells!r}, {state})"

    @property
    def accepted(self) -> np.ndarray:
        """(N,) bool, the cells of a field, or of parts of a scan, that passed quality control."""
        passed: np.ndarray | np.bool_ = np.True_
        if self.parts:
            passed = np.array(self.parts, bool)[self.cells.measurements["part"]]
        return np.broadcast_to(passed & self.quality.accepted, len(self.cells))

    @property
    def counts(self) -> np.ndarray:
        """(J, 2) counted spherocytes and countable cells: a row for the field, or for each part of
        a scan, that passed quality control."""
        if not self.parts:
            counts = np.array([[self.flagged.sum(), self.counted.sum()]])
            return counts[: int(self.quality.accepted)]
        part = self.cells.measurements["part"]
        both = [
            np.bincount(part[chosen], minlength=len(self.parts))
            for chosen in (self.flagged, self.counted)
        ]
        return np.stack(both, axis=1)[np.array(self.parts)]

    @property
    def n_fields(self) -> int:
        """How many fields this is: the parts of a scan, else 1."""
        return max(1, len(self.parts))

    @property
    def field_id(self) -> str:
        """The field's name in tables."""
        return self.cells.field_id

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool, the cells that count: countable ones of a field that passed."""
        return self.cells.countable & self.accepted

    @property
    def flagged(self) -> np.ndarray:
        """(N,) bool, the counted cells that were called spherocytes."""
        return self.counted & (self.cells.names == "spherocyte")


__all__ = ["Examined"]
