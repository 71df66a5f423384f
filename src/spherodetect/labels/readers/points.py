"""Reads point labels: text files with a line `x y class` for each cell, and ImageJ's CSV.

Chula RBC-12 has the text files; ImageJ saves its multipoint results as CSV. A label file belongs to
the image with the same path without the suffix. x counts to the right and y down, both from the
corner of the upper left pixel. The annotation id is the line's number. An image without a label
file is a field of which nothing is known (`labelled=False`); one with an empty label file is a
field in which nobody marked a cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.file_names import source_of, split_of_folders
from spherodetect.labels.readers.files import folder_in, header_size_hw, keys_below, list_files
from spherodetect.labels.readers.images import pair_by_name
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.readers.yolo import is_yolo_line
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import quoted, read_csv, read_text

LABEL_SUFFIXES = frozenset({".txt", ".csv"})
#: (line number, x, y, class name), or (line number, the problem)
Row = tuple[str, float, float, str] | tuple[str, str]

_NO_LABELS = re.compile(r"(readme|licen[cs]e|classes)\b", re.IGNORECASE)


def read_points(recipe: Recipe) -> LabelSet:
    """Read every image of recipe.images with the points of its label file in recipe.labels.

    Raises:
        BadLabelsError: a folder of the recipe is missing.
    """
    root, ledger = recipe.root, Ledger()
    image_folder = folder_in(root, recipe.images, "images")
    label_folder = folder_in(root, recipe.labels, "labels")
    images = list_files(image_folder, IMAGE_SUFFIXES, root)
    labels = find_point_files(label_folder, root)
    keys = keys_below(images, image_folder)
    image_of = pair_by_name(keys, keys_below(labels, label_folder))
    label_of = {image: label_file for label_file, image in image_of.items()}
    for file, key in keys.items():
        label_file = label_of.get(file)
        rows = list(_rows(labels[label_file])) if label_file else []
        if (size_hw := header_size_hw(images[file])) is None:
            ledger.bad_image(file, [row[0] for row in rows])
            continue
        if not rows:
            ledger.without_labels(file, label_file)
        ledger.add(
            LabelledField(
                file=file,
                path=images[file],
                size_hw=size_hw,
                source_id=source_of(f"{key}.jpg"),
                patient_id=recipe.patient_of(file),
                split=split_of_folders(file),
                annotations=tuple(_annotations(rows, size_hw, label_file or "", ledger)),
                native_size_hw=recipe.native_size_hw,
                um_per_px=recipe.um_per_px,
                labelled=label_file is not None,
            ),
            label_file=label_file,
        )
    for label_file, path in labels.items():
        rows = [] if label_file in image_of else list(_rows(path))
        # Another text, such as notes, is no label file.
        if any(len(row) == 4 for row in rows):
            ledger.without_image(label_file, [row[0] for row in rows])
    return ledger.close()


def find_point_files(folder: Path, root: Path) -> dict[str, Path]:
    """The text files below a folder that may hold points, by their path relative to root."""
    found = list_files(folder, LABEL_SUFFIXES, root)
    return {
        name: path for name, path in found.items() if not _NO_LABELS.match(PurePosixPath(name).name)
    }


def _annotations(
    rows: list[Row], size_hw: tuple[int, int], label_file: str, ledger: Ledger
) -> Iterator[Annotation]:
    height, width = size_hw
    for row in rows:
        if len(row) == 2:
            ledger.malformed(label_file, [row[0]], row[1])
            continue
        number, x, y, name = row
        if 0 <= x <= width and 0 <= y <= height:
            yield Annotation(annotation_id=number, name=name, point_yx=(y, x))
        else:
            ledger.malformed(
                label_file, [number], f"points lie outside the image of {width}x{height} pixels"
            )


def _rows(path: Path) -> Iterator[Row]:
    try:
        yield from _csv_rows(path) if path.suffix.lower() == ".csv" else _text_rows(path)
    except BadLabelsError as problem:
        yield "1", str(problem).removeprefix(f"{quoted(path)}: ")


def _text_rows(path: Path) -> Iterator[Row]:
    """The lines `x y class` that are not empty."""
    for number, line in enumerate(
        read_text(path, error=BadLabelsError, any_encoding=True).splitlines(), 1
    ):
        parts = line.replace(",", " ").split(maxsplit=2)
        if parts and is_yolo_line(line):
            yield str(number), "expected x y class in pixels, got a line of YOLO; set format: yolo"
        elif parts:
            yield _row(str(number), parts, "x y class")


def _csv_rows(path: Path) -> Iterator[Row]:
    """The rows of ImageJ's table, with the columns X, Y and Counter (or class)."""
    rows = read_csv(path, error=BadLabelsError)
    header = [name.lower() for name in next(rows, (0, []))[1]]
    columns = ["x", "y", "counter" if "counter" in header else "class"]
    if header and not set(columns) <= set(header):
        yield "1", "expected the columns X, Y and Counter in the first line"
        return
    for number, cells in rows:
        parts = [cells[k] for k in map(header.index, columns) if k < len(cells)]
        numbers = [part.replace(",", ".") for part in parts[:2]]  # decimal commas
        yield _row(str(number), [*numbers, *parts[2:]], "X, Y and Counter")


def _row(number: str, parts: list[str], expected: str) -> Row:
    try:
        x, y = float(parts[0]), float(parts[1])
        name = parts[2].strip()
    except (ValueError, IndexError):
        return number, f"expected {expected} in the line"
    if not (math.isfinite(x) and math.isfinite(y) and name):
        return number, f"expected finite {expected} in the line"
    return number, x, y, name
