"""Pages that need nothing beside them: HTML files filled in from this folder's templates.

A page holds its style and pictures, no script, no link out, no time of day: the same result gives
the same bytes. Text that comes from outside is escaped, and what is not printable in it is shown as
U+FFFD.
"""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from spherodetect.safety import atomic_write
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE


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
    environment.filters["num"] = number
    page = environment.get_template(template).render(
        fixed_sentence=FIXED_SENTENCE, research_use=RESEARCH_USE, **values
    )
    with atomic_write(path, text=True) as file:
        file.write(page)


def _printable(value: Any) -> Any:
    """Text without control characters, lone surrogates and marks that turn the direction of
    writing."""
    if not isinstance(value, str) or value.isprintable() or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


def number(value: float | None, decimals: int = 1) -> str:
    """A number as a reader wants it; what is not known is a dash."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{round(float(value), decimals) + 0.0:,.{decimals}f}"


def axis_end(highest: float, at_least: float) -> float:
    """The shortest round axis of percentages that holds both."""
    wanted = max(highest * 1.05, at_least)
    return next((end for end in (5, 10, 25, 50, 75) if end >= wanted), 100)


def data_uri(picture: Image.Image, kind: str, *, width: int | None = None) -> str:
    """A picture as an address that holds it; kind is PNG or JPEG; wider ones than width are made
    smaller."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded(picture, kind, width=width)).decode()}"


def encoded(picture: Image.Image, kind: str, *, width: int | None = None) -> bytes:
    """The bytes of a picture's pixels alone: what else a camera wrote into its file stays
    behind."""
    if width and picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    quality: dict[str, Any] = {"quality": 82} if kind == "JPEG" else {}
    Image.fromarray(np.asarray(picture.convert("RGB"))).save(out, kind, optimize=True, **quality)
    return out.getvalue()


def href(link: str | None) -> str | None:
    """A relative path as a link; autoescape does not know an address from a script.

    Raises:
        ValueError: the path is absolute or leaves the page's folder.
    """
    if link is None:
        return None
    parts = Path(link).parts
    if Path(link).is_absolute() or ".." in parts:
        raise ValueError(f"expected a report's path inside the index's folder, got {link!r}")
    return "./" + "/".join(quote(part) for part in parts)
