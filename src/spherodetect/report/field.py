"""`ReportField`: one field of a patient, as tables, pages and exchange formats want it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.scale import Scale

if TYPE_CHECKING:
    from spherodetect.cells import Cells
    from spherodetect.quality import FieldQuality

_UNKNOWN = Scale(None)


@dataclass(frozen=True, eq=False)
class ReportField:
    """One field after detection; its pixels stay on disk.

    Attributes:
        patient_id: whose it is; empty where patients are not known.
        cells: what was found, measured.
        quality: whether the cells may be counted.
        image: the photograph, or None where no crops are to be shown.
        overlay: the picture of it with its cells outlined, or None where none is to be shown.
        scale: the pixel size, by the cells too, and where it comes from.
        sha256: of the photograph's file, or empty.
    """

    patient_id: str
    cells: Cells
    quality: FieldQuality
    image: Path | None = None
    overlay: Path | None = None
    scale: Scale = _UNKNOWN
    sha256: str = ""

    @property
    def field_id(self) -> str:
        """The field's name in tables."""
        return self.cells.field_id

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool, the cells that count: countable ones of a field that passed."""
        return self.cells.countable & self.quality.accepted

    @property
    def flagged(self) -> np.ndarray:
        """(N,) bool, the counted cells that were called spherocytes."""
        return self.counted & (self.cells.names == "spherocyte")
