"""Leaves one patient out at a time: one training without each patient, and one on all of them.

The trainings lie in one folder: `all`, a folder for each patient that was left out, and folds.json,
which names them. `export` takes the folder as a whole. The exported detector is that of `all`, and
each of the others judges the patient that it never saw. No training chooses its checkpoint by the
patient that it leaves out: the last one is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.modeling import hyperparams

from spherodetect.errors import SpherodetectError
from spherodetect.graph.decide import SPHEROCYTE
from spherodetect.records.examples import count_labels
from spherodetect.safety import quoted, read_json, safe_name, write_json
from spherodetect.training.calibrate import MIN_GROUPS, MIN_SPHEROCYTES
from spherodetect.training.duration import cpu_time
from spherodetect.training.run import load_experiment, patterns_of, train_settings

#: The file that names the trainings of a folder, and the folder of the training on all patients.
FOLDS_FILE, ALL = "folds.json", "all"
_FORMAT, _MAX_BYTES = 1, 1_000_000

Progress = Callable[[int, int, str], None]


def train_folds(
    path: str | Path,
    run: str | Path,
    *,
    hardware: str = "cpu",
    overrides: Sequence[str] = (),
    start: str | Path | None = None,
    resume: bool = False,
    progress: Progress = lambda done, total, line: None,
) -> Path:
    """Train an experiment once without each patient and once on all; return the folder.

    Both the training and the validation records of the experiment are used. Fields without a
    patient are in every training.

    Args:
        path: the YAML of the experiment.
        run: the folder of the trainings.
        hardware, overrides, start: as for `run.train`.
        resume: go on with the trainings in the folder; finished ones stay as they are.
        progress: called with the number of steps done and in total of all trainings, and a line.

    Raises:
        SpherodetectError: fewer than two patients, or the folder has trainings and `resume` is
            false.
    """
    run = Path(run)

    def settings() -> Any:
        params = load_experiment(
            path, hardware=hardware, overrides=overrides, tuning=start is not None
        )
        if start is not None:
            params.task.init_checkpoint = str(start)
        return params

    params = settings()
    spherocytes = _spherocytes(params)
    if len(spherocytes) < MIN_GROUPS:
        raise SpherodetectError(
            f"--folds patient: expected records of {MIN_GROUPS} patients or more, got "
            f"{len(spherocytes)}; state `patients:` in the recipe, or train without --folds"
        )
    names = {ALL: "", **{f"without_{safe_name(patient)}": patient for patient in spherocytes}}
    _claim(run, names, resume=resume)
    steps = params.trainer.train_steps
    progress(0, steps * len(names), _plan(spherocytes, steps, hardware))
    for number, (name, patient) in enumerate(names.items()):
        folder = run / name
        done = tf.train.latest_checkpoint(str(folder))
        if done and int(done.rsplit("-", 1)[1]) >= steps:
            continue
        words = f"training {number + 1} of {len(names)}, "
        words += f"without {patient}" if patient else "on all patients"
        train_settings(
            _without(settings(), patient),
            folder,
            name=Path(path).stem,
            hardware=hardware,
            resume=done is not None,
            progress=_part(progress, words, number, len(names)),
        )
    return run


def check_kind(run: Path, *, with_folds: bool) -> None:
    """Check that a folder has no run of the other kind.

    Raises:
        SpherodetectError: a single run where folds are trained, or the other way round.
    """
    has_folds = (run / FOLDS_FILE).is_file()
    if has_folds and not with_folds:
        raise SpherodetectError(
            f"{quoted(run)}: expected a single run, got trainings of --folds; add --folds patient, "
            "or name another folder with --run"
        )
    if with_folds and not has_folds and tf.train.latest_checkpoint(str(run)):
        raise SpherodetectError(
            f"{quoted(run)}: expected a folder for the trainings of --folds, got a single run; "
            "name another folder with --run"
        )


def fold_runs(run: Path) -> tuple[Path, ...]:
    """The trainings of a folder of `train_folds`, that on all patients first; () for a single run.

    Raises:
        SpherodetectError: a training has no checkpoint yet.
    """
    file = run / FOLDS_FILE
    if not file.is_file():
        return ()
    content = read_json(file, max_bytes=_MAX_BYTES)
    found = content.get("runs") if isinstance(content, Mapping) else None
    names = list(found) if isinstance(found, Mapping) else []
    if names[:1] != [ALL] or any(safe_name(name) != name for name in names):
        raise SpherodetectError(
            f"{quoted(file)}: expected the trainings of `train --folds`, got something else; "
            "train again"
        )
    runs = tuple(run / name for name in names)
    for one in runs:
        if not tf.train.latest_checkpoint(str(one)):
            raise SpherodetectError(
                f"{quoted(one)}: expected a finished training, got none; go on with "
                "`spherodetect train ... --folds patient --resume`"
            )
    return runs


def _spherocytes(params: Any) -> dict[str, int]:
    """Patient to the labelled spherocytes in the records of an experiment, by name of patient."""
    class_id = 1 + list(params.task.class_names).index(SPHEROCYTE)
    data = params.task.train_data, params.task.validation_data
    files = {
        file
        for one in data
        for pattern in filter(None, patterns_of(one))
        for file in tf.io.gfile.glob(pattern)
    }
    counts = count_labels(map(Path, sorted(files)))
    return {patient: counts[patient][class_id] for patient in sorted(counts) if patient}


def _claim(run: Path, names: Mapping[str, str], *, resume: bool) -> None:
    """Write folds.json, or check that the one in the folder has the same trainings."""
    file = run / FOLDS_FILE
    content = {"format": _FORMAT, "by": "patient", "runs": dict(names)}
    if file.is_file() and not resume:
        raise SpherodetectError(
            f"{quoted(run)}: expected an empty folder, got one with trainings; go on with them by "
            "--resume, or name another"
        )
    if file.is_file() and read_json(file, max_bytes=_MAX_BYTES) != content:
        raise SpherodetectError(
            f"{quoted(file)}: expected the patients of these records, got others; name another "
            "folder with --run"
        )
    run.mkdir(parents=True, exist_ok=True)
    write_json(content, file)


def _plan(spherocytes: Mapping[str, int], steps: int, hardware: str) -> str:
    """What will be trained and how long it takes, before it begins."""
    n = len(spherocytes) + 1
    time = f", {cpu_time(steps, trainings=n)}" if hardware == "cpu" else ""
    few = [name for name, count in spherocytes.items() if count < MIN_SPHEROCYTES]
    rates = ""
    if len(spherocytes) - len(few) < MIN_GROUPS:
        rates = (
            f"; the model will be uncalibrated, because fewer than {MIN_GROUPS} patients have "
            f"{MIN_SPHEROCYTES} labelled spherocytes"
        )
    return (
        f"{n} trainings of {steps:,} steps{time}: on all {n - 1} patients, and without each of "
        f"{', '.join(spherocytes)}{rates}"
    )


def _without(params: Any, patient: str) -> Any:
    """The settings of the training without a patient, or on all patients if it is ""."""
    training, validation = params.task.train_data, params.task.validation_data
    held_out = [pattern for pattern in patterns_of(validation) if pattern]
    if hasattr(training.input_path, "as_dict"):
        paths: Any = {
            name: [*patterns, *(one for one in held_out if _same_folder(one, patterns))]
            for name, patterns in (
                (name, [of] if isinstance(of, str) else list(of))
                for name, of in training.input_path.as_dict().items()
            )
        }
    else:
        paths = sorted({*patterns_of(training), *held_out})
    changes = {
        "task": {
            "train_data": {"input_path": paths, "without_patients": [patient] if patient else []},
            "validation_data": {
                "input_path": sorted({*patterns_of(training), *held_out}) if patient else "",
                "patients": [patient] if patient else [],
            },
        },
        # The last checkpoint is used: one that is chosen by the patient left out would be tuned on
        # what the patient then measures.
        "trainer": {"validation_interval": 0},
    }
    return hyperparams.override_params_dict(params, changes, is_strict=False)


def _same_folder(pattern: str, others: Sequence[str]) -> bool:
    return any(Path(pattern).parent == Path(other).parent for other in others)


def _part(progress: Progress, words: str, number: int, n: int) -> Progress:
    """The progress of one training as a part of all."""

    def report(done: int, total: int, line: str) -> None:
        progress(number * total + done, n * total, f"{words}: {line}")

    return report


__all__ = ["check_kind", "fold_runs", "train_folds"]
