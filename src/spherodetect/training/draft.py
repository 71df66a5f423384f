"""Drafts the experiment of a recipe: its records, the number of steps, and the time they take here.

This module does not need Model Garden.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from spherodetect.labels.recipe import Recipe
from spherodetect.safety import atomic_write

#: Steps on processors: each photograph is seen about 16 times, in crops of four a step.
_STEPS_A_PHOTOGRAPH, _FEWEST_STEPS, _MOST_STEPS = 4, 400, 3000
#: Steps on a GPU, the default of the experiment.
_GPU_STEPS = 2400
#: Seconds a step times cores, and seconds to build the graphs: measured on two shared cores.
_CORE_SECONDS, _GRAPH_SECONDS = 2.6, 120
#: More cores do not make a step of four crops faster.
_MOST_CORES = 8


@dataclass(frozen=True)
class ExperimentPlan:
    """The files, steps and time of a drafted training.

    Attributes:
        recipe: file of the recipe.
        experiment: file of the experiment, beside the recipe.
        records: folder for the records, beside the recipe.
        run: folder for the run.
        model: folder for the model.
        hardware: cpu or gpu.
        steps: steps of the training.
        minutes: expected duration, or None where it was not measured.
        cores: cores of this machine that may be used.
    """

    recipe: Path
    experiment: Path
    records: Path
    run: Path
    model: Path
    hardware: str
    steps: int
    minutes: int | None
    cores: int

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands from the recipe to a model, to be run in the present folder."""
        gpu = " --hardware gpu" if self.hardware == "gpu" else ""
        return (
            f"spherodetect tfrecords {_word(self.recipe)} --out {_word(self.records)}",
            f"spherodetect train {_word(self.experiment)} --run {_word(self.run)}{gpu}",
            f"spherodetect export {_word(self.run)} --out {_word(self.model)}",
        )

    @property
    def time(self) -> str:
        """Hardware and duration as a phrase."""
        if self.minutes is None:
            return f"one GPU, {self.steps:,} steps; not measured, the progress line says how long"
        return f"{self.cores} CPU cores, {self.steps:,} steps, about {self.minutes} minutes if idle"


def plan_experiment(recipe_file: str | Path, name: str, *, n_train: int) -> ExperimentPlan:
    """Plan the training of a recipe on this machine.

    Args:
        recipe_file: where the recipe is or will be; the other files lie beside it.
        name: of the recipe.
        n_train: photographs for training.

    >>> plan_experiment("mine.yaml", "mine", n_train=88).experiment
    PosixPath('mine_experiment.yaml')
    """
    file = Path(recipe_file)
    folder = file.parent
    has_gpu = Path("/dev/nvidia0").exists()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = -(-_STEPS_A_PHOTOGRAPH * n_train // 100) * 100
    steps = _GPU_STEPS if has_gpu else min(_MOST_STEPS, max(_FEWEST_STEPS, wanted))
    seconds = _GRAPH_SECONDS + steps * _CORE_SECONDS / min(cores or 1, _MOST_CORES)
    return ExperimentPlan(
        recipe=file,
        experiment=experiment_beside(file),
        records=folder / "records" / name,
        run=folder / "runs" / name,
        model=folder / "models" / name,
        hardware="gpu" if has_gpu else "cpu",
        steps=steps,
        minutes=None if has_gpu else round(seconds / 60),
        cores=cores or 1,
    )


def experiment_beside(recipe_file: Path) -> Path:
    """The file of the experiment of a recipe."""
    return recipe_file.with_name(f"{recipe_file.stem}_experiment.yaml")


def write_experiment(plan: ExperimentPlan, recipe: Recipe) -> Path:
    """Write the experiment of a plan and return its path.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    first, *others = plan.commands
    every = max(100, plan.steps // 4 // 100 * 100)
    patterns = {
        split: json.dumps(f"{plan.records}/{recipe.name}-{split}-*.tfrecord", ensure_ascii=False)
        for split in ("train", "val")
    }
    lines = [
        f"# Purpose: a detector from the labels of {plan.recipe.name}; its val split is held out.",
        f"# Command: {first}",
        *(f"#          {command}" for command in others),
        f"# Hardware: {plan.time}.",
        "# Expected: not measured yet. After the export, this measures the held-out split:",
        f"#          spherodetect evaluate {_word(plan.model)} --data {_word(plan.recipe)} "
        "--out evaluation",
        "experiment: spherodetect_maskrcnn_mobilenet",
        "task:",
        f"  train_data: {{input_path: {patterns['train']}}}",
        f"  validation_data: {{input_path: {patterns['val']}}}",
        "trainer:",
        f"  train_steps: {plan.steps}",
        f"  validation_interval: {every}",
        "  optimizer_config:",
        f"    learning_rate: {{cosine: {{decay_steps: {plan.steps}}}}}",
        f"    warmup: {{linear: {{warmup_steps: {plan.steps // 16}}}}}",
    ]
    with atomic_write(plan.experiment, text=True) as file:
        file.write("\n".join(lines) + "\n")
    return plan.experiment


def _word(path: Path) -> str:
    """A path as one word of a command."""
    import shlex

    return shlex.quote(str(path))


__all__ = ["ExperimentPlan", "experiment_beside", "plan_experiment", "write_experiment"]
