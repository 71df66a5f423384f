"""Cells from COCO results of another tool."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS
from spherodetect.errors import BadLabelsError
from spherodetect.fields.patients import patient_in
from spherodetect.labels.file_names import source_of, tile_of
from spherodetect.labels.readers.coco import parse_coco
from spherodetect.labels.source import PATIENT_PATTERN
from spherodetect.pipeline.counted import (
    UNKNOWN_SIZE,
    CountedField,
    countable_by_boxes,
    known_class_names,
)
from spherodetect.safety import quoted

#: Detections with a lower score are left out. Detectors also write detections of low score, which
#: precision-recall curves need.
MIN_SCORE = 0.5
_MAX_NAME = 80


def from_results(
    files: Mapping[Path, Any],
    class_names: Sequence[str],
    patient_regex: re.Pattern[str] | None,
    problems: list[str],
    classes: Mapping[str, str] | None = None,
) -> list[CountedField]:
    """The fields of COCO results.

    Args:
        files: file to its parsed content.
        class_names: classes of the detector by category id from 1, if no file names them.
        patient_regex: a pattern that finds the patient in a file name.
        problems: gets a line for each thing that is left out.
        classes: names to classes, in addition to the known names.

    Raises:
        BadLabelsError: a file with other content, or an unknown class.
    """
    lists = {path: data for path, data in files.items() if isinstance(data, list)}
    data_sets = {path: data for path, data in files.items() if path not in lists}
    for path, data in data_sets.items():
        if not isinstance(data, dict) or not all(
            isinstance(data.get(key), list) for key in ("images", "categories")
        ):
            raise BadLabelsError(
                f"{quoted(path)}: expected COCO results or their images, got something else"
            )
    known = {
        key: [entry for data in data_sets.values() for entry in data[key]]
        for key in ("images", "categories")
    }
    fields = []
    for path, entries in lists.items():
        categories = known["categories"] or _categories_of(path, entries, class_names)
        fields += _results(
            path, entries, known | {"categories": categories}, patient_regex, problems, classes
        )
    # If there is a list of results, a data set only names its images and classes.
    for path, data in () if lists else data_sets.items():
        entries = data.get("annotations", [])
        fields += _results(path, entries, data, patient_regex, problems, classes)
    return fields


def _countable(entry: Mapping[str, Any]) -> Any:
    """What an annotation says about `countable`, itself or in its attributes; None for nothing."""
    attributes = entry.get("attributes")
    inner = attributes.get("countable") if isinstance(attributes, Mapping) else None
    return entry.get("countable", inner)


def _results(
    path: Path,
    entries: Any,
    known: Mapping[str, list[Any]],
    patient_regex: re.Pattern[str] | None,
    problems: list[str],
    classes: Mapping[str, str] | None,
) -> list[CountedField]:
    _require_detections(path, entries)
    cells = [
        entry
        for entry in entries
        if _countable(entry) is not None or not _is_below(entry.get("score"), MIN_SCORE)
    ]
    if few := len(entries) - len(cells):
        problems.append(
            f"{quoted(path)}: {few:,} detections left out, their score is below {MIN_SCORE}"
        )
    images = [entry for entry in known["images"] if isinstance(entry, dict)]
    if not images:
        images = _images_of(cells)
        problems.append(
            f"{quoted(path)}: no image sizes; cells at the right and lower border may count; give "
            "the "
            "file of the images too"
        )
    # Running numbers replace file names and ids, which may occur twice or be no text.
    content = {
        "images": [{**entry, "file_name": str(i)} for i, entry in enumerate(images)],
        "categories": known["categories"],
        "annotations": [{**entry, "id": i} for i, entry in enumerate(cells)],
    }
    labels = parse_coco(content, path)
    problems += [
        f"{quoted(path)}: {f.message}"
        for f in labels.findings
        if f.severity == "error" and f.code != "labels-without-image"
    ]
    fields: dict[tuple[str, str], CountedField] = {}
    n_copies = 0
    for labelled in labels.fields:
        entry = images[int(labelled.file.rpartition("/")[2])]
        names = known_class_names((a.name for a in labelled.annotations), path, classes)
        box = np.array([a.outline_box_yxyx for a in labelled.annotations], float).reshape(-1, 4)
        said = [_countable(cells[int(a.annotation_id)]) for a in labelled.annotations]
        counts = countable_by_boxes(names, box, labelled.size_hw)
        counts = np.array(
            [c if s is None else bool(s) for c, s in zip(counts, said, strict=True)], bool
        )
        counts &= np.isin(names, list(RED_CELLS))
        patient = _patient(entry, path, patient_regex)
        name = str(entry.get("file_name"))
        view = patient, f"{source_of(name)} {tile_of(name)}"
        # An export may hold several copies of a photograph. The one with most cells counts, as for
        # human labels.
        n_copies += view in fields
        if view not in fields or len(fields[view].names) < len(names):
            fields[view] = CountedField(patient, names, counts)
    if n_copies:
        problems.append(
            f"{quoted(path)}: {n_copies:,} images left out; by their names they are copies of a "
            "photograph that is counted already"
        )
    return list(fields.values())


def _require_detections(path: Path, entries: Any) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadLabelsError(
            f"{quoted(path)}: expected COCO results as a list of detections, got something else"
        )


def _is_below(score: Any, limit: float) -> bool:
    return isinstance(score, int | float) and score < limit


def _images_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An entry for each image that the detections name, with the size of a run-length mask if there
    is one."""
    images: dict[Any, dict[str, Any]] = {}
    for cell in cells:
        image_id, outline = cell.get("image_id"), cell.get("segmentation")
        size = outline.get("size") if isinstance(outline, dict) else None
        if isinstance(image_id, int | str) and (image_id not in images or size):
            height, width = (
                size if isinstance(size, list) and len(size) == 2 else (UNKNOWN_SIZE, UNKNOWN_SIZE)
            )
            images[image_id] = {
                "id": image_id,
                "file_name": str(image_id),
                "height": height,
                "width": width,
            }
    return list(images.values())


