"""inputs: targets equal the drawn cells after scaling, rotation and cropping."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from itertools import product
from types import ModuleType

import numpy as np
import pytest

from spherodetect.records.examples import MASK_SIZE

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]
ANYTHING = 0b11111
SIZE, DIAMETER = 96, 24.0
ANCHORS = {
    "min_level": 3,
    "max_level": 5,
    "num_scales": 2,
    "aspect_ratios": [1.0],
    "anchor_size": 3.0,
}


@pytest.fixture(scope="module")
def inputs() -> ModuleType:
    return import_module("spherodetect.training.inputs")


def build_parser(inputs: ModuleType, *, size: int = SIZE, rbc_px: float = DIAMETER, **settings):
    from spherodetect.training.experiment import SmearParserConfig

    still = {
        "stain_jitter": 0.1,
        "tint_jitter": 0.0,
        "light_jitter": 0.0,
        "defocus": 0.0,
        "noise": 0.0,
        "colour_fade": 0.0,
        "pasted_share": 0.0,
        "recompressed_share": 0.0,
    }
    config = SmearParserConfig(
        max_num_instances=24,
        rpn_batch_size_per_im=64,
        rpn_match_threshold=0.5,
        rpn_unmatched_threshold=0.3,
        **(still | settings),
    )
    return inputs.SmearParser(
        size=size, rbc_px=rbc_px, config=config, anchors=ANCHORS, unknown_set=ANYTHING
    )


def cut_disc(radius: float) -> np.ndarray:
    """A disc without its upper left corner, different in each orientation; it fills its box."""
    side = round(2 * radius)
    y, x = np.mgrid[:side, :side] + 0.5 - radius
    return (np.hypot(y, x) <= radius) & ((y > -0.2 * radius) | (x > -0.5 * radius))


def field(
    *centers: tuple[float, float],
    sets: tuple[int, ...] = (),
    known: tuple[bool, ...] = (),
    size_hw: tuple[int, int] = (140, 160),
) -> dict:
    """A decoded record of cells with centres at whole pixels."""
    import tensorflow as tf

    from spherodetect.geometry import stretch_mask

    shape = cut_disc(DIAMETER / 2)
    image = np.full((*size_hw, 3), 200, np.uint8)
    boxes = []
    for y, x in centers:
        y0, x0 = int(y - DIAMETER / 2), int(x - DIAMETER / 2)
        boxes.append((y0, x0, y0 + shape.shape[0], x0 + shape.shape[1]))
        image[y0 : y0 + shape.shape[0], x0 : x0 + shape.shape[1]][shape] = 120
    n = len(boxes)
    return {
        "image": tf.constant(image),
        "boxes": tf.constant(np.array(boxes, np.float32).reshape(-1, 4)),
        "class_set": tf.constant(np.array(sets or [0b10] * n, np.int32)),
        "mask_known": tf.constant(np.array(known or [True] * n, bool)),
        "masks": tf.constant(
            np.array([stretch_mask(shape, MASK_SIZE)] * n, np.float32).reshape(
                -1, MASK_SIZE, MASK_SIZE
            )
        ),
        "rbc_diameter_px": tf.constant(DIAMETER),
        "source_id": tf.constant("1"),
        "seed": tf.constant([1, 2]),
    }


def targets(labels: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, codes and masks without the padding."""
    codes = labels["gt_classes"].numpy()
    n = int((codes >= 0).sum())
    assert (codes[:n] >= 0).all(), "padding comes last"
    return labels["gt_boxes"].numpy()[:n], codes[:n], labels["gt_masks"].numpy()[:n]


