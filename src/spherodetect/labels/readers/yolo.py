"""Reads YOLO and YOLO-seg: one text file for each image, with values as fractions of the image.

A line is `class x y width height` (a box by its centre) or `class x1 y1 x2 y2 x3 y3 ...` (an
outline). The class is a number; yolo_names.py finds its name. A label file belongs to the image of
the same path, where a folder `labels` corresponds to `images`. The annotation id is the line's
number. Some tools write no label file for an image without cells, and others none for an image that
nobody labelled. So an image without a label file is a field of which nothing is known; an empty
label file means that the image holds no cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.geometry import polygon_area
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.file_names import source_of, split_of_folders
from spherodetect.labels.readers.files import folder_in, header_size_hw, keys_below, list_files
from spherodetect.labels.readers.images import pair_by_name
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.readers.yolo_names import ClassTable, find_class_tables, read_data_yaml
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import quoted, read_text

#: Text files that hold no labels.
_NO_LABELS = frozenset({"readme", "license", "licence", "classes", "train", "val", "valid", "test"})
#: Values may exceed the image by rounding.
_TOLERANCE = 0.01
#: Smaller outlines have no area but for rounding.
_MIN_AREA_PX2 = 1e-6
#: Lines that are examined to recognise the format.
_SAMPLE_FILES, _SAMPLE_LINES = 20, 5


def read_yolo(recipe: Recipe) -> LabelSet:
    """Read every image of recipe.images with its label file in recipe.labels.

    Raises:
        BadLabelsError: a folder of the recipe is missing.
    """
    root, ledger = recipe.root, Ledger()
    image_folder = folder_in(root, recipe.images, "images")
    label_folder = folder_in(root, recipe.labels, "labels")
    images = list_files(image_folder, IMAGE_SUFFIXES, root)
    labels = find_yolo_files(label_folder, root)
    classes = find_class_tables(root)
    for file, message in classes.problems.items():
        ledger.malformed(file, [], message, mend="export it again; numbers stand for the classes")
    image_of = pair_by_name(keys_below(images, image_folder), keys_below(labels, label_folder))
    label_of = {image: label_file for label_file, image in image_of.items()}
    for file, path in images.items():
        label_file, split = label_of.get(file), split_of_folders(file)
        lines = list(_lines(labels[label_file])) if label_file else []
        if (size_hw := header_size_hw(path)) is None:
            ledger.bad_image(file, [number for number, _ in lines], split=split)
            continue
        if not lines:
            ledger.without_labels(file, label_file, split=split)
        annotations = []
        table = classes.near(labels[label_file] if label_file else path)
        for number, line in lines:
            try:
                annotations.append(_annotation(number, line, size_hw, table))
            except ValueError as problem:
                ledger.malformed(label_file or "", [number], str(problem), split=split)
        ledger.add(
            LabelledField(
                file=file,
                path=path,
                size_hw=size_hw,
                annotations=tuple(annotations),
                source_id=source_of(file),
                patient_id=recipe.patient_of(file),
                split=split,
                native_size_hw=recipe.native_size_hw,
                um_per_px=recipe.um_per_px,
                labelled=label_file is not None,
            ),
            label_file=label_file,
        )
    for label_file, path in labels.items():
        lines = [] if label_file in image_of else list(_lines(path))
        # Another text, such as notes, is no label file.
        if any(is_yolo_line(line) for _, line in lines):
            ids = [number for number, _ in lines]
            ledger.without_image(label_file, ids, split=split_of_folders(label_file))
    return ledger.close()


def find_yolo_files(folder: Path, root: Path) -> dict[str, Path]:
    """The text files below a folder that may hold YOLO's labels, by their path relative to root."""
    found = list_files(folder, {".txt"}, root)
    return {
        name: path
        for name, path in found.items()
        if PurePosixPath(name).name.partition(".")[0].lower() not in _NO_LABELS
    }


def is_yolo(folder: Path) -> bool:
    """Whether a folder holds YOLO's label files, judged by data.yaml or by the lines' content."""
    if any(map(is_data_yaml, [*folder.rglob("*.yaml"), *folder.rglob("*.yml")])):
        return True
    sample = islice(find_yolo_files(folder, folder).values(), _SAMPLE_FILES)
    lines = [line for path in sample for _, line in islice(_lines(path), _SAMPLE_LINES)]
    return bool(lines) and all(map(is_yolo_line, lines))


def is_data_yaml(path: Path) -> bool:
    """Whether a file is the data.yaml of a YOLO export, of whatever name."""
    try:
        return read_data_yaml(path) is not None
    except BadLabelsError:
        return False


def is_yolo_line(line: str) -> bool:
    """Whether a line is a class number and at least four fractions.

    >>> is_yolo_line("0 0.5 0.5 0.1 0.1"), is_yolo_line("312 200 3")
    (True, False)
    """
    number, *values = line.split() or [""]
    if not number.isdecimal() or len(values) < 4:
        return False
    try:
        return all(-_TOLERANCE <= float(value) <= 1 + _TOLERANCE for value in values)
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Number and content of the lines that are not empty."""
    try:
        text = read_text(path, error=BadLabelsError, any_encoding=True)
    except BadLabelsError as problem:
        yield "1", str(problem).removeprefix(f"{quoted(path)}: ")
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield str(number), line.strip()


def _annotation(number: str, line: str, size_hw: tuple[int, int], table: ClassTable) -> Annotation:
    first, *rest = line.split()
    try:
        class_number, values = int(first), [float(value) for value in rest]
    except ValueError:
        raise ValueError("expected a class number and fractions of the image in the line") from None
    if table.n_key_values and len(values) == 4 + table.n_key_values:
        values = values[:4]
    if len(values) < 4 or (len(values) > 4 and (len(values) % 2 or len(values) < 6)):
        raise ValueError(
            "expected a class and x, y, width, height, or a class and at least 3 points"
        )
    if not all(math.isfinite(v) and -_TOLERANCE <= v <= 1 + _TOLERANCE for v in values):
        raise ValueError("expected fractions of the image from 0 to 1, got other values")
    name = table.names.get(class_number, str(class_number))
    height, width = size_hw
    if len(values) == 4:
        x, y, w, h = values
        if not (w > 0 and h > 0):
            raise ValueError("expected a box of positive width and height")
        box = ((y - h / 2) * height, (x - w / 2) * width, (y + h / 2) * height, (x + w / 2) * width)
        return Annotation(number, name, box_yxyx=box)
    polygon = np.reshape(values, (-1, 2))[:, ::-1] * [height, width]
    if polygon_area(polygon) < _MIN_AREA_PX2:
        raise ValueError("expected an outline with an area")
    (y0, x0), (y1, x1) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    return Annotation(number, name, box_yxyx=(y0, x0, y1, x1), polygons=(polygon,))
