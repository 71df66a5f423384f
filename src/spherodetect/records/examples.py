"""A converted field as a tf.Example, and back.

An example has Model Garden's keys (image/encoded, image/object/bbox/..., normalised) and also:

    image/object/class/set     int64, bits of the classes a cell may be (labels/repair/instances.py)
    image/object/mask/bits     one string: for each cell MASK_SIZE x MASK_SIZE bits, row by row,
                               stretched over its box
    image/object/mask/known    int64, 0 for a cell without a mask
    image/object/mask/quality  float, 0 to 1, how certain the mask is (labels/repair/refine.py)
    image/rbc_diameter_px      float, a red cell's diameter in this image

Masks are stored within their boxes, because full frames for each cell make the stock input slow.
The stock form has image/object/mask, a PNG for each cell. There, a cell without class or mask is a
crowd, the stock form's only mark for it. The stock parser drops crowds, so such a cell is
background there. The stock decoder finds no mask in the other form.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.geometry import stretch_mask
from spherodetect.labels.repair.instances import Instance
from spherodetect.records.convert import Converted
from spherodetect.safety import quoted, sha256

if TYPE_CHECKING:
    import tensorflow as tf

MASK_SIZE = 56


def read_examples(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The records in some files, one dict of NumPy values for each field.

    Boxes are in pixels, masks (N, MASK_SIZE, MASK_SIZE) bool over their boxes.

    Raises:
        BadLabelsError: records of another version or of another program.
    """
    import tensorflow as tf

    for path in paths:
        for raw in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
            try:
                yield _read(raw)
            except (KeyError, IndexError, ValueError) as problem:
                raise BadLabelsError(
                    f"{quoted(path)}: expected records of this version, got some without "
                    f"{problem}; write them again with `spherodetect tfrecords`"
                ) from problem


def count_labels(paths: Iterable[Path]) -> dict[str, Counter[int]]:
    """Patient to the number of labels of each class id, without decoding an image.

    Raises:
        BadLabelsError: records of another program.
    """
    import tensorflow as tf

    counts: dict[str, Counter[int]] = {}
    for path in paths:
        for raw in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
            feature = tf.train.Example.FromString(raw).features.feature
            if "image/patient" not in feature:
                raise BadLabelsError(
                    f"{quoted(path)}: expected records of this version, got others; write them "
                    "again with `spherodetect tfrecords`"
                )
            patient = feature["image/patient"].bytes_list.value[0].decode()
            labels = feature["image/object/class/label"].int64_list.value
            counts.setdefault(patient, Counter()).update(labels)
    return counts


def _read(raw: bytes) -> dict[str, Any]:
    import tensorflow as tf

    feature = tf.train.Example.FromString(raw).features.feature
    floats = {k: np.array(v.float_list.value, np.float32) for k, v in feature.items()}

    def ints(key: str) -> list[int]:
        return list(feature[key].int64_list.value)

    def texts(key: str) -> list[str]:
        return [value.decode() for value in feature[key].bytes_list.value]

    (height, *_), (width, *_) = ints("image/height"), ints("image/width")
    sides = [floats[f"image/object/bbox/{k}"] for k in ("ymin", "xmin", "ymax", "xmax")]
    bits = np.frombuffer(feature["image/object/mask/bits"].bytes_list.value[0], np.uint8)
    return {
        "field": texts("image/field")[0],
        "patient": texts("image/patient")[0],
        "image": tf.io.decode_png(feature["image/encoded"].bytes_list.value[0]).numpy(),
        "box_yxyx": np.stack(sides, axis=-1) * np.array([height, width, height, width], np.float32),
        "class_id": np.array(ints("image/object/class/label"), int),
        "class_set": np.array(ints("image/object/class/set"), int),
        "name": texts("image/object/class/text"),
        "point_yx": np.reshape(floats["image/object/point"], (-1, 2)),
        "mask_quality": floats["image/object/mask/quality"],
        "mask_known": np.array(ints("image/object/mask/known"), bool),
        "masks": np.unpackbits(bits).reshape(-1, MASK_SIZE, MASK_SIZE).astype(bool),
        "rbc_diameter_px": float(floats["image/rbc_diameter_px"][0]),
        "um_per_px": float(floats["image/um_per_px"][0]),
    }


def to_example(converted: Converted, *, full_masks: bool) -> tf.train.Example:
    """The example of a converted field; full_masks gives the stock form."""
    import tensorflow as tf

    labelled, instances = converted.labelled, converted.found.instances
    height, width = converted.size_hw
    box_px = np.array([i.box_yxyx for i in instances], np.float32).reshape(-1, 4)
    box = box_px / [height, width, height, width]
    # The annotators' points are kept: evaluation of partial labels uses them.
    points = {a.annotation_id: a.point_yx for a in labelled.annotations if a.point_yx is not None}
    point = [points.get(i.annotation_id, (-1.0, -1.0)) for i in instances]
    masks = [np.zeros((1, 1), bool) if i.mask is None else i.mask for i in instances]
    bits = np.packbits(np.array([stretch_mask(m, MASK_SIZE) for m in masks], bool).reshape(-1))

    def ints(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v) for v in values]))

    def floats(values: Iterable[float]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=[float(v) for v in values]))

    def texts(values: Iterable[str | bytes]) -> tf.train.Feature:
        encoded = [v if isinstance(v, bytes) else v.encode() for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    # Model Garden reads source_id as a number.
    number = int(sha256(labelled.file.encode())[:12], 16)
    areas = [m.sum() if i.mask is not None else 0 for i, m in zip(instances, masks, strict=True)]
    crowds = [full_masks and not (i.class_id and i.mask is not None) for i in instances]
    features = {
        "image/encoded": texts([converted.png or b""]),
        "image/format": texts(["png"]),
        "image/height": ints([height]),
        "image/width": ints([width]),
        "image/source_id": texts([str(number)]),
        "image/filename": texts([labelled.file]),
        "image/key/sha256": texts([sha256(converted.png or b"")]),
        "image/field": texts([labelled.file]),
        "image/patient": texts([labelled.patient_id or ""]),
        "image/rbc_diameter_px": floats([converted.found.rbc_diameter_px]),
        "image/um_per_px": floats([labelled.um_per_px or 0.0]),
        "image/object/bbox/ymin": floats(box[:, 0]),
        "image/object/bbox/xmin": floats(box[:, 1]),
        "image/object/bbox/ymax": floats(box[:, 2]),
        "image/object/bbox/xmax": floats(box[:, 3]),
        "image/object/class/label": ints(i.class_id for i in instances),
        "image/object/class/set": ints(i.class_set for i in instances),
        "image/object/class/text": texts(i.name for i in instances),
        "image/object/is_crowd": ints(crowds),
        "image/object/area": floats(areas),
        "image/object/annotation_id": texts(i.annotation_id for i in instances),
        "image/object/point": floats(v for yx in point for v in yx),
        "image/object/mask/known": ints(i.mask is not None for i in instances),
        "image/object/mask/quality": floats(i.quality for i in instances),
        "image/object/mask/bits": texts([bits.tobytes()]),
    }
    if full_masks:
        features["image/object/mask"] = texts(_full_frame(i, (height, width)) for i in instances)
    return tf.train.Example(features=tf.train.Features(feature=features))


def _full_frame(instance: Instance, size_hw: tuple[int, int]) -> bytes:
    from PIL import Image

    frame = np.zeros(size_hw, np.uint8)
    y0, x0, y1, x1 = np.round(instance.box_yxyx).astype(int)
    if instance.mask is not None:
        frame[y0:y1, x0:x1] = instance.mask
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()
