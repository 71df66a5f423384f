"""Reads Pascal VOC boxes: one XML file for each image, as LabelImg writes them (BCCD).

VOC counts pixels from 1 and includes the last one, so the half-open box is (xmin - 1, ymin - 1,
xmax, ymax). The annotation id is the number of the object in the file, from 1. XML entities and
external references are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.labels.annotations import Annotation, LabelledField, turned
from spherodetect.labels.file_names import source_of, split_of_folders
from spherodetect.labels.readers.files import (
    ON_ITS_SIDE,
    by_stem,
    folder_in,
    list_files,
    read_header,
)
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import MAX_TEXT_BYTES, read_bytes

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TEXT_LIMIT = 200
_MAX_SIDE_PX = 100_000


def read_voc(recipe: Recipe) -> LabelSet:
    """Read the XML files of recipe.labels.

    The image is the file with the same path without the suffix, or else the one that the XML names.

    Raises:
        BadLabelsError: a folder of the recipe is missing.
    """
    root, ledger = recipe.root, Ledger()
    image_folder = folder_in(root, recipe.images, "images")
    label_folder = folder_in(root, recipe.labels, "labels")
    images = list_files(image_folder, IMAGE_SUFFIXES, root)
    labels = list_files(label_folder, {".xml"}, root)
    image_of = by_stem(images, image_folder)

    def add(
        stem: str,
        file: str,
        size_hw: tuple[int, int],
        annotations: Iterable[Annotation],
        label_file: str | None,
    ) -> None:
        ledger.add(
            LabelledField(
                file=file,
                path=images.get(file),
                size_hw=size_hw,
                source_id=source_of(f"{stem}.jpg"),
                patient_id=recipe.patient_of(file),
                split=split_of_folders(file),
                annotations=tuple(annotations),
                native_size_hw=recipe.native_size_hw,
                um_per_px=recipe.um_per_px,
                labelled=label_file is not None,
            ),
            label_file=label_file,
        )

    for stem, label_file in by_stem(labels, label_folder).items():
        if (tree := _parse(labels[label_file])) is None:
            ledger.unreadable(label_file, "expected an XML file of Pascal VOC, got something else")
            # Nothing is known of its image, which must not count as an image without cells.
            image_of.pop(stem, None)
            continue
        objects, stated_hw = tree.findall("object"), _size_hw(tree)
        ids = [str(k) for k in range(1, len(objects) + 1)]
        named = PurePosixPath(_text(tree, "filename")).stem
        if stem not in image_of and named in image_of:
            stem = named
        file = image_of.pop(stem, None)
        if file is None:
            ledger.without_image(label_file, [] if stated_hw else ids)
            if stated_hw:
                annotations = _annotations(objects, label_file, ledger)
                add(stem, f"{stem}.jpg", stated_hw, annotations, label_file)
        elif (header := read_header(images[file])) is None:
            ledger.bad_image(file, ids)
        elif stated_hw in (None, size_hw := header[0]):
            if not objects:
                ledger.without_labels(file, label_file)
            add(stem, file, size_hw, _annotations(objects, label_file, ledger), label_file)
        elif stated_hw == size_hw[::-1] and header[1] in ON_ITS_SIDE:
            ledger.turned(file, header[1])
            stored = _annotations(objects, label_file, ledger)
            upright = [turned(a, header[1], stated_hw) for a in stored]
            add(stem, file, size_hw, upright, label_file)
        else:
            ledger.wrong_size(file, ids, stated_hw, size_hw, label_file=label_file)
            add(stem, file, size_hw, [], None)
    for stem, file in image_of.items():
        if header := read_header(images[file]):
            ledger.without_labels(file, None)
            add(stem, file, header[0], [], None)
        else:
            ledger.bad_image(file, [])
    return ledger.close()


def _parse(path: Path) -> Element | None:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        # As bytes, because the file declares its encoding.
        data = read_bytes(path, max_bytes=MAX_TEXT_BYTES, error=BadLabelsError)
        tree = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    for element in tree.iter():
        if isinstance(element.tag, str):  # without its namespace
            element.tag = element.tag.rpartition("}")[2]
    return tree if tree.tag == "annotation" else None


def _annotations(objects: list[Element], label_file: str, ledger: Ledger) -> Iterator[Annotation]:
    for number, element in enumerate(objects, 1):
        name = _text(element, "name")
        corners = [_number(element, f"bndbox/{key}") for key in ("ymin", "xmin", "ymax", "xmax")]
        if not name or None in corners:
            ledger.malformed(
                label_file, [str(number)], "expected a name and xmin, ymin, xmax, ymax in pixels"
            )
            continue
        y0, x0, y1, x1 = (float(c) for c in corners if c is not None)
        if y1 <= y0 or x1 <= x0:
            ledger.malformed(
                label_file, [str(number)], "expected xmin below xmax and ymin below ymax"
            )
            continue
        yield Annotation(annotation_id=str(number), name=name, box_yxyx=(y0 - 1, x0 - 1, y1, x1))


def _size_hw(tree: Element) -> tuple[int, int] | None:
    height, width = (_number(tree, f"size/{key}") for key in ("height", "width"))
    if height is None or width is None:
        return None
    if not (1 <= height <= _MAX_SIDE_PX and 1 <= width <= _MAX_SIDE_PX):
        return None
    return int(height), int(width)


def _number(element: Element, path: str) -> float | None:
    try:
        value = float(_text(element, path))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    return text if len(text) <= _TEXT_LIMIT else ""
