"""The bundled SavedModel with TensorFlow alone; see also test_serving_client.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spherodetect
from spherodetect.geometry import box_iou
from spherodetect.score.counts import score_counts
from spherodetect.synthetic import draw_field

#: Of Chula RBC-12, whose fields have 0.193 µm a pixel.
UM_PER_PX = 0.193


@pytest.fixture(scope="module")
def saved(bundled_model) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(bundled_model / "saved_model"))


def test_inputs_and_outputs_of_the_signatures(saved):
    taken = {name: set(s.structured_input_signature[1]) for name, s in saved.signatures.items()}
    assert taken == {
        "serving_bytes": {"image_bytes"},
        "serving_default": {"image_bytes", "um_per_px"},
        "score_patient": {"image_bytes", "um_per_px"},
        "serving_image": {"image", "um_per_px"},
        "serving_static": {"image", "um_per_px"},
    }
    cells = {
        "num_detections",
        "boxes_yxyx",
        "class_ids",
        "confidences",
        "class_probabilities",
        "p_spherocyte",
        "countable",
        "under_ink",
        "masks",
        "rbc_diameter_px",
        "truncated",
        "convention",
        "look_distance",
    }
    for name in ("serving_bytes", "serving_default", "serving_image", "serving_static"):
        assert set(saved.signatures[name].structured_outputs) == cells
    assert set(saved.signatures["score_patient"].structured_outputs) == {
        "n_cells",
        "n_countable",
        "n_spherocytes",
        "raw_percent",
        "hs_score",
        "hs_score_low",
        "hs_score_high",
        "status_code",
    }


def test_model_json_and_class_names_are_assets(bundled_model):
    outside = json.loads((bundled_model / "model.json").read_bytes())
    del outside["checksums"]
    assets = bundled_model / "saved_model" / "assets"
    assert json.loads((assets / "model.json").read_bytes()) == outside
    assert (assets / "class_names.txt").read_text().split() == outside["class_names"]


def test_no_weights_are_stored_twice(bundled_model):
    """Constants would be repeated in every function, and the graph would be large."""
    sizes = {
        file.name: file.stat().st_size
        for file in (bundled_model / "saved_model").rglob("*")
        if file.is_file()
    }
    assert sizes["saved_model.pb"] < 7_000_000
    # The weights take 15 MB, the tables of each convention 1 MB, and assets and the graph 7 MB.
    assert sum(sizes.values()) < 24_000_000


@pytest.mark.slow
def test_serving_static_gives_the_same_cells(saved):
    """Compilation takes 15 s, and each field two seconds."""
    import tensorflow as tf

    for seed, n_cells in ((1, 60), (2, 0)):
        image = draw_field(np.random.default_rng(seed), n_cells=n_cells).image
        free = saved.signatures["serving_image"](
            image=tf.constant(image), um_per_px=tf.constant(UM_PER_PX)
        )
        fixed = saved.signatures["serving_static"](
            image=tf.constant(image[None]), um_per_px=tf.constant([UM_PER_PX])
        )
        n = int(fixed["num_detections"][0])
        assert abs(n - int(free["num_detections"])) <= 1 and (n > 40) == (n_cells > 0)
        rows = {}
        for name in (name for name, value in free.items() if value.shape.rank):
            rows[name], rest = np.split(fixed[name].numpy()[0], [n])
            assert not np.any(rest), name
        # XLA has other rounding errors. The other of two proposals for a cell may be kept, half a
        # pixel away, and a detection at the threshold may be missing.
        sure = free["confidences"].numpy() > 0.25
        agree = box_iou(free["boxes_yxyx"].numpy()[sure], rows["boxes_yxyx"])
        pair = agree.argmax(axis=1)
        assert len(set(pair)) == sure.sum() and agree.max(axis=1).min(initial=1) > 0.9
        for name, most in (
            ("class_ids", 0),
            ("countable", 0),
            ("p_spherocyte", 0.03),
            ("class_probabilities", 0.03),
        ):
            off = np.abs(free[name].numpy()[sure].astype(float) - rows[name][pair].astype(float))
            assert off.max(initial=0) <= most, name
            assert not n_cells or np.median(off) < 1e-3, name


def test_the_score_of_files_equals_the_score_of_pixels(saved, shared_data, loaded_model):
    """TensorFlow and Pillow decode JPEG differently; the score may differ by half a point."""
    import tensorflow as tf

    folder: Path = shared_data / "chula-rbc-12" / "images"
    paths = [folder / f"{number}.jpg" for number in range(82, 100, 3)]
    cells = [loaded_model.detect(spherodetect.read_image(path), UM_PER_PX) for path in paths]
    sphere = loaded_model.class_names.index("spherocyte") + 1
    theirs = score_counts(
        np.array([(c.countable & (c.class_id == sphere)).sum() for c in cells]),
        np.array([c.countable.sum() for c in cells]),
        model=loaded_model,
    )
    ours = saved.signatures["score_patient"](
        image_bytes=tf.constant([path.read_bytes() for path in paths]),
        um_per_px=tf.constant([UM_PER_PX]),
    )
    assert theirs.n_countable > 200 and theirs.raw_percent > 5
    for name in ("raw_percent", "hs_score", "hs_score_low", "hs_score_high"):
        assert abs(float(ours[name]) - getattr(theirs, name)) < 0.5, name
