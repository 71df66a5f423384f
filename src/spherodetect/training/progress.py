"""What looks on while a run trains: how far it is, whether it still gets better, and which
checkpoint was the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from official.core import train_lib, train_utils

#: The figure of a validation that checkpoints are compared by; see
#: SmearMaskRCNNTask.validation_step.
METRIC = "spherocyte_ap"


class NoLongerImproves(Exception):
    """Raised out of the training loop when enough validations in a row were no better than the
    best."""


class Watch:
    """Tells the progress of a run after every loop, and ends it by early stopping.

    Args:
        total: steps of the whole run.
        step: the step the run starts or resumes at.
        patience: validations without a gain in METRIC after which the run ends; 0 for never.
        progress: called with steps done, steps in all, and a line about them.
    """

    def __init__(
        self, total: int, *, step: int, patience: int, progress: Callable[[int, int, str], None]
    ) -> None:
        self._total, self._step, self._patience, self._progress = total, step, patience, progress
        self._since, self._validated, self._best, self._waited = (
            time.monotonic(),
            "",
            float("-inf"),
            0,
        )
        self._pace: float | None = None

    def after_loop(self, step: int, output: Mapping[str, Any]) -> None:
        """One more loop of training steps has ended."""
        now = time.monotonic()
        if step > self._step:
            pace = (now - self._since) / (step - self._step)
            # The first loop includes building the graph, a minute or two that will not come again.
            self._pace = pace if self._pace is None else min(pace, 0.7 * self._pace + 0.3 * pace)
            self._step, self._since = step, now
            left = (self._total - step) * self._pace
            line = f"loss {float(output['training_loss']):.3f}, {self._pace:.2f} s a step, {_span(left)} left"
            self._progress(step, self._total, line + self._validated)

    def after_validation(self, output: Mapping[str, Any]) -> None:
        """The held-out cells were looked at.

        Raises:
            NoLongerImproves: METRIC was no better than before for `patience` validations in a row.
        """
        value = float(output[METRIC])
        self._validated = (
            f"; held-out average precision {value:.3f}, best {max(value, self._best):.3f}"
        )
        self._waited = 0 if value > self._best else self._waited + 1
        self._best = max(value, self._best)
        # Validation is no part of a step's time.
        self._since = time.monotonic()
        if self._patience and self._waited >= self._patience:
            raise NoLongerImproves


class BestCheckpoint(train_utils.BestCheckpointExporter):
    """Model Garden's exporter, which writes its figures before the checkpoint; here a kill leaves
    the old pair."""

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
    """Model Garden's runner with our keeper of the best checkpoint."""

    def _build_best_checkpoint_exporter(self) -> BestCheckpoint | None:
        trainer = self.params.trainer
        if "eval" not in self._mode or not trainer.best_checkpoint_export_subdir:
            return None
        return BestCheckpoint(
            f"{self.model_dir}/{trainer.best_checkpoint_export_subdir}",
            trainer.best_checkpoint_eval_metric,
            trainer.best_checkpoint_metric_comp,
        )


def _span(seconds: float) -> str:
    """A length of time as people say it.

    >>> _span(4000), _span(90), _span(8)
    ('1 h 07 min', '2 min', '8 s')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
