"""Reads labelme: one JSON file for each image, with a list `shapes`.

A shape is a polygon, a rectangle by two corners, a circle by its centre and a point on it, or a
point. The annotation id is the number of the shape in the file, from 1.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.geometry import polygon_area
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.file_names import source_of, split_of_folders
from spherodetect.labels.readers.coco_values import ID_LIMIT
from spherodetect.labels.readers.files import folder_in, keys_below, list_files, read_header
from spherodetect.labels.readers.images import ImageIndex, pair_by_name
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import quoted, read_json

_CIRCLE_POINTS = 48


def read_labelme(recipe: Recipe) -> LabelSet:
    """Read every labelme file of recipe.labels, each with the image that it names.

    Raises:
        BadLabelsError: a folder of the recipe is missing.
    """
    root, ledger = recipe.root, Ledger()
    images = list_files(folder_in(root, recipe.images, "images"), IMAGE_SUFFIXES, root)
    labels = list_files(folder_in(root, recipe.labels, "labels"), {".json"}, root)
    index = ImageIndex(images)
    # A label file that names no image has that of its own name.
    image_of = pair_by_name(keys_below(images, root), keys_below(labels, root))
    lost: set[str] = set()
    for label_file, path in labels.items():
        split = split_of_folders(label_file)
        try:
            data = read_json(path, error=BadLabelsError)
        except BadLabelsError as problem:
            message = str(problem).removeprefix(f"{quoted(path)}: ")
            ledger.unreadable(label_file, message.removesuffix("; export it again"), split=split)
            lost.add(image_of.get(label_file, ""))
            continue
        if not is_labelme(data):
            message = "expected labelme's list shapes and imagePath, got other keys"
            ledger.unreadable(label_file, message, split=split)
            lost.add(image_of.get(label_file, ""))
            continue
        ids = [str(k) for k in range(1, len(data["shapes"]) + 1)]
        # Windows' separators too: the name is taken, never the path.
        named = PureWindowsPath(str(data["imagePath"])).name
        here = PurePosixPath(label_file).parent
        file = index.locate([named], [here])[named] if named else image_of.get(label_file)
        if file is None:
            ledger.without_image(label_file, ids, split=split, near=index.near(named))
            continue
        if (header := read_header(images[file])) is None:
            ledger.bad_image(file, ids, split=split)
            continue
        stated_hw = (data.get("imageHeight"), data.get("imageWidth"))
        labelled = stated_hw in ((None, None), header[0])
        annotations: list[Annotation] = []
        if labelled:
            for annotation_id, shape in zip(ids, data["shapes"], strict=True):
                try:
                    annotations.append(_annotation(annotation_id, shape))
                except ValueError as problem:
                    ledger.malformed(label_file, [annotation_id], str(problem), split=split)
        elif all(type(side) is int for side in stated_hw):
            ledger.wrong_size(file, ids, stated_hw, header[0], label_file=label_file, split=split)
        else:
            ledger.malformed(
                label_file, ids, "expected imageHeight and imageWidth in pixels", split=split
            )
        if not ids:
            ledger.without_labels(file, label_file, split=split)
        ledger.add(
            LabelledField(
                file=file,
                path=images[file],
                size_hw=header[0],
                annotations=tuple(annotations),
                source_id=source_of(file),
                patient_id=recipe.patient_of(file),
                split=split,
                native_size_hw=recipe.native_size_hw,
                um_per_px=recipe.um_per_px,
                labelled=labelled,
            ),
            label_file=label_file,
        )
    for image in images:
        if image not in ledger.files and image not in lost:
            ledger.without_labels(image, None, split=split_of_folders(image))
    return ledger.close()


def is_labelme(data: Any) -> bool:
    """Whether parsed JSON is a labelme file."""
    return isinstance(data, dict) and isinstance(data.get("shapes"), list) and "imagePath" in data


def _annotation(annotation_id: str, shape: Any) -> Annotation:
    if not isinstance(shape, dict):
        raise ValueError("expected a shape with keys and values, got something else")
    name = shape.get("label")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= ID_LIMIT:
        raise ValueError("expected a shape with a label")
    name = name.strip()
    points, kind = _points(shape.get("points")), shape.get("shape_type", "polygon")
    if kind == "point" and len(points) == 1:
        return Annotation(annotation_id, name, point_yx=(points[0, 0], points[0, 1]))
    if kind == "rectangle" and len(points) in (2, 4):
        (y0, x0), (y1, x1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if not (y1 > y0 and x1 > x0):
            raise ValueError("expected a rectangle with an area")
        return Annotation(annotation_id, name, box_yxyx=(y0, x0, y1, x1))
    if kind == "circle" and len(points) == 2:
        radius = math.hypot(*(points[1] - points[0]))
        turn = 2 * np.pi * np.arange(_CIRCLE_POINTS) / _CIRCLE_POINTS
        points = points[0] + radius * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    elif kind != "polygon":
        raise ValueError(f"expected a polygon, rectangle, circle or point, got {quoted(kind)}")
    if not polygon_area(points):
        raise ValueError("expected an outline with an area")
    (y0, x0), (y1, x1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Annotation(annotation_id, name, box_yxyx=(y0, x0, y1, x1), polygons=(points,))


def _points(value: Any) -> np.ndarray:
    """(M, 2) points (y, x) of labelme's list of [x, y]."""
    try:
        points = np.array(value, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ValueError("expected points as pairs x, y") from None
    if not len(points) or not (np.abs(points) <= 1e6).all():
        raise ValueError("expected points as pairs of finite numbers x, y")
    return points[:, ::-1]
