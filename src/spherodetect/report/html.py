"""One patient on one page, and the index of a cohort: HTML files that need nothing beside them.

A page holds its style and pictures, no script, no link out, no time of day: the same result gives the same bytes. Text
that comes from outside is escaped, and what is not printable in it is shown as U+FFFD. Percentages are 0 to 100. A page
states what was measured; it does not interpret it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from spherodetect.grades import ICSH2015, GradeScheme
from spherodetect.safety import atomic_write
from spherodetect.score import (
    CONFIDENT_COUNTABLE,
    CONFIDENT_FIELDS,
    CONFIDENT_WIDTH_POINTS,
    FIXED_SENTENCE,
    MIN_COUNTABLE,
    MIN_FIELDS,
    RESEARCH_USE,
    PatientScore,
)

if TYPE_CHECKING:
    from spherodetect.cells import Cells
    from spherodetect.quality import FieldQuality

#: Bytes of all overlays of a page together, before base64 adds a third; pictures shrink until they fit.
MAX_OVERLAY_BYTES = 4_500_000
#: Cells in the gallery of a page; how many are left out is said there.
MAX_GALLERY = 48
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


class ReportField(NamedTuple):
    """One field of a report; overlay is None where no picture is to be shown."""

    field_id: str
    overlay: Image.Image | None
    quality: FieldQuality
    cells: Cells


class Crop(NamedTuple):
    """The picture of one cell (see `overlays.crop_gallery`); cell_id counts a field's cells from 1, as in cells.csv."""

    field_id: str
    cell_id: int
    picture: Image.Image


def write_patient_report(
    path: str | Path,
    score: PatientScore,
    fields: Sequence[ReportField],
    crops: Sequence[Crop] = (),
    *,
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    scheme: GradeScheme = ICSH2015,
    limit_of_blank: float = math.nan,
    more_fields: int | None = 0,
) -> None:
    """Write one patient's report.

    Args:
        path: the HTML file; made from a patient id by `safety.safe_name`, never directly.
        score: the patient's figures.
        fields: all fields, also the rejected ones, in the order of the page.
        crops: pictures of flagged cells; shown by falling p_spherocyte, at most MAX_GALLERY, none of a rejected field.
        provenance: name to value: model, version, checksums, settings.
        notes: sentences on the limits of the method, such as the stains the model never saw.
        scheme: the table that score.grade comes from.
        limit_of_blank: in percent of raw_percent, or NaN where it is not known.
        more_fields: what `score.more_fields_needed` answered: how many would do, or None where no number would.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    pictures = _overlay_uris([field.overlay for field in fields])
    counted = {field.field_id: field.cells for field in fields if field.quality.accepted}
    gallery = sorted(
        (_gallery_entry(crop, counted[crop.field_id]) for crop in crops if crop.field_id in counted),
        key=lambda entry: (-np.nan_to_num(entry["p"]), entry["field_id"], entry["cell_id"]),
    )
    write_page(
        path,
        "patient.html.j2",
        score=score,
        status=_status(score),
        advice=_advice(score, more_fields),
        scale=_scale(score, scheme) if score.n_countable else None,
        funnel=_funnel(score, fields, limit_of_blank),
        gallery=gallery[:MAX_GALLERY],
        n_left_out=max(0, len(gallery) - MAX_GALLERY),
        fields=[_field_entry(f, uri) for f, uri in zip(fields, pictures, strict=True) if f.quality.accepted],
        rejected=[_field_entry(f, uri) for f, uri in zip(fields, pictures, strict=True) if not f.quality.accepted],
        provenance=provenance,
        notes=notes,
    )


def write_index(path: str | Path, rows: Iterable[tuple[PatientScore, str | None]], *, title: str = "Patients") -> None:
    """Write the table of a cohort.

    Args:
        path: the HTML file.
        rows: each patient's figures and the report's path relative to the index, or None where there is no report.
        title: the page's heading.

    Raises:
        SpherodetectError: the file cannot be written.
        ValueError: a report's path is absolute or leaves the index's folder.
    """
    rows = list(rows)
    highest = max((s.hs_score_high for s, _ in rows if math.isfinite(s.hs_score_high)), default=0)
    axis = _axis_end(highest, 0)
    entries = [{"score": s, "href": _href(link), "status": _status(s)} for s, link in rows]
    write_page(path, "index.html.j2", rows=entries, axis=axis, title=title)


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Fill in a template of this folder and write the page; what it is filled with is escaped.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["num"] = _number
    page = environment.get_template(template).render(fixed_sentence=FIXED_SENTENCE, research_use=RESEARCH_USE, **values)
    with atomic_write(path, text=True) as file:
        file.write(page)


def _printable(value: Any) -> Any:
    """Text without control characters, lone surrogates and marks that turn the direction of writing."""
    if not isinstance(value, str) or value.isprintable() or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


def _number(value: float | None, decimals: int = 1) -> str:
    """A number as a reader wants it; what is not known is a dash."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{round(float(value), decimals) + 0.0:,.{decimals}f}"


