"""A run becomes a model folder: SavedModel, model.json with what was measured on held-out fields,
and MODEL_CARD.md."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import exp_factory, task_factory
from official.modeling import hyperparams

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.matching import match_points
from spherodetect.detect.model_folder import MODEL_FORMAT
from spherodetect.errors import SpherodetectError
from spherodetect.graph.detector import SPHEROCYTE, Canvas, Detector, Thresholds
from spherodetect.graph.network import Network
from spherodetect.graph.serving import SmearModule
from spherodetect.labels.splits import BLOCK_FIELDS, block_of, file_number
from spherodetect.records.tfrecords import read_examples
from spherodetect.safety import atomic_write, file_sha256, quoted, read_json
from spherodetect.score.rates import ClassifierRates
from spherodetect.training import experiment, second_look
from spherodetect.training import task as _task  # noqa: F401  (importing registers the task)
from spherodetect.training.calibrate import Calibration, HeldOutCells, calibrate
from spherodetect.training.model_card import model_card
from spherodetect.training.run import chosen_checkpoint
from spherodetect.training.second_look import Neighbours, SeenCells

logger = logging.getLogger(__name__)

#: What serving_static takes unless something else is asked for: fields as those of Chula RBC-12.
CANVAS = Canvas((480, 640), 0.193)


def export(
    run: Path,
    out: Path,
    *,
    folds: Sequence[Path] = (),
    name: str | None = None,
    canvas: Canvas | None = CANVAS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the model folder of a run's best or last checkpoint and return its path.

    Calibration, the cut and the error rates come from the experiment's validation records and from
    those of `folds`, runs that held out other fields: a few blocks say little about how error rates
    differ between slides. A run that was trained on everything has its figures from the folds
    alone. `canvas` has the fixed shapes of serving_static.

    Raises:
        SpherodetectError: no checkpoint, or the validation records that its run names are not
            there.
    """
    params, detector, checkpoint = restore(run)
    held_out, judging = [], []
    for one in (run, *folds):
        one_params, one_detector, _ = (params, detector, checkpoint) if one is run else restore(one)
        if one_params.task.validation_data.input_path:
            records = validation_records(one, one_params)
            held_out.append(
                collect(one_detector, records, params.task.class_names, progress=progress)
            )
            judging.append(one)
    second, judged = second_look.cross_fit(held_out, progress=progress)
    taught_by = [_taught_second_look(one) for one in judging] if second else []
    detector = detector.but(second=second)
    cells = HeldOutCells.join(judged) if judged else None
    calibration = calibrate(cells) if cells and _teaches(cells) else None
    if calibration is not None:
        c = calibration
        detector.assign(Thresholds(p_spherocyte=c.threshold, slope=c.slope, intercept=c.intercept))
    else:
        logger.warning(
            "too few labelled spherocytes are held out: the detector's own class is exported uncalibrated"
        )
    card = _model_json(run, name or out.name, params, checkpoint, detector, calibration)
    card["provenance"]["second_look"] = taught_by
    card["rates"] = {"blocks": calibration.rates if calibration else [], "folds": len(held_out)}
    return write_folder(out, detector, card, canvas=canvas, text=model_card(card))


def restore(run: Path) -> tuple[Any, Detector, str]:
    """The settings of a run, its detector with the weights of its chosen checkpoint, and the
    checkpoint's name.

    Raises:
        SpherodetectError: no run, or a checkpoint that does not fit its settings.
    """
    params = exp_factory.get_exp_config(experiment.EXPERIMENT)
    if (run / "params.yaml").is_file():
        params = hyperparams.override_params_dict(params, str(run / "params.yaml"), is_strict=False)
    last = chosen_checkpoint(run, params)
    if last is None or not (run / "params.yaml").is_file():
        raise SpherodetectError(
            f"{quoted(run)}: expected a run with params.yaml and a checkpoint, got none; train it first"
        )
    task = task_factory.get_task(params.task, logging_dir=str(run))
    model = task.build_model()
    # Every object must be in the checkpoint: a part that is not would be exported with random
    # weights.
    tf.train.Checkpoint(model=model).read(last).expect_partial().assert_existing_objects_matched()
    names = params.task.class_names
    network = Network(model, params.task.model)
    detector = Detector(network, rbc_px=params.task.train_data.parser.rbc_px, class_names=names)
    return params, detector, Path(last).name


