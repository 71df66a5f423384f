"""Compares statistics of batch normalisation for the exported detector.

    nice python -m benchmarks.batch_norm RUN [--batches 60]

A run trains with batches of four fields and keeps moving averages of their statistics, which the
export folds into the convolutions. Two others are compared with them: the plain mean over many
training batches with the final weights, and the mean over the held-out fields themselves, as if the
fields of a laboratory were known before. Group normalisation is not among Model Garden's layers,
and a run that starts from random weights cannot freeze its statistics.

The metrics, on held-out fields, are recall and, for the found cells, F1 at even odds and average
precision of the Mask R-CNN alone. Run it in the folder from which the run was trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def judge(
    detector: Any, records: Sequence[Path], class_names: Sequence[str]
) -> tuple[int, float, float]:
    """Found labelled cells, and F1 at even odds and average precision of the class."""
    from spherodetect.evaluation.metrics import average_precision
    from spherodetect.training.held_out import collect

    cells = collect(detector, list(records), list(class_names))
    called, true = cells.log_odds >= 0, cells.spherocyte
    f1 = 2 * (called & true).sum() / max(called.sum() + true.sum(), 1)
    return len(true), float(f1), average_precision(cells.log_odds, true)


def reestimate(model: Any, batches: Any, norms: Sequence[Any]) -> None:
    """Set the statistics of batch normalisation to their plain means over training batches."""
    for seen, (images, labels) in enumerate(batches):
        for norm in norms:
            norm.momentum = seen / (seen + 1)
        given = {key: labels[key] for key in ("anchor_boxes", "gt_boxes", "gt_classes", "gt_masks")}
        model(images, image_shape=labels["image_info"][:, 1, :], training=True, **given)


def main(argv: Sequence[str] | None = None) -> None:
    """Print recall, F1 and average precision for each choice of statistics."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--train", help="pattern of the training records, if not as the run has it")
    parser.add_argument(
        "--held-out", help="pattern of the held-out records, if not as the run has it"
    )
    args = parser.parse_args(argv)

    import tensorflow as tf
    import tf_keras
    from official.core import task_factory

    from spherodetect.graph.detector import Detector
    from spherodetect.graph.network import Network
    from spherodetect.training.export import restore
    from spherodetect.training.run import chosen_checkpoint

    params = restore(args.run)[0]
    train, held_out = params.task.train_data, params.task.validation_data
    if args.train:
        train.input_path, train.weights = args.train, None
    records = sorted(map(Path, tf.io.gfile.glob(args.held_out or held_out.input_path)))
    task = task_factory.get_task(params.task, logging_dir=str(args.run))

    def with_statistics(of: Callable[[], Any] | None) -> Detector:
        model = task.build_model()
        checkpoint = tf.train.Checkpoint(model=model)
        checkpoint.read(
            chosen_checkpoint(args.run, params)
        ).expect_partial().assert_existing_objects_matched()
        if of is not None:
            layers = [
                layer
                for layer in model.submodules
                if isinstance(layer, tf_keras.layers.BatchNormalization)
            ]
            reestimate(model, of(), layers)
        network = Network(model, params.task.model)
        return Detector(network, rbc_px=train.parser.rbc_px, class_names=params.task.class_names)

    own = train.replace(input_path=args.held_out or held_out.input_path, weights=None)
    choices = {
        "moving averages": None,
        "mean of training batches": lambda: task.build_inputs(train).take(args.batches),
        "mean of the held-out fields": lambda: task.build_inputs(own).take(args.batches),
    }
    print(f"{'statistics':30} {'found':>6} {'F1':>6} {'AP':>6}")
    for name, of in choices.items():
        found, f1, ap = judge(with_statistics(of), records, params.task.class_names)
        print(f"{name:30} {found:6d} {f1:6.3f} {ap:6.3f}", flush=True)


if __name__ == "__main__":
    main()
