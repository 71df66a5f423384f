"""How many training examples a second come out of our decoder and parser, beside Model Garden's stock ones.

    python -m benchmarks.input_pipeline [--side 384] [--batch 4] [--fields 12] [--batches 3] [--rounds 5]

Expected: at least 5 times as many; two minutes on one core. Both read the same drawn fields, ours from records with
masks in their boxes, the stock decoder and `maskrcnn_input.Parser` from records with a mask of the whole frame a cell,
and both hand over the same: float32 images of side x side pixels that show the whole field, as many instances with
masks of 56 x 56, and targets for the same anchors. Ours does what experiments/chula.yaml trains with (optical density,
eight symmetries, JPEG once more, pasted overlaps, stain and light), the peer flips. Each runs in one thread, and only
while it is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.timing import Comparison, side_by_side
from benchmarks.train_step import draw_records, our_experiment


def compare(
    *, side: int = 384, batch: int = 4, fields: int = 12, batches: int = 3, rounds: int = 5
) -> Comparison:
    """Draw examples both ways; asserts that they are of the same shapes and show the same number of cells."""
    with tempfile.TemporaryDirectory() as folder:
        draw_records(Path(folder), side=side, fields=fields)
        params = our_experiment(Path(folder), side=side, batch=batch)
        ours, peer = iter(_ours(Path(folder), params)), iter(_stock(Path(folder), params))
        _require_equal_output(next(ours), next(peer))

        def draw(examples: Iterator[Any]) -> Callable[[], object]:
            return lambda: [next(examples) for _ in range(batches)]

        return side_by_side("input pipeline", draw(ours), draw(peer), items=batch * batches, unit="examples",
                            rounds=rounds)  # fmt: skip


def _ours(records: Path, params: Any) -> Any:
    from spherodetect.labels.masks import unknown_set
    from spherodetect.training.inputs import RecordDecoder, SmearParser

    data = params.task.train_data
    parser = SmearParser(
        size=params.task.model.input_size[0], rbc_px=data.parser.rbc_px, config=data.parser,
        anchors=_anchors(params), unknown_set=unknown_set(params.task.class_names),
    )  # fmt: skip
    decode, parse = RecordDecoder().decode, parser.parse_fn(True)
    return _batches(records / "drawn-*", lambda number, raw: parse({**decode(raw), "seed": number}), params)


def _stock(records: Path, params: Any) -> Any:
    from official.vision.dataloaders import maskrcnn_input, tf_example_decoder

    from spherodetect.tfrecords import MASK_SIZE

    settings, side = params.task.train_data.parser, params.task.model.input_size[0]
    parser = maskrcnn_input.Parser(
        output_size=[side, side], **_anchors(params), rpn_match_threshold=settings.rpn_match_threshold,
        rpn_unmatched_threshold=settings.rpn_unmatched_threshold, rpn_fg_fraction=settings.rpn_fg_fraction,
        rpn_batch_size_per_im=settings.rpn_batch_size_per_im, aug_rand_hflip=True,
        max_num_instances=settings.max_num_instances, include_mask=True, mask_crop_size=MASK_SIZE,
    )  # fmt: skip
    decode, parse = tf_example_decoder.TfExampleDecoder(include_mask=True).decode, parser.parse_fn(True)
    return _batches(records / "full-*", lambda number, raw: parse(decode(raw)), params)


def _anchors(params: Any) -> dict[str, Any]:
    model = params.task.model
    shape = {name: getattr(model.anchor, name) for name in ("num_scales", "aspect_ratios", "anchor_size")}
    return {"min_level": model.min_level, "max_level": model.max_level, **shape}


def _batches(pattern: Path, example: Callable[[Any, Any], Any], params: Any) -> Any:
    """An endless data set that works in the caller's time alone."""
    import tensorflow as tf

    files = sorted(str(path) for path in pattern.parent.glob(pattern.name + ".tfrecord"))
    numbered = tf.data.TFRecordDataset(files).repeat().enumerate()
    numbered = numbered.map(lambda number, raw: example(tf.cast(tf.stack([1, number]), tf.int32), raw))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = options.threading.private_threadpool_size = 1
    return numbered.batch(params.task.train_data.global_batch_size).with_options(options)


def _require_equal_output(ours: tuple[Any, Any], peer: tuple[Any, Any]) -> None:
    import tensorflow as tf

    assert ours[0].shape == peer[0].shape and ours[0].dtype == peer[0].dtype
    for name in ("gt_boxes", "gt_masks", "rpn_score_targets", "rpn_box_targets", "anchor_boxes"):
        shapes = [[tuple(t.shape) for t in tf.nest.flatten(labels[name])] for labels in (ours[1], peer[1])]
        assert shapes[0] == shapes[1], f"{name}: {shapes}"
    cells = [float(np.mean(np.sum(labels["gt_classes"].numpy() >= 0, axis=1))) for labels in (ours[1], peer[1])]
    assert abs(cells[0] / cells[1] - 1) < 0.1, f"expected as many cells an image, got {cells}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 384), ("batch", 4), ("fields", 12), ("batches", 3), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(compare(**vars(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
