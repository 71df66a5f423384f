"""Names and text for error messages, file names and table cells."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

#: A file system allows 255 bytes. The hash, the suffix and additions of a browser need the rest.
_MAX_NAME_BYTES = 100
#: Names that Windows reserves for devices, whatever their suffix is.
_RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"
}
#: The places where a spreadsheet may start a formula. A spreadsheet may split a line at another
#: separator than the comma, so each separator in a cell counts as the start of a cell.
_FORMULA = re.compile(r"(^|[,;|\t\r\n])(?=[ \t\r\n]*[=+\-@＝＋－＠]|[\t\r])")


def quoted(text: object, *, max_chars: int = 160) -> str:
    """Text in quotes for an error message: one line, without invisible characters.

    The middle of a text of more than max_chars characters is left out.

    >>> quoted("a\\nb.jpg")
    "'a\\\\nb.jpg'"
    """
    shown = str(text)
    if len(shown) > max_chars:
        shown = f"{shown[: max_chars // 2]}…{shown[len(shown) - max_chars // 2 :]}"
    return repr(shown)


def safe_name(text: str) -> str:
    """A unique file name, without suffix, for a patient id or a field id.

    Letters and digits of any script, `-`, `_`, `.` and inner spaces are kept. An id that consists
    of them is its own name. In any other id the other characters are replaced, and `~` and ten
    digits of its SHA-256 are appended. Ids that differ only in case give names that differ only in
    case.

    >>> safe_name("patient 07"), safe_name("../x")
    ('patient 07', '_x~d6b96a97d1')
    """
    kept = "".join(
        c if c.isalnum() or c in "-_. " else "_" for c in unicodedata.normalize("NFC", text)
    )
    kept = kept.lstrip(" .-").encode()[:_MAX_NAME_BYTES].decode(errors="ignore").rstrip(" .")
    if kept.partition(".")[0].rstrip().upper() in _RESERVED:
        kept = f"_{kept}"
    if kept and kept == text:
        return kept
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{kept}~{digest[:10]}"


def csv_cell(value: Any) -> Any:
    """A value for a CSV cell, in which no spreadsheet finds a formula.

    Text that a spreadsheet would execute gets an apostrophe in front. Numbers are not changed.

    >>> csv_cell("=1+1"), csv_cell(-1.5)
    ("'=1+1", -1.5)
    """
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def os_reason(problem: BaseException) -> str:
    """The reason for an exception in the system's words, without the path that str() repeats."""
    return (problem.strerror if isinstance(problem, OSError) else None) or quoted(problem)