def _status(score: PatientScore) -> str:
    """The status in plain words, with what is wanting."""
    words = _STATUS_WORDS[score.status]
    if not words.endswith(":"):
        return words
    confident = score.status == "low_confidence"
    cells, fields = (CONFIDENT_COUNTABLE, CONFIDENT_FIELDS) if confident else (MIN_COUNTABLE, MIN_FIELDS)
    width = score.hs_score_high - score.hs_score_low
    wanting = [
        (score.n_countable < cells, f"{score.n_countable:,} countable cells (expected {cells:,})"),
        (score.n_fields < fields, f"{score.n_fields} fields (expected {fields})"),
        (
            confident and width > CONFIDENT_WIDTH_POINTS,
            f"an interval {_number(width)} points wide (expected at most {CONFIDENT_WIDTH_POINTS:g})",
        ),
    ]
    # A field without countable cells counts for the table, but not for the status: then no figure here is short.
    found = "; ".join(text for short, text in wanting if short) or "too few fields with countable cells"
    return f"{words} {found}."


def _advice(score: PatientScore, more_fields: int | None) -> str:
    """What more fields would do, in plain words."""
    if score.status == "ok" or more_fields == 0 or not score.n_countable:
        return ""
    if more_fields is None:
        return "More fields of this slide would not narrow the interval to 10 points: the method itself is the limit."
    fields = "1 more field" if more_fields == 1 else f"{more_fields} more fields"
    return f"About {fields} like these would give 1,000 cells, 10 fields and an interval of at most 10 points."


def _funnel(score: PatientScore, fields: Sequence[ReportField], limit_of_blank: float) -> list[tuple[str, str, str]]:
    """How the figure came about: rows of what, how many, and a remark."""
    reasons: dict[str, int] = dict.fromkeys(_EXCLUSIONS, 0)
    for field in fields:
        for reason in field.cells.exclusion_reason if field.quality.accepted else ():
            reasons[reason] = reasons.get(reason, 0) + 1
    reasons.pop("", None)
    lost = sum(len(field.cells) for field in fields if not field.quality.accepted)
    rejected = f"{score.n_fields_rejected:,} rejected" + (
        f", with {lost:,} cells that are not in what follows" if lost else ""
    )
    left_out = ", ".join(f"{n:,} {_EXCLUSIONS.get(why, why)}" for why, n in reasons.items() if n)
    rows = [
        ("Fields", f"{score.n_fields + score.n_fields_rejected:,}", rejected),
        ("Cells found", f"{score.n_cells:,}", f"left out: {left_out}" if left_out else ""),
        ("Countable red cells", f"{score.n_countable:,}", "whole, separate, in a field that passed"),
    ]
    if score.n_countable:
        raw = f"{_number(score.raw_percent)} % of the countable, as counted"
        proxy = f"; limit of blank {_number(limit_of_blank)} % (a proxy: no healthy controls are public)"
        blank = proxy if math.isfinite(limit_of_blank) else ""
        by_hand = score.model == "labels"
        corrected = "not corrected: human labels" if by_hand else "corrected for what the model gets wrong"
        rows += [
            ("Flagged as spherocytes", f"{score.n_spherocytes:,}", raw + blank),
            ("HS score", f"{_number(score.hs_score)} %", corrected),
        ]
    return rows


