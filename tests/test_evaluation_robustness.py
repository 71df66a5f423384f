"""robustness: each change has the stated strength and no other effect."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.evaluation import robustness
from spherodetect.synthetic import draw_field


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_field(np.random.default_rng(3), size_hw=(120, 160), n_cells=8).image


def test_every_kind_has_two_or_three_strengths_and_leaves_the_original_alone(image):
    before = image.copy()
    kinds: dict[str, list[np.ndarray]] = {}
    for change in robustness.changes():
        changed = change.apply(image, 40.0)
        assert changed.dtype == np.uint8 and changed.ndim == 3
        assert changed.shape[:2] == tuple(round(side * change.factor) for side in image.shape[:2])
        kinds.setdefault(change.kind, []).append(changed)
    assert (image == before).all()
    assert (kinds.pop("none")[0] == image).all()
    assert set(kinds) == {"blur", "tint", "scale", "JPEG"} and all(
        2 <= len(c) <= 3 for c in kinds.values()
    )
    for kind in ("blur", "JPEG"):
        apart = [np.abs(changed.astype(int) - image).mean() for changed in kinds[kind]]
        assert apart == sorted(apart) and apart[0] > 0, kind


def test_blur_is_measured_in_cells():
    edge = np.zeros((41, 200, 3), np.uint8)
    edge[:, 100:] = 200
    for diameter in (50.0, 100.0):
        profile = robustness.blur(edge, diameter, share=0.04)[20, :, 0].astype(float)
        width = (
            np.interp(0.8413 * 200, profile, np.arange(200))
            - np.interp(0.1587 * 200, profile, np.arange(200))
        ) / 2
        assert width == pytest.approx(0.04 * diameter, rel=0.1)


def test_tint_changes_the_lamp_and_not_the_density(image):
    warm = robustness.tint(image, red=1.0, blue=0.8)
    ratio = warm[..., :].reshape(-1, 3).mean(axis=0) / image.reshape(-1, 3).mean(axis=0)
    assert ratio == pytest.approx([1.0, 0.9, 0.8], abs=0.01)
    dark, bright = image[..., 1] < 150, image[..., 1] > 190
    density = [np.log10(x[..., 1][bright].mean() / x[..., 1][dark].mean()) for x in (image, warm)]
    assert density[0] == pytest.approx(density[1], abs=0.01)


def test_points_keep_their_cells_when_the_scale_changes():
    field = np.full((60, 80, 3), 220, np.uint8)
    field[20:30, 40:50] = 90
    for change in robustness.changes():
        y, x = (np.array([25.0, 45.0]) * change.factor).astype(int)
        assert change.apply(field, 20.0)[y, x, 1] < 160, change


def test_subset_is_even_and_complete():
    names = [f"{k}.jpg" for k in range(100)]
    chosen = robustness.subset(names, 12)
    places = [names.index(name) for name in chosen]
    assert len(chosen) == 12 and (places[0], places[-1]) == (0, 99)
    assert set(np.diff(places)) == {9}
    assert robustness.subset(names[:5], 12) == names[:5]
    assert robustness.subset([], 12) == []
