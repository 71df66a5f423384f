"""drawn: synthetic fields as labels say what was drawn, the same at every run, and leave nothing
behind."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.readers import drawn
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.masks import find_instances
from spherodetect.synthetic import SyntheticField, draw_field

RECIPE = Recipe("synthetic", "synthetic", Path("."), n_fields=2, seed=5, um_per_px=0.25)


@pytest.fixture
def truth(monkeypatch) -> list[SyntheticField]:
    """The fields as they are drawn, in order; smaller than real ones, to be quick."""
    fields = []

    def small(rng: np.random.Generator, *, n_cells: int, **options) -> SyntheticField:
        fields.append(draw_field(rng, size_hw=(200, 260), n_cells=n_cells // 5, **options))
        return fields[-1]

    # The reader imports it when it draws.
    monkeypatch.setattr("spherodetect.synthetic.draw_field", small)
    return fields


def test_labels_are_the_truth_of_what_was_drawn(truth):
    labels = drawn.read_drawn(RECIPE)
    assert [f.file for f in labels.fields] == ["synthetic_0000.png", "synthetic_0001.png"]
    assert not labels.findings and not labels.unread
    for labelled, field in zip(labels.fields, truth, strict=True):
        with Image.open(labelled.path) as image:
            np.testing.assert_array_equal(np.asarray(image), field.image)
        assert (labelled.size_hw, labelled.um_per_px) == (field.image.shape[:2], 0.25)
        assert [a.name for a in labelled.annotations] == list(field.cells.names)
        boxes = [a.outline_box_yxyx for a in labelled.annotations]
        np.testing.assert_allclose(
            boxes, field.cells.box_yxyx, atol=0.01, err_msg="outlines end where their boxes do"
        )


def test_outlines_become_the_masks_they_were_traced_from(truth):
    labels = drawn.read_drawn(RECIPE)
    overlaps = []
    for labelled, field in zip(labels.fields, truth, strict=True):
        found = find_instances(field.image, labelled, RECIPE)
        assert [i.name for i in found.instances] == list(field.cells.names)
        assert not found.dropped and not found.clipped and not found.repaired
        for instance, (mask, (y0, x0)) in zip(
            found.instances, field.cells.pixel_masks(), strict=True
        ):
            a, b = np.zeros((2, *labelled.size_hw), bool)
            y, x = instance.box_yxyx[:2].astype(int)
            a[y : y + instance.mask.shape[0], x : x + instance.mask.shape[1]] = instance.mask
            b[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
            overlaps.append((a & b).sum() / (a | b).sum())
    assert np.mean(overlaps) > 0.99 and min(overlaps) > 0.9


@pytest.mark.usefixtures("truth")
def test_the_same_recipe_draws_the_same_and_another_seed_does_not():
    first, second = drawn.read_drawn(RECIPE), drawn.read_drawn(RECIPE)
    fewer, other = (drawn.read_drawn(replace(RECIPE, n_fields=1, seed=seed)) for seed in (5, 6))
    for a, b in zip(first.fields, second.fields, strict=True):
        assert a.path != b.path
        assert a.path.read_bytes() == b.path.read_bytes()
        for one, two in zip(a.annotations, b.annotations, strict=True):
            assert (one.annotation_id, one.name, one.box_yxyx) == (
                two.annotation_id,
                two.name,
                two.box_yxyx,
            )
            assert all(map(np.array_equal, one.polygons, two.polygons))
    drawn_first, drawn_second = (f.path.read_bytes() for f in first.fields)
    assert fewer.fields[0].path.read_bytes() == drawn_first, (
        "more fields leave those before them as they are"
    )
    assert drawn_first not in (drawn_second, other.fields[0].path.read_bytes())


@pytest.mark.usefixtures("truth")
def test_the_files_live_as_long_as_the_labels():
    labels = drawn.read_drawn(RECIPE)
    folder = labels.fields[0].path.parent
    assert len(list(folder.iterdir())) == 2
    del labels
    gc.collect()
    assert not folder.exists()
