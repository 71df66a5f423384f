"""view: labels become cells, as people drew them and as training sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadImageError
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe
from spherodetect.records.view import labelled_cells
from spherodetect.synthetic import draw_field

RECIPE = Recipe("a", "coco", Path("."), unknown=frozenset({"dirt"}))


def field(folder: Path, image: np.ndarray, *annotations: Annotation, **more) -> LabelledField:
    Image.fromarray(image).save(folder / "a.png")
    return LabelledField("a.png", folder / "a.png", image.shape[:2], annotations, "a", **more)


@pytest.fixture(scope="module")
def drawn():
    return draw_field(
        np.random.default_rng(3),
        size_hw=(200, 260),
        n_cells=12,
        n_white=0,
        n_platelets=0,
        overlap_fraction=0,
        touching_fraction=0,
    )


def boxes(drawn) -> list[Annotation]:
    corners = drawn.cells.box_yxyx.astype(float).tolist()
    return [
        Annotation(
            str(k),
            name,
            tuple(box),
            polygons=(np.array([[box[i], box[j]] for i, j in ((0, 1), (0, 3), (2, 3), (2, 1))]),),
        )
        for k, (box, name) in enumerate(zip(corners, drawn.cells.names, strict=True))
    ]


def test_a_rectangle_is_shown_as_a_rectangle_and_repaired_as_a_cell(drawn, tmp_path):
    labelled = field(tmp_path, drawn.image, *boxes(drawn))
    image, as_drawn = labelled_cells(labelled, RECIPE, repaired=False)
    np.testing.assert_array_equal(image, drawn.image)
    np.testing.assert_allclose(as_drawn.box_yxyx, drawn.cells.box_yxyx)
    assert list(as_drawn.names) == list(drawn.cells.names)
    assert all(mask.all() for mask, _ in as_drawn.pixel_masks())
    _, repaired = labelled_cells(labelled, RECIPE)
    whole = ~drawn.cells.at_border
    truth, found = (
        np.array([m.sum() for m, _ in c.pixel_masks()])[whole] for c in (drawn.cells, repaired)
    )
    np.testing.assert_allclose(found, truth, rtol=0.12)


def test_an_outline_stays_what_it_is(tmp_path):
    triangle = np.array([[10.0, 30.0], [50.0, 10.0], [50.0, 50.0]])
    labelled = field(
        tmp_path, np.full((80, 80, 3), 220, np.uint8), Annotation("1", "RBC", polygons=(triangle,))
    )
    for repaired in (False, True):
        _, cells = labelled_cells(labelled, RECIPE, repaired=repaired)
        ((mask, corner),) = cells.pixel_masks()
        np.testing.assert_allclose(corner, (10, 10), atol=1)
        assert abs(mask.sum() - 800) < 45


def test_the_stretch_is_undone_for_what_is_repaired_alone(drawn, tmp_path):
    labelled = field(tmp_path, drawn.image, *boxes(drawn), native_size_hw=(100, 260))
    assert labelled_cells(labelled, RECIPE, repaired=False)[0].shape == (200, 260, 3)
    image, cells = labelled_cells(labelled, RECIPE)
    assert image.shape[:2] == cells.image_size_hw == (100, 260)


def test_points_are_small_squares_and_unknown_cells_are_left_out(tmp_path):
    image = np.full((60, 60, 3), 220, np.uint8)
    labelled = field(
        tmp_path,
        image,
        Annotation("1", "Spherocyte", point_yx=(30.0, 20.0)),
        Annotation("2", "dirt", (1.0, 1.0, 9.0, 9.0)),
    )
    _, cells = labelled_cells(labelled, RECIPE, repaired=False)
    assert list(cells.names) == ["spherocyte"]
    np.testing.assert_array_equal(cells.box_yxyx, [[26, 16, 34, 24]])


def test_an_image_that_is_none_is_named(tmp_path):
    labelled = field(tmp_path, np.full((60, 60, 3), 220, np.uint8))
    (tmp_path / "a.png").write_bytes(b"no image")
    for one in (labelled, replace(labelled, path=None)):
        for repaired in (False, True):
            with pytest.raises(BadImageError, match=r"a\.png"):
                labelled_cells(one, RECIPE, repaired=repaired)
