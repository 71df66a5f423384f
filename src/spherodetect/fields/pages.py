"""Which page of a TIFF with several is the photograph.

Smaller pages are thumbnails or levels of a pyramid. Three grey pages that ImageJ or OME name as
channels are one colour photograph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Pages that are looked at; a photograph with its copies has fewer.
MOST_PAGES = 64
#: A page with at most this part of the largest page's pixels is a copy or a label of it.
_SMALL = 0.5
_SUBFILE, _DESCRIPTION, _IMAGEJ_METADATA = 254, 270, 50839
#: Bits of the tag NewSubfileType: a reduced copy, or a mask of transparency.
_REDUCED_OR_MASK = 1 | 4
_MAX_DESCRIPTION_CHARS = 2**20


@dataclass(frozen=True)
class Page:
    """A page of a TIFF.

    Attributes:
        size_hw: height and width.
        is_grey: one sample a pixel.
        subfile: its tag NewSubfileType.
        description: its ImageDescription.
        labels: ImageJ's own metadata, in bytes.
    """

    size_hw: tuple[int, int]
    is_grey: bool = False
    subfile: int = 0
    description: str = ""
    labels: bytes = b""

    @property
    def n_pixels(self) -> int:
        return self.size_hw[0] * self.size_hw[1]


def photograph_pages(pages: Sequence[Page]) -> tuple[int, ...]:
    """The number of the page that is the photograph, or of its red, green and blue pages.

    The result is empty if several pages may be meant.

    >>> photograph_pages([Page((30, 40)), Page((480, 640))])
    (1,)
    """
    if not pages:
        return ()
    largest = max(range(len(pages)), key=lambda number: pages[number].n_pixels)
    others = [page for number, page in enumerate(pages) if number != largest]
    limit = _SMALL * pages[largest].n_pixels
    if all(page.subfile & _REDUCED_OR_MASK or page.n_pixels <= limit for page in others):
        return (largest,)
    planes = len(pages) == 3 and all(page.is_grey for page in pages)
    if planes and len({page.size_hw for page in pages}) == 1 and _are_channels(pages[0]):
        return (0, 1, 2)
    return ()


def page_of(image: Any) -> Page:
    """The current page of a TIFF that Pillow has opened."""
    tags = image.tag_v2
    width, height = image.size
    labels = tags.get(_IMAGEJ_METADATA, b"")
    return Page(
        (height, width),
        image.mode in {"L", "I;16", "I;16B"},
        int(tags.get(_SUBFILE, 0)),
        str(tags.get(_DESCRIPTION, ""))[:_MAX_DESCRIPTION_CHARS],
        labels if isinstance(labels, bytes) else b"",
    )


def _are_channels(page: Page) -> bool:
    text = page.description
    if text.startswith("ImageJ="):
        # `Image > Type > RGB Stack` labels its three slices.
        is_rgb_stack = all(name in page.labels for name in (b"R\0e\0d", b"G\0r\0e", b"B\0l\0u"))
        return bool(re.search(r"^channels=3\s*$", text, re.MULTILINE)) or is_rgb_stack
    if "<OME" in text:
        sizes = dict(re.findall(r'\b(Size[CZT])="(\d+)"', text))
        return sizes.get("SizeC") == "3" and {sizes.get("SizeZ"), sizes.get("SizeT")} == {"1"}
    return False


__all__ = ["MOST_PAGES", "Page", "page_of", "photograph_pages"]
