"""Recognises the format of the labels in a folder or file, by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.labels.file_names import ROBOFLOW_FILE
from spherodetect.labels.foreign import foreign_files, refuse_foreign
from spherodetect.labels.readers.coco import find_coco_files
from spherodetect.labels.readers.coco_lists import problem_of_lists
from spherodetect.labels.readers.files import list_files
from spherodetect.labels.readers.labelme import is_labelme
from spherodetect.labels.readers.points import find_point_files
from spherodetect.labels.readers.voc import is_voc
from spherodetect.labels.readers.yolo import is_data_yaml, is_yolo
from spherodetect.safety import quoted, read_json, zip_names

#: Files of a zip that may be labels.
_LABEL_SUFFIXES = (".json", ".xml", ".yaml", ".yml", ".txt")


def format_of(folder: Path) -> str:
    """The format of a folder's labels, as in a recipe.

    Raises:
        BadLabelsError: there are no labels, or labels of a format that is recognised and not read.
    """
    if found := _outlined_format(folder):
        return found
    # Label files that cannot be read are reported by the reader of their format.
    for kind in ("points", "voc", "coco"):
        if label_files_of(kind, folder):
            return kind
    raise BadLabelsError(
        f"{quoted(folder)}: expected labels as COCO or labelme .json, YOLO .txt, VOC .xml or "
        "points .txt or .csv, got none; check the path"
    )


def label_files_of(kind: str, folder: Path) -> list[str]:
    """The files below a folder that may be labels of the format voc, points or coco."""
    if kind == "points":
        return list(find_point_files(folder, folder))
    if kind == "voc":
        return list(list_files(folder, {".xml"}, folder))
    return [path.name for path in find_coco_files(folder)]


def is_label_source(path: str | Path) -> bool:
    """Whether a path holds boxes or outlines that people drew, and not photographs alone.

    That is a .json file, a data.yaml, a zip with labels, or a folder in which such labels lie.
    Points do not tell which cells are whole, so a folder with points is one of photographs.

    Raises:
        BadLabelsError: labels of a format that is recognised and not read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _outlined_format(path) is not None
    if not path.is_file():
        return False
    if suffix == ".zip":
        return any(name.lower().endswith(_LABEL_SUFFIXES) for name in zip_names(path))
    refuse_foreign([path])
    return suffix == ".json" or (suffix in {".yaml", ".yml"} and is_data_yaml(path))


def is_labelme_file(path: Path) -> bool:
    """Whether a file is one of labelme."""
    return path.suffix.lower() == ".json" and is_labelme(_json(path))


def _outlined_format(folder: Path) -> str | None:
    """The format of boxes or outlines in a folder; None if there are only points, or no labels.

    Raises:
        BadLabelsError: a format that is recognised and not read.
    """
    files = find_coco_files(folder)
    if any(path.name == ROBOFLOW_FILE for path in files):
        return "coco"
    refuse_foreign(files[:1])
    for path in files:
        data = _json(path)
        if is_labelme(data):
            return "labelme"
        if problem_of_lists(data) is None and not _is_result(data):
            return "coco"
    if is_yolo(folder):
        return "yolo"
    refuse_foreign(foreign_files(folder))
    if any(map(is_voc, list_files(folder, {".xml"}, folder).values())):
        return "voc"
    return None


def _is_result(data: dict[str, Any]) -> bool:
    """Whether a COCO data set holds detections, as `score` writes them beside photographs."""
    return any(isinstance(entry, dict) and "score" in entry for entry in data["annotations"])


def _json(path: Path) -> Any:
    """The content of a JSON file, or None if it cannot be read."""
    try:
        return read_json(path, error=BadLabelsError)
    except BadLabelsError:
        return None
