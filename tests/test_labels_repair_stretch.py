"""stretch: a squashed cell is round again, whatever its label; a field that was not squashed stays
as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.masks import find_instances
from spherodetect.labels.repair.stretch import unstretch

HW = (90, 120)


def discs(
    *centers: tuple[float, float], radius: float = 12, size_hw: tuple[int, int] = HW
) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    stained = np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centers], axis=0)
    return np.repeat(np.where(stained, 130, 200).astype(np.uint8)[..., None], 3, axis=2)


def stretched_field(
    *, native_hw: tuple[int, int], file_hw: tuple[int, int]
) -> tuple[np.ndarray, LabelledField]:
    """One round cell of a photograph, squashed to another shape on export, with a label of each
    kind."""
    center, radius = (0.5 * native_hw[0], 0.4 * native_hw[1]), 0.15 * native_hw[0]
    native = discs(center, radius=radius, size_hw=native_hw)
    image = np.asarray(Image.fromarray(native).resize(file_hw[::-1], Image.Resampling.LANCZOS))
    sy, sx = np.array(file_hw) / native_hw
    corners = np.array(
        [center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]
    )
    box = tuple(corners * [sy, sx, sy, sx])
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = np.stack(
        [center[0] + radius * np.sin(angle), center[1] + radius * np.cos(angle)], axis=1
    ) * [sy, sx]
    annotations = (
        Annotation("1", "rbc", box_yxyx=box),
        Annotation("2", "rbc", box_yxyx=box, polygons=(outline,)),
        Annotation("3", "rbc", box_yxyx=box, mask=image[..., 1] < 165),
        Annotation("4", "rbc", point_yx=(center[0] * sy, center[1] * sx)),
    )
    return image, LabelledField(
        "a.png", None, file_hw, annotations, source_id="a", native_size_hw=native_hw, um_per_px=0.1
    )


@pytest.mark.parametrize("native_hw", [(180, 240), (240, 180)])
def test_a_squashed_cell_is_round_again(native_hw):
    image, labelled = stretched_field(native_hw=native_hw, file_hw=(160, 160))
    restored, field, n_scaled = unstretch(image, labelled)
    assert n_scaled == 4
    assert restored.shape[:2] == field.size_hw
    assert max(field.size_hw) == 160, "no pixel is made up on the longer side"
    assert field.size_hw[0] / field.size_hw[1] == pytest.approx(
        native_hw[0] / native_hw[1], rel=0.01
    )
    assert field.um_per_px is None, "the file's own pixel size holds no more"
    found = find_instances(restored, field, Recipe("mine", "coco", Path(".")))
    assert [i.annotation_id for i in found.instances] == ["4", "1", "2", "3"]
    for instance in found.instances:
        height, width = instance.box_yxyx[2:] - instance.box_yxyx[:2]
        assert height / width == pytest.approx(1, abs=0.05), instance.annotation_id
        assert instance.mask.sum() == pytest.approx(np.pi / 4 * height * width, rel=0.05)


@pytest.mark.parametrize("native_hw", [None, (180, 240), (1800, 2400), (1795, 2400)])
def test_a_field_that_was_not_squashed_stays_as_it_is(native_hw):
    image = discs((40, 40))
    labelled = LabelledField(
        "a.png", None, HW, (), source_id="a", native_size_hw=native_hw, um_per_px=0.2
    )
    restored, field, n_scaled = unstretch(image, labelled)
    assert restored is image and field is labelled and n_scaled == 0
