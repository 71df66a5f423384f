"""masks: points, boxes and outlines become the cells that were drawn, and every label is in the
account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from spherodetect.cells import CLASS_NAMES
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import FieldInstances, class_set
from spherodetect.labels.repair.masks import find_instances
from spherodetect.rle import run_lengths
from spherodetect.synthetic import SyntheticField, draw_field

SLIDE, STAIN = 200, 130
ANYTHING = 0b11111
RECIPE = Recipe(
    "mine", "points", Path("."), red_cells=frozenset({"cell"}), unknown=frozenset({"?"})
)
HALF_LABELLED = Recipe(
    "mine", "points", Path("."), unknown=frozenset({"?"}), unlabelled_cells="unknown"
)
#: Pixel size at which a red cell of 7.5 µm is 40 pixels wide.
UM_PER_PX = 7.5 / 40


def convert(
    image: np.ndarray,
    annotations: Sequence[Annotation],
    *,
    recipe: Recipe = RECIPE,
    um_per_px: float | None = UM_PER_PX,
) -> FieldInstances:
    labelled = LabelledField(
        "a.png", None, image.shape[:2], tuple(annotations), source_id="a", um_per_px=um_per_px
    )
    return find_instances(image, labelled, recipe)


def point(y: float, x: float, name: str = "rbc", number: int | str = 1) -> Annotation:
    return Annotation(str(number), name, point_yx=(y, x))


def box(*box_yxyx: float, name: str = "rbc", number: int | str = 1, **more) -> Annotation:
    return Annotation(str(number), name, box_yxyx=box_yxyx, **more)


def rectangle(y0: float, x0: float, y1: float, x1: float) -> np.ndarray:
    return np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0), (y0, x0)], float)


def circle(y: float, x: float, radius: float, corners: int = 48) -> np.ndarray:
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([y + radius * np.sin(angle), x + radius * np.cos(angle)], axis=1)


def discs(
    *centers: tuple[float, float], radius: float = 20, size_hw: tuple[int, int] = (120, 160)
) -> np.ndarray:
    """A slide with dark discs; centres in pixels from the corner."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    stained = np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centers], axis=0)
    return np.repeat(np.where(stained, STAIN, SLIDE).astype(np.uint8)[..., None], 3, axis=2)


