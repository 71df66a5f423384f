"""graph.detector: class and p_spherocyte, for models with these classes and with others."""

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
    return import_module("spherodetect.graph.detector")


@pytest.fixture(scope="module")
def decide() -> ModuleType:
    return import_module("spherodetect.graph.decide")


def detector(graph: ModuleType, names: tuple[str, ...]):
    """A detector without a network, for the steps that come after it."""
    return graph.Detector(SimpleNamespace(stride=32), rbc_px=32.0, class_names=names)


def probabilities(names: tuple[str, ...], n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(1 + len(names), 0.5), n).astype(np.float32)


@pytest.mark.parametrize("names", [OURS, CHULA, BCCD], ids=["ours", "chula", "bccd"])
def test_red_cells_are_recognised_by_name(graph, names):
    one = detector(graph, names)
    red = [name for name in names if name in ("rbc", "normal", "macrocyte", "target cell")]
    assert [names[k - 1] for k in one.classes.other_red] == red
    expected = names.index("spherocyte") + 1 if "spherocyte" in names else None
    assert one.classes.spherocyte == expected
    every = [*one.classes.other_red, *one.classes.not_red]
    assert sorted([*every, expected] if expected else every) == list(range(1, len(names) + 1))


@pytest.mark.parametrize("names", [OURS, CHULA, BCCD], ids=["ours", "chula", "bccd"])
def test_class_probabilities_are_conditional_on_a_cell(graph, decide, names):
    p = probabilities(names)
    called = np.linspace(0, 1, len(p)).astype(np.float32)
    one = detector(graph, names)
    divided = decide.class_probabilities(p, called, one.classes).numpy()
    np.testing.assert_allclose(divided.sum(axis=1), 1, atol=1e-4)
    if one.classes.spherocyte is None:
        np.testing.assert_allclose(
            divided, p[:, 1:] / p[:, 1:].sum(axis=1, keepdims=True), rtol=1e-4
        )
        return
    red = [k - 1 for k in (*one.classes.other_red, one.classes.spherocyte)]
    np.testing.assert_allclose(
        divided[:, one.classes.spherocyte - 1], called * divided[:, red].sum(axis=1), atol=1e-5
    )
    others = [k - 1 for k in one.classes.other_red]
    before, after = p[:, 1:][:, others], divided[:, others]
    np.testing.assert_allclose(after[:-1].argmax(axis=1), before[:-1].argmax(axis=1))


def test_the_most_probable_of_some_classes(decide):
    p = np.array([[0.9, 0.02, 0.05, 0.03], [0.1, 0.2, 0.3, 0.4]], np.float32)
    assert decide.most_probable(p, among=[1, 3]).numpy().tolist() == [3, 3]
    assert decide.most_probable(p, among=[2, 1]).numpy().tolist() == [2, 2]
    assert decide.most_probable(p, among=[]).numpy().tolist() == [0, 0]


# --- decisions


def decided(graph, *, median=32.0, raised=-1.0, um_per_px=0.0, colours=False):
    """p_spherocyte as log odds, and the raise, of sixteen cells side by side, of which most are
    spherocytes."""
    import tensorflow as tf

    from spherodetect.graph import judge

    one = graph.Detector(SimpleNamespace(stride=32), rbc_px=32.0, class_names=OURS, colours=colours)
    corner = 40.0 * np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) + 10
    boxes = tf.constant(np.concatenate([corner, corner + 32], axis=1), tf.float32)
    p = tf.constant(np.tile([[0.02, 0.2, 0.7, 0.04, 0.04]], (16, 1)), tf.float32)
    yes = tf.ones([16], tf.bool)
    found = judge.Detections(boxes, p, tf.ones([16, 28, 28]), yes, uncut=yes, clear=yes)
    field = judge.Surroundings(
        image_hw=tf.constant([180.0, 180.0]),
        picture=None,
        offset=tf.zeros([4]),
        light=tf.ones([3]),
        um_per_px=tf.constant(um_per_px),
        median=tf.constant(median),
        raised=tf.constant(raised),
        convention=tf.constant(-1.0),
    )
    cells, of_field = one._judge()(found, field)
    odds = cells["p_spherocyte"].numpy()
    return np.log(odds / (1 - odds)), float(of_field["raise"])


