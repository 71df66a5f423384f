"""Photographs of one cell each: the folder is the class, and the point is the centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.readers.centred import read_centred
from spherodetect.labels.recipe import Recipe


def recipe_of(root: Path, *files: str) -> Recipe:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    return Recipe("mine", "centred", root, um_per_px=0.1)


def test_the_folder_is_the_class_of_the_cell_in_the_centre(tmp_path):
    labels = read_centred(recipe_of(tmp_path, "monocyte/a.jpg", "deep/platelet/b.png"))
    found = {f.file: f for f in labels.fields}
    assert set(found) == {"monocyte/a.jpg", "deep/platelet/b.png"}
    for file, name in (("monocyte/a.jpg", "monocyte"), ("deep/platelet/b.png", "platelet")):
        (annotation,) = found[file].annotations
        assert (annotation.name, annotation.point_yx) == (name, (24.0, 32.0))
        assert (found[file].labelled, found[file].um_per_px) == (True, 0.1)
    assert labels.n_read == 2


def test_a_photograph_in_no_folder_has_no_label(tmp_path):
    (field,) = read_centred(recipe_of(tmp_path, "a.jpg")).fields
    assert not field.labelled
    assert not field.annotations


def test_an_unreadable_photograph_is_named_and_its_label_counted(tmp_path):
    recipe = recipe_of(tmp_path, "monocyte/a.jpg")
    (tmp_path / "monocyte" / "b.jpg").write_bytes(b"no image")
    labels = read_centred(recipe)
    assert [f.file for f in labels.fields] == ["monocyte/a.jpg"]
    assert [u.file for u in labels.unread] == ["monocyte/b.jpg"]
    assert labels.n_read == 2


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(BadLabelsError, match="expected the data set's folder"):
        read_centred(Recipe("mine", "centred", tmp_path / "none"))
