"""The page of one patient: score, how it was computed, fields, cells and provenance.

Percentages are 0 to 100. The page states measurements and does not interpret them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spherodetect.examined import Examined
from spherodetect.report.distributions import panels
from spherodetect.report.fhir import FhirContext
from spherodetect.report.grade_scale import graded_scale
from spherodetect.report.languages import STATUS_TEXTS
from spherodetect.report.marks import marks
from spherodetect.report.page import data_uri, number, write_page
from spherodetect.report.page_overlays import overlay_uris
from spherodetect.report.reference import SOURCE
from spherodetect.report.review_section import narrowing, review_rows
from spherodetect.report.score_steps import score_steps
from spherodetect.report.shown_cells import Gallery, ShownCell, gallery
from spherodetect.report.status_text import advice, status_words
from spherodetect.score.counts import PatientScore, interval_words
from spherodetect.score.grades import ICSH2015, GradeScheme
from spherodetect.score.patient_review import PatientReview

#: Flagged cells that a page shows at most, and other cells of the highest probability.
MAX_GALLERY, MAX_NEAREST = 20, 12
#: Flagged cells of the list of all, which a page shows at most, and the side of their pictures.
MAX_FLAGGED, _SMALL_PX = 500, 72
#: Letters of the numbers in an enlarged field that would fill its long side.
_LETTERS = 55


def write_patient_report(
    path: str | Path,
    score: PatientScore,
    fields: Sequence[Examined],
    *,
    provenance: Mapping[str, Any],
    unread: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    scheme: GradeScheme = ICSH2015,
    limit_of_blank: float = math.nan,
    more_fields: int | None = 0,
    review: PatientReview | None = None,
    context: FhirContext | None = None,
) -> None:
    """Write one patient's report.

    Args:
        path: the HTML file. A name made from a patient id must come from `safety.safe_name`.
        score: the patient's score.
        fields: all examined fields, also the rejected ones, in the order of the page.
        provenance: name to value: model, version, checksums, settings.
        unread: field_id to reason of the fields that could not be read.
        notes: sentences on the limits of the method, such as stains that the model never saw.
        scheme: the table of the grades.
        limit_of_blank: in percent of raw_percent, or NaN if it is not known.
        more_fields: the result of `score.more_fields_needed`: how many more fields would be enough,
            or None if no number would.
        review: what people named, if score.basis is "reviewed".
        context: when and by whom the page was made.

    Raises:
        SpherodetectError: the file cannot be written, or a picture cannot be read.
    """
    pictures = overlay_uris(fields)
    cells = gallery(fields, n_flagged=MAX_GALLERY, n_unflagged=MAX_NEAREST, n_every=MAX_FLAGGED)
    links = _Links(fields, cells)
    entries = [
        _field_entry(field, uri) | links.of_field(field)
        for field, uri in zip(fields, pictures, strict=True)
    ]
    write_page(
        path,
        "patient.html.j2",
        context=context,
        sync=False,  # the run syncs its folder once a patient
        score=score,
        status=status_words(score),
        languages={name: texts[score.status] for name, texts in STATUS_TEXTS.items()},
        interval=interval_words(score.hs_score_low, score.hs_score_high),
        advice=advice(score, more_fields, review, fields),
        scale=graded_scale(score, scheme) if score.n_countable else None,
        steps=score_steps(score, fields, limit_of_blank),
        panels=panels(fields),
        reference=SOURCE,
        flagged=[
            (links.entry(cell), links.entry(similar) if similar else None)
            for cell, similar in cells.flagged
        ],
        nearest=[links.entry(cell) for cell in cells.unflagged],
        all_flagged=[links.entry(cell, small=True) for cell in cells.every_flagged],
        cut=cells.cut if cells.cut[0] is not None else None,
        n_left_out=cells.n_left_out,
        fields=[entry for entry in entries if not entry["reason"]],
        rejected=[entry for entry in entries if entry["reason"]],
        unread=unread or {},
        provenance=provenance,
        notes=notes,
        review=review_rows(score, review) if review else [],
        narrowing=narrowing(review) if review else None,
        who=" and ".join(name for name, _ in review.readers) if review else "",
    )


class _Links:
    """The names by which a cell's picture and its mark in the field lead to each other."""

    def __init__(self, fields: Sequence[Examined], cells: Gallery) -> None:
        self._key = {field.field_id: f"f{k}" for k, field in enumerate(fields, 1)}
        self._shown: dict[str, set[int]] = {name: set() for name in self._key}
        for one in cells.every():
            self._shown[one.field_id].add(one.cell_id)
        self._listed = {(one.field_id, one.cell_id) for one in cells.every_flagged}
        self._with_picture = {one.field_id for one in fields if one.overlay is not None}

    def entry(self, cell: ShownCell, *, small: bool = False) -> dict[str, Any]:
        """Return what the template shows of a cell."""
        mark = f"{self._key[cell.field_id]}c{cell.cell_id}"
        return _cell_entry(cell, width=_SMALL_PX if small else None) | {
            "mark": mark if cell.field_id in self._with_picture else "",
            "key": f"k{mark}" if small else "",
        }

    def of_field(self, field: Examined) -> dict[str, Any]:
        """Return the names and the marks of a field."""
        key = self._key[field.field_id]
        height, width = field.cells.image_size_hw
        flagged = set(field.cells.cell_id[field.flagged].tolist())
        found = marks(field.cells, self._shown[field.field_id]) if field.overlay else []
        return {
            "key": key,
            "width": width,
            "height": height,
            "letter": max(1, round(max(height, width) / _LETTERS)),
            "marks": [
                mark._asdict()
                | {
                    "key": f"{key}c{mark.cell_id}",
                    "back": f"k{key}c{mark.cell_id}"
                    if (field.field_id, mark.cell_id) in self._listed
                    else "",
                    "flagged": mark.cell_id in flagged,
                }
                for mark in found
            ],
        }


def _cell_entry(cell: ShownCell, *, width: int | None) -> dict[str, Any]:
    """Return the picture, of this width in pixels at most, and the numbers of a cell."""
    in_um = not math.isnan(cell.diameter_um)
    return {
        "uri": data_uri(cell.picture, "JPEG", width=width) if cell.picture is not None else None,
        "field_id": cell.field_id,
        "cell_id": cell.cell_id,
        "p": cell.p,
        "diameter": f"{number(cell.diameter_um)} µm"
        if in_um
        else f"{number(cell.diameter_px, 0)} px",
        "relative_diameter": cell.relative_diameter,
        "pallor": 100 * cell.pallor_fraction,
        "ratio": cell.center_rim_ratio,
        "relative_od": cell.relative_od,
    }


def _field_entry(field: Examined, uri: str | None) -> dict[str, Any]:
    """Return what the template shows of a field; uri is its overlay."""
    return {
        "field_id": field.field_id,
        "uri": uri,
        "reason": field.quality.reason,
        "n_cells": len(field.cells),
        "n_countable": int(field.counted.sum()),
        "n_flagged": int(field.flagged.sum()),
        "focus": field.quality.focus,
        "covered": 100 * field.quality.density,
    }


__all__ = ["MAX_FLAGGED", "MAX_GALLERY", "MAX_NEAREST", "write_patient_report"]
