"""survey: the cells of records with the labels that they match; and an exported model again."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.train


class Detector:
    """Detects three cells in a row in every image."""

    def replace(self, *, evidence: bool) -> Any:
        assert evidence
        return self

    def __call__(self, image: Any, um_per_px: Any) -> dict[str, Any]:
        import tensorflow as tf

        corners = np.array([[10, 10 + 40 * k, 40, 40 + 40 * k] for k in range(3)], np.float32)
        found = {
            "boxes_yxyx": corners,
            "class_ids": np.array([2, 1, 3], np.int32),
            "masks": np.ones((3, 28, 28), np.float32),
            "confidences": np.array([0.9, 0.6, 0.3], np.float32),
            "class_probabilities": np.eye(4, dtype=np.float32)[:3],
            "countable": np.array([True, True, False]),
            "log_odds": np.array([3.0, -2.0, -9.0], np.float32),
            "numbers": np.zeros((3, 8), np.float32),
            "look": np.zeros(8, np.float32),
            "rbc_diameter_px": np.float32(30),
        }
        return {key: tf.constant(value) for key, value in found.items()}


def test_cells_labels_and_fields_point_at_each_other(tmp_path, monkeypatch):
    module = import_module("spherodetect.training.survey")
    example = {
        "field": "images/3.jpg",
        "patient": "patient_01",
        "image": np.zeros((60, 200, 3), np.uint8),
        "class_id": np.array([2, 0, 1]),
        "name": ["Spherocyte", "", "RBC"],
        "point_yx": np.full((3, 2), -1.0),
        "box_yxyx": np.array([[10, 10, 40, 40], [10, 50, 40, 80], [30, 150, 60, 180.0]]),
        "rbc_diameter_px": 31.0,
    }
    (tmp_path / "mine-val-00000-of-00001.tfrecord").touch()
    monkeypatch.setattr(module, "read_examples", lambda records: [example, example])
    module.survey(Detector(), [str(tmp_path / "mine-*.tfrecord")], tmp_path / "out" / "cells.npz")
    found = module.read_survey(tmp_path / "out" / "cells.npz")
    # A cell without a name is no label; the last label has no detection and is cut by the border.
    assert found["labels_name"].tolist() == ["Spherocyte", "RBC"] * 2
    assert found["labels_found"].tolist() == [True, False] * 2
    assert found["labels_cut"].tolist() == [False, True] * 2
    np.testing.assert_allclose(found["labels_confidence"], [0.9, 0.0] * 2)
    assert found["cells_label"].tolist() == [0, -1, -1, 2, -1, -1]
    assert found["cells_field"].tolist() == [0] * 3 + [1] * 3
    assert found["fields_data_set"].tolist() == ["mine"] * 2
    assert found["fields_block"].tolist() == ["patient_01"] * 2
    assert found["cells_numbers"].shape == (6, 8)


@pytest.mark.slow
def test_an_exported_model_finds_the_same_cells_in_the_graph_of_this_version(bundled_model):
    import tensorflow as tf

    from spherodetect.synthetic import draw_field
    from spherodetect.training.kept import kept_detector

    image = draw_field(np.random.default_rng(3), size_hw=(200, 260), n_cells=16).image
    _, detector = kept_detector(bundled_model)
    saved = tf.saved_model.load(str(bundled_model / "saved_model"))
    size = tf.constant(0.193)
    before = saved.signatures["serving_image"](image=tf.constant(image), um_per_px=size)
    now = tf.function(detector)(tf.constant(image), size)
    for name in ("boxes_yxyx", "p_spherocyte", "masks"):
        np.testing.assert_allclose(now[name], before[name], atol=1e-3)
    np.testing.assert_array_equal(now["class_ids"], before["class_ids"])