def _taught_second_look(fold: Path) -> dict[str, Any]:
    """What a fold held out, in the form of a run's provenance: these fields are held out no
    longer."""
    provenance = read_json(fold / "provenance.json", max_bytes=50_000_000)
    pattern = provenance["params"]["task"]["validation_data"]["input_path"]
    data = {
        name: {
            **manifest,
            "splits": {split: part for split, part in manifest["splits"].items() if split == "val"},
        }
        for name, manifest in provenance["data"].items()
        if f"{name}-val-" in pattern
    }
    return {"data": data, "params": {"task": {"train_data": {"input_path": pattern}}}}


def validation_records(run: Path, params: Any) -> list[Path]:
    """The held-out records of a run.

    Raises:
        SpherodetectError: they are not where the run had them.
    """
    records = sorted(tf.io.gfile.glob(str(params.task.validation_data.input_path)))
    if not records:
        raise SpherodetectError(
            f"{quoted(run)}: expected validation records {quoted(params.task.validation_data.input_path)} to calibrate "
            "on, got none; run export where train was run, or write them with `spherodetect tfrecords`"
        )
    return [Path(record) for record in records]


def collect(
    detector: Detector,
    records: list[Path],
    class_names: list[str],
    *,
    um_per_px: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SeenCells:
    """Run the detector over records and keep the cells labelled rbc or spherocyte, and the
    countable ones beside them.

    um_per_px is the pixel size of fields whose records do not state it; at 0 they tell the scale
    themselves, as in use.
    """
    watched = detector.but(evidence=True)
    call = tf.function(
        watched,
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.float32)],
    )
    ids = {name: k for k, name in enumerate(class_names, 1)}
    sphere, red = ids.get(SPHEROCYTE, -1), [ids[name] for name in class_names if name in RED_CELLS]
    seen = ("log_odds", "seen", "size")
    columns: dict[str, list[Any]] = defaultdict(list)
    beside: dict[str, list[Any]] = defaultdict(list)
    n_countable: Counter[str] = Counter()
    examples = list(read_examples(records))
    runs = _runs({e["field"]: e["patient"] for e in examples})
    for number, example in enumerate(examples, 1):
        known = np.isin(example["class_id"], red)
        found = {
            key: value.numpy()
            for key, value in call(example["image"], example["um_per_px"] or um_per_px).items()
        }
        cells = Cells.from_labels(
            found["boxes_yxyx"],
            found["class_ids"],
            found["masks"],
            image_size_hw=example["image"].shape[:2],
            class_names=tuple(class_names),
        )
        center = (example["box_yxyx"][:, :2] + example["box_yxyx"][:, 2:]) / 2
        point = np.where(example["point_yx"] >= 0, example["point_yx"], center)[known]
        matching = match_points(cells, point)
        rows = matching.detection[matching.found]
        block = block_of(example["field"], example["patient"])
        n_countable[block] += int(found["countable"].sum()) if known.any() else 0
        unlabelled = (
            np.setdiff1d(np.flatnonzero(found["countable"]), rows) if known.any() else rows[:0]
        )
        for key in seen:
            of_each = found[key].astype(np.float16) if key == "seen" else found[key]
            columns[key].append(of_each[rows])
            beside[key].append(of_each[unlabelled])
        beside["field"].append(np.full(len(unlabelled), example["field"], object))
        columns["countable"].append(found["countable"][rows])
        columns["spherocyte"].append((example["class_id"][known] == sphere)[matching.found])
        columns["name"].append(np.array(example["name"], object)[known][matching.found])
        columns["block"].append(np.full(len(rows), block, object))
        columns["run"].append(np.full(len(rows), runs[example["field"]], object))
        columns["field"].append(np.full(len(rows), example["field"], object))
        progress(number, len(examples))
    neighbours = Neighbours(**{key: np.concatenate(v) for key, v in beside.items()})
    joined = {key: np.concatenate(v) for key, v in columns.items()}
    return SeenCells(**joined, n_countable=dict(n_countable), neighbours=neighbours)


