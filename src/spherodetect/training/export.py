"""Exports a run as a model folder, calibrated on held-out fields."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tensorflow as tf
from official.core import exp_factory, task_factory
from official.modeling import hyperparams

from spherodetect.detect.model_folder import BUNDLED, ErrorRates, ModelCard, Thresholds, read_card
from spherodetect.detect.provenance import Provenance, matches_split
from spherodetect.errors import SpherodetectError
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.conventions import Conventions
from spherodetect.graph.detector import Detector
from spherodetect.graph.folder import card_of, write_folder
from spherodetect.graph.network import Network
from spherodetect.safety import quoted, read_json
from spherodetect.training import experiment, second_look
from spherodetect.training import task as _task  # noqa: F401  (importing registers the task)
from spherodetect.training.calibrate import Calibration, HeldOutCells, calibrate, shortfall
from spherodetect.training.folds import fold_runs
from spherodetect.training.held_out import collect, validation_records
from spherodetect.training.kept import kept_second_look
from spherodetect.training.model_card import model_card
from spherodetect.training.reference import reference_of
from spherodetect.training.run import chosen_checkpoint, patterns_of

logger = logging.getLogger(__name__)

#: Default shapes of serving_static: the fields of Chula RBC-12.
CANVAS = Canvas((480, 640), 0.193)
_MAX_PROVENANCE_BYTES = 50_000_000


def export(
    run: str | Path,
    out: str | Path,
    *,
    folds: Sequence[str | Path] = (),
    name: str | None = None,
    canvas: Canvas | None = CANVAS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the model folder of a run's best or last checkpoint and return its path.

    Calibration, the threshold and the error rates come from held-out fields: the validation records
    of the run and of `folds`. They need two or more held-out groups (patients, or runs of fields)
    with at least ten labelled spherocytes each. With less the model has no error rates, and scores
    by it have the status uncalibrated. Few groups say little about how error rates differ between
    slides. If the bundled model was judged on films of the same stain, its blocks are evidence
    about that too (`rates.reference` in model.json), and about nothing else.

    Args:
        run: folder of the run, or of the trainings of `train --folds`, which then are the folds. A
            run that was trained on all fields has no validation records.
        out: the model folder.
        folds: runs of the same experiment that held out other fields.
        name: the model's name in tables, by default that of `out`.
        canvas: the fixed shapes of serving_static; None leaves that signature out.
        progress: called with the number of steps done and in total.

    Raises:
        SpherodetectError: no checkpoint, or the validation records of a run are missing.
    """
    run, *left_out = fold_runs(Path(run)) or (Path(run),)
    out = Path(out)
    runs = [run, *left_out, *map(Path, folds)]
    params, detector, checkpoint = restore(run)
    held_out, judges = [], []
    for one in runs:
        one_params, one_detector, _ = (params, detector, checkpoint) if one is run else restore(one)
        if any(patterns_of(one_params.task.validation_data)):
            records = validation_records(one, one_params)
            names = params.task.class_names
            patients = list(one_params.task.validation_data.patients)
            held_out.append(
                collect(one_detector, records, names, patients=patients, progress=progress)
            )
            judges.append(one)
    second, judged = second_look.cross_fit(held_out, progress=progress)
    detector = detector.replace(second=second)
    cells = HeldOutCells.join(judged) if judged else None
    missing = shortfall(cells)
    calibration = None if cells is None or missing else calibrate(cells)
    if calibration is not None:
        thresholds = Thresholds(
            p_spherocyte=calibration.threshold,
            slope=calibration.slope,
            intercept=calibration.intercept,
        )
        detector.assign(thresholds)
    else:
        logger.warning("the model has no error rates, and its scores are uncalibrated: %s", missing)
    card = _card(run, name or out.name, checkpoint, detector, calibration, n_folds=len(held_out))
    folds_of_second_look = [_held_out_provenance(one) for one in judges] if second else []
    content = {**card.provenance.content, "second_look": folds_of_second_look}
    reference = reference_of(card.stains_seen, read_card(BUNDLED), but=card.rates.names)
    rates = replace(card.rates, reference=reference if calibration else {})
    card = replace(card, provenance=Provenance(content), rates=rates)
    return write_folder(out, detector, card, canvas=canvas, text=model_card(card))


