"""When a photograph was taken: as a manifest states it, or as its camera wrote it into the file."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

#: DateTimeOriginal of EXIF, and the group of tags that it belongs to.
_EXIF_GROUP, _TAKEN = 0x8769, 0x9003
#: Dates besides ISO 8601, in which the day and the month cannot be taken for each other.
_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y/%m/%d", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S")
#: A camera whose clock was never set writes a date before this year, or zeros.
_FIRST_YEAR = 1990


def parsed_date(text: str) -> datetime | None:
    """A date, perhaps with a time, without its zone; None if the text is none.

    >>> parsed_date("30.11.2026"), parsed_date("2026-11-30T09:05"), parsed_date("3/4/26")
    (datetime.datetime(2026, 11, 30, 0, 0), datetime.datetime(2026, 11, 30, 9, 5), None)
    """
    text = text.strip().strip("\0")
    found = None
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text).replace(tzinfo=None)
    for form in _FORMATS if found is None else ():
        with contextlib.suppress(ValueError):
            found = datetime.strptime(text, form)
            break
    return found if found is not None and found.year >= _FIRST_YEAR else None


def date_in_file(path: Path) -> datetime | None:
    """The DateTimeOriginal of a photograph's EXIF, or None without one."""
    from PIL import Image

    from spherodetect.fields.image import FORMATS, quiet_pillow

    # A date is no reason to leave a photograph out: whatever is wrong with the file is told where
    # its pixels are read.
    with contextlib.suppress(Exception), quiet_pillow(), Image.open(path, formats=FORMATS) as file:
        return parsed_date(str(file.getexif().get_ifd(_EXIF_GROUP).get(_TAKEN, "")))
    return None


__all__ = ["date_in_file", "parsed_date"]
