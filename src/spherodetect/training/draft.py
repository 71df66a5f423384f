"""Drafts the experiment of a recipe: its records, the number of steps, and the time they take here.

This module does not need Model Garden.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from spherodetect.labels.recipe import Recipe
from spherodetect.safety import atomic_write
from spherodetect.training.duration import TUNING_STEPS, cpu_time

#: Steps from random weights: each photograph is seen about 16 times, in crops of four a step.
_STEPS_A_PHOTOGRAPH, _FEWEST_STEPS, _MOST_STEPS = 4, 400, 3000
#: Validations of a training.
_VALIDATIONS = 4
#: `export` measures error rates if so many patients were left out in turn.
_FEWEST_PATIENTS = 2


@dataclass(frozen=True)
class ExperimentPlan:
    """The files, steps and time of a drafted training.

    Attributes:
        recipe: file of the recipe.
        experiment: file of the experiment, beside the recipe.
        records: folder for the records, beside the recipe.
        run: folder for the run.
        model: folder for the model.
        steps: steps of a training from random weights.
        n_patients: patients in the data set; with two or more, each is left out in turn.
        has_gpu: whether this machine has a GPU of NVIDIA.
    """

    recipe: Path
    experiment: Path
    records: Path
    run: Path
    model: Path
    steps: int
    n_patients: int
    has_gpu: bool

    @property
    def has_folds(self) -> bool:
        """Whether each patient is left out in turn."""
        return self.n_patients >= _FEWEST_PATIENTS

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands from the recipe to a model, to be run in the present folder."""
        folds = " --folds patient" if self.has_folds else ""
        gpu = " --hardware gpu" if self.has_gpu else ""
        train = f"{_word(self.experiment)} --run {_word(self.run)} --from bundled{folds}{gpu}"
        return (
            f"spherodetect tfrecords {_word(self.recipe)} --out {_word(self.records)}",
            f"spherodetect train {train}",
            f"spherodetect export {_word(self.run)} --out {_word(self.model)}",
        )

    @property
    def time(self) -> str:
        """The trainings and their time as a phrase."""
        trainings = self.n_patients + 1 if self.has_folds else 1
        what = f"{trainings} trainings" if self.has_folds else "1 training"
        if self.has_gpu:
            return f"{what} of {TUNING_STEPS} steps on a GPU, not measured; `train` says how long"
        return f"{what} of {TUNING_STEPS} steps, {cpu_time(TUNING_STEPS, trainings=trainings)}"


def plan_experiment(
    recipe_file: str | Path, name: str, *, n_train: int, n_patients: int
) -> ExperimentPlan:
    """Plan the training of a recipe on this machine.

    Args:
        recipe_file: where the recipe is or will be; the other files lie beside it.
        name: of the recipe.
        n_train: photographs for training.
        n_patients: patients in the data set; 0 where they are not known.

    >>> plan_experiment("mine.yaml", "mine", n_train=88, n_patients=3).experiment
    PosixPath('mine_experiment.yaml')
    """
    file = Path(recipe_file)
    folder = file.parent
    wanted = -(-_STEPS_A_PHOTOGRAPH * n_train // 100) * 100
    return ExperimentPlan(
        recipe=file,
        experiment=experiment_beside(file),
        records=folder / "records" / name,
        run=folder / "runs" / name,
        model=folder / "models" / name,
        steps=min(_MOST_STEPS, max(_FEWEST_STEPS, wanted)),
        n_patients=n_patients,
        has_gpu=Path("/dev/nvidia0").exists(),
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
    patterns = {
        split: json.dumps(f"{plan.records}/{recipe.name}-{split}-*.tfrecord", ensure_ascii=False)
        for split in ("train", "val")
    }
    lines = [
        f"# Purpose: a detector from the labels of {plan.recipe.name}.",
        f"# Command: {first}",
        *(f"#          {command}" for command in others),
        f"# Hardware: {plan.time}.",
        f"#          Without --from the weights are random: {plan.steps} steps, as below,",
        f"#          {cpu_time(plan.steps)} for each training.",
        "# Expected: not measured yet. After the export, this measures the held-out split:",
        f"#          spherodetect evaluate {_word(plan.model)} --data {_word(plan.recipe)} "
        "--out evaluation",
        "experiment: spherodetect_maskrcnn_mobilenet",
        "task:",
        f"  train_data: {{input_path: {patterns['train']}}}",
        f"  validation_data: {{input_path: {patterns['val']}}}",
        "trainer:",
        f"  train_steps: {plan.steps}",
        f"  validation_interval: {plan.steps // _VALIDATIONS // 100 * 100}",
        "  optimizer_config:",
        f"    learning_rate: {{cosine: {{decay_steps: {plan.steps}}}}}",
        f"    warmup: {{linear: {{warmup_steps: {plan.steps // 16}}}}}",
    ]
    with atomic_write(plan.experiment, text=True) as file:
        file.write("\n".join(lines) + "\n")
    return plan.experiment


def _word(path: Path) -> str:
    """A path as one word of a command."""
    return shlex.quote(str(path))


__all__ = ["ExperimentPlan", "experiment_beside", "plan_experiment", "write_experiment"]
