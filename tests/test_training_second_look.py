"""second_look: sees cells where they are, judges none by a network that it taught, learns pallor in
any stain."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def second_look() -> ModuleType:
    return import_module("spherodetect.training.second_look")


def cells(n: int, *, seed: int = 0, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Windows of drawn cells, half of them pale in the middle: (n, side, side, 4), and which are
    not pale."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    distance = np.hypot(y, x)
    solid = rng.random(n) < 0.5
    inside = distance < rng.uniform(13, 17, n)[:, None, None]
    pale = (distance < rng.uniform(4, 8, n)[:, None, None]) & ~solid[:, None, None]
    density = np.where(pale, 0.35, 1.0) * inside * rng.uniform(0.15, 0.4, n)[:, None, None]
    density = density[..., None] * rng.uniform(0.8, 1.2, (n, 1, 1, 3)) + rng.normal(
        0, 0.01, (n, side, side, 3)
    )
    return np.concatenate([density, inside[..., None]], axis=-1).astype(np.float16), solid


def held_out(second_look: ModuleType, n: int, *, block: str, seed: int) -> object:
    seen, solid = cells(n, seed=seed)
    names = {"block": block, "run": block, "name": "x", "field": "f"}
    nobody = second_look.Neighbours(
        np.zeros(0), np.zeros(0, object), seen[:0], np.zeros((0, 3), np.float32)
    )
    return second_look.SeenCells(
        log_odds=np.full(n, -2.0),
        spherocyte=solid,
        countable=np.ones(n, bool),
        n_countable={block: n},
        **{key: np.full(n, value, object) for key, value in names.items()},
        seen=seen,
        size=np.zeros((n, 3), np.float32),
        neighbours=nobody,
    )


def test_a_window_shows_the_pixels_around_the_centre_and_the_mask_over_its_box(second_look):
    rng = np.random.default_rng(1)
    density = rng.random((90, 110, 3)).astype(np.float32)
    boxes = np.array([[30, 40, 62, 70], [0, 0, 20, 28]], np.float32)
    masks = np.ones((2, 28, 28), np.float32)
    for gathered in (False, True):
        seen = second_look.windows(density, boxes, masks, gathered=gathered).numpy()
        np.testing.assert_allclose(seen[0, ..., :3], density[22:70, 31:79], atol=1e-5)
        assert np.abs(seen[1, :13, :9, :3]).max() < 1e-5  # beyond the image there is no cell
        # A mask that fills its box covers its area: the edge is half covered, one sample wide.
        np.testing.assert_allclose(seen[..., 3].sum(axis=(1, 2)), [32 * 30, 20 * 28], rtol=0.03)


def test_a_box_without_height_is_seen_as_numbers(second_look):
    seen = second_look.windows(
        np.zeros((64, 64, 3), np.float32),
        np.array([[9, 9, 9, 30.0]], np.float32),
        np.ones((1, 28, 28), np.float32),
    )
    assert np.isfinite(seen).all()


def test_sizes_say_nothing_of_micrometres_where_the_pixel_size_is_unknown(second_look):
    relative = np.array([1.0, 0.8], np.float32)
    np.testing.assert_allclose(second_look.sizes(relative, 0.0, 7.5)[:, 1:], 0)
    known = second_look.sizes(relative, 6.0, 7.5).numpy()
    np.testing.assert_allclose(
        known, [[0, 5 * np.log(0.8), 1], [5 * np.log(0.8), 5 * np.log(0.8), 1]], atol=1e-5
    )
    # A wrong pixel size moves the opinion no further than an unusual patient would.
    np.testing.assert_allclose(
        second_look.sizes(relative, 70.0, 7.5)[:, 1], 5 * np.log(1.28), atol=1e-5
    )


def test_the_same_seed_varies_the_same_and_no_window_leaves_its_cell(second_look):
    seen, _ = cells(16)
    size = np.ones((16, 3), np.float32)
    seeds, seen = ((1, 2), (1, 2), (1, 3)), seen.astype(np.float32)
    one, again, other = (second_look.varied(seen, size, np.array(seed)) for seed in seeds)
    np.testing.assert_array_equal(one[0], again[0])
    assert np.abs(one[0] - other[0]).max() > 0.05
    told = np.asarray(one[1])[:, 2]
    assert set(told) <= {0, 1} and (np.asarray(one[1])[told == 0, 1] == 0).all()
    # The mask is moved with the density: what is dense stays inside.
    density, mask = np.asarray(one[0])[..., 1], np.asarray(one[0])[..., 3]
    inside = (density * mask).sum((1, 2)) / mask.sum((1, 2))
    assert (
        inside > 3 * np.abs((density * (mask < 0.1)).sum((1, 2)) / (mask < 0.1).sum((1, 2)))
    ).all()


def test_it_learns_pallor_whatever_the_stain_and_the_scale(second_look, monkeypatch):
    monkeypatch.setattr(second_look, "EPOCHS", 6)
    seen, solid = cells(1024, seed=2)
    model = second_look.fit(seen, np.zeros((1024, 3), np.float32), solid)
    new, truth = cells(300, seed=3)
    said = second_look.opinion(model, new, np.zeros((300, 3), np.float32))
    assert ((said > 0) == truth).mean() > 0.97


def test_no_cell_is_judged_by_a_network_that_it_taught(second_look, monkeypatch):
    monkeypatch.setattr(second_look, "MIN_CELLS", 20)
    taught = []

    def fit(seen, size, spherocyte, **options):
        taught.append({row.tobytes() for row in seen})
        return SimpleNamespace(number=len(taught))

    judged = []

    def opinion(model, seen, size):
        judged.append((model.number, {row.tobytes() for row in seen}))
        return np.full(len(seen), -4.0)

    monkeypatch.setattr(second_look, "fit", fit)
    monkeypatch.setattr(second_look, "opinion", opinion)
    monkeypatch.setattr(second_look, "as_function", lambda model: model)
    folds = [held_out(second_look, 100, block=f"{k}-{k + 19}", seed=k) for k in (1, 21, 41)]
    look, after = second_look.cross_fit(folds)
    assert look.number == 4 and len(taught) == 4 and len(taught[3]) == 300
    for number, cells_judged in judged:
        assert not taught[number - 1] & cells_judged and len(taught[number - 1]) == 200
    # Two opinions, half each.
    assert all((part.log_odds == -3.0).all() for part in after)


def test_too_few_cells_or_one_fold_teach_nothing(second_look):
    one = held_out(second_look, 60, block="1-20", seed=1)
    other = held_out(second_look, 60, block="21-40", seed=2)
    for folds in ([one], [one, other]):
        look, after = second_look.cross_fit(folds)
        assert look is None
        for part, before in zip(after, folds, strict=True):
            np.testing.assert_array_equal(part.log_odds, before.log_odds)


def test_as_part_of_a_graph_it_says_the_same_and_takes_a_field_without_cells(second_look):
    model = second_look.build()
    seen, _ = cells(5)
    size = np.ones((5, 3), np.float32)
    look = second_look.as_function(model)
    said = look(seen.astype(np.float32), size)
    np.testing.assert_allclose(said, second_look.opinion(model, seen, size), atol=1e-4)
    assert look(np.zeros((0, 48, 48, 4), np.float32), np.zeros((0, 3), np.float32)).shape == (0,)