def frame(mask: np.ndarray, origin: Sequence[float], size_hw: tuple[int, int]) -> np.ndarray:
    full = np.zeros(size_hw, bool)
    y, x = int(origin[0]), int(origin[1])
    full[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return full


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@cache
def separated() -> SyntheticField:
    return draw_field(
        np.random.default_rng(11),
        size_hw=(300, 400),
        n_cells=26,
        n_white=0,
        n_platelets=3,
        overlap_fraction=0,
        touching_fraction=0,
        spherocyte_fraction=0.2,
    )


def whole_red_cells() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, box and full-frame mask of the countable cells of `separated`."""
    drawn = separated()
    masks = [
        frame(mask, origin, drawn.image.shape[:2]) for mask, origin in drawn.cells.pixel_masks()
    ]
    rows = np.flatnonzero(drawn.cells.countable)
    assert len(rows) >= 10
    return [(str(drawn.cells.names[k]), drawn.cells.box_yxyx[k], masks[k]) for k in rows]


def test_a_point_becomes_the_mask_of_its_cell():
    cells = whole_red_cells()
    image = separated().image
    points = [
        point(*np.argwhere(mask).mean(axis=0), name=name, number=k)
        for k, (name, _, mask) in enumerate(cells)
    ]
    found = convert(image, points, um_per_px=separated().um_per_px)
    assert [i.annotation_id for i in found.instances] == [str(k) for k in range(len(cells))]
    overlaps = [
        iou(frame(i.mask, i.box_yxyx, image.shape[:2]), mask)
        for i, (_, _, mask) in zip(found.instances, cells, strict=True)
    ]
    assert np.mean(overlaps) > 0.9 and min(overlaps) > 0.75
    for instance, (name, _, _) in zip(found.instances, cells, strict=True):
        assert instance.class_id == CLASS_NAMES.index(name) + 1
        assert instance.class_set == 1 << instance.class_id
        assert 0.6 < instance.quality <= 1


def test_a_box_is_refined_to_the_cell_in_it():
    image, cells = separated().image, whole_red_cells()
    boxes = [box(*map(float, b), name=name, number=k) for k, (name, b, _) in enumerate(cells)]
    found = convert(image, boxes, um_per_px=separated().um_per_px)
    assert found.repaired["box-to-mask"] == len(cells) == len(found.instances)
    truth = [mask for _, _, mask in cells]
    refined = [
        iou(frame(i.mask, i.box_yxyx, image.shape[:2]), t)
        for i, t in zip(found.instances, truth, strict=True)
    ]
    as_drawn = [t.sum() / np.prod(b[2:] - b[:2]) for (_, b, _), t in zip(cells, truth, strict=True)]
    assert np.mean(refined) > 0.9 > 0.82 > np.mean(as_drawn)


def test_a_sloppy_box_still_finds_its_cell():
    image, cells = separated().image, whole_red_cells()
    rng = np.random.default_rng(5)
    boxes = [
        box(*np.clip(b + rng.uniform(-3, 3, 4), 0, [300, 400, 300, 400]), name=n, number=k)
        for k, (n, b, _) in enumerate(cells)
    ]
    found = convert(image, boxes, um_per_px=separated().um_per_px)
    refined = [
        iou(frame(i.mask, i.box_yxyx, image.shape[:2]), t)
        for i, (_, _, t) in zip(found.instances, cells, strict=True)
        if i.mask is not None
    ]
    assert len(refined) >= 0.9 * len(cells)
    assert np.mean(refined) > 0.85


def eight_points(polygon: np.ndarray) -> np.ndarray:
    """A closed rectangle, the midpoint of each side added."""
    corners = polygon[:4]
    midpoints = (corners + np.roll(corners, -1, axis=0)) / 2
    return np.stack([corners, midpoints], axis=1).reshape(-1, 2)


@pytest.mark.parametrize("drawn", [lambda polygon: polygon, eight_points], ids=["five", "eight"])
def test_a_polygon_that_is_only_its_box_is_no_outline(drawn):
    image = discs((60, 80))
    as_rectangle = box(40, 60, 80, 100, polygons=(drawn(rectangle(40, 60, 80, 100)),))
    found = convert(image, [as_rectangle])
    (instance,) = found.instances
    assert found.repaired["box-to-mask"] == 1
    assert 0.95 < instance.mask.sum() / (np.pi * 20**2) < 1.05, "a disc, not its square"
    assert instance.quality < 1


def test_a_mask_that_is_only_its_box_is_no_outline():
    image = discs((60, 80))
    mask = np.zeros(image.shape[:2], bool)
    mask[40:80, 60:100] = True
    for packed in (mask, run_lengths(mask)):
        found = convert(image, [box(40, 60, 80, 100, mask=packed)])
        (instance,) = found.instances
        assert found.repaired["box-to-mask"] == 1
        assert 0.95 < instance.mask.sum() / (np.pi * 20**2) < 1.05


def test_an_outline_is_taken_as_it_was_drawn():
    # Nothing lies there on the image: the annotator is believed.
    image = discs((60, 80))
    (instance,) = convert(image, [box(0, 0, 1, 1, polygons=(circle(60.0, 130.5, 12.0),))]).instances
    assert instance.mask.sum() == pytest.approx(np.pi * 12**2, rel=0.02)
    np.testing.assert_array_equal(instance.box_yxyx, [48, 119, 72, 142])
    assert instance.quality == 1
    diamond = np.array([(40, 80), (60, 100), (80, 80), (60, 60)], float)
    (instance,) = convert(image, [box(40, 60, 80, 100, polygons=(diamond,))]).instances
    assert instance.mask.sum() == pytest.approx(800, rel=0.05), (
        "four corners do not make a rectangle"
    )


def test_an_outline_of_several_parts_is_one_cell():
    parts = (circle(40, 40, 8), circle(40, 70, 8))
    (instance,) = convert(discs((100, 140)), [box(0, 0, 1, 1, polygons=parts)]).instances
    assert instance.mask.sum() == pytest.approx(2 * np.pi * 64, rel=0.05)


def test_a_run_length_mask_is_taken_and_an_empty_one_is_not():
    image = discs((60, 80))
    mask = np.zeros(image.shape[:2], bool)
    mask[30:50, 20:50] = True
    mask[30:35, 20:25] = False
    (instance,) = convert(image, [box(30, 20, 50, 50, mask=mask)]).instances
    np.testing.assert_array_equal(instance.box_yxyx, [30, 20, 50, 50])
    np.testing.assert_array_equal(instance.mask, mask[30:50, 20:50])
    assert instance.quality == 1
    (instance,) = convert(image, [box(40, 60, 80, 100, mask=np.zeros_like(mask))]).instances
    assert instance.mask.sum() == pytest.approx(np.pi * 400, rel=0.05), (
        "refined from its box instead"
    )


def test_two_points_in_one_clump_divide_it():
    # A stadium has no waist: only the points say that these are two.
    image = discs(*[(60, x) for x in np.arange(60, 101, 2)], radius=15)
    a, b = convert(image, [point(60, 60, number=1), point(60, 100, "spherocyte", 2)]).instances
    hw = image.shape[:2]
    first, second = frame(a.mask, a.box_yxyx, hw), frame(b.mask, b.box_yxyx, hw)
    assert first[60, 60] and second[60, 100]
    assert not (first & second).any()
    stained = image[..., 1] == STAIN
    assert iou(first | second, stained) > 0.95
    assert 0.8 < first.sum() / second.sum() < 1.25
    assert (a.class_id, b.class_id) == (1, 2)
    assert (
        convert(image, [point(60, 60, number=1), point(60, 100, number=2)]).repaired[
            "split-by-points"
        ]
        == 2
    )


def test_the_second_point_of_a_cell_is_dropped_and_accounted_for():
    image = discs((60, 50), (60, 110))
    points = [point(58, 48, number=1), point(63, 52, "spherocyte", 2), point(60, 110, number=3)]
    found = convert(image, points)
    assert [i.annotation_id for i in found.instances] == ["1", "3"]
    assert [(u.file, u.annotation_id, u.reason) for u in found.dropped] == [
        ("a.png", "2", "second-point-of-a-cell")
    ]


def test_a_point_beside_every_cell_teaches_a_box_without_mask():
    found = convert(discs((60, 50)), [point(60, 130, "spherocyte"), point(0, 160, number=2)])
    beside, corner = found.instances
    assert beside.mask is None and corner.mask is None
    np.testing.assert_allclose(beside.box_yxyx, [40, 110, 80, 150])
    np.testing.assert_allclose(corner.box_yxyx, [0, 140, 20, 160])
    assert beside.class_id == 2 and beside.quality == 0
    assert found.repaired["point-beside-cell"] == 2


def test_a_point_just_off_its_cell_still_means_it():
    (instance,) = convert(discs((60, 50)), [point(60, 74)]).instances
    assert instance.mask is not None
    assert instance.box_yxyx[1] < 32


def test_unlabelled_whole_cells_may_be_any_cell():
    image = discs((30, 30), (30, 90), (90, 60))
    found = convert(image, [point(30, 30, "spherocyte")], recipe=HALF_LABELLED)
    labelled, *others = found.instances
    assert (labelled.class_id, labelled.annotation_id) == (2, "1")
    assert len(others) == 2
    for instance in others:
        assert (instance.class_set, instance.class_id, instance.name, instance.annotation_id) == (
            ANYTHING & ~1,
            0,
            "",
            "",
        )
        assert instance.mask.sum() == pytest.approx(np.pi * 400, rel=0.06)
    assert len(convert(image, [point(30, 30)]).instances) == 1, "only where the recipe says so"


def test_separate_cells_of_healthy_people_are_red_cells():
    recipe = replace(HALF_LABELLED, unlabelled_cells="healthy")
    image = discs((30, 30), (30, 90), (90, 60))
    image[60:70, 2:12] = STAIN  # a platelet
    found = convert(image, [point(30, 30, "wbc")], recipe=recipe).instances
    sets = sorted((i.class_set, i.class_id, i.annotation_id) for i in found)
    assert sets == [(0b10, 1, ""), (0b10, 1, ""), (0b1000, 3, "1"), (ANYTHING, 0, "")]


def test_rouleaux_of_healthy_people_teach_no_red_cells():
    recipe = replace(HALF_LABELLED, unlabelled_cells="healthy")
    image = discs((40, 30), (40, 68), (40, 106), (90, 60), (90, 98))
    assert not any(i.class_id for i in convert(image, [], recipe=recipe).instances)


def test_what_touches_another_cell_or_the_border_may_be_background():
    image = discs((30, 30), (30, 69), (90, 2))
    found = convert(image, [], recipe=HALF_LABELLED)
    assert found.instances
    assert {i.class_set for i in found.instances} == {ANYTHING}


@pytest.mark.parametrize("drawn_as", ["box", "outline"])
def test_a_labelled_cell_is_not_added_again_as_unlabelled(drawn_as):
    image = discs((30, 30), (90, 60))
    polygons = (circle(30, 30, 19),) if drawn_as == "outline" else ()
    found = convert(image, [box(10, 10, 50, 50, polygons=polygons)], recipe=HALF_LABELLED)
    assert [i.annotation_id for i in found.instances] == ["1", ""]
    np.testing.assert_allclose(found.instances[1].box_yxyx, [70, 40, 110, 80], atol=2)


@pytest.mark.parametrize("recipe", [RECIPE, HALF_LABELLED])
def test_a_group_of_cells_labels_none_of_them(recipe):
    image = discs((30, 30), (30, 90), (90, 60))
    found = convert(
        image,
        [box(5, 5, 55, 115, number=7, iscrowd=True), box(10, 10, 50, 50, number=8)],
        recipe=recipe,
    )
    assert [(u.annotation_id, u.reason) for u in found.dropped] == [("7", "group-of-cells")]
    by_id = {i.annotation_id: i for i in found.instances}
    assert by_id["8"].class_id == 1, "labelled singly as well"
    unknown = [i for i in found.instances if not i.annotation_id]
    assert {i.class_set for i in unknown} == {ANYTHING & ~1}, "whole and separate: some cell"
    assert len(unknown) == (2 if recipe is HALF_LABELLED else 1), (
        "cells in the group are no background either way"
    )


@pytest.mark.parametrize(
    ("name", "bits"),
    [("rbc", 0b10), ("Spherocytes", 0b100), ("wbc", 0b1000), ("cell", 0b110), ("?", ANYTHING)],
)
def test_a_name_says_what_a_cell_may_be(name, bits):
    assert class_set(RECIPE.meaning(name), CLASS_NAMES) == bits
    (instance,) = convert(discs((60, 80)), [point(60, 80, name)]).instances
    assert instance.class_set == bits
    single = bin(bits).count("1") == 1
    assert instance.class_id == (bits.bit_length() - 1 if single else 0)
    assert instance.name == name


def test_red_cells_of_unknown_kind_are_no_other_cell():
    bits = class_set(RECIPE.meaning("cell"), ("wbc", "spherocyte", "rbc"))
    assert {name for k, name in enumerate(("wbc", "spherocyte", "rbc"), 1) if bits >> k & 1} == {
        "spherocyte",
        "rbc",
    }


def test_boxes_that_stick_out_are_clipped_and_those_outside_dropped():
    image = discs((60, 10))
    annotations = [
        box(40, -10.5, 80, 30),
        box(40, 300, 80, 340, number=2),
        box(-5, 20, 0.5, 60, number=3),
    ]
    found = convert(image, annotations)
    assert [i.annotation_id for i in found.instances] == ["1"]
    assert found.instances[0].box_yxyx[1] == 0
    assert [(u.annotation_id, u.reason) for u in found.dropped] == [
        ("2", "outside-image"),
        ("3", "outside-image"),
    ]
    assert found.clipped == 1, "of those that are written"


def test_a_field_without_cells_is_no_error():
    empty = np.full((60, 80, 3), SLIDE, np.uint8)
    found = convert(empty, [], recipe=HALF_LABELLED, um_per_px=None)
    assert found.instances == () and np.isnan(found.rbc_diameter_px)
    found = convert(
        empty, [point(30, 40), box(10, 10, 30, 30, number=2)], recipe=HALF_LABELLED, um_per_px=None
    )
    assert [i.annotation_id for i in found.instances] == ["1", "2"]
    assert all(i.mask is None for i in found.instances)


def anything(rng: np.random.Generator, number: int, hw: tuple[int, int]) -> Annotation:
    """A label of any kind, anywhere, also outside the image."""
    y, x = rng.uniform(-10, 100, 2)
    if number % 6 == 0:
        return point(np.clip(y, 0, hw[0]), np.clip(x, 0, hw[1]), "spherocyte", number)
    corners = (y, x, y + rng.uniform(0.1, 40), x + rng.uniform(0.1, 40))
    more = (
        {},
        {"polygons": (rectangle(*corners),)},
        {"polygons": (circle(y, x, rng.uniform(0.3, 20)),)},
        {"iscrowd": True},
        {"mask": rng.random(hw) < 0.0005},
    )[number % 6 - 1]
    return box(*corners, name=("rbc", "platelet", "?")[number % 3], number=number, **more)


@pytest.mark.parametrize("seed", range(12))
def test_read_is_written_and_dropped_whatever_was_drawn(seed):
    rng = np.random.default_rng(seed)
    hw = (70, 90)
    image = discs(*rng.uniform(0, 90, (5, 2)), radius=rng.uniform(6, 14), size_hw=hw)
    found = convert(
        image, [anything(rng, k, hw) for k in range(14)], recipe=HALF_LABELLED, um_per_px=7.5 / 24
    )
    written = [i.annotation_id for i in found.instances if i.annotation_id]
    dropped = [u.annotation_id for u in found.dropped]
    assert sorted(written + dropped, key=int) == [str(k) for k in range(14)], "each once"
    for instance in found.instances:
        y0, x0, y1, x1 = instance.box_yxyx
        assert 0 <= y0 < y1 <= hw[0] and 0 <= x0 < x1 <= hw[1]
        assert instance.class_set & ~1, "never background alone"
        if instance.mask is not None:
            assert instance.mask.shape == (y1 - y0, x1 - x0)
            sides = (instance.mask[0], instance.mask[-1], instance.mask[:, 0], instance.mask[:, -1])
            assert all(side.any() for side in sides), "the box is tight"


def test_the_same_field_gives_the_same_instances():
    image = separated().image
    points = [
        point(*np.argwhere(mask).mean(axis=0), number=k)
        for k, (_, _, mask) in enumerate(whole_red_cells())
    ]
    first, second = (convert(image, points, recipe=HALF_LABELLED, um_per_px=None) for _ in range(2))
    assert len(first.instances) == len(second.instances)
    for a, b in zip(first.instances, second.instances, strict=True):
        np.testing.assert_array_equal(a.box_yxyx, b.box_yxyx)
        np.testing.assert_array_equal(a.mask, b.mask)


def test_a_field_of_drawn_cells_needs_no_segmentation(monkeypatch):
    monkeypatch.setattr(
        "spherodetect.labels.repair.masks.segment",
        lambda *args, **options: pytest.fail("it was segmented"),
    )
    centers = [(30, 30), (30, 90), (80, 30), (80, 85), (80, 135)]
    drawn = [
        box(y - 20, x - 20, y + 20, x + 20, polygons=(circle(y, x, 20),), number=k)
        for k, (y, x) in enumerate(centers)
    ]
    cut = box(100, 30, 120, 70, polygons=(circle(118, 50, 18),), number=9)
    found = convert(discs(*centers), [*drawn, cut], um_per_px=None)
    assert len(found.instances) == 6
    assert found.rbc_diameter_px == pytest.approx(40, rel=0.02), (
        "the one at the border does not count"
    )
