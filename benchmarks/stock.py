"""Trains and evaluates Model Garden's stock experiment on this package's records.

    for d in chula synthetic; do
        spherodetect tfrecords tfrecords/$d.yaml --full-masks --out tfrecords/records/$d
    done
    nice python -m benchmarks.stock train runs/stock [--steps 1500]
    python -m benchmarks.stock renew runs/stock
    python -m benchmarks.stock judge runs/stock --ours MODEL [--every 1]

`train` takes about an hour of two cores, and `renew` two minutes. MODEL must have held out the
fields. `benchmarks.detect --stock runs/stock` times the model that was trained here.

Task, network, losses and trainer are Model Garden's. Changed are settings that every user sets:
class names, at most 300 cells, crops at the scale of `benchmarks.detect`, and, because a batch has
4 crops and not 512, the optimiser and its schedule of experiments/chula.yaml. Cells of unknown
class are crowds, which the stock experiment ignores. After a few hundred steps its moving averages
of batch normalisation still contain the first steps, and it finds nothing (see
benchmarks/batch_norm.py). So `renew` computes them again from training batches.

The evaluation is that of `spherodetect evaluate` on the held-out fields of tfrecords/chula.yaml,
by the stock export. If a cell is detected in two classes, the more probable one counts. The
threshold is the one with the best F1 on these fields.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train_step import stock_experiment
from spherodetect.cells import CLASS_NAMES, RED_CELLS, Cells
from spherodetect.detect.matching import match_points
from spherodetect.evaluation.truth import Labelled, open_truth
from spherodetect.geometry import box_iou

ROOT = Path(__file__).resolve().parents[1]
SIDE, BATCH, STOCK_DETECTIONS = 384, 4, 300
#: Size of a resized field of 640x480 (see benchmarks/detect.py), and the scale jitter of the crops.
SIZE_HW, JITTER = (448, 576), 1.25
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

Detect = Callable[[Labelled], Cells]


def experiment(records: Path, *, steps: int) -> Any:
    """The settings of maskrcnn_mobilenet_coco on crops of the records."""
    from spherodetect.training.run import load_experiment

    params = stock_experiment(records, side=SIDE, batch=BATCH)
    data, trainer = params.task.train_data, params.trainer
    data.input_path = [str(file) for file in sorted(records.glob("*/full-*-train-*.tfrecord"))]
    enlarged = max(SIZE_HW) / SIDE
    data.parser.aug_scale_min, data.parser.aug_scale_max = enlarged / JITTER, enlarged * JITTER
    params.runtime.mixed_precision_dtype = "float32"
    overrides = [f"trainer.optimizer_config.learning_rate.cosine.decay_steps={steps}"]
    ours = load_experiment(ROOT / "experiments" / "chula.yaml", overrides=overrides)
    trainer.optimizer_config = ours.trainer.optimizer_config
    trainer.train_steps, trainer.steps_per_loop, trainer.summary_interval = steps, 20, 20
    trainer.checkpoint_interval, trainer.max_to_keep = 100, 1
    trainer.best_checkpoint_export_subdir = ""
    return params


def train(run: Path, records: Path, *, steps: int) -> None:
    """Train with Model Garden's trainer, or continue from the last checkpoint."""
    import tensorflow as tf
    from official.core import task_factory, train_lib
    from official.modeling import hyperparams
    from official.vision.tasks import maskrcnn  # noqa: F401  (importing registers the task)

    run.mkdir(parents=True, exist_ok=True)
    params = experiment(records, steps=steps)
    hyperparams.save_params_dict_to_yaml(params, str(run / "params.yaml"))
    task = task_factory.get_task(params.task, logging_dir=str(run))
    train_lib.run_experiment(
        tf.distribute.OneDeviceStrategy("/cpu:0"), task, "train", params, str(run)
    )


