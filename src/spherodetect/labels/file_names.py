"""What the name and folder of an exported file say: its source photograph and its split.

Roboflow names a file NAME_jpg.rf.HASH.jpg. NAME is the photograph that was uploaded; its
augmented copies share it and differ in HASH. Roboflow puts the files into the folders train, valid
and test.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from spherodetect.labels.recipe import SPLITS

_ROBOFLOW_NAME = re.compile(
    r"^(?P<name>.+?)(?:[._](?:jpe?g|png|tiff?|bmp|webp))?\.rf\.\w+$", re.IGNORECASE
)
#: Groups in the order of SPLITS.
_SPLIT = re.compile(
    r"(?:^|[^a-z])(?:(train|training)|(val|valid|validation)|(test))(?![a-z])", re.IGNORECASE
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
    return match["name"] if match else stem.as_posix()


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
