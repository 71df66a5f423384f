"""Near-duplicates: copies and overlapping views are found, and unrelated fields are left apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.labels.check import duplicates
from spherodetect.labels.check.duplicates import (
    flatten,
    group_images,
    near_duplicates,
    similar_pairs,
)

CHULA = Path(__file__).parents[2] / "shared/data/chula-rbc-12/images"


def slide(seed: int, *, size: tuple[int, int] = (900, 1200), n_cells: int = 220) -> np.ndarray:
    """Dark discs on a bright slide whose illumination falls off."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    image = 220 - 30 * np.hypot(y / size[0] - 0.5, x / size[1] - 0.5)
    for cy, cx, r in rng.uniform((0, 0, 16), (*size, 22), (n_cells, 3)):
        image[np.hypot(y - cy, x - cx) < r] -= 60
    return image + rng.normal(0, 2, size)


def save(folder: Path, **images: np.ndarray) -> dict[str, Path]:
    paths = {}
    for name, image in images.items():
        paths[name] = folder / f"{name}.jpg"
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(paths[name], quality=90)
    return paths


@pytest.fixture(scope="module")
def big():
    return slide(1)


def test_copies_and_overlapping_views_are_grouped(tmp_path, big):
    view = big[200:680, 300:940]
    paths = save(
        tmp_path,
        one=view,
        other=slide(2, size=(480, 640), n_cells=70),
        darker=view * 0.8 + 5,
        larger=np.kron(view, np.ones((2, 2))),
        shifted=big[320:800, 120:760],
        third=slide(3, size=(480, 640), n_cells=70),
    )
    assert near_duplicates(paths) == [("one", "darker", "larger", "shifted")]


def test_views_that_hardly_overlap_are_not(tmp_path, big):
    assert near_duplicates(save(tmp_path, a=big[:480, :640], b=big[380:860, 540:1180])) == []


def test_an_overlay_at_one_place_makes_no_duplicates(tmp_path):
    images = {}
    for k in range(4):
        images[f"f{k}"] = slide(10 + k, size=(480, 640), n_cells=60)
        images[f"f{k}"][440:446, 500:600] = 255  # a burnt-in scale bar
        images[f"f{k}"][200:230, 300:330] = 0  # a pointer
    assert near_duplicates(save(tmp_path, **images)) == []


def test_empty_and_broken_images_are_nobodys_copy(tmp_path):
    paths = save(tmp_path, a=np.full((48, 64), 200.0), b=np.full((48, 64), 200.0))
    (tmp_path / "c.jpg").write_bytes(b"no image")
    assert near_duplicates(paths | {"c": tmp_path / "c.jpg", "d": tmp_path / "none.jpg"}) == []
    assert flatten(np.zeros((60, 80))) is None


def test_chains_are_one_group_and_order_is_kept():
    images = [flatten(slide(k, size=(60, 80), n_cells=3)) for k in range(3)]
    assert group_images([images[0], images[1], images[0], images[2], images[1], images[0]]) == [
        (0, 2, 5),
        (1, 4),
    ]
    assert similar_pairs(images[:1]) == []


def test_far_apart_only_copies_at_the_same_place_are_found(monkeypatch):
    """Beyond the window no shift is tried, and what was tried in it stays as it was."""
    whole = slide(1, size=(60, 120), n_cells=6)
    images = [
        flatten(image)
        for image in (whole[:, :80], whole[:, 20:100], slide(9, size=(60, 80)), whole[:, :80])
    ]
    steps: list[tuple[int, int]] = []
    near = similar_pairs(images, progress=lambda *step: steps.append(step))
    assert near == [(0, 1), (0, 3), (1, 3)]
    assert steps == [(1, 4), (2, 4), (3, 4)]
    monkeypatch.setattr(duplicates, "_SHIFT_WINDOW", 1)
    assert similar_pairs(images) == [(0, 1), (0, 3)]


def test_the_cache_holds_until_a_file_changes(tmp_path, big):
    paths = save(tmp_path, a=big[:480, :640], b=big[100:580, :640])
    cache = tmp_path / "cache/duplicates.json"
    assert near_duplicates(paths, cache=cache) == [("a", "b")]
    cache.write_text(cache.read_text().replace('"b"', '"B"'))
    assert near_duplicates(paths, cache=cache) == [("a", "B")]  # remembered, not found again
    save(tmp_path, b=slide(4, size=(480, 640)))
    assert near_duplicates(paths, cache=cache) == []
    cache.write_text("{")
    assert near_duplicates(paths, cache=cache) == []


@pytest.mark.skipif(not CHULA.is_dir(), reason="the Chula RBC-12 fields are not here")
def test_chula_copies_and_overlaps_are_found_and_nothing_is_chained():
    numbers = [
        *range(241, 261),
        432,
        434,
        445,
        452,
        564,
        611,
        *range(291, 300),
        574,
        584,
        85,
        86,
        88,
        89,
    ]
    groups = near_duplicates({str(k): CHULA / f"{k}.jpg" for k in sorted(numbers)})
    assert {tuple(map(int, group)) for group in groups} == {
        (85, 86),
        (243, 244),
        (248, 249),
        (251, 252),
        (296, 298),
        (297, 299),
        (432, 434, 564, 611),
        (445, 452),
        (574, 584),
    }
