"""The speed of the input pipeline, compared with Model Garden's stock decoder and parser.

    python -m benchmarks.input_pipeline [--side 384] [--batch 4] [--fields 12] [--cells 120] \\
        [--batches 3] [--rounds 5]

Expected: at least 5 times as fast; two minutes on one core. Both read the same drawn fields of 640
x 480 pixels with an outline of every cell, as `spherodetect tfrecords --full-masks` writes them.
Ours reads the records with box-local masks. The stock decoder and `maskrcnn_input.Parser` read the
records with a full-frame mask for each cell.

The output has the same form: batches of float32 images of side x side pixels, random crops with
cells of the same size, the same number of instances with masks of 56 x 56, and targets for the same
anchors. Ours augments as experiments/chula.yaml does (optical density, eight symmetries, JPEG,
pasted overlaps, stain, light, noise); the peer only flips. Each runs in one thread, and only while
it is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversion import write_export
from benchmarks.timing import Comparison, side_by_side
from spherodetect.labels.recipe import Recipe
from spherodetect.records.examples import MASK_SIZE
from spherodetect.records.tfrecords import build

ROOT = Path(__file__).resolve().parents[1]
UM_PER_PX = 0.193


def compare(
    *,
    side: int = 384,
    batch: int = 4,
    fields: int = 12,
    cells: int = 120,
    batches: int = 3,
    rounds: int = 5,
) -> Comparison:
    """Read examples with both; asserts the same shapes and a similar number of cells."""
    from spherodetect.training.run import load_experiment

    settings = [
        f"task.train_data.global_batch_size={batch}",
        f"task.model.input_size=[{side}, {side}, 3]",
    ]
    params = load_experiment(ROOT / "experiments" / "chula.yaml", overrides=settings)
    with tempfile.TemporaryDirectory() as folder:
        export, records = (
            write_export(Path(folder) / "export", fields=fields, cells=cells),
            Path(folder) / "records",
        )
        build(Recipe("drawn", "coco", export, um_per_px=UM_PER_PX), records, full_masks=True)
        ours, peer = iter(_ours(records, params)), iter(_stock(records, params))
        _require_equal_output(next(ours), next(peer))

        def draw(examples: Iterator[Any]) -> Callable[[], object]:
            return lambda: [next(examples) for _ in range(batches)]

        return side_by_side(
            "input pipeline",
            draw(ours),
            draw(peer),
            items=batch * batches,
            unit="examples",
            rounds=rounds,
        )


def _ours(records: Path, params: Any) -> Any:
    from spherodetect.labels.repair.instances import unknown_set
    from spherodetect.training.inputs import RecordDecoder, SmearParser

    data = params.task.train_data
    parser = SmearParser(
        size=params.task.model.input_size[0],
        rbc_px=data.parser.rbc_px,
        config=data.parser,
        anchors=_anchors(params),
        unknown_set=unknown_set(params.task.class_names),
    )
    decode, parse = RecordDecoder().decode, parser.parse_fn(True)
    return _batches(
        records / "drawn-*", lambda number, raw: parse({**decode(raw), "seed": number}), params
    )


def _stock(records: Path, params: Any) -> Any:
    from official.vision.dataloaders import maskrcnn_input, tf_example_decoder

    settings, side = params.task.train_data.parser, params.task.model.input_size[0]
    # The stock scale is relative to a field that fits the canvas.
    scale = settings.rbc_px / (7.5 / UM_PER_PX) / min(side / 480, side / 640)
    parser = maskrcnn_input.Parser(
        output_size=[side, side],
        **_anchors(params),
        rpn_match_threshold=settings.rpn_match_threshold,
        rpn_unmatched_threshold=settings.rpn_unmatched_threshold,
        rpn_fg_fraction=settings.rpn_fg_fraction,
        rpn_batch_size_per_im=settings.rpn_batch_size_per_im,
        max_num_instances=settings.max_num_instances,
        include_mask=True,
        mask_crop_size=MASK_SIZE,
        aug_rand_hflip=True,
        aug_scale_min=scale,
        aug_scale_max=scale,
    )
    decode, parse = (
        tf_example_decoder.TfExampleDecoder(include_mask=True).decode,
        parser.parse_fn(True),
    )
    return _batches(records / "full-*", lambda number, raw: parse(decode(raw)), params)


def _anchors(params: Any) -> dict[str, Any]:
    model = params.task.model
    shape = {
        name: getattr(model.anchor, name) for name in ("num_scales", "aspect_ratios", "anchor_size")
    }
    return {"min_level": model.min_level, "max_level": model.max_level, **shape}


def _batches(pattern: Path, example: Callable[[Any, Any], Any], params: Any) -> Any:
    """An endless data set without threads of its own."""
    import tensorflow as tf

    files = sorted(str(path) for path in pattern.parent.glob(pattern.name + ".tfrecord"))
    numbered = tf.data.TFRecordDataset(files).repeat().enumerate()
    numbered = numbered.map(
        lambda number, raw: example(tf.cast(tf.stack([1, number]), tf.int32), raw)
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = options.threading.private_threadpool_size = 1
    return numbered.batch(params.task.train_data.global_batch_size).with_options(options)


def _require_equal_output(ours: tuple[Any, Any], peer: tuple[Any, Any]) -> None:
    import tensorflow as tf

    assert ours[0].shape == peer[0].shape and ours[0].dtype == peer[0].dtype
    for name in ("gt_boxes", "gt_masks", "rpn_score_targets", "rpn_box_targets", "anchor_boxes"):
        shapes = [
            [tuple(t.shape) for t in tf.nest.flatten(labels[name])] for labels in (ours[1], peer[1])
        ]
        assert shapes[0] == shapes[1], f"{name}: {shapes}"
    cells = [
        float(np.mean(np.sum(labels["gt_classes"].numpy() >= 0, axis=1)))
        for labels in (ours[1], peer[1])
    ]
    # One batch of each, of random crops.
    assert 0.5 < cells[0] / cells[1] < 2, f"expected as many cells an image, got {cells}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("side", 384),
        ("batch", 4),
        ("fields", 12),
        ("cells", 120),
        ("batches", 3),
        ("rounds", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(compare(**vars(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
