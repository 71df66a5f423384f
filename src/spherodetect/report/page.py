"""HTML pages from the templates of this folder.

A page is one file: it contains its style and pictures and no script, and it loads nothing from
elsewhere. It contains no time but the stated ones, so that the same result gives the same bytes.
Text from outside is escaped, and its characters that are not printable are shown as U+FFFD.
"""

from __future__ import annotations

import base64
import io
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from spherodetect.safety import atomic_write
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE

if TYPE_CHECKING:
    import jinja2

    from spherodetect.report.fhir import FhirContext


def write_page(
    path: str | Path,
    template: str,
    *,
    context: FhirContext | None = None,
    sync: bool = True,
    **values: Any,
) -> None:
    """Fill in a template of this folder with escaped values, and write the page.

    Args:
        path: the HTML file.
        template: its name.
        context: times and the person that the page states.
        sync: as for `atomic_write`.
        values: of the template.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    page = (
        _templates()
        .get_template(template)
        .render(
            fixed_sentence=FIXED_SENTENCE,
            research_use=RESEARCH_USE,
            made=_made(context) if context else "",
            issued=_time(context.issued) if context else "",
            **values,
        )
    )
    with atomic_write(path, text=True, sync=sync) as file:
        file.write(page)


def _made(context: FhirContext) -> str:
    """Return when the blood was taken, and when and by whom the page was made, in words."""
    parts = [
        f"blood taken {_time(context.effective)}" if context.effective else "",
        f"issued {_time(context.issued)}" if context.issued else "",
        f"made by {context.made_by}" if context.made_by else "",
    ]
    words = ", ".join(filter(None, parts))
    return words[:1].upper() + words[1:]


def _time(text: str) -> str:
    """Return an ISO time as people read it, to the minute.

    >>> _time("2026-11-30T09:00:00+01:00"), _time("2026-11-30")
    ('2026-11-30 09:00 +01:00', '2026-11-30')
    """
    date, has_time, rest = text.partition("T")
    if not has_time:
        return date
    zone = rest[len(rest.rstrip("Z0123456789:")) - 1 :] if rest[-1] != "Z" else "UTC"
    return f"{date} {rest[:5]} {zone}"


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    """Return the templates of this folder. One environment compiles each template once."""
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
    environment.filters["num"] = number
    environment.filters["p"] = probability
    environment.filters["css"] = css_string
    return environment


def _printable(value: Any) -> Any:
    """Return text without control characters, lone surrogates and changes of text direction."""
    if not isinstance(value, str) or value.isprintable() or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


def number(value: float | None, decimals: int = 1) -> str:
    """Return a number as text with thousands separators; an unknown number is a dash."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{round(float(value), decimals) + 0.0:,.{decimals}f}"


def probability(value: float | None) -> str:
    """Return a probability with two decimals. Only 0 and 1 would be certain, and neither is shown.

    >>> probability(0.998), probability(0.5), probability(0.001)
    ('>0.99', '0.50', '<0.01')
    """
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if value > 0.99:
        return ">0.99"
    return "<0.01" if value < 0.01 else f"{value:.2f}"


def css_string(text: str) -> str:
    """Return text as the content of a CSS string; what is not a letter or a digit is escaped."""
    return "".join(c if c.isalnum() and c.isascii() else f"\\{ord(c):06x}" for c in text)


def axis_end(highest: float, at_least: float) -> float:
    """Return the end of the shortest round axis of percentages that contains both values."""
    needed = max(highest * 1.05, at_least)
    return next((end for end in (5, 10, 25, 50, 75) if end >= needed), 100)


def data_uri(picture: Image.Image, kind: str, *, width: int | None = None) -> str:
    """Return a picture as a data URI; see `encoded`."""
    data = base64.b64encode(encoded(picture, kind, width=width)).decode()
    return f"data:image/{kind.lower()};base64,{data}"


def encoded(picture: Image.Image, kind: str, *, width: int | None = None) -> bytes:
    """Return a picture as a file of pixels only, without EXIF and other metadata.

    Args:
        picture: any mode; it is converted to RGB.
        kind: PNG or JPEG.
        width: a wider picture is made as small as this, in pixels.
    """
    if width and picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    quality: dict[str, Any] = {"quality": 82} if kind == "JPEG" else {}
    Image.fromarray(np.asarray(picture.convert("RGB"))).save(out, kind, optimize=True, **quality)
    return out.getvalue()


def href(link: str | None) -> str | None:
    """Return a relative path as a link.

    Escaping for HTML does not make an address safe (`javascript:`), so it is quoted here.

    Raises:
        ValueError: the path is absolute or leaves the page's folder.
    """
    if link is None:
        return None
    parts = Path(link).parts
    if Path(link).is_absolute() or ".." in parts:
        raise ValueError(f"expected a report's path inside the index's folder, got {link!r}")
    return "./" + "/".join(quote(part) for part in parts)