def agreement(image: np.ndarray, box: np.ndarray, mask: np.ndarray) -> float:
    """IoU of a mask with the stain under its box, at the mask's own samples."""
    y, x = (
        box[k] + (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * (box[k + 2] - box[k]) for k in (0, 1)
    )
    y, x = (np.clip(v.astype(int), 0, image.shape[0] - 1) for v in (y, x))
    stained = image[np.ix_(y, x)][..., 1] > 0.1
    return float((stained & (mask >= 0.5)).sum() / (stained | (mask >= 0.5)).sum())


CENTERS = tuple(product((20, 60, 100), (30, 80, 130)))


def test_a_decoded_record_equals_the_written_one(inputs, tmp_path):
    import tensorflow as tf
    from PIL import Image

    from spherodetect.labels.annotations import Annotation, LabelledField
    from spherodetect.labels.readers.ledger import LabelSet
    from spherodetect.labels.recipe import Recipe
    from spherodetect.records.examples import read_examples
    from spherodetect.records.tfrecords import write_tfrecords

    Image.fromarray(field(*CENTERS)["image"].numpy()).save(tmp_path / "a.png")
    points = (
        Annotation("1", "spherocyte", point_yx=(20.0, 30.0)),
        Annotation("2", "rbc", point_yx=(130.0, 100.0)),
    )
    labelled = LabelledField(
        "a.png", tmp_path / "a.png", (140, 160), points, source_id="a", um_per_px=7.5 / DIAMETER
    )
    recipe = Recipe("a", "points", tmp_path, unlabelled_cells="unknown")
    write_tfrecords(
        recipe, tmp_path / "out", labels=LabelSet((labelled,)), splits={"a.png": "train"}
    )
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    (expected,) = read_examples([path])
    (raw,) = tf.data.TFRecordDataset(str(path))
    data = inputs.RecordDecoder().decode(raw)
    np.testing.assert_array_equal(data["image"], expected["image"])
    np.testing.assert_allclose(data["boxes"], expected["box_yxyx"], atol=1e-3)
    np.testing.assert_array_equal(data["class_set"], expected["class_set"])
    np.testing.assert_array_equal(data["mask_known"], expected["mask_known"])
    np.testing.assert_array_equal(data["masks"], expected["masks"])
    assert sorted(expected["class_set"])[:2] == [0b10, 0b100] and not expected["mask_known"].all()
    # In a graph with static shapes, as in training.
    data_set = tf.data.Dataset.from_tensors(raw).map(
        lambda record: inputs.RecordDecoder().decode(record) | {"seed": [1, 2]}
    )
    image, labels = next(iter(data_set.map(build_parser(inputs).parse_fn(True))))
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == tf.float32
    assert labels["gt_masks"].shape == (24, MASK_SIZE, MASK_SIZE)


def test_a_field_larger_than_the_canvas_is_cropped_at_its_centre(inputs):
    image, labels = build_parser(inputs).parse_fn(False)(field(*CENTERS))
    boxes, codes, masks = targets(labels)
    # 22 rows and 32 columns are cropped on each side: 10 of 24 pixels of the outer columns remain,
    # and 10 and 14 of the rows.
    assert boxes.min() >= 0 and boxes.max() <= SIZE
    middle = np.flatnonzero((boxes == [26, 36, 50, 60]).all(axis=1))
    assert len(middle) == 1 and codes[middle] == 0b10
    assert len(boxes) == 9
    whole = (boxes[:, 2:] - boxes[:, :2] == DIAMETER).all(axis=1)
    assert whole.sum() == 2, "in the middle column, the middle and the last row"
    for box, mask in zip(boxes, masks, strict=True):
        assert agreement(image.numpy(), box, mask) > 0.85, box


@pytest.mark.parametrize(
    ("x", "code"), [(60, 0b100), (35, 0b100), (33, ANYTHING), (24, ANYTHING), (22, None)]
)
def test_a_mostly_cropped_cell_has_no_class(inputs, x, code):
    # The canvas begins at column 32 of the field: 24, 15, 13, 4 and 2 of the cell's 24 columns are
    # in it.
    _, labels = build_parser(inputs).parse_fn(False)(field((70, x), sets=(0b100,)))
    _, codes, _ = targets(labels)
    assert codes.tolist() == ([] if code is None else [code])


def test_a_field_smaller_than_the_canvas_is_padded_with_empty_slide(inputs):
    image, labels = build_parser(inputs).parse_fn(False)(
        field((20, 20), (40, 50), size_hw=(60, 70))
    )
    boxes, _, masks = targets(labels)
    np.testing.assert_array_equal(boxes[0], [26, 21, 50, 45])
    assert all(agreement(image.numpy(), b, m) > 0.95 for b, m in zip(boxes, masks, strict=True))
    np.testing.assert_allclose(image.numpy()[:10], -0.5, atol=0.02)


@pytest.mark.parametrize("rbc_px", [18.0, 32.0])
def test_cells_have_the_nominal_size(inputs, rbc_px):
    image, labels = build_parser(inputs, rbc_px=rbc_px).parse_fn(False)(field((70, 80)))
    (box,), _, (mask,) = targets(labels)
    np.testing.assert_allclose(box[2:] - box[:2], rbc_px, atol=0.6)
    assert agreement(image.numpy(), box, mask) > 0.9


def test_a_cell_without_mask_is_marked(inputs):
    data = field((60, 60), (60, 100), sets=(0b100, ANYTHING), known=(False, True))
    _, codes, _ = targets(build_parser(inputs).parse_fn(False)(data)[1])
    assert codes.tolist() == [0b100 + inputs.NO_MASK, ANYTHING]


def test_cells_of_unknown_class_are_targets_of_proposals(inputs):
    parser = build_parser(inputs)
    known, unknown = (
        parser.parse_fn(False)(field((70, 80), (70, 110), sets=(bits, bits)))[1][
            "rpn_score_targets"
        ]
        for bits in (0b10, ANYTHING)
    )
    assert sum(int((scores.numpy() == 1).sum()) for scores in unknown.values()) >= 2
    for level in known:
        assert ((known[level].numpy() == 1) == (unknown[level].numpy() == 1)).all()


def test_a_field_without_cells_has_only_negative_anchors(inputs):
    image, labels = build_parser(inputs).parse_fn(True)(field())
    assert (labels["gt_classes"].numpy() == -1).all() and (labels["gt_boxes"].numpy() == -1).all()
    assert not any((scores.numpy() == 1).any() for scores in labels["rpn_score_targets"].values())
    assert np.isfinite(image.numpy()).all()


def test_masks_stay_on_their_cells_under_augmentation(inputs):
    parser = build_parser(inputs, scale_jitter=1.25)
    sizes, agreements = [], []
    for seed in range(12):
        image, labels = parser.parse_fn(True)(field(*CENTERS) | {"seed": [4, seed]})
        boxes, codes, masks = targets(labels)
        assert boxes.min() >= 0 and boxes.max() <= SIZE
        whole = codes == 0b10
        assert whole.any()
        agreements += [
            agreement(image.numpy(), b, m) for b, m in zip(boxes[whole], masks[whole], strict=True)
        ]
        inner = ((boxes > 0.5) & (boxes < SIZE - 0.5)).all(axis=1)
        sizes += (boxes[inner, 2] - boxes[inner, 0]).tolist()
    assert np.mean(agreements) > 0.9 and min(agreements) > 0.75
    assert min(sizes) < 0.93 * DIAMETER < 1.07 * DIAMETER < max(sizes), "sizes vary"
    assert min(sizes) > 0.79 * DIAMETER and max(sizes) < 1.26 * DIAMETER


def test_a_crop_of_a_full_mask_is_full(inputs):
    rng = np.random.default_rng(6)
    boxes = np.concatenate(
        [rng.uniform(0, 40, (20, 2)), rng.uniform(60, 100, (20, 2))], axis=1
    ).astype(np.float32)
    clipped = np.clip(boxes, 20, 80)
    full = np.ones((20, MASK_SIZE, MASK_SIZE), np.float32)
    np.testing.assert_allclose(inputs._recrop(full, boxes, clipped), 1, atol=1e-5)


def test_a_mask_inside_of_the_crop_is_unchanged(inputs):
    rng = np.random.default_rng(7)
    masks = (rng.random((3, MASK_SIZE, MASK_SIZE)) < 0.5).astype(np.float32)
    boxes = np.array([[0, 0, 10, 10], [5.5, 3.25, 30, 41], [1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(inputs._recrop(masks, boxes, boxes), masks, atol=1e-4)


def test_half_of_a_mask_is_resampled(inputs):
    mask = np.zeros((1, MASK_SIZE, MASK_SIZE), np.float32)
    mask[:, :, : MASK_SIZE // 4] = 1
    box = np.array([[0, 0, 40, 40]], np.float32)
    left = inputs._recrop(mask, box, box * [1, 1, 1, 0.5]).numpy()[0] >= 0.5
    right = inputs._recrop(mask, box, box + np.array([[0, 20, 0, 0]], np.float32)).numpy()[0] >= 0.5
    assert left[:, : MASK_SIZE // 2].all() and not left[:, MASK_SIZE // 2 :].any()
    assert not right.any()
