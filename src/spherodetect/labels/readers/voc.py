"""Reads Pascal VOC boxes: one XML file for each image, as LabelImg writes them (BCCD).

VOC counts pixels from 1 and includes the last one, so the half-open box is (xmin - 1, ymin - 1,
xmax, ymax). The annotation id is the number of the object in the file, from 1. XML entities and
external references are refused.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.geometry import polygon_area
from spherodetect.labels.annotations import Annotation, LabelledField, turned
from spherodetect.labels.file_names import source_of, split_of_folders
from spherodetect.labels.readers.files import (
    ON_ITS_SIDE,
    folder_in,
    keys_below,
    list_files,
    read_header,
)
from spherodetect.labels.readers.images import ImageIndex, pair_by_name
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import MAX_TEXT_BYTES, read_bytes, read_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_ROOT = re.compile(r"<(?:\w+:)?annotation[\s/>]")
#: Characters of a file that are examined to recognise it.
_HEAD = 4096
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
    keys = keys_below(images, image_folder)
    label_keys = keys_below(labels, label_folder)
    image_of = pair_by_name(keys, label_keys)
    index = ImageIndex(images)

    def add(
        file: str,
        size_hw: tuple[int, int],
        annotations: Iterable[Annotation],
        label_file: str | None,
    ) -> None:
        key = keys.get(file) or label_keys[label_file or ""]
        ledger.add(
            LabelledField(
                file=file,
                path=images.get(file),
                size_hw=size_hw,
                source_id=source_of(f"{key}.jpg"),
                patient_id=recipe.patient_of(file),
                split=split_of_folders(file),
                annotations=tuple(annotations),
                native_size_hw=recipe.native_size_hw,
                um_per_px=recipe.um_per_px,
                labelled=label_file is not None,
            ),
            label_file=label_file,
        )

    unused = set(images)
    for label_file, path in labels.items():
        # An image of an unreadable label file must not count as an image without cells.
        unused.discard(image_of.get(label_file, ""))
        if (tree := _parse(path)) is None:
            ledger.unreadable(label_file, "expected an XML file of Pascal VOC, got something else")
            continue
        objects, stated_hw = tree.findall("object"), _size_hw(tree)
        ids = [str(k) for k in range(1, len(objects) + 1)]
        file = image_of.get(label_file) or _named(tree, index, label_file)
        if file is None:
            near = index.near(_text(tree, "filename") or label_file)
            ledger.without_image(label_file, [] if stated_hw else ids, near=near)
            if stated_hw:
                annotations = _annotations(objects, label_file, ledger)
                add(f"{label_keys[label_file]}.jpg", stated_hw, annotations, label_file)
            continue
        unused.discard(file)
        if (header := read_header(images[file])) is None:
            ledger.bad_image(file, ids)
        elif stated_hw in (None, size_hw := header[0]):
            if not objects:
                ledger.without_labels(file, label_file)
            add(file, size_hw, _annotations(objects, label_file, ledger), label_file)
        elif stated_hw == size_hw[::-1] and header[1] in ON_ITS_SIDE:
            ledger.turned(file, header[1])
            stored = _annotations(objects, label_file, ledger)
            upright = [turned(a, header[1], stated_hw) for a in stored]
            add(file, size_hw, upright, label_file)
        else:
            ledger.wrong_size(file, ids, stated_hw, size_hw, label_file=label_file)
            add(file, size_hw, [], None)
    for file in images:
        if file not in unused:
            continue
        if header := read_header(images[file]):
            ledger.without_labels(file, None)
            add(file, header[0], [], None)
        else:
            ledger.bad_image(file, [])
    return ledger.close()


def is_voc(path: Path) -> bool:
    """Whether a file is XML of Pascal VOC, judged by its beginning."""
    try:
        text = read_text(path, error=BadLabelsError, any_encoding=True)
    except BadLabelsError:
        return False
    return _ROOT.search(text, 0, _HEAD) is not None


def _named(tree: Element, index: ImageIndex, label_file: str) -> str | None:
    """The image that the XML names, beside it or elsewhere."""
    name = _text(tree, "filename")
    here = PurePosixPath(label_file).parent
    return index.locate([name], [here, here.parent / "images"])[name] if name else None


def _parse(path: Path) -> Element | None:
    """The XML's root without namespaces, or None for another file."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        # As bytes, because the file declares its encoding.
        data = read_bytes(path, max_bytes=MAX_TEXT_BYTES, error=BadLabelsError)
        try:
            tree = fromstring(data, forbid_dtd=True)
        except (ParseError, LookupError):
            # Some tools declare an encoding and write another.
            text = read_text(path, error=BadLabelsError, any_encoding=True)
            tree = fromstring(_DECLARATION.sub("", text), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    for element in tree.iter():
        if isinstance(element.tag, str):  # without its namespace
            element.tag = element.tag.rpartition("}")[2]
    return tree if tree.tag == "annotation" else None


def _annotations(objects: list[Element], label_file: str, ledger: Ledger) -> Iterator[Annotation]:
    for number, element in enumerate(objects, 1):
        try:
            yield _annotation(str(number), element)
        except ValueError as problem:
            ledger.malformed(label_file, [str(number)], str(problem))


def _annotation(number: str, element: Element) -> Annotation:
    """The annotation of one object.

    Raises:
        ValueError: it cannot be used; the message says why.
    """
    name = _text(element, "name")
    corners = [_number(element, f"bndbox/{key}") for key in ("ymin", "xmin", "ymax", "xmax")]
    polygon = _polygon(element)
    if not name or (polygon is None and None in corners):
        raise ValueError("expected a name and xmin, ymin, xmax, ymax in pixels")
    if polygon is not None:
        if not polygon_area(polygon):
            raise ValueError("expected a polygon with an area")
        (y0, x0), (y1, x1) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
        return Annotation(number, name, box_yxyx=(y0, x0, y1, x1), polygons=(polygon,))
    y0, x0, y1, x1 = (float(c) for c in corners if c is not None)
    if y1 <= y0 or x1 <= x0:
        raise ValueError("expected xmin below xmax and ymin below ymax")
    return Annotation(number, name, box_yxyx=(y0 - 1, x0 - 1, y1, x1))


def _polygon(element: Element) -> np.ndarray | None:
    """(M, 2) corners (y, x) of an object's polygon; None without one.

    Roboflow writes x1, y1, x2, y2 ..., and LabelMe's web tool a `pt` with x and y for each corner.

    Raises:
        ValueError: a corner is no pair of numbers.
    """
    polygon = element.find("polygon")
    if polygon is None:
        return None
    corners = [(_number(pt, "y"), _number(pt, "x")) for pt in polygon.findall("pt")]
    if not corners:
        values = {child.tag: _parsed(child.text) for child in polygon}
        numbers = itertools.takewhile(lambda k: f"x{k}" in values, itertools.count(1))
        corners = [(values.get(f"y{k}"), values[f"x{k}"]) for k in numbers]
    if not corners or any(v is None or abs(v) > _MAX_SIDE_PX for pair in corners for v in pair):
        raise ValueError("expected a polygon with the corners x1, y1, x2, y2 ... in pixels")
    return np.array(corners, np.float64)


def _size_hw(tree: Element) -> tuple[int, int] | None:
    height, width = (_number(tree, f"size/{key}") for key in ("height", "width"))
    if height is None or width is None:
        return None
    if not (1 <= height <= _MAX_SIDE_PX and 1 <= width <= _MAX_SIDE_PX):
        return None
    return int(height), int(width)


def _number(element: Element, path: str) -> float | None:
    return _parsed(element.findtext(path))


def _parsed(text: str | None) -> float | None:
    """A finite number, or None for another text."""
    try:
        value = float((text or "")[:_TEXT_LIMIT])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    return text if len(text) <= _TEXT_LIMIT else ""
