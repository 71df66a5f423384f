"""lite: the LiteRT file gives the cells of the SavedModel."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.geometry import box_iou
from spherodetect.synthetic import draw_field

UM_PER_PX = 0.193


@pytest.fixture(scope="module")
def lite() -> ModuleType:
    return import_module("spherodetect.training.lite")


@pytest.mark.slow
@pytest.mark.parametrize("quantised", [False, True])
def test_the_lite_file_equals_the_saved_model(lite, bundled_model, tmp_path, quantised):
    """The conversion takes half a minute; serving_image equals serving_static."""
    import tensorflow as tf

    file = tmp_path / "model.tflite"
    assert lite.main([str(bundled_model), "--out", str(file), *["--quantised"] * quantised]) == 0
    assert file.stat().st_size < (9e6 if quantised else 21e6)
    image = draw_field(np.random.default_rng(1), n_cells=60, spherocyte_fraction=0.3).image[None]
    given = {"image": image, "um_per_px": np.array([UM_PER_PX], np.float32)}
    run = tf.lite.Interpreter(str(file)).get_signature_runner("serving_static")
    saved = tf.saved_model.load(str(bundled_model / "saved_model")).signatures["serving_image"]
    theirs = {
        name: v.numpy()
        for name, v in saved(image=tf.constant(image[0]), um_per_px=tf.constant(UM_PER_PX)).items()
    }
    ours = {name: value[0] for name, value in run(**given).items()}
    assert {name: (v.ndim, v.dtype) for name, v in ours.items()} == {
        n: (v.ndim, v.dtype) for n, v in theirs.items()
    }
    n = int(theirs["num_detections"])
    assert n > 40 and abs(int(ours["num_detections"]) - n) <= 0.02 * n
    overlap = box_iou(theirs["boxes_yxyx"], ours["boxes_yxyx"][: int(ours["num_detections"])])
    best, same = overlap.argmax(axis=1), overlap.max(axis=1) > 0.5
    assert same.mean() >= 0.98 and len(set(best[same])) == same.sum()
    off = np.abs(theirs["boxes_yxyx"][same] - ours["boxes_yxyx"][best[same]])
    assert np.median(off) < (1.0 if quantised else 0.01)
    classes = theirs["class_ids"][same], ours["class_ids"][best[same]]
    assert (classes[0] == classes[1]).mean() >= 0.97 and len(set(classes[0])) > 1


def test_a_folder_without_a_model_is_refused(lite, tmp_path, capsys):
    with pytest.raises(SpherodetectError, match=r"model\.json"):
        lite.to_lite(tmp_path, tmp_path / "model.tflite")
    with pytest.raises(SystemExit, match="2"):
        lite.main([str(tmp_path), "--out", str(tmp_path / "model.tflite")])
    assert "model.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
