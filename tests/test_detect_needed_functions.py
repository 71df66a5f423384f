"""needed_functions: a SavedModel with one function detects the same."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.detect.frame import ESTIMATE_EVERYTHING
from spherodetect.detect.model_folder import BUNDLED
from spherodetect.detect.needed_functions import with_one_function

SAVED = BUNDLED / "saved_model"


@pytest.fixture(scope="module")
def whole():
    tf = pytest.importorskip("tensorflow")
    return tf.saved_model.load(str(SAVED))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (96, 120, 3), np.uint8)


def _require_same(expected, got):
    assert set(expected) == set(got)
    for name, value in expected.items():
        np.testing.assert_array_equal(value.numpy(), got[name].numpy(), err_msg=name)


def test_a_model_with_one_signature_gives_the_same(whole, image):
    import tensorflow as tf

    with with_one_function(SAVED, signature="serving_image") as folder:
        size = (folder / "saved_model.pb").stat().st_size
        assert size < 0.25 * (SAVED / "saved_model.pb").stat().st_size
        part = tf.saved_model.load(str(folder))
    assert not folder.exists()
    assert list(part.signatures) == ["serving_image"]
    assert set(whole.signatures) > {"serving_image"}
    assert not hasattr(part, "tile")
    given = {"image": tf.constant(image), "um_per_px": tf.constant(0.2)}
    _require_same(*(one.signatures["serving_image"](**given) for one in (whole, part)))


def test_a_model_with_one_function_gives_the_same(whole, image):
    import tensorflow as tf

    with with_one_function(SAVED, function="tile") as folder:
        part = tf.saved_model.load(str(folder))
    assert not part.signatures
    given = tf.constant(image), tf.constant(0.2), tf.constant(ESTIMATE_EVERYTHING.to_array())
    _require_same(*(one.tile(*given) for one in (whole, part)))


@pytest.mark.parametrize("content", [b"", b"no protocol buffer \xff\xff"])
def test_another_file_is_left_to_tensorflow(content, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with with_one_function(tmp_path, signature="serving_image") as folder:
        assert folder == tmp_path


def test_a_model_without_the_function_is_left_as_it_is():
    with with_one_function(SAVED, signature="other") as folder:
        assert folder == SAVED
    with with_one_function(SAVED, function="other") as folder:
        assert folder == SAVED
