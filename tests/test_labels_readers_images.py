"""Images that label files name in other ways than the disk does."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath

import pytest

from spherodetect.labels.readers.images import ImageIndex

HERE = [PurePosixPath("."), PurePosixPath("images")]
NFC, NFD = (unicodedata.normalize(form, "Müller 01.jpg") for form in ("NFC", "NFD"))


def locate(names: str | list[str], *files: str) -> str | dict[str, str | None] | None:
    found = ImageIndex({file: Path(file) for file in files}).locate(
        [names] if isinstance(names, str) else names, HERE
    )
    return found[names] if isinstance(names, str) else found


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("images/1/a.jpg", "images/a.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        ("..\\..\\media\\upload\\4\\a.jpg", "images/a.jpg"),
        ("/data/upload/1/a.jpg", "images/a.jpg"),
        ("C:\\Users\\lab\\a.jpg", "images/a.jpg"),
        ("/data/local-files/?d=smears/a.jpg", "images/a.jpg"),
        ("https://host/bucket/a.jpg?X-Amz-Signature=abc", "images/a.jpg"),
        ("M%C3%BCller%2001.jpg", NFC),
        (NFC, "M%C3%BCller%2001.jpg"),
        (NFC, NFD),
        (NFD, NFC),
        ("IMG_0001.jpg", "IMG_0001.JPG"),
        ("IMG_0001.png", "IMG_0001.jpg"),
        ("IMG_0001.jpeg", "IMG_0001.jpg"),
        ("IMG_0001", "IMG_0001.jpg"),
        (" IMG 01.jpg", "IMG 01.jpg"),
    ],
)
def test_the_only_image_that_fits_is_found(name, file):
    assert locate(name, file, "other.jpg", "images/b.png") == file


def test_folders_decide_between_images_of_one_name():
    files = ("export/p1/a.jpg", "export/p2/a.jpg")
    assert locate("server/p2/a.jpg", *files) == "export/p2/a.jpg"
    assert locate("a.jpg", *files) is None
    assert locate("p3/a.jpg", *files) is None


def test_two_names_never_get_one_image():
    assert locate(["p1/a.jpg", "p2/a.jpg"], "x/a.jpg") == {"p1/a.jpg": None, "p2/a.jpg": None}
    # An exact name keeps its image.
    assert locate(["a.jpg", "p2/a.jpg"], "a.jpg") == {"a.jpg": "a.jpg", "p2/a.jpg": None}
    assert locate(["a.jpg", "a.png"], "a.jpg") == {"a.jpg": "a.jpg", "a.png": None}


def test_a_near_miss_is_named():
    index = ImageIndex({"images/smear_01.jpg": Path("x"), "images/b.jpg": Path("y")})
    assert index.near("smear_02.jpg") == "images/smear_01.jpg"
    assert index.near("other.jpg") is None
    assert ImageIndex({}).near("a.jpg") is None
