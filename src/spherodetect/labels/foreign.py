"""Recognises label formats that are not read, and says how to get COCO from the tool."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.labels.readers.files import list_files
from spherodetect.safety import quoted, read_csv, read_json, read_text

_AGAIN = "export it as COCO"
#: Bytes of an XML file that are examined.
_HEAD = 4096


def foreign_format(path: Path) -> str | None:
    """The name of a known format of a label file that is not read here, with the next step.

    None for a file of another kind.
    """
    try:
        if path.suffix.lower() == ".json":
            return _json_format(read_json(path, error=BadLabelsError))
        if path.suffix.lower() == ".csv":
            rows = [cells for _, cells in itertools.islice(read_csv(path, error=BadLabelsError), 2)]
            return _csv_format(*rows, *[[]] * (2 - len(rows)))
        if path.suffix.lower() == ".xml":
            return _xml_format(read_text(path, error=BadLabelsError)[:_HEAD])
    except BadLabelsError:
        return None
    return None


def refuse_foreign(paths: Iterable[Path]) -> None:
    """Raise an error for the first file of a recognised format.

    Raises:
        BadLabelsError: the file, its format and the next step.
    """
    for path in paths:
        if found := foreign_format(path):
            raise BadLabelsError(f"{quoted(path)}: expected COCO, YOLO, VOC or points, got {found}")


def foreign_files(folder: Path) -> list[Path]:
    """The files below a folder that may be labels of another format."""
    return list(list_files(folder, {".json", ".csv", ".xml"}, folder).values())


def _json_format(data: Any) -> str | None:
    first = data[0] if isinstance(data, list) and data else None
    if isinstance(first, dict):
        if "image" in first and isinstance(first.get("annotations"), list):
            return f"CreateML; {_AGAIN} from the labelling tool"
        if isinstance(first.get("data"), dict) and (
            "annotations" in first or "completions" in first
        ):
            return f"Label Studio's own JSON; {_AGAIN} there (Export, COCO)"
        if isinstance(first.get("data"), dict) and "predictions" in first:
            return f"Label Studio's own JSON; {_AGAIN} there (Export, COCO)"
    if isinstance(data, dict):
        entries = data.get("_via_img_metadata", data)
        entry = next(iter(entries.values()), None) if isinstance(entries, dict) else None
        if isinstance(entry, dict) and "filename" in entry and "regions" in entry:
            return f"VIA (VGG Image Annotator); {_AGAIN} there (Annotation, Export as COCO)"
    return None


def _csv_format(header: list[str], first: list[str]) -> str | None:
    names = [name.strip().lower() for name in header]
    if {"filename", "class", "xmin", "ymin", "xmax", "ymax"} <= set(names):
        return f"TensorFlow Object Detection CSV; {_AGAIN} from the labelling tool"
    if names[:1] == ["filename"] and len(names) > 1 and set(first[1:]) <= {"0", "1"}:
        return (
            "a CSV of classes for whole images (multi-class classification) without any cell; "
            "export an object detection or segmentation project as COCO"
        )
    return None


def _xml_format(head: str) -> str | None:
    if "<annotations" in head and "<image " in head:
        return f"CVAT's own XML; {_AGAIN} there (Export, COCO 1.0)"
    return None
