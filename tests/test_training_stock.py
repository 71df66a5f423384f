"""stock: a model folder from a Mask R-CNN of Model Garden, trained elsewhere."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import spherodetect
from spherodetect.errors import SpherodetectError
from spherodetect.synthetic import draw_field

pytestmark = [
    pytest.mark.train,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
CLASSES = ("rbc", "spherocyte", "wbc")


@pytest.fixture(scope="module")
def stock() -> ModuleType:
    return import_module("spherodetect.training.stock")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of Model Garden: the stock experiment with random weights and three classes."""
    import tensorflow as tf
    from official.core import exp_factory, task_factory
    from official.modeling import hyperparams
    from official.vision.configs import maskrcnn  # noqa: F401  (importing registers the experiment)
    from official.vision.tasks import maskrcnn as _  # noqa: F401

    folder = tmp_path_factory.mktemp("garden")
    params = exp_factory.get_exp_config("maskrcnn_mobilenet_coco")
    params.task.model.num_classes = 1 + len(CLASSES)
    params.task.model.input_size = [128, 128, 3]
    params.task.init_checkpoint = None
    hyperparams.save_params_dict_to_yaml(params, str(folder / "params.yaml"))
    tf.keras.utils.set_random_seed(0)
    model = task_factory.get_task(params.task).build_model()
    tf.train.Checkpoint(model=model).save(str(folder / "ckpt"))
    return folder


@pytest.fixture(scope="module")
def wrapped(stock, run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "garden"
    canvas = import_module("spherodetect.graph.canvas").Canvas((96, 128), 0.2)
    return stock.wrap(run, out, class_names=CLASSES, rbc_px=38.0, canvas=canvas)


def test_it_detects_and_scores(wrapped):
    import tensorflow as tf

    model = spherodetect.load_model(wrapped)
    field = draw_field(np.random.default_rng(0), n_cells=8, size_hw=(96, 128))
    cells = model.detect(field.image, 0.2)
    assert model.class_names == CLASSES and model.rates.n_other == ()
    assert len(cells) > 0 and set(np.unique(cells.class_id)) <= {1, 2, 3}
    np.testing.assert_allclose(cells.class_probabilities.sum(axis=1), 1, atol=1e-4)
    saved = tf.saved_model.load(str(wrapped / "saved_model"))
    assert set(saved.signatures) == {
        "serving_bytes",
        "serving_default",
        "serving_image",
        "serving_static",
        "score_patient",
    }
    data = tf.io.encode_png(field.image)
    alone = saved.signatures["serving_bytes"](tf.stack([data]))
    sized = saved.signatures["serving_default"](
        image_bytes=tf.stack([data]), um_per_px=tf.zeros([1])
    )
    for name, value in sized.items():
        np.testing.assert_array_equal(alone[name], value, err_msg=name)
    scored = saved.signatures["score_patient"](
        image_bytes=tf.stack([data] * 3), um_per_px=tf.fill([3], 0.2)
    )
    assert int(scored["n_cells"]) == 3 * len(cells)
    assert int(scored["n_countable"]) == 3 * cells.countable.sum()


def test_keras_calls_it_with_one_input(wrapped):
    keras = pytest.importorskip("keras", minversion="3")
    import tensorflow as tf

    layer = keras.layers.TFSMLayer(str(wrapped / "saved_model"), call_endpoint="serving_bytes")
    field = draw_field(np.random.default_rng(0), n_cells=8, size_hw=(96, 128))
    cells = layer(tf.stack([tf.io.encode_png(field.image)] * 2))
    assert int(cells["num_detections"][0]) == int(cells["num_detections"][1]) > 0


def test_the_card_has_no_error_rates(wrapped):
    card = json.loads((wrapped / "model.json").read_text())
    assert card["rates"] == {"blocks": [], "folds": 0} and card["rbc_px"] == 38.0
    assert card["provenance"]["experiment"] == "maskrcnn_mobilenet_coco"
    assert "uncalibrated" in (wrapped / "MODEL_CARD.md").read_text()


def test_the_second_stage_equals_model_gardens(stock, run):
    """For the same regions, boxes and masks of each class equal those of Model Garden's layers."""
    import tensorflow as tf
    from official.core import task_factory
    from official.vision.ops import box_ops

    params, detector, _ = stock.restore(
        run, CLASSES, rbc_px=38.0, experiment="maskrcnn_mobilenet_coco"
    )
    model = task_factory.get_task(params.task).build_model()
    tf.train.Checkpoint(model=model).read(tf.train.latest_checkpoint(str(run))).expect_partial()
    rng = np.random.default_rng(1)
    image = rng.normal(size=(128, 128, 3)).astype(np.float32)
    regions = np.array([[4, 4, 40, 50], [20, 60, 100, 127], [0, 0, 128, 128]], np.float32)
    features = model.decoder(model.backbone(image[None], training=False), training=False)
    logits, offsets = model.detection_head[0](
        model.roi_aligner(features, regions[None], training=False)
    )
    ids = 1 + np.argmax(logits[0, :, 1:], axis=1)
    chosen = np.take_along_axis(offsets.numpy().reshape(3, 4, 4), ids[:, None, None], axis=1)[:, 0]
    pooled = model.mask_roi_aligner(features, regions[None], training=False)
    masks = tf.sigmoid(model.mask_head([pooled, ids[None]], training=False))[0]

    network = detector.network
    scores, _, *pyramid = network.features(image)
    probabilities, ours = network.classify(detector._align(pyramid, regions, network.box_crop))
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits[0]), atol=1e-4)
    theirs = box_ops.decode_boxes(chosen, regions, (10.0, 10.0, 5.0, 5.0))
    boxes = import_module("spherodetect.graph.boxes")
    np.testing.assert_allclose(
        boxes.decode(ours, regions, (10.0, 10.0, 5.0, 5.0)), theirs, atol=0.01
    )
    outlines = network.outline(
        detector._align(pyramid, regions, network.mask_crop), ids.astype(np.int32)
    )
    np.testing.assert_allclose(outlines, masks, atol=1e-3)
    assert scores.shape == (network.n_anchors((128, 128)),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("rbc",)}, "expected 3 classes, got 1"),
        ({"experiment": "no_such_thing"}, "expected an experiment of Model Garden"),
        ({"experiment": "retinanet_mobile_coco"}, "expected a Mask R-CNN"),
        ({"experiment": "maskrcnn_resnetfpn_coco"}, "."),
    ],
)
def test_unusable_runs_are_refused(stock, run, tmp_path, change, words):
    options = {
        "class_names": CLASSES,
        "rbc_px": 38.0,
        "experiment": "maskrcnn_mobilenet_coco",
    } | change
    if change == {"experiment": "maskrcnn_resnetfpn_coco"}:
        options["class_names"], run, words = ("a",), tmp_path, "expected a folder with a checkpoint"
    with pytest.raises(SpherodetectError, match=words):
        stock.wrap(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
