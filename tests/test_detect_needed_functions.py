"""needed_functions: a SavedModel without the signatures that are not called detects the same."""

from __future__ import annotations

import numpy as np
import pytest

from spherodetect.detect.model_folder import BUNDLED
from spherodetect.detect.needed_functions import with_signatures_only

SAVED = BUNDLED / "saved_model"


def test_a_model_without_other_signatures_gives_the_same():
    tf = pytest.importorskip("tensorflow")
    whole = tf.saved_model.load(str(SAVED))
    with with_signatures_only(SAVED, {"serving_image"}) as folder:
        assert (folder / "saved_model.pb").stat().st_size < (
            SAVED / "saved_model.pb"
        ).stat().st_size
        part = tf.saved_model.load(str(folder))
    assert not folder.exists()
    assert list(part.signatures) == ["serving_image"]
    assert set(whole.signatures) > {"serving_image"}
    image = np.random.default_rng(0).integers(0, 255, (96, 120, 3), np.uint8)
    given = {"image": tf.constant(image), "um_per_px": tf.constant(0.2)}
    expected, got = (one.signatures["serving_image"](**given) for one in (whole, part))
    assert set(expected) == set(got)
    for name, value in expected.items():
        np.testing.assert_array_equal(value.numpy(), got[name].numpy(), err_msg=name)
    shapes = [one.tile.concrete_functions[0].output_shapes for one in (whole, part)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("content", [b"", b"no protocol buffer \xff\xff"])
def test_another_file_is_left_to_tensorflow(content, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with with_signatures_only(tmp_path, {"serving_image"}) as folder:
        assert folder == tmp_path


def test_a_model_without_the_signature_is_left_as_it_is():
    with with_signatures_only(SAVED, {"other"}) as folder:
        assert folder == SAVED
