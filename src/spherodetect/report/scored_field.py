"""`ReportField`: one field of a patient, as tables, pages and exchange formats want it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.scale.find import Scale

if TYPE_CHECKING:
    from spherodetect.cells import Cells
    from spherodetect.quality import FieldQuality

_UNKNOWN = Scale(None)


@dataclass(frozen=True, eq=False)
class ReportField:
    """One field after detection, or a slide scan, which is as many fields as it has parts; its
    pixels stay on disk.

    Attributes:
        patient_id: whose it is; empty where patients are not known.
        cells: what was found, measured.
        quality: whether the cells may be counted; of a scan, whether those of any part may.
        image: the photograph, or None where no crops are to be shown.
        overlay: the picture of it with its cells outlined, or None where none is to be shown.
        scale: the pixel size, by the cells too, and where it comes from.
        sha256: of the photograph's file, or empty.
        parts: whether the cells of each part of a scan may be counted; the measurement `part` says
            which cell is whose.
    """

    patient_id: str
    cells: Cells
    quality: FieldQuality
    image: Path | None = None
    overlay: Path | None = None
    scale: Scale = _UNKNOWN
    sha256: str = ""
    parts: tuple[bool, ...] = ()

    @property
    def accepted(self) -> np.ndarray:
        """(N,) bool, the cells of a field, or of parts of a scan, that passed."""
        passed = (
            np.array(self.parts, bool)[self.cells.measurements["part"]] if self.parts else np.True_
        )
        return np.broadcast_to(passed & self.quality.accepted, len(self.cells))

    @property
    def counts(self) -> np.ndarray:
        """(J, 2) counted spherocytes and countable cells, a row for the field, if it passed, or
        each part that did."""
        if not self.parts:
            return np.array([[self.flagged.sum(), self.counted.sum()]])[
                : int(self.quality.accepted)
            ]
        part = self.cells.measurements["part"]
        both = [
            np.bincount(part[chosen], minlength=len(self.parts))
            for chosen in (self.flagged, self.counted)
        ]
        return np.stack(both, axis=1)[np.array(self.parts)]

    @property
    def n_fields(self) -> int:
        """How many fields this is."""
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