def _runs(patients: Mapping[str, str]) -> dict[str, str]:
    """Fields to their patient, or to the run of neighbouring blocks they belong to: neighbours may
    be of one slide."""
    numbers = {f: file_number(f) for f, patient in patients.items() if not patient}
    runs = {f: patient or f for f, patient in patients.items()}
    start: dict[int, int] = {}
    for block in sorted({(n - 1) // BLOCK_FIELDS for n in numbers.values() if n is not None}):
        start[block] = start.get(block - 1, block)
    for field, number in numbers.items():
        if number is not None:
            runs[field] = f"run {start[(number - 1) // BLOCK_FIELDS] * BLOCK_FIELDS + 1}"
    return runs


def _teaches(cells: HeldOutCells) -> bool:
    runs = [r for r in np.unique(cells.run) if cells.spherocyte[cells.run == r].sum() >= 10]
    return len(runs) >= 2 and (~cells.spherocyte).sum() >= 100


def _model_json(
    run: Path,
    name: str,
    params: Any,
    checkpoint: str,
    detector: Detector,
    calibration: Calibration | None,
) -> dict[str, Any]:
    provenance = read_json(run / "provenance.json", max_bytes=50_000_000)
    stains = {
        manifest.get("stain") or "not stated" for manifest in provenance.get("data", {}).values()
    }
    return described(name, detector) | {
        "held_out_figures": calibration.figures if calibration else {},
        "stains_seen": sorted(stains),
        "provenance": _portable(provenance) | {"checkpoint": checkpoint},
    }


def _portable(value: Any) -> Any:
    """Provenance with the last two parts of every path: who gets the model need not know the
    folders it came from."""
    if isinstance(value, Mapping):
        return {key: _portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one) for one in value]
    return (
        "/".join(Path(value).parts[-2:])
        if isinstance(value, str) and Path(value).is_absolute()
        else value
    )


def described(name: str, detector: Detector) -> dict[str, Any]:
    """What model.json says of any detector; nothing is measured yet."""
    return {
        "format": MODEL_FORMAT,
        "name": name,
        "class_names": list(detector.class_names),
        "rbc_px": detector.rbc_px,
        "thresholds": {key: float(variable) for key, variable in detector.tuned.items()},
        "held_out_figures": {},
        "rates": {"blocks": [], "folds": 0},
    }


def write_folder(
    out: Path, detector: Detector, card: Mapping[str, Any], *, canvas: Canvas | None, text: str
) -> Path:
    """Write a model folder of a detector, model.json's content and MODEL_CARD.md's text, and return
    its path.

    The folder is made beside and moved, so that a killed export leaves no half model.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        rates = ClassifierRates.from_model_json(card)
        assets = temporary / "assets"
        assets.mkdir()
        (assets / "class_names.txt").write_text("\n".join(card["class_names"]) + "\n")
        (assets / "model.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
        module = SmearModule(detector, rates.table, canvas=canvas, assets=sorted(assets.iterdir()))
        tf.saved_model.save(module, str(temporary / "saved_model"), signatures=module.signatures())
        shutil.rmtree(assets)
        (temporary / "MODEL_CARD.md").write_text(text)
        files = sorted(p for p in temporary.rglob("*") if p.is_file())
        checksums = {p.relative_to(temporary).as_posix(): file_sha256(p) for p in files}
        with atomic_write(temporary / "model.json") as file:
            file.write(
                json.dumps({**card, "checksums": checksums}, indent=1, sort_keys=True).encode()
                + b"\n"
            )
        temporary.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


__all__ = ["Thresholds", "block_of", "collect", "described", "export", "restore", "write_folder"]
