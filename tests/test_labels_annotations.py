"""Annotations: those of an image that EXIF turns come to lie where its pixels do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from spherodetect.labels.annotations import Annotation, turned

STORED_HW = (30, 50)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_turn_as_the_image_does(orientation):
    """Pillow turns a picture of the label; the turned label must be a picture of that."""
    stored = np.zeros(STORED_HW, np.uint8)
    stored[4:12, 9:35] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image)) > 0
    corners = np.array([[4, 9], [4, 35], [12, 35], [12, 9]], float)
    label = Annotation("1", "rbc", (4, 9, 12, 35), polygons=(corners,), mask=stored > 0)
    there = turned(label, orientation, STORED_HW)
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    assert (
        there.box_yxyx
        == there.outline_box_yxyx
        == (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    )
    np.testing.assert_array_equal(np.asarray(there.mask), upright)
    assert (there.annotation_id, there.name) == ("1", "rbc")
    y, x = turned(Annotation("2", "rbc", point_yx=(4.5, 9.5)), orientation, STORED_HW).point_yx
    here = np.zeros(STORED_HW, np.uint8)
    here[4, 9] = 255
    image = Image.fromarray(here)
    image.getexif()[0x0112] = orientation
    assert np.asarray(ImageOps.exif_transpose(image))[int(y), int(x)] == 255
