"""second_look: windows and sizes, training, cross-fitting over folds, and the part of the graph."""

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
    return second_look.SecondLookCells(
        log_odds=np.full(n, -2.0),
        spherocyte=solid,
        countable=np.ones(n, bool),
        n_countable={block: n},
        **{key: np.full(n, value, object) for key, value in names.items()},
        window=seen,
        size=np.zeros((n, 3), np.float32),
        neighbours=nobody,
    )


def test_augmentation_depends_on_the_seed_and_moves_mask_and_density_together(second_look):
    seen, _ = cells(16)
    size = np.ones((16, 3), np.float32)
    seeds, seen = ((1, 2), (1, 2), (1, 3)), seen.astype(np.float32)
    one, again, other = (second_look.augmented(seen, size, np.array(seed)) for seed in seeds)
    np.testing.assert_array_equal(one[0], again[0])
    assert np.abs(one[0] - other[0]).max() > 0.05
    known = np.asarray(one[1])[:, 2]
    assert set(known) == {0, 1} and (np.asarray(one[1])[known == 0, 1] == 0).all()
    # The dense pixels stay inside the mask.
    density, mask = np.asarray(one[0])[..., 1], np.asarray(one[0])[..., 3]
    inside = (density * mask).sum((1, 2)) / mask.sum((1, 2))
    assert (
        inside > 3 * np.abs((density * (mask < 0.1)).sum((1, 2)) / (mask < 0.1).sum((1, 2)))
    ).all()


@pytest.mark.slow
def test_it_learns_pallor_in_any_stain_and_scale(second_look, monkeypatch):
    monkeypatch.setattr(second_look, "EPOCHS", 6)
    seen, solid = cells(1024, seed=2)
    model = second_look.fit(seen, np.zeros((1024, 3), np.float32), solid)
    new, truth = cells(300, seed=3)
    log_odds = second_look.predict(model, new, np.zeros((300, 3), np.float32))
    assert ((log_odds > 0) == truth).mean() > 0.97


def test_no_cell_is_judged_by_a_network_that_was_trained_on_it(second_look, monkeypatch):
    monkeypatch.setattr(second_look, "MIN_CELLS", 20)
    trained_on = []

    def fit(seen, size, spherocyte, **options):
        trained_on.append({row.tobytes() for row in seen})
        return SimpleNamespace(number=len(trained_on))

    judged = []

    def predict(model, seen, size):
        judged.append((model.number, {row.tobytes() for row in seen}))
        return np.full(len(seen), -4.0)

    monkeypatch.setattr(second_look, "fit", fit)
    monkeypatch.setattr(second_look, "predict", predict)
    monkeypatch.setattr(second_look, "as_function", lambda model: model)
    folds = [held_out(second_look, 100, block=f"{k}-{k + 19}", seed=k) for k in (1, 21, 41)]
    function, after = second_look.cross_fit(folds)
    assert function.number == 4 and len(trained_on) == 4 and len(trained_on[3]) == 300
    for number, cells_judged in judged:
        assert not trained_on[number - 1] & cells_judged and len(trained_on[number - 1]) == 200
    # The mean of -2 of the detector and -4 of the second look.
    assert all((part.log_odds == -3.0).all() for part in after)


def test_with_too_few_cells_or_one_fold_there_is_no_second_look(second_look):
    one = held_out(second_look, 60, block="1-20", seed=1)
    other = held_out(second_look, 60, block="21-40", seed=2)
    for folds in ([one], [one, other]):
        function, after = second_look.cross_fit(folds)
        assert function is None
        for part, before in zip(after, folds, strict=True):
            np.testing.assert_array_equal(part.log_odds, before.log_odds)


def test_the_part_of_the_graph_gives_the_same_and_takes_a_field_without_cells(second_look):
    model = second_look.build()
    seen, _ = cells(5)
    size = np.ones((5, 3), np.float32)
    function = second_look.as_function(model)
    log_odds = function(seen.astype(np.float32), size)
    np.testing.assert_allclose(log_odds, second_look.predict(model, seen, size), atol=1e-4)
    assert function(np.zeros((0, 48, 48, 4), np.float32), np.zeros((0, 3), np.float32)).shape == (
        0,
    )