def _categories_of(path: Path, entries: Any, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes that the detections name themselves, or else those of the detector.

    Raises:
        BadLabelsError: there are only ids of categories.
    """
    _require_detections(path, entries)
    named = {
        e["category_id"]: e["category_name"]
        for e in entries
        if isinstance(e.get("category_name"), str) and isinstance(e.get("category_id"), int | str)
    }
    named = named or dict(enumerate(class_names, 1))
    if entries and not named:
        raise BadLabelsError(
            f"{quoted(path)}: expected to know the categories' names, got their ids alone; give "
            "the COCO file of the "
            "images and categories too, or the model with --model"
        )
    return [{"id": i, "name": name} for i, name in named.items()]


def _patient(entry: Mapping[str, Any], path: Path, patient_regex: re.Pattern[str] | None) -> str:
    """The patient: stated by the image's entry, else found in its file name, else its folder, else
    the name of the results file."""
    name = str(entry.get("file_name") or "").replace("\\", "/")
    stated, folder = entry.get("patient_id"), name.strip("/").rpartition("/")[0].partition("/")[0]
    if patient_regex is not None:
        return patient_in(name, patient_regex) or path.stem
    if isinstance(stated, str) and stated:
        return stated
    return patient_in(name, re.compile(PATIENT_PATTERN)) or folder or path.stem


def tool_name(contents: Collection[Any]) -> str | None:
    """The tool that the files name in `info`, if all name the same one; else None."""
    infos = [data.get("info") if isinstance(data, dict) else None for data in contents]
    names = {info.get("description") if isinstance(info, dict) else None for info in infos}
    name = names.pop() if len(names) == 1 else None
    return name if isinstance(name, str) and 0 < len(name) <= _MAX_NAME else None