def test_a_given_prevalence_replaces_that_of_the_field(graph):
    own, raised = decided(graph)
    assert raised > 0.5, "most are spherocytes"
    for given in (0.0, 0.4, 1.5):
        log_odds, used = decided(graph, raised=given)
        assert used == pytest.approx(given)
        np.testing.assert_allclose(log_odds - own, given - raised, atol=1e-3)


def test_the_shown_size_is_taken_out_of_the_class(graph):
    """Without a pixel size the scale is one of a few steps, and the step must not change the
    class."""
    usual, _ = decided(graph, raised=0.0)
    for median in (29.0, 34.0):
        log_odds, _ = decided(graph, median=median, raised=0.0)
        np.testing.assert_allclose(log_odds - usual, 3.5 * np.log(median / 32), atol=1e-3)
        for options in ({"um_per_px": 0.23}, {"colours": True}):
            np.testing.assert_allclose(
                decided(graph, median=median, raised=0.0, **options)[0], usual, atol=1e-3
            )


def test_a_prior_moves_the_classes_and_not_the_background(decide):
    import tensorflow as tf

    classes = decide.ClassIds.of(("rbc", "spherocyte", "wbc", "platelet", "macrocyte"))
    given = np.random.default_rng(2).dirichlet(np.ones(6), size=7).astype(np.float32)
    # A region that is background for sure has no other class.
    given[0] = [1, 0, 0, 0, 0, 0]
    moved = decide.with_prior(tf.constant(given), classes, spherocyte=1.5, other=-0.7).numpy()
    np.testing.assert_allclose(moved[:, 0], given[:, 0])
    np.testing.assert_allclose(moved.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(moved[0], given[0])
    shift = np.log(moved[1:, 1:] / given[1:, 1:])
    shift -= shift[:, :1]
    expected = np.broadcast_to([0, 1.5, -0.7, -0.7, 0], shift.shape)
    np.testing.assert_allclose(shift, expected, atol=1e-5)
    same = decide.with_prior(tf.constant(given), classes, spherocyte=0.0, other=0.0)
    np.testing.assert_allclose(same, given, rtol=1e-6)


def test_an_unsure_detection_in_a_surer_one_is_a_part_of_it(decide):
    cell = (10.0, 10.0, 40.0, 40.0)
    boxes = np.array(
        [
            cell,
            (15.0, 15.0, 35.0, 30.0),  # in the cell, and unsure
            (15.0, 15.0, 35.0, 30.5),  # in the cell, and sure: a platelet on it
            (15.0, 32.0, 35.0, 56.0),  # a third of it in the cell
            (70.0, 70.0, 90.0, 90.0),  # unsure, alone
            (5.0, 5.0, 45.0, 45.0),  # unsure, around the cell
            (0.0, 0.0, 0.0, 0.0),
        ],
        np.float32,
    )
    confidence = np.array([0.9, 0.04, 0.3, 0.04, 0.04, 0.04, 0.01], np.float32)
    part = decide.is_part(boxes, confidence).numpy()
    assert part.tolist() == [False, True, False, False, False, False, False]
    # Of two unsure ones in one place the surer stays.
    assert decide.is_part(boxes[[1, 1]], np.float32([0.03, 0.04])).numpy().tolist() == [True, False]
    assert decide.is_part(boxes[:0], confidence[:0]).numpy().shape == (0,)


@pytest.mark.parametrize("canvas_hw", [None, (64, 96)])
def test_the_rows_in_use_stay_first_when_some_are_dropped(canvas_hw):
    import tensorflow as tf

    from spherodetect.graph.proposals import Shapes

    shapes = Shapes(32.0, canvas_hw)
    keep = tf.constant([7, 3, 5, 2, 0, 0])
    valid = tf.constant([True, True, True, True, False, False])
    dropped = tf.constant([False, True, False, False, True, False])
    if canvas_hw is None:
        keep, valid, dropped = keep[:4], valid[:4], dropped[:4]
    kept, used = shapes.without(keep, valid, dropped)
    assert kept.numpy()[used.numpy()].tolist() == [7, 5, 2]
    assert used.numpy().tolist() == [True] * 3 + [False] * (len(used) - 3)
    assert len(kept) == (3 if canvas_hw is None else 6)
