"""The pixel size that an image file states itself.

Microscope software writes it as OME-XML or in the ImageJ description of a TIFF, and some cameras
write it as the resolution of a TIFF, PNG, JPEG or BMP. Most resolution tags are no microscope pixel
sizes: 72, 96 or 300 dots per inch are defaults of cameras and printers. A resolution is therefore
used only if a pixel is smaller than 5 µm (5,080 dots per inch). `find.find_scale` checks each value
against the field's own red cells as well.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherodetect.fields.image import FORMATS, quiet_pillow
from spherodetect.fields.tiff import open_tiff, photograph_page

#: A larger pixel in a resolution tag is meant for a printer or a screen.
MAX_RESOLUTION_UM = 5.0
#: Width and height of a pixel may differ by this part, which rounding in a file can explain.
_MAX_ANISOTROPY = 0.01
_MAX_DESCRIPTION_CHARS = 4 * 2**20
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UM_PER_INCH = 25_400.0
#: Micrometres in each unit of OME-XML and ImageJ, in lower case.
_UNITS_UM = {
    "nm": 1e-3, "nanometer": 1e-3, "nanometers": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0,  # both characters for mu occur
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometers": 1.0,
    "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": _UM_PER_INCH, "in": _UM_PER_INCH,
}  # fmt: skip
#: Values of the TIFF tag ResolutionUnit.
_RESOLUTION_UNITS_UM = {2: _UM_PER_INCH, 3: 1e4}
#: Numbers of TIFF tags.
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296


@dataclass(frozen=True)
class FilePixelSize:
    """A pixel size from a file's metadata.

    Attributes:
        um_per_px: in µm, above 0.
        origin: OME-XML, ImageJ or resolution.
    """

    um_per_px: float
    origin: str


def file_pixel_size(source: str | Path | bytes) -> FilePixelSize | None:
    """The pixel size in an image file's metadata, or None.

    Only the header is read. OME-XML is preferred to an ImageJ description, and that to resolution
    tags. The result is None as well if the file cannot be read, if the pixels are not square, or if
    the resolution is that of a printer.

    Args:
        source: a path, or the bytes of a file.

    >>> file_pixel_size(b"no image") is None
    True
    """
    try:
        if _is_tiff(source):
            return _of_tiff(source)
        return _of_resolution(*_dots_per_inch(source), _UM_PER_INCH)
    except Exception:  # damaged metadata raises nearly any exception, and is no metadata
        return None


def _is_tiff(source: str | Path | bytes) -> bool:
    if isinstance(source, bytes):
        return source.startswith(_TIFF_STARTS)
    with open(source, "rb") as file:
        return file.read(4) in _TIFF_STARTS


def _dots_per_inch(source: str | Path | bytes) -> tuple[float, float]:
    """Horizontal and vertical resolution of a PNG, JPEG or BMP; (0, 0) if it states none."""
    from PIL import Image

    with (
        quiet_pillow(),
        Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as image,
    ):
        across, down = image.info.get("dpi", (0.0, 0.0))
        return float(across), float(down)


def _of_tiff(source: str | Path | bytes) -> FilePixelSize | None:
    with open_tiff(io.BytesIO(source) if isinstance(source, bytes) else source) as tiff:
        # The description of OME is on the first page, whichever page is the photograph.
        description = str(tiff.pages[0].description)[:_MAX_DESCRIPTION_CHARS]
        tags = (photograph_page(tiff) or tiff.pages[0]).tags
        across = _ratio(tags.valueof(_X_RESOLUTION))
        down = _ratio(tags.valueof(_Y_RESOLUTION))
        unit = int(tags.valueof(_RESOLUTION_UNIT, 2))
    if "<OME" in description:
        return _of_ome(description)
    if description.startswith("ImageJ="):
        return _of_imagej(description, across, down)
    return _of_resolution(across, down, _RESOLUTION_UNITS_UM.get(unit, math.nan))


def _of_ome(description: str) -> FilePixelSize | None:
    """From the first Pixels element of OME-XML.

    https://docs.openmicroscopy.org/ome-model/latest/ : PhysicalSizeX and PhysicalSizeY are lengths
    of a pixel, with µm as the default unit.
    """
    from defusedxml import ElementTree

    for element in ElementTree.fromstring(description).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            across, down = (
                float(element.get(f"PhysicalSize{axis}", "nan"))
                * _UNITS_UM.get(element.get(f"PhysicalSize{axis}Unit", "µm").lower(), math.nan)
                for axis in "XY"
            )
            return _square(across, down, "OME-XML")
    return None


def _of_imagej(description: str, across: float, down: float) -> FilePixelSize | None:
    """From an ImageJ description: its unit, and pixels per unit in the resolution tags."""
    found = re.search(r"^unit=(.+)$", description, re.MULTILINE)
    # ImageJ writes the µ as an escape.
    unit = found[1].strip().replace("\\u00B5", "µ").lower() if found else ""
    if unit not in _UNITS_UM or not (across > 0 and down > 0):
        return None
    return _square(_UNITS_UM[unit] / across, _UNITS_UM[unit] / down, "ImageJ")


def _of_resolution(across: float, down: float, unit_um: float) -> FilePixelSize | None:
    if not (across > 0 and down > 0):
        return None
    size = _square(unit_um / across, unit_um / down, "resolution")
    return size if size and size.um_per_px < MAX_RESOLUTION_UM else None


def _square(across: float, down: float, origin: str) -> FilePixelSize | None:
    if not (0 < across < math.inf and 0 < down < math.inf):
        return None
    if abs(across / down - 1) > _MAX_ANISOTROPY:
        return None
    return FilePixelSize(math.sqrt(across * down), origin)


def _ratio(value: Any) -> float:
    """A TIFF rational, or NaN for a missing or invalid one."""
    if value is None:
        return math.nan
    numerator, denominator = value
    return numerator / denominator if denominator else math.nan


__all__ = ["MAX_RESOLUTION_UM", "FilePixelSize", "file_pixel_size"]