def renew(run: Path, records: Path, *, batches: int = 40) -> None:
    """Write a checkpoint with statistics of batch normalisation from training batches.

    It is in the folder `renewed` of the run.
    """
    import tensorflow as tf
    import tf_keras
    from official.core import task_factory
    from official.vision.tasks import maskrcnn  # noqa: F401  (importing registers the task)

    from benchmarks.batch_norm import reestimate

    params = experiment(records, steps=1)
    task = task_factory.get_task(params.task)
    model = task.build_model()
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.read(
        tf.train.latest_checkpoint(str(run))
    ).expect_partial().assert_existing_objects_matched()
    norms = [
        layer for layer in model.submodules if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    reestimate(model, task.build_inputs(params.task.train_data).take(batches), norms)
    checkpoint.save(str(run / "renewed" / "ckpt"))


def exported(run: Path, folder: Path, *, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """The SavedModel of a run by Model Garden's own export, with STOCK_DETECTIONS detections.

    Args:
        run: a folder with params.yaml and a checkpoint.
        folder: of the SavedModel.
        size_hw: to which images are resized.
    """
    import tensorflow as tf
    from official.core import exp_factory
    from official.modeling import hyperparams
    from official.vision.configs import maskrcnn  # noqa: F401  (importing registers the experiment)
    from official.vision.serving import export_saved_model_lib

    params = exp_factory.get_exp_config("maskrcnn_mobilenet_coco")
    params = hyperparams.override_params_dict(params, str(run / "params.yaml"), is_strict=False)
    params.task.model.detection_generator.max_num_detections = STOCK_DETECTIONS
    renewed = tf.train.latest_checkpoint(str(run / "renewed"))
    export_saved_model_lib.export_inference_graph(
        input_type="image_tensor",
        batch_size=1,
        input_image_size=list(size_hw),
        params=params,
        checkpoint_path=renewed or tf.train.latest_checkpoint(str(run)),
        export_dir=str(folder),
        log_model_flops_and_params=False,
    )
    return folder


def stock_detector(saved_model: Path) -> Detect:
    """A function from a field to its cells in native pixels, by an exported stock model.

    The best score of a cell is its confidence.
    """
    import tensorflow as tf

    saved = tf.saved_model.load(str(saved_model))
    call = saved.signatures["serving_default"]

    def detect(labelled: Labelled) -> Cells:
        found = {
            key: value.numpy()[0]
            for key, value in call(inputs=tf.constant(labelled.image[None])).items()
        }
        n = int(found["num_detections"])
        scores, ids = found["detection_scores"][:n], found["detection_classes"][:n].astype(int)
        boxes = found["detection_boxes"][:n] / np.tile(found["image_info"][2], 2)
        best = np.argsort(-scores, kind="stable")
        # The stock export suppresses each class separately, so a cell may have several classes.
        agree = box_iou(boxes[best], boxes[best]) > 0.5
        kept: list[int] = []
        for k in range(n):
            if not agree[k, kept].any():
                kept.append(k)
        rows = best[kept]
        cells = Cells.from_labels(
            boxes[rows],
            ids[rows],
            np.ones((len(rows), 1, 1), bool),
            image_size_hw=labelled.image.shape[:2],
        )
        cells.confidence[:] = scores[rows]
        return cells

    # The functions of a SavedModel need the loaded object.
    detect.saved = saved  # type: ignore[attr-defined]
    return detect


def judge(
    detect: Detect, fields: Sequence[Labelled], *, threshold: float = 0.0
) -> dict[str, float]:
    """Recall of red cells, and sensitivity, precision and F1 of spherocytes.

    Missed cells are false negatives, and duplicates are false positives.
    """
    hits = called = true = red = found = 0
    for labelled in fields:
        cells = detect(labelled)
        cells = cells[cells.confidence >= threshold]
        matching = match_points(cells, labelled.points_yx)
        sphere = cells.names == CLASS_NAMES[1]
        is_true = labelled.classes == "spherocyte"
        is_red = np.isin(labelled.classes, list(RED_CELLS))
        at, known = matching.detection, is_red & matching.found
        red, found = red + int(is_red.sum()), found + int(known.sum())
        hits += int((sphere[at[known]] & is_true[known]).sum())
        called += int(sphere[at[known]].sum()) + int((matching.duplicate & sphere).sum())
        true += int(is_true.sum())
    sensitivity, precision = hits / max(true, 1), hits / max(called, 1)
    f1 = 2 * hits / max(called + true, 1)
    return {
        "recall": found / max(red, 1),
        "sensitivity": sensitivity,
        "precision": precision,
        "f1": f1,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train, renew or judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "renew", "judge"])
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--records", type=Path, default=Path("tfrecords/records"), help="folder of the data sets"
    )
    parser.add_argument("--steps", type=int, default=1500, help="default: 1500")
    parser.add_argument("--ours", type=Path, help="a model folder that held out these fields")
    parser.add_argument("--every", type=int, default=1, help="evaluate every Nth held-out field")
    args = parser.parse_args(argv)
    if args.what == "train":
        train(args.run, args.records, steps=args.steps)
        return
    if args.what == "renew":
        renew(args.run, args.records)
        return
    from spherodetect import load_model

    fields = list(open_truth(ROOT / "tfrecords" / "chula.yaml", "val").read(None))[:: args.every]
    detect = stock_detector(exported(args.run, args.run / "exported"))
    detected = {labelled.field: detect(labelled) for labelled in fields}
    by_threshold = {
        t: judge(lambda one: detected[one.field], fields, threshold=t) for t in THRESHOLDS
    }
    best = max(by_threshold, key=lambda t: by_threshold[t]["f1"])
    figures = {f"stock, from a score of {best}": by_threshold[best]}
    if args.ours:
        model = load_model(args.ours)
        figures["ours"] = judge(lambda one: model.detect(one.image, one.um_per_px), fields)
    print(f"{len(fields)} fields of {sum(len(one.points_yx) for one in fields)} labels")
    for name, found in figures.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
