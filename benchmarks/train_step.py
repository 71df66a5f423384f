"""The time of a training step with its input pipeline, compared with Model Garden's experiment.

    nice python -m benchmarks.train_step [--side 384] [--batch 4] [--rounds 5] [--profile]

Expected: the stock experiment (`maskrcnn_mobilenet_coco`) takes at least 1.8 times as long; ten
minutes on two cores. Both train on the same drawn square fields, which fill the canvas of `side`
pixels with cells of the nominal size. Batch normalisation, augmentation and optimiser are those of
each experiment. Equal on both sides are the batch, the canvas, the cells in an image (no scale
jitter, the same limit of instances), the number of classes, and float32.

Ours reads its own records. The stock experiment reads the same fields in the stock form, with a
full-frame mask for each cell. Each runs in its own process, which is stopped while the other is
timed, so that neither prefetches during the other's steps. Processor time includes all threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Child
from benchmarks.timing import Comparison

ROOT = Path(__file__).resolve().parents[1]
UM_PER_PX = 0.193
WARM_UP = 3


def draw_records(folder: Path, *, side: int, fields: int = 24, cells: int = 90) -> None:
    """Write records of drawn fields that fill the canvas, in both forms."""
    from PIL import Image

    from spherodetect.labels.annotations import LabelledField
    from spherodetect.labels.readers.drawn import outline_annotations
    from spherodetect.labels.readers.ledger import LabelSet
    from spherodetect.labels.recipe import Recipe
    from spherodetect.records.tfrecords import write_tfrecords
    from spherodetect.synthetic import draw_field, random_style
    from spherodetect.training.experiment import SmearParserConfig

    native = round(side * 7.5 / UM_PER_PX / SmearParserConfig().rbc_px)
    labelled = []
    for number in range(fields):
        rng = np.random.default_rng(number)
        drawn = draw_field(
            rng,
            n_cells=cells,
            spherocyte_fraction=0.2,
            size_hw=(native, native),
            style=random_style(rng, um_per_px=UM_PER_PX),
            n_platelets=6,
            n_white=1,
        )
        path = folder / f"drawn_{number}.png"
        Image.fromarray(drawn.image).save(path)
        labelled.append(
            LabelledField(
                path.name,
                path,
                (native, native),
                outline_annotations(drawn),
                path.stem,
                um_per_px=UM_PER_PX,
            )
        )
    recipe = Recipe("drawn", "synthetic", folder, um_per_px=UM_PER_PX)
    write_tfrecords(
        recipe,
        folder,
        labels=LabelSet(tuple(labelled)),
        splits={f.file: "train" for f in labelled},
        full_masks=True,
    )


def our_experiment(records: Path, *, side: int, batch: int) -> Any:
    """experiments/chula.yaml on the drawn records."""
    from spherodetect.training.run import load_experiment

    return load_experiment(
        ROOT / "experiments" / "chula.yaml",
        overrides=[
            f"task.train_data.input_path={records}/drawn-*.tfrecord",
            "task.train_data.weights=null",
            f"task.train_data.global_batch_size={batch}",
            f"task.model.input_size=[{side}, {side}, 3]",
            "task.train_data.parser.scale_jitter=1.0",
        ],
    )


def stock_experiment(records: Path, *, side: int, batch: int) -> Any:
    """maskrcnn_mobilenet_coco on the same fields."""
    from official.core import exp_factory

    from spherodetect.training.run import load_experiment

    params = exp_factory.get_exp_config("maskrcnn_mobilenet_coco")
    ours = load_experiment(ROOT / "experiments" / "chula.yaml")
    data, model = params.task.train_data, params.task.model
    data.input_path, data.global_batch_size, data.dtype = (
        f"{records}/full-*.tfrecord",
        batch,
        "float32",
    )
    data.shuffle_buffer_size = 64  # the stock 10,000 would be filled with copies of a few fields
    data.parser.max_num_instances = ours.task.train_data.parser.max_num_instances
    data.parser.aug_scale_min = data.parser.aug_scale_max = 1.0
    model.input_size, model.num_classes = [side, side, 3], ours.task.model.num_classes
    model.norm_activation.use_sync_bn = False  # there is one device
    params.task.annotation_file = None
    return params


EXPERIMENTS = {"ours": our_experiment, "stock": stock_experiment}


class Trainer:
    """An experiment that is trained step by step."""

    def __init__(self, params: Any) -> None:
        import tensorflow as tf
        from official.core import task_factory

        task = task_factory.get_task(params.task)
        self.batches = iter(task.build_inputs(params.task.train_data))
        self.model = task.build_model()
        self.optimizer = task.create_optimizer(params.trainer.optimizer_config)
        self.step = tf.function(lambda batch: task.train_step(batch, self.model, self.optimizer))

    def train(self, steps: int) -> tuple[float, float]:
        """Seconds, and seconds of processor time, that the steps took."""
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step(next(self.batches))
        return time.perf_counter() - wall, time.process_time() - processor

    def cells(self, batches: int = 3) -> float:
        """Labelled cells in an image, from the experiment's own input pipeline."""
        return float(
            np.mean(
                [(next(self.batches)[1]["gt_classes"].numpy() >= 0).sum(1) for _ in range(batches)]
            )
        )

    def profile(self, steps: int = 2) -> dict[str, float]:
        """Milliseconds of thread time a step by type of operation, input pipeline included."""
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                self.train(steps)
            (file,) = Path(folder).rglob("*.xplane.pb")
            space = xplane_pb2.XSpace.FromString(file.read_bytes())
        return {name: total / 1e9 / steps for name, total in operation_times(space).items()}


