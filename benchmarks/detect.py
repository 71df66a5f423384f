"""The time and memory of detection, compared with the export of Model Garden's stock experiment.

    python -m benchmarks.detect [--model MODEL] [--stock RUN] [--fields 8] [--rounds 5] [--profile]

Expected: at least 3 times as many fields a second (goal 4), and at most half the memory above the
loaded, idle process. Both get the same 640x480 fields of 115 to 135 cells as pixels: real fields of
Chula RBC-12 if they are beside the repository, otherwise drawn ones.

The stock model is `maskrcnn_mobilenet_coco` with at most 300 detections. It resizes a field to the
size of our network's input, rounded up to its strides, or to --stock-hw. Its weights are those of
RUN, see `benchmarks.stock`. Without a run they are random, and its threshold is set so that it
finds as many cells as ours, because the time of its suppression depends on their number. Each runs
in its own process, which waits while the other is timed.

Also printed are the time of each stage from a file to a score, the time of the classical baseline,
and the time for larger images. For each stage of our graph: the time of its operations, the
multiply-adds of its network, their speed as a share of that of a matrix product in float32 on this
machine, and the time that is lost, which is what the stage takes beyond its multiply-adds at that
speed. Each operation counts with its fastest of several calls. It is the graph of this version
around the networks of the model.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Child
from benchmarks.stock import SIZE_HW, STOCK_DETECTIONS, exported
from benchmarks.timing import Comparison
from benchmarks.train_step import operation_times

ROOT = Path(__file__).resolve().parents[1]
CHULA = ROOT.parent / "shared" / "data" / "chula-rbc-12" / "images"
UM_PER_PX = 0.193
#: Fields of Chula in which the bundled model finds 115 to 135 cells.
CROWDED = (69, 96, 150, 177, 249, 375, 456, 672)
#: Size of the network input for such a field: 32 px a cell, multiples of the stride of 32.
SEEN_HW = 416, 544


def write_fields(folder: Path, n: int) -> list[Path]:
    """Files of n fields of 640x480 with about 120 cells."""
    from PIL import Image

    from spherodetect.synthetic import draw_field

    real = [CHULA / f"{number}.jpg" for number in CROWDED]
    if all(path.is_file() for path in real):
        return [real[k % len(real)] for k in range(n)]
    paths = [folder / f"field_{number}.jpg" for number in range(n)]
    for number, path in enumerate(paths):
        Image.fromarray(draw_field(np.random.default_rng(number), n_cells=120).image).save(
            path, quality=90
        )
    return paths


def random_stock(run: Path, image: np.ndarray, *, size_hw: tuple[int, int], n_cells: int) -> Path:
    """Write a run of the stock experiment with random weights that finds n_cells in the image."""
    import tensorflow as tf
    from official.core import exp_factory
    from official.modeling import hyperparams
    from official.vision.configs import maskrcnn  # noqa: F401  (importing registers the experiment)
    from official.vision.serving import detection

    params = exp_factory.get_exp_config("maskrcnn_mobilenet_coco")
    model = params.task.model
    model.input_size, model.num_classes = [*size_hw, 3], 5
    model.detection_generator.max_num_detections = STOCK_DETECTIONS
    tf.keras.utils.set_random_seed(1)
    built = detection.DetectionModule(
        params=params, batch_size=1, input_image_size=list(size_hw), input_type="image_tensor"
    )
    run.mkdir(parents=True)
    tf.train.Checkpoint(model=built.model).save(str(run / "ckpt"))
    generator = built.model.detection_generator
    low, high = 0.0, 1.0
    for _ in range(8):
        threshold = (low + high) / 2
        generator._config_dict["pre_nms_score_threshold"] = threshold
        found = int(built.serve(tf.constant(image[None]))["num_detections"][0])
        low, high = (threshold, high) if found > n_cells else (low, threshold)
    model.detection_generator.pre_nms_score_threshold = high
    hyperparams.save_params_dict_to_yaml(params, str(run / "params.yaml"))
    return run


def export_random_stock(
    folder: Path, image: np.ndarray, *, size_hw: tuple[int, int], n_cells: int
) -> Path:
    """The SavedModel of `random_stock`, by the export of `benchmarks.stock`."""
    run = random_stock(folder / "run", image, size_hw=size_hw, n_cells=n_cells)
    return exported(run, folder / "stock", size_hw=size_hw)


class Detector:
    """A SavedModel, ours or the stock one, in its process."""

    def __init__(self, saved_model: Path, fields: Sequence[Path], um_per_px: float) -> None:
        import tensorflow as tf

        from spherodetect.detect.saved_graph import without_grappler
        from spherodetect.fields.image import read_image

        self.folder, self.um_per_px = saved_model.parent, tf.constant(um_per_px)
        self.images = [tf.constant(read_image(path)) for path in fields]
        saved = tf.saved_model.load(str(saved_model))
        if "serving_image" in saved.signatures:
            signature = saved.signatures["serving_image"]
            self.call: Callable[[Any], Any] = without_grappler()(
                lambda image: signature(image=image, um_per_px=self.um_per_px)
            )
        else:
            stock = saved.signatures["serving_default"]
            self.call = lambda image: stock(inputs=image[tf.newaxis])
        self.saved = saved
        self._idle = _memory_mb("VmRSS")
        # Resets the highest memory use of the process, which was that of loading.
        Path("/proc/self/clear_refs").write_text("5")

    def detect(self) -> tuple[float, float]:
        """Seconds, and seconds of processor time, for all fields."""
        wall, processor = time.perf_counter(), time.process_time()
        self.counts = [
            int(np.ravel(self.call(image)["num_detections"])[0]) for image in self.images
        ]
        return time.perf_counter() - wall, time.process_time() - processor

    def found(self) -> list[int]:
        """Cells in each field in the last call of `detect`."""
        return self.counts

    def memory(self) -> tuple[float, float]:
        """MB of the loaded, idle process, and the most that was used in addition since."""
        return self._idle, _memory_mb("VmHWM") - self._idle

    def profile(self) -> dict[str, float]:
        """Milliseconds of thread time a field by type of operation."""
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                self.detect()
            (file,) = Path(folder).rglob("*.xplane.pb")
            space = xplane_pb2.XSpace.FromString(file.read_bytes())
        return {
            name: total / 1e9 / len(self.images) for name, total in operation_times(space).items()
        }

    def stages(self, calls: int = 6) -> dict[str, float]:
        """Milliseconds that the operations of each stage take for the first field.

        Each operation counts with its fastest call: other work on the machine delays some of them.
        One that is spread over several threads counts once.
        """
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        from spherodetect.detect.saved_graph import without_grappler
        from spherodetect.training.kept import kept_detector

        _, detector = kept_detector(self.folder)
        detector.names_stages = True
        specs = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([])
        call = without_grappler()(tf.function(detector, input_signature=specs))
        call(self.images[0], self.um_per_px)
        fastest: dict[str, float] = {}
        for _ in range(calls):
            with tempfile.TemporaryDirectory() as folder:
                with tf.profiler.experimental.Profile(folder):
                    call(self.images[0], self.um_per_px)["num_detections"].numpy()
                (file,) = Path(folder).rglob("*.xplane.pb")
                space = xplane_pb2.XSpace.FromString(file.read_bytes())
            for name, total in operation_times(space, lambda name: name).items():
                fastest[name] = min(fastest.get(name, math.inf), total / 1e9)
        by_stage: Counter[str] = Counter()
        for name, total in fastest.items():
            if not name.startswith(_WHOLE_CALL):
                by_stage[stage_of(name)] += total
        return dict(by_stage)

    def by_size(self, factors: Sequence[int] = (1, 2, 4, 8, 16)) -> list[tuple[float, float]]:
        """Megapixels and seconds of images made of several fields side by side."""
        import tensorflow as tf

        times = []
        for factor in factors:
            down = 2 ** (factor.bit_length() // 2)
            image = tf.tile(self.images[0], [down, factor // down, 1])
            self.call(image)
            start = time.perf_counter()
            self.call(image)
            times.append((image.shape[0] * image.shape[1] / 1e6, time.perf_counter() - start))
        return times

    def multiply_adds(self) -> dict[str, float]:
        """Millions of multiply-adds in each part of our network for one field."""
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        from spherodetect.constants import RBC_DIAMETER_UM
        from spherodetect.graph.proposals import max_cells_in

        detector, found = self.saved.detector, self.counts[0]
        height, width = (
            round(n * 32 * UM_PER_PX / RBC_DIAMETER_UM) for n in self.images[0].shape[:2]
        )
        parts: dict[str, tuple[Any, tuple[int, ...]]] = {
            "features": (detector.network.features, (*SEEN_HW, 3)),
            "classify": (detector.network.classify, (int(max_cells_in(height * width, 32)),)),
            "outline": (detector.network.outline, (found + 1,)),
        }
        second = getattr(detector, "second", None)
        if second is not None:
            # Version 0.5 of the bundled model keeps it one level deeper.
            parts["second_look"] = getattr(second, "_restored", second), (found,)
        counted = {}
        for name, (function, known) in parts.items():
            run = function.run
            specs = [
                tf.TensorSpec(
                    [known[k] if d is None else d for k, d in enumerate(spec.shape)], spec.dtype
                )
                for spec in run.structured_input_signature[0]
            ]
            traced = convert_variables_to_constants_v2(
                tf.function(run, autograph=False).get_concrete_function(*specs)
            )
            options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
            options["output"] = "none"
            profile = tf.compat.v1.profiler.profile(traced.graph, cmd="op", options=options)
            counted[name] = profile.total_float_ops / 2e6
        return counted

    def matmul(self, side: int = 2048) -> float:
        """Millions of multiply-adds a second of a matrix product in float32, on all cores."""
        import tensorflow as tf

        product = tf.function(lambda a: a @ a)
        a = tf.random.stateless_normal([side, side], [0, 1])
        product(a).numpy()
        times = []
        for _ in range(12):
            start = time.perf_counter()
            product(a).numpy()
            times.append(time.perf_counter() - start)
        return side**3 / 1e6 / min(times)


#: The name of the event of a whole call, which contains all operations.
_WHOLE_CALL = "EagerLocalExecute"


def stage_of(name: str) -> str:
    """The stage of an operation of a graph that names them, see `Detector`."""
    stages = [part for part in name.split("/") if part.startswith("stage_")]
    return re.sub(r"^stage_|_\d+$", "", stages[-1]) if stages else "other"


def print_stages(times: Mapping[str, float], millions: Mapping[str, float], peak: float) -> None:
    """A table of the stages.

    Args:
        times: ms by stage.
        millions: millions of multiply-adds of those that have a network.
        peak: millions of multiply-adds a second that the machine can do.
    """
    print(f"\n{'stage':12s}{'ms':>8}{'million':>9}{'of peak':>9}{'ms lost':>9}")
    rows = sorted(times.items(), key=lambda row: -row[1])
    for name, ms in [*rows, ("all", sum(times.values()))]:
        count = sum(millions.values()) if name == "all" else millions.get(name, 0.0)
        least = 1e3 * count / peak
        print(f"{name:12s}{ms:8.1f}{count:9.0f}{least / ms:9.2f}{ms - least:9.1f}")


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@contextmanager
def children(**args: Sequence[Any]) -> Iterator[dict[str, Child]]:
    """Detectors by name, after a call as a warm-up."""
    running: dict[str, Child] = {}
    try:
        for name, each in args.items():
            running[name] = Child(Detector, *each)
            running[name].ask("detect")
        yield running
    finally:
        for child in running.values():
            child.end()


def take_turns(both: dict[str, Child], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """The times of each in every round, in alternating order."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
    for number in range(rounds):
        for name in sorted(both, reverse=number % 2 == 0):
            times[name].append(both[name].ask("detect"))
    return times


