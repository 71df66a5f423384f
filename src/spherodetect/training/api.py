"""The commands train and export as functions. Model Garden is imported when they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

#: What `folds` may leave out.
FOLDS = ("patient",)
_START = "start"


def train(
    experiment: str | Path,
    run: str | Path,
    *,
    start: str | Path | None = None,
    folds: str | None = None,
    hardware: str = "cpu",
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, line: None,
) -> Path:
    """Train an experiment; return the chosen checkpoint, or the folder of the folds.

    Args:
        experiment: the YAML.
        run: the folder to write to.
        start: a model folder, or "bundled", from whose weights the training goes on; the settings
            are then those of `experiment.TUNING`, unless `overrides` changes them.
        folds: "patient" for one training without each patient and one on all, see folds.py.
        hardware: cpu, gpu or tpu.
        overrides: key=value, see `run.load_experiment`.
        resume: go on with what is in the folder, and from the same weights.
        progress: called with the number of steps done and in total, and a line of text.

    Raises:
        SpherodetectError: unusable settings, no records, a model of another network, fewer than two
            patients for folds, or a folder with a run where `resume` is false.

    >>> train("mine.yaml", "runs/mine", start="bundled", folds="patient")  # doctest: +SKIP
    PosixPath('runs/mine')
    """
    if folds not in (None, *FOLDS):
        raise SpherodetectError(f"folds: expected {' or '.join(FOLDS)}, got {quoted(folds)}")
    from spherodetect.training import run as one_run
    from spherodetect.training.folds import check_kind, train_folds
    from spherodetect.training.start import start_checkpoint

    check_kind(Path(run), with_folds=folds is not None)
    begun_with = Path(run) / _START
    checkpoint = begun_with if resume and begun_with.is_dir() else None
    if start is not None:
        params = one_run.load_experiment(
            experiment, hardware=hardware, overrides=overrides, tuning=True
        )
        one_run.require_records(params)
        checkpoint = start_checkpoint(begun_with, start, params)
    run_all: Callable[..., Path] = train_folds if folds else one_run.train
    return run_all(
        experiment,
        run,
        hardware=hardware,
        overrides=overrides,
        start=checkpoint,
        resume=resume,
        progress=progress,
    )


def export(
    run: str | Path,
    out: str | Path,
    *,
    folds: Sequence[str | Path] = (),
    static: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the model folder of a run or of the trainings of folds; return its path.

    Args:
        run: a folder that `train` wrote.
        out: the model folder.
        folds: runs of the same experiment that held out other fields; `train` with folds needs
            none.
        static: image size and pixel size of serving_static, as in "480x640@0.193".
        progress: called with the number of steps done and in total.

    Raises:
        SpherodetectError: no checkpoint, or held-out records that are missing.

    >>> export("runs/mine", "models/mine")  # doctest: +SKIP
    PosixPath('models/mine')
    """
    from spherodetect.graph.canvas import Canvas
    from spherodetect.training import export as exporting

    options: dict[str, Any] = {"canvas": Canvas.parse(static)} if static else {}
    return exporting.export(run, out, folds=folds, progress=progress, **options)


__all__ = ["export", "train"]