def _gallery_entry(crop: Crop, cells: Cells) -> dict[str, Any]:
    i = crop.cell_id - 1
    values = {name: float(column[i]) for name, column in cells.measurements.items()}
    entry = {"p": float(cells.p_spherocyte[i]), "field_id": crop.field_id, "cell_id": crop.cell_id}
    diameter = values.get("diameter_px", math.nan)
    return entry | {
        "uri": data_uri(crop.picture, "PNG"),
        "diameter": f"{_number(diameter * cells.um_per_px)} µm" if cells.um_per_px else f"{_number(diameter, 0)} px",
        "relative_diameter": values.get("relative_diameter", math.nan),
        "pallor": 100 * values.get("pallor_fraction", math.nan),
        "ratio": values.get("center_rim_ratio", math.nan),
        "relative_od": values.get("relative_od", math.nan),
    }


def _field_entry(field: ReportField, uri: str | None) -> dict[str, Any]:
    flagged = field.cells.countable & (field.cells.names == "spherocyte")
    return {
        "field_id": field.field_id, "uri": uri, "quality": field.quality, "n_cells": len(field.cells),
        "n_countable": int(field.cells.countable.sum()), "n_flagged": int(flagged.sum()),
    }  # fmt: skip


def _scale(score: PatientScore, scheme: GradeScheme) -> dict[str, Any]:
    """The figure on a horizontal scale; positions are percent of its width."""
    end = _axis_end(score.hs_score_high, 1.25 * scheme.from_percent[-1])
    limits = [*(limit for limit in scheme.from_percent if limit < end), end]
    bands = []
    for name, low, high in zip(scheme.grades, limits, limits[1:], strict=False):
        width = 100 * (high - low) / end
        bands.append({"x": 100 * low / end, "width": width, "name": name if width > 1.4 * len(name) else ""})
    # A limit of the scheme displaces the round number beside it.
    ticks = {end * i / 5 for i in range(6)}
    ticks = {t for t in ticks if min(abs(t - limit) for limit in limits) > 0.04 * end} | set(limits)
    return {
        "bands": bands,
        "ticks": [{"x": 100 * t / end, "label": f"{t:g}", "limit": t in limits[1:-1]} for t in sorted(ticks)],
        "low": 100 * score.hs_score_low / end,
        "high": 100 * score.hs_score_high / end,
        "at": 100 * score.hs_score / end,
    }


def _axis_end(highest: float, at_least: float) -> float:
    """The shortest round axis that holds both."""
    wanted = max(highest * 1.05, at_least)
    return next((end for end in (5, 10, 25, 50, 75) if end >= wanted), 100)


def _overlay_uris(overlays: Sequence[Image.Image | None]) -> list[str | None]:
    """The overlays as JPEG at the largest width at which all of them together stay within MAX_OVERLAY_BYTES."""
    shown = [overlay for overlay in overlays if overlay is not None]
    encoded: list[bytes] = []
    for width in _OVERLAY_WIDTHS_PX:
        encoded = [_jpeg(overlay, width) for overlay in shown]
        if sum(map(len, encoded)) <= MAX_OVERLAY_BYTES:
            break
    uris = iter([f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in encoded])
    return [None if overlay is None else next(uris) for overlay in overlays]


def _jpeg(picture: Image.Image, width: int) -> bytes:
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return _encoded(picture, "JPEG", quality=82)


def data_uri(picture: Image.Image, kind: str) -> str:
    """A picture as an address that holds it; kind is PNG or JPEG."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(_encoded(picture, kind)).decode()}"


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The pixels alone: what else a camera wrote into its file stays behind."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(picture.convert("RGB"))).save(out, kind, optimize=True, **options)
    return out.getvalue()


def _href(link: str | None) -> str | None:
    """A relative path as a link; autoescape does not know an address from a script."""
    if link is None:
        return None
    parts = Path(link).parts
    if Path(link).is_absolute() or ".." in parts:
        raise ValueError(f"expected a report's path inside the index's folder, got {link!r}")
    return "./" + "/".join(quote(part) for part in parts)