def export_tuned(
    run: Path,
    out: Path,
    *,
    keep: Path,
    conventions: Conventions,
    told: Mapping[str, Any],
    name: str,
    prior: Mapping[str, float] = MappingProxyType({}),
    taught: Sequence[Path] = (),
    canvas: Canvas | None = CANVAS,
) -> Path:
    """Write the model folder of a run that goes on from another model, and return its path.

    Args:
        run: folder of the run.
        out: the model folder.
        keep: the model folder from which the run went on. Its second look, its thresholds and its
            rates stay.
        conventions: what laboratories call a spherocyte.
        told: what model.json says of them.
        name: the model's name in tables.
        prior: those of `Thresholds` that differ from `keep`.
        taught: folders of records that the conventions were fitted on: their fields are not held
            out from this model.
        canvas: the fixed shapes of serving_static; None leaves that signature out.
    """
    _, detector, checkpoint = restore(run)
    kept = read_card(keep)
    detector = detector.replace(second=kept_second_look(keep), conventions=conventions)
    detector.assign(replace(kept.thresholds, **prior))
    card = _card(run, name, checkpoint, detector, None, n_folds=kept.rates.folds)
    content = {
        **card.provenance.content,
        "second_look": [
            *kept.provenance.content.get("second_look", []),
            *map(_records_provenance, taught),
        ],
        "tuned_from": {"name": kept.name, "checksums": dict(kept.checksums)},
    }
    manifests = [_manifest(folder) for folder in taught]
    stains = {*card.stains_seen, *(one.get("stain") or "not stated" for one in manifests)}
    card = replace(
        card,
        stains_seen=tuple(sorted(stains)),
        held_out_figures=kept.held_out_figures,
        rates=kept.rates,
        conventions=dict(told),
        provenance=Provenance(content),
    )
    return write_folder(out, detector, card, canvas=canvas, text=model_card(card))


def _records_provenance(folder: Path) -> dict[str, Any]:
    """All splits of a folder of records, in the form of a run's provenance."""
    manifest = _manifest(folder)
    name = manifest["name"]
    data = {key: manifest[key] for key in ("checksums", "splits", "forced")}
    data["stain"] = manifest.get("stain", "")
    pattern = f"{name}/{name}-*.tfrecord"
    return {"data": {name: data}, "params": {"task": {"train_data": {"input_path": pattern}}}}


def _manifest(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / "manifest.json", max_bytes=_MAX_PROVENANCE_BYTES))


def restore(run: Path) -> tuple[Any, Detector, str]:
    """The settings of a run, its detector and the name of the chosen checkpoint.

    Raises:
        SpherodetectError: no run, or a checkpoint that does not fit its settings.
    """
    params = exp_factory.get_exp_config(experiment.EXPERIMENT)
    if (run / "params.yaml").is_file():
        params = hyperparams.override_params_dict(params, str(run / "params.yaml"), is_strict=False)
    checkpoint = chosen_checkpoint(run, params)
    if checkpoint is None or not (run / "params.yaml").is_file():
        raise SpherodetectError(
            f"{quoted(run)}: expected a run with params.yaml and a checkpoint, got none; "
            "train it first"
        )
    task = task_factory.get_task(params.task, logging_dir=str(run))
    model = task.build_model()
    # Every object must be in the checkpoint. A missing part would be exported with random weights.
    status = tf.train.Checkpoint(model=model).read(checkpoint).expect_partial()
    status.assert_existing_objects_matched()
    detector = Detector(
        Network(model, params.task.model),
        rbc_px=params.task.train_data.parser.rbc_px,
        class_names=params.task.class_names,
    )
    return params, detector, Path(checkpoint).name


def _card(
    run: Path,
    name: str,
    checkpoint: str,
    detector: Detector,
    calibration: Calibration | None,
    *,
    n_folds: int,
) -> ModelCard:
    provenance = read_json(run / "provenance.json", max_bytes=_MAX_PROVENANCE_BYTES)
    stains = {
        manifest.get("stain") or "not stated" for manifest in provenance.get("data", {}).values()
    }
    return replace(
        card_of(name, detector),
        held_out_figures=calibration.figures if calibration else {},
        rates=ErrorRates(tuple(calibration.rates if calibration else ()), n_folds),
        stains_seen=tuple(sorted(stains)),
        provenance=Provenance(_portable(provenance) | {"checkpoint": checkpoint}),
    )


def _held_out_provenance(fold: Path) -> dict[str, Any]:
    """What a fold held out, in the form of a run's provenance.

    The second look is trained on these fields, so they are not held out from the exported model.
    """
    provenance = read_json(fold / "provenance.json", max_bytes=_MAX_PROVENANCE_BYTES)
    pattern = provenance["params"]["task"]["validation_data"]["input_path"]
    patterns = Provenance(provenance).record_patterns("validation_data")
    data = {}
    for name, manifest in provenance["data"].items():
        splits = {
            split: part
            for split, part in manifest["splits"].items()
            if any(matches_split(one, name, split) for one in patterns)
        }
        if splits:
            data[name] = {**manifest, "splits": splits}
    return {"data": data, "params": {"task": {"train_data": {"input_path": pattern}}}}


def _portable(value: Any) -> Any:
    """A JSON value with the last two parts of every absolute path, without private folder names."""
    if isinstance(value, Mapping):
        return {key: _portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one) for one in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])
    return value


__all__ = ["export", "export_tuned", "restore"]
