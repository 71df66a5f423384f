"""One patient on one page: the figure, how it came about, the fields and cells it rests on, and
where it comes from.

Percentages are 0 to 100. A page states what was measured; it does not interpret it.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from spherodetect.examined import Examined
from spherodetect.report.distributions import panels
from spherodetect.report.page import axis_end, data_uri, encoded, number, write_page
from spherodetect.report.reference import SOURCE
from spherodetect.report.review_section import narrowing, review_advice, review_offer, review_rows
from spherodetect.report.shown_cells import ShownCell, gallery
from spherodetect.score.counts import (
    CONFIDENT_COUNTABLE,
    CONFIDENT_FIELDS,
    CONFIDENT_WIDTH_POINTS,
    MIN_COUNTABLE,
    MIN_FIELDS,
    PatientScore,
)
from spherodetect.score.grades import ICSH2015, GradeScheme
from spherodetect.score.patient_review import PatientReview

#: Bytes of all overlays of a page together, before base64 adds a third; pictures shrink until they
#: fit.
MAX_OVERLAY_BYTES = 4_500_000
#: Flagged cells in the gallery of a page, how many are left out is said there; and the others that
#: come nearest.
MAX_GALLERY, MAX_NEAREST = 40, 16
_OVERLAY_WIDTHS_PX = (1280, 1000, 800, 640, 480, 360, 240)

_STATUS_WORDS: Mapping[str, str] = {
    "ok": "Enough countable cells and fields, and an interval of at most 10 points.",
    "low_confidence": "Graded with low confidence:",
    "at_or_below_limit_of_blank": "A slide without any spherocyte could give this count.",
    "insufficient_cells": "Not graded:",
    "field_quality": "Not graded: too few fields passed quality control.",
    "out_of_domain": "Not graded: these pictures are unlike those that the method was made for.",
}
_EXCLUSIONS = {
    "border": "cut by the border",
    "overlap": "overlapping or not whole",
    "not_rbc": "not a red cell",
}


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
) -> None:
    """Write one patient's report.

    Args:
        path: the HTML file; made from a patient id by `safety.safe_name`, never directly.
        score: the patient's figures.
        fields: all fields that were looked at, also the rejected ones, in the order of the page.
        provenance: name to value: model, version, checksums, settings.
        unread: field_id to reason of the fields that could not be read.
        notes: sentences on the limits of the method, such as the stains the model never saw.
        scheme: the table that score.grade comes from.
        limit_of_blank: in percent of raw_percent, or NaN where it is not known.
        more_fields: what `score.more_fields_needed` answered: how many would do, or None where no
            number would.
        review: what people named, if score.basis is "reviewed".

    Raises:
        SpherodetectError: the file cannot be written, or a picture not be read.
    """
    pictures = _overlay_uris(fields)
    entries = [_field_entry(field, uri) for field, uri in zip(fields, pictures, strict=True)]
    cells = gallery(fields, n_flagged=MAX_GALLERY, n_unflagged=MAX_NEAREST)
    write_page(
        path,
        "patient.html.j2",
        score=score,
        status=status_words(score),
        advice=_advice(score, more_fields, review, fields),
        scale=graded_scale(score, scheme) if score.n_countable else None,
        steps=_funnel(score, fields, limit_of_blank),
        panels=panels(fields),
        reference=SOURCE,
        flagged=[
            (_cell_entry(cell), _cell_entry(like) if like else None) for cell, like in cells.flagged
        ],
        nearest=[_cell_entry(cell) for cell in cells.unflagged],
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


def status_words(score: PatientScore) -> str:
    """The status in plain words, with what is wanting."""
    words = _STATUS_WORDS[score.status]
    if not words.endswith(":"):
        return words
    confident = score.status == "low_confidence"
    reviewed = score.basis == "reviewed"
    cells, fields = (
        (CONFIDENT_COUNTABLE, CONFIDENT_FIELDS) if confident else (MIN_COUNTABLE, MIN_FIELDS)
    )
    width = score.hs_score_high - score.hs_score_low
    wanting = [
        (
            score.n_countable < cells and not (confident and reviewed),
            f"{score.n_countable:,} countable cells (expected {cells:,})",
        ),
        (
            score.n_fields < fields and not (confident and reviewed),
            f"{score.n_fields} fields (expected {fields})",
        ),
        (
            confident and width > CONFIDENT_WIDTH_POINTS,
            f"an interval {number(width)} points wide (expected at most {CONFIDENT_WIDTH_POINTS:g})",
        ),
    ]
    # A field without countable cells counts for the table, but not for the status: then no figure
    # here is short.
    found = (
        "; ".join(text for short, text in wanting if short) or "too few fields with countable cells"
    )
    return f"{words} {found}."


def _advice(
    score: PatientScore,
    more_fields: int | None,
    review: PatientReview | None,
    fields: Sequence[Examined],
) -> str:
    """What a review, or more fields, would do, in plain words."""
    if review is not None and score.status != "insufficient_cells":
        return review_advice(score, review)
    parts = _more_fields(score, more_fields), review_offer(score, fields)
    return " ".join(part for part in parts if part)


def _more_fields(score: PatientScore, more_fields: int | None) -> str:
    if score.status == "ok" or more_fields == 0 or not score.n_countable:
        return ""
    if more_fields is None:
        grade = f"A grade needs {MIN_COUNTABLE} countable cells in {MIN_FIELDS} fields. "
        limit = "More fields of this slide would not narrow the interval to 10 points: the method itself is the limit."
        return grade * (score.status == "insufficient_cells") + limit
    fields = "1 more field" if more_fields == 1 else f"{more_fields} more fields"
    return f"About {fields} like these would give 1,000 cells, 10 fields and an interval of at most 10 points."


def _funnel(
    score: PatientScore, fields: Sequence[Examined], limit_of_blank: float
) -> list[tuple[str, str, str]]:
    """How the figure came about: rows of what, how many, and a remark."""
    reasons: dict[str, int] = dict.fromkeys(_EXCLUSIONS, 0)
    for field in fields:
        for reason in field.cells.exclusion_reason[field.accepted]:
            reasons[reason] = reasons.get(reason, 0) + 1
    reasons.pop("", None)
    lost = sum(int((~field.accepted).sum()) for field in fields)
    rejected = f"{score.n_fields_rejected:,} rejected" + (
        f", with {lost:,} cells that are not in what follows" if lost else ""
    )
    left_out = ", ".join(f"{n:,} {_EXCLUSIONS.get(why, why)}" for why, n in reasons.items() if n)
    rows = [
        ("Fields", f"{score.n_fields + score.n_fields_rejected:,}", rejected),
        ("Cells found", f"{score.n_cells:,}", f"left out: {left_out}" if left_out else ""),
        (
            "Countable red cells",
            f"{score.n_countable:,}",
            "whole, separate, in a field that passed",
        ),
    ]
    if score.n_countable:
        raw = f"{number(score.raw_percent)} % of the countable, as counted"
        proxy = (
            f"; limit of blank {number(limit_of_blank)} % (a proxy: no healthy controls are public)"
        )
        # The limit of blank is of the model's count; a reviewed score does not rest on that.
        has_blank = math.isfinite(limit_of_blank) and score.basis != "reviewed"
        blank = proxy if has_blank else ""
        by_hand = score.basis == "labels"
        corrected = (
            "not corrected: human labels" if by_hand else "corrected for what the model gets wrong"
        )
        rows.append(("Flagged as spherocytes", f"{score.n_spherocytes:,}", raw + blank))
        if score.basis != "reviewed":
            rows.append(("HS score", f"{number(score.hs_score)} %", corrected))
    return rows


def _cell_entry(cell: ShownCell) -> dict[str, Any]:
    in_um = not math.isnan(cell.diameter_um)
    return {
        "uri": data_uri(cell.picture, "JPEG") if cell.picture is not None else None,
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


def graded_scale(score: PatientScore, scheme: GradeScheme) -> dict[str, Any]:
    """The figure on a horizontal scale, as the page draws it; positions are percent of its
    width."""
    reviewed = score.basis == "reviewed"
    highest = max(score.hs_score_high, score.model_score_high if reviewed else 0)
    end = axis_end(highest, 1.25 * scheme.from_percent[-1])
    limits = [*(limit for limit in scheme.from_percent if limit < end), end]
    bands = []
    for name, low, high in zip(scheme.grades, limits, limits[1:], strict=False):
        width = 100 * (high - low) / end
        bands.append(
            {"x": 100 * low / end, "width": width, "name": name if width > 1.4 * len(name) else ""}
        )
    # A limit of the scheme displaces the round number beside it.
    ticks = {end * i / 5 for i in range(6)}
    ticks = {t for t in ticks if min(abs(t - limit) for limit in limits) > 0.04 * end} | set(limits)
    return {
        "bands": bands,
        "ticks": [
            {"x": 100 * t / end, "label": f"{t:g}", "limit": t in limits[1:-1]}
            for t in sorted(ticks)
        ],
        "low": 100 * score.hs_score_low / end,
        "high": 100 * score.hs_score_high / end,
        "at": 100 * score.hs_score / end,
        "model": {
            "low": 100 * score.model_score_low / end,
            "high": 100 * score.model_score_high / end,
            "at": 100 * score.model_score / end,
        }
        if reviewed
        else None,
    }


def _overlay_uris(fields: Sequence[Examined]) -> list[str | None]:
    """The overlays as JPEG at the largest width at which all of them together stay within
    MAX_OVERLAY_BYTES."""
    shown = [field for field in fields if field.overlay is not None]
    data: list[bytes] = []
    for width in _OVERLAY_WIDTHS_PX:
        data = []
        for field in shown:  # one picture in memory at a time
            data.append(_overlay(field, width))
            if sum(map(len, data)) > MAX_OVERLAY_BYTES and width > _OVERLAY_WIDTHS_PX[-1]:
                break
        else:
            break
    uris = iter([f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in data])
    return [None if field.overlay is None else next(uris) for field in fields]


def _overlay(field: Examined, width: int) -> bytes:
    """The picture without the strip below it, whose letters would be too small here."""
    assert field.overlay is not None
    with contextlib.ExitStack() as opened:
        picture = field.overlay_image or opened.enter_context(
            Image.open(field.overlay, formats=("PNG",))
        )
        height_px, width_px = field.cells.image_size_hw
        box = (
            0,
            0,
            picture.width,
            min(picture.height, round(picture.width * height_px / width_px)),
        )
        return encoded(picture.crop(box), "JPEG", width=width)