def operation_times(
    space: Any, kind_of: Callable[[str], str] = lambda name: name.rpartition(":")[2]
) -> Counter[str]:
    """Picoseconds by kind of operation in a profile, without the time of nested operations.

    The profiler names an operation name:Type and the runtime's own work Class::Method. Events of
    one thread are nested.

    Args:
        space: the profile.
        kind_of: the kind of an operation from its name, by default its type.
    """
    totals: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            named = (
                (e.offset_ps, -e.duration_ps, plane.event_metadata[e.metadata_id].name)
                for e in line.events
            )
            running: list[tuple[int, str]] = []
            for start, minus_duration, name in sorted(
                e for e in named if ":" in e[2] and "::" not in e[2]
            ):
                while running and running[-1][0] <= start:
                    running.pop()
                kind = kind_of(name)
                totals[kind] -= minus_duration
                if running:
                    totals[running[-1][1]] += minus_duration
                running.append((start - minus_duration, kind))
    return totals


def _trainer(name: str, records: Path, side: int, batch: int) -> Trainer:
    return Trainer(EXPERIMENTS[name](records, side=side, batch=batch))


@contextmanager
def children(*args: Any) -> Iterator[dict[str, Child]]:
    """Both trainers, warmed up."""
    both = {name: Child(_trainer, name, *args, stopped=True) for name in EXPERIMENTS}
    try:
        for child in both.values():
            child.ask("train", WARM_UP)
        yield both
    finally:
        for child in both.values():
            child.end()


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, train in turn, print the ratio and where the time goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--side", type=int, default=384, help="of the square canvas in pixels; default: 384"
    )
    parser.add_argument("--batch", type=int, default=4, help="default: 4")
    parser.add_argument(
        "--rounds", type=int, default=5, help="in each, both train --steps; default: 5"
    )
    parser.add_argument("--steps", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--profile", action="store_true", help="also print the time by type of operation"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        draw_records(Path(folder), side=args.side)
        with children(Path(folder), args.side, args.batch) as both:
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
            for number in range(args.rounds):
                for name in sorted(both, reverse=number % 2 == 0):
                    times[name].append(both[name].ask("train", args.steps))
            cells = {name: child.ask("cells") for name, child in both.items()}
            profiles = (
                {name: child.ask("profile") for name, child in both.items()} if args.profile else {}
            )
    title = f"training step, batch {args.batch}, {args.side} x {args.side}"
    items = args.batch * args.steps
    print(Comparison(title, "images", items, tuple(times["ours"]), tuple(times["stock"])))
    for name, each in times.items():
        wall, processor = (np.median([t[clock] for t in each]) / args.steps for clock in (0, 1))
        print(
            f"{name}: {wall:.2f} s a step, {processor:.2f} s of processor time, "
            f"{cells[name]:.0f} cells an image"
        )
    if profiles:
        print(f"\n{'ms of thread time a step':40s}{'ours':>9}{'stock':>9}")
        kinds = sorted(
            {k for p in profiles.values() for k in p},
            key=lambda k: -max(p.get(k, 0) for p in profiles.values()),
        )
        for kind in kinds[:20]:
            print(
                f"{kind:40s}"
                + "".join(f"{profiles[name].get(kind, 0):9.0f}" for name in EXPERIMENTS)
            )


if __name__ == "__main__":
    main()
