"""Finds and reads COCO: Roboflow's exports, makesense.ai's single file, generic instances files.

coco_file.py reads one file.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.labels.file_names import ROBOFLOW_FILE
from spherodetect.labels.readers.coco_file import CocoFile
from spherodetect.labels.readers.files import list_files
from spherodetect.labels.readers.images import ImageIndex
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import inside, quoted


def read_coco(recipe: Recipe) -> LabelSet:
    """Read recipe.labels, or every COCO file of the root, each with its images.

    Raises:
        BadLabelsError: there is no COCO file.
    """
    files = find_coco_files(recipe.root, recipe.labels)
    if not files:
        raise BadLabelsError(
            f"{quoted(recipe.root)}: expected {ROBOFLOW_FILE} in it or its folders, "
            "or another COCO .json, got none; "
            "name the folder or zip of the export (of a recipe's with --root)"
        )
    root = recipe.root if recipe.root.is_dir() else recipe.root.parent
    images = list_files(root, IMAGE_SUFFIXES, root)
    ledger, index = Ledger(), ImageIndex(images)
    for path in files:
        CocoFile(path, root, recipe, ledger, index).read()
    folders = {PurePosixPath(file).parent for file in ledger.files}
    for file in images:
        if file not in ledger.files and PurePosixPath(file).parent in folders:
            ledger.note(
                "image-without-labels",
                file,
                "no label file lists the image",
                [],
                mend="label it and export again; it is not used for training as it is",
            )
    return ledger.close()


def parse_coco(data: Any, path: Path) -> LabelSet:
    """The labels in the parsed content of a COCO file, without images and patients."""
    ledger = Ledger()
    recipe = Recipe("source", "coco", path.parent)
    CocoFile(path, path.parent, recipe, ledger, ImageIndex({})).parse(data)
    return ledger.close()


def find_coco_files(root: Path, labels: str = "") -> list[Path]:
    """The COCO files of a source.

    That is root itself, or the file root/labels, or all of Roboflow's below the folder, or else
    every .json file in the folder or in a sub-folder `annotations`.
    """
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" else []
    place = inside(root, labels, error=BadLabelsError) if labels else root
    if place.is_file():
        return [place]
    found = list_files(place, {".json"}, root) if place.is_dir() else {}
    roboflow = [path for path in found.values() if path.name == ROBOFLOW_FILE]
    return roboflow or [
        path for path in found.values() if path.parent == place or path.parent.name == "annotations"
    ]
