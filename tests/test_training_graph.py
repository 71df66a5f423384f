"""graph: what decides class and p_spherocyte, for models of these classes and of others."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.train
OURS = ("rbc", "spherocyte", "wbc", "platelet")
CHULA = ("normal", "macrocyte", "spherocyte", "target cell", "platelet")
BCCD = ("rbc", "wbc", "platelet")


@pytest.fixture(scope="module")
def graph() -> ModuleType:
    return import_module("spherodetect.training.graph")


def detector(graph: ModuleType, names: tuple[str, ...]):
    """A detector without a network: the stages that come after it can be asked one by one."""
    return graph.Detector(SimpleNamespace(stride=32), rbc_px=32.0, class_names=names)


def probabilities(names: tuple[str, ...], n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(1 + len(names), 0.5), n).astype(np.float32)


@pytest.mark.parametrize("names", [OURS, CHULA, BCCD], ids=["ours", "chula", "bccd"])
def test_red_cells_are_known_by_name(graph, names):
    one = detector(graph, names)
    red = [name for name in names if name in ("rbc", "normal", "macrocyte", "target cell")]
    assert [names[k - 1] for k in one.other_red_ids] == red
    assert one.spherocyte_id == (names.index("spherocyte") + 1 if "spherocyte" in names else None)


@pytest.mark.parametrize("names", [OURS, CHULA, BCCD], ids=["ours", "chula", "bccd"])
def test_class_probabilities_are_those_of_a_cell(graph, names):
    p = probabilities(names)
    called = np.linspace(0, 1, len(p)).astype(np.float32)
    one = detector(graph, names)
    divided = one._divided(p, called).numpy()
    np.testing.assert_allclose(divided.sum(axis=1), 1, atol=1e-4)
    if one.spherocyte_id is None:
        np.testing.assert_allclose(divided, p[:, 1:] / p[:, 1:].sum(axis=1, keepdims=True), rtol=1e-4)
        return
    red = [k - 1 for k in (*one.other_red_ids, one.spherocyte_id)]
    np.testing.assert_allclose(divided[:, one.spherocyte_id - 1], called * divided[:, red].sum(axis=1), atol=1e-5)
    others = [k - 1 for k in one.other_red_ids]
    before, after = p[:, 1:][:, others], divided[:, others]
    np.testing.assert_allclose(after[:-1].argmax(axis=1), before[:-1].argmax(axis=1))


def test_the_likeliest_of_some_classes(graph):
    p = np.array([[0.9, 0.02, 0.05, 0.03], [0.1, 0.2, 0.3, 0.4]], np.float32)
    assert graph._likeliest(p, among=[1, 3]).numpy().tolist() == [3, 3]
    assert graph._likeliest(p, among=[2, 1]).numpy().tolist() == [2, 2]
    assert graph._likeliest(p, among=[]).numpy().tolist() == [0, 0]
