"""What the name and folder of an exported file say: its source photograph and its split.

Roboflow names a file NAME_jpg.rf.HASH.jpg. NAME is the photograph that was uploaded; its
augmented copies share it and differ in HASH. Roboflow puts the files into the folders train, valid
and test.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

SPLITS = ("train", "val", "test")
#: The label file of each split in Roboflow's COCO export.
ROBOFLOW_FILE = "_annotations.coco.json"
_ROBOFLOW_NAME = re.compile(
    r"^(?P<name>.+?)(?:[._](?:jpe?g|png|tiff?|bmp|webp))?\.rf\.\w+$", re.IGNORECASE
)
_TILE = re.compile(r"\.rf\.[^_.]+_(?P<tile>\d+_\d+_\d+_\d+)$", re.IGNORECASE)
#: Groups in the order of SPLITS.
_SPLIT = re.compile(
    r"(?:^|[^a-z])(?:(train|training)|(val|valid|validation)|(test))(?![a-z])", re.IGNORECASE
)
_SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})
#: Folders of exports that hold the images or the labels.
CONTENT_FOLDERS = frozenset(
    {"images", "image", "img", "imgs", "labels", "annotations", "jpegimages", "xml", "jpg", "png"}
)
#: Folders of exports that say nothing of the patient.
_EXPORT_FOLDERS = (
    _SPLIT_FOLDERS
    | CONTENT_FOLDERS
    | {"default", "data", "dataset", "export", "obj_train_data", "obj_valid_data"}
)


def source_of(file: str) -> str:
    """The photograph that a file was made from; copies that Roboflow made share it.

    >>> source_of("train/patient_03_11_jpg.rf.9fa5d2cc9ed96d15f38bb03916762fdd.jpg")
    'patient_03_11'
    >>> source_of("train/0001.jpg")
    'train/0001'
    """
    stem = PurePosixPath(file).with_suffix("")
    match = _ROBOFLOW_NAME.match(stem.name)
    if match is None:
        return stem.as_posix()
    # Photographs of two patients may have the same name in two folders.
    folders = [part for part in stem.parent.parts if part.lower() not in _EXPORT_FOLDERS]
    return "/".join([*folders, match["name"]])


def tile_of(file: str) -> str:
    """The tile of the photograph that a file shows, or an empty text for the whole.

    Tiling appends the corners to the name. Tiles of one photograph show different cells, so they
    are no copies of each other.

    >>> tile_of("train/a_jpg.rf.9fa5_0_0_640_480.jpg"), tile_of("train/a_jpg.rf.9fa5.jpg")
    ('0_0_640_480', '')
    """
    match = _TILE.search(PurePosixPath(file).stem)
    return match["tile"] if match else ""


def split_of_folders(file: str) -> str | None:
    """The split whose name a folder of a path has, or None.

    >>> split_of_folders("valid/images/a.jpg"), split_of_folders("images/a.jpg")
    ('val', None)
    """
    for part in PurePosixPath(file).parent.parts:
        if part.lower() in _SPLIT_FOLDERS:
            return split_in(part)
    return None


def patient_folder(file: str) -> str | None:
    """The first folder of a path that names neither a split nor a part of an export, or None.

    >>> patient_folder("images/default/Müller/1.jpg"), patient_folder("train/images/1.jpg")
    ('Müller', None)
    """
    parts = PurePosixPath(file).parent.parts
    return next((part for part in parts if part.lower() not in _EXPORT_FOLDERS), None)


def roboflow_name(source: str, digest: str) -> str:
    """The file name that Roboflow gives to a JPEG copy of a photograph.

    >>> roboflow_name("patient_03_11", "9fa5d2cc")
    'patient_03_11_jpg.rf.9fa5d2cc.jpg'
    """
    return f"{source}_jpg.rf.{digest}.jpg"


def split_in(name: str) -> str | None:
    """The split that a folder or label file is named after, or None.

    >>> split_in("valid"), split_in("instances_train2017"), split_in("patient_03")
    ('val', 'train', None)
    """
    match = _SPLIT.search(name)
    return SPLITS[match.lastindex - 1] if match and match.lastindex else None