def end_to_end(model_folder: Path | None, fields: Sequence[Path]) -> tuple[int, dict[str, float]]:
    """The number of cells, and seconds by stage, from files to a score."""
    from spherodetect import load_model, measure, read_image, score_counts

    model = load_model(model_folder)
    model.detect(read_image(fields[0]), UM_PER_PX)
    model.rates.table  # noqa: B018  (computed once for a model)
    seconds = dict.fromkeys(("decode", "detect", "measure", "score"), 0.0)
    counts = []

    def timed(stage: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        found = function(*args, **options)
        seconds[stage] += time.perf_counter() - start
        return found

    for path in fields:
        image = timed("decode", read_image, path)
        cells = timed("detect", model.detect, image, UM_PER_PX)
        timed("measure", measure, cells, image)
        called = cells.class_id == model.class_names.index("spherocyte") + 1
        counts.append(
            (len(cells), int(cells.countable.sum()), int((cells.countable & called).sum()))
        )
    n, countable, spherocytes = np.array(counts).T
    timed("score", score_counts, spherocytes, countable, model=model)
    return int(n.sum()), seconds


def classical(fields: Sequence[Path]) -> float:
    """Seconds of the classical baseline for cells and measurements."""
    from benchmarks.classical import _measured
    from spherodetect import read_image

    images = [read_image(path) for path in fields]
    start = time.perf_counter()
    for path, image in zip(fields, images, strict=True):
        _measured(image, path.name)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Export the stock model, detect in turn, and print the ratios and the times."""
    from spherodetect.detect.model_folder import BUNDLED
    from spherodetect.fields.image import read_image

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=BUNDLED, help="a model folder; default: the bundled model"
    )
    parser.add_argument("--fields", type=int, default=8, help="default: 8")
    parser.add_argument(
        "--rounds", type=int, default=5, help="in each, both detect all fields; default: 5"
    )
    parser.add_argument(
        "--stock",
        metavar="RUN",
        type=Path,
        help="a run of benchmarks.stock; default: random weights",
    )
    parser.add_argument(
        "--stock-hw",
        type=int,
        nargs=2,
        default=SIZE_HW,
        metavar=("H", "W"),
        help="size to which the stock model resizes; default: 448 576",
    )
    parser.add_argument(
        "--unknown-scale", action="store_true", help="estimate the scale from the cells"
    )
    parser.add_argument(
        "--profile", action="store_true", help="also print the time by type of operation"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        fields = write_fields(Path(folder), args.fields)
        ours = (args.model / "saved_model", fields, 0.0 if args.unknown_scale else UM_PER_PX)
        with children(ours=ours) as one:
            n_found = int(np.mean(one["ours"].ask("found")))
        # Another process, so that the memory of the export does not count.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            size_hw = tuple(args.stock_hw)
            if args.stock:
                stock = pool.apply(
                    exported, (args.stock, Path(folder) / "stock"), {"size_hw": size_hw}
                )
            else:
                options = {"size_hw": size_hw, "n_cells": n_found}
                image = read_image(fields[0])
                stock = pool.apply(export_random_stock, (Path(folder), image), options)
        with children(ours=ours, stock=(stock, fields, 0.0)) as both:
            _compare(both, rounds=args.rounds, profile=args.profile)
        n_cells, seconds = end_to_end(args.model, fields)
        total = sum(seconds.values())
        shares = ", ".join(f"{stage} {100 * part / total:.1f} %" for stage, part in seconds.items())
        print(f"\nfrom files to a score: {n_cells / total:.0f} cells a second; {shares}")
        print(f"classical baseline: {classical(fields) / len(fields):.2f} s a field")


def _compare(both: dict[str, Child], *, rounds: int, profile: bool) -> None:
    times = take_turns(both, rounds)
    memory = {name: child.ask("memory") for name, child in both.items()}
    found = {name: child.ask("found") for name, child in both.items()}
    n = len(found["ours"])
    print(
        Comparison(
            f"detecting in {n} fields of 640x480",
            "fields",
            n,
            tuple(times["ours"]),
            tuple(times["stock"]),
        )
    )
    for name, (idle, above) in memory.items():
        print(
            f"{name}: {idle:.0f} MB loaded, at most {above:.0f} MB more; "
            f"{np.mean(found[name]):.0f} cells a field"
        )
    share = memory["ours"][1] / memory["stock"][1]
    print(f"memory above the loaded, idle process: {share:.2f} of stock's")
    millions, peak = both["ours"].ask("multiply_adds"), both["ours"].ask("matmul")
    rate = sum(millions.values()) * n / min(wall for wall, _ in times["ours"])
    print(
        f"\nwith all of detecting: {rate / 1e3:.1f} thousand million multiply-adds a second; "
        f"a matrix product: {peak / 1e3:.1f}"
    )
    print_stages(both["ours"].ask("stages"), millions, peak)
    sizes = both["ours"].ask("by_size")
    print(
        "image size: "
        + ", ".join(f"{mp:.1f} MP {1e3 * s:.0f} ms ({1e3 * s / mp:.0f} a MP)" for mp, s in sizes)
    )
    if profile:
        profiles = {name: child.ask("profile") for name, child in both.items()}
        print(f"\n{'ms of thread time a field':40s}" + "".join(f"{name:>9}" for name in both))
        kinds = {kind for each in profiles.values() for kind in each}
        for kind in sorted(
            kinds, key=lambda k: -max(each.get(k, 0.0) for each in profiles.values())
        )[:20]:
            print(f"{kind:40s}" + "".join(f"{profiles[name].get(kind, 0):9.1f}" for name in both))


if __name__ == "__main__":
    main()
