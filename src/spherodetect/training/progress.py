"""Observes a training run: progress, early stopping and the best checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from official.core import train_lib, train_utils

logger = logging.getLogger(__name__)

#: The metric by which checkpoints are compared; see SmearMaskRCNNTask.reduce_aggregated_logs.
METRIC = "spherocyte_ap"


class EarlyStop(Exception):
    """Ends the training loop after enough validations without improvement."""


class Observer:
    """Reports the progress of a run after every loop, and stops it early.

    The held-out figures of each validation go to the log.

    Args:
        total: steps of the whole run.
        step: at which the run starts or resumes.
        patience: validations without improvement of METRIC after which the run ends; 0 for never.
        progress: called with the number of steps done and in total, and a line of text.
    """

    def __init__(
        self, total: int, *, step: int, patience: int, progress: Callable[[int, int, str], None]
    ) -> None:
        self._total = total
        self._step = step
        self._patience = patience
        self._progress = progress
        self._since = time.monotonic()
        self._seconds_a_step: float | None = None
        self._validation = ""
        self._best, self._best_step = float("-inf"), step
        self._without_improvement = 0

    def after_loop(self, step: int, output: Mapping[str, Any]) -> None:
        """Report the steps of a loop that has ended."""
        now = time.monotonic()
        if step > self._step:
            seconds = (now - self._since) / (step - self._step)
            before = self._seconds_a_step
            # The first loop includes the tracing of the graph, which takes a minute or two, so a
            # shorter time replaces the average at once.
            pace = seconds if before is None else min(seconds, 0.7 * before + 0.3 * seconds)
            self._seconds_a_step, self._step, self._since = pace, step, now
            left = _duration((self._total - step) * pace)
            loss = float(output["training_loss"])
            line = f"loss {loss:.3f}, {pace:.2f} s a step, {left} left"
            self._progress(step, self._total, line + self._validation)

    def after_validation(self, output: Mapping[str, Any]) -> None:
        """Note the METRIC of a validation.

        Raises:
            EarlyStop: METRIC has not improved for `patience` validations.
        """
        value = float(output[METRIC])
        self._without_improvement += 1
        if value > self._best:
            self._best, self._best_step, self._without_improvement = value, self._step, 0
        cells, spherocytes = (int(output[f"held_out_{name}"]) for name in ("cells", "spherocytes"))
        if spherocytes:
            self._validation = f"; held-out average precision {value:.3f}, best {self._best:.3f}"
            logger.info(
                "step %d: average precision %.3f on %s held-out red cells, %s of them spherocytes; "
                "best %.3f at step %d",
                self._step,
                value,
                f"{cells:,}",
                f"{spherocytes:,}",
                self._best,
                self._best_step,
            )
        else:
            logger.info("step %d: no spherocyte is held out, so nothing is measured", self._step)
        # The time of a validation does not count as time of steps.
        self._since = time.monotonic()
        if self._patience and self._without_improvement >= self._patience:
            raise EarlyStop


class BestCheckpoint(train_utils.BestCheckpointExporter):
    """Model Garden's exporter, but the checkpoint is written before its metrics.

    If the run is killed between the two, checkpoint and metrics of the previous best remain.
    """

    def maybe_export_checkpoint(
        self, checkpoint: Any, eval_logs: Any, global_step: int, write_logs: bool = True
    ) -> bool:
        """Save the checkpoint if its METRIC is the best so far."""
        better = super().maybe_export_checkpoint(
            checkpoint, eval_logs, global_step, write_logs=False
        )
        if better and write_logs:
            self.export_best_eval_metric(eval_logs, global_step)
        return better


class Runner(train_lib.OrbitExperimentRunner):
    """Model Garden's runner with `BestCheckpoint`."""

    def _build_best_checkpoint_exporter(self) -> BestCheckpoint | None:
        trainer = self.params.trainer
        if "eval" not in self._mode or not trainer.best_checkpoint_export_subdir:
            return None
        return BestCheckpoint(
            f"{self.model_dir}/{trainer.best_checkpoint_export_subdir}",
            trainer.best_checkpoint_eval_metric,
            trainer.best_checkpoint_metric_comp,
        )


def _duration(seconds: float) -> str:
    """A duration as text.

    >>> _duration(4000), _duration(90), _duration(8)
    ('1 h 07 min', '2 min', '8 s')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
