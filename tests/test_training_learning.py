"""Training with incomplete labels: short runs on the same drawn fields with different labels.

All runs begin with a detector that was trained to find cells without a class. Then all cells have
their class (fully), every second cell has no class (half), or every second spherocyte is labelled
normal, as in a naive conversion of half-labelled smears (careless).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.detect.matching import match_points
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.readers.drawn import outline_annotations
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe
from spherodetect.synthetic import SmearStyle, draw_field

pytestmark = [pytest.mark.train, pytest.mark.slow]
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "chula.yaml"
#: 30 px a cell.
UM_PER_PX = 0.25
NAMED = {"fully": lambda name, odd: name, "half": lambda name, odd: "cell" if odd else name,
         "careless": lambda name, odd: "rbc" if odd and name == "spherocyte" else name,
         "unnamed": lambda name, odd: "cell"}  # fmt: skip


def fields(*, seed: int, n: int) -> Iterator[Any]:
    for number in range(n):
        yield draw_field(
            np.random.default_rng([seed, number]),
            size_hw=(288, 352),
            n_cells=45,
            spherocyte_fraction=0.4,
            n_platelets=2,
            n_white=0,
            style=replace(SmearStyle(), um_per_px=UM_PER_PX),
            overlap_fraction=0.02,
        )


def labelled(drawn: list[Any], care: str, folder: Path) -> LabelSet:
    """The drawn fields with these labels."""
    from PIL import Image

    named = []
    for number, one in enumerate(drawn):
        path = folder / f"{number}.png"
        Image.fromarray(one.image).save(path)
        annotations = [
            replace(annotation, name=NAMED[care](annotation.name, (number + k) % 2 == 1))
            for k, annotation in enumerate(outline_annotations(one))
        ]
        named.append(
            LabelledField(
                path.name,
                path,
                one.image.shape[:2],
                tuple(annotations),
                source_id=path.stem,
                um_per_px=UM_PER_PX,
            )
        )
    return LabelSet(tuple(named))


def trained(
    care: str, drawn: list[Any], folder: Path, *, steps: int, start: Path | None = None
) -> Path:
    from spherodetect.records.tfrecords import write_tfrecords
    from spherodetect.training.run import train

    folder.mkdir()
    recipe = Recipe(care, "coco", folder, unknown=frozenset({"cell"}))
    labels = labelled(drawn, care, folder)
    write_tfrecords(
        recipe, folder / "records", labels=labels, splits={f.file: "train" for f in labels.fields}
    )
    begin = [f"task.init_checkpoint={start}", "task.init_checkpoint_modules=all"] if start else []
    train(
        EXPERIMENT,
        folder / "run",
        overrides=[
            f"task.train_data.input_path={folder}/records/*.tfrecord",
            "task.train_data.weights=null",
            "task.validation_data.input_path=''",
            "task.model.input_size=[192, 192, 3]",
            "task.train_data.global_batch_size=2",
            f"trainer.train_steps={steps}",
            f"trainer.checkpoint_interval={steps}",
            f"trainer.optimizer_config.learning_rate.cosine.decay_steps={steps}",
            "trainer.optimizer_config.warmup.linear.warmup_steps=50",
            *begin,
        ],
    )
    return folder / "run"


def judged(run: Path, drawn: list[Any]) -> tuple[float, float]:
    """Recall of whole red cells, and sensitivity of the found spherocytes at even odds."""
    import tensorflow as tf

    from spherodetect.training.export import restore

    call = tf.function(restore(run)[1].replace(evidence=True))
    found, called = [], []
    for one in drawn:
        out = {
            key: value.numpy()
            for key, value in call(tf.constant(one.image), tf.constant(UM_PER_PX)).items()
        }
        cells = Cells.from_labels(
            out["boxes_yxyx"], out["class_ids"], out["masks"], image_size_hw=one.image.shape[:2]
        )
        truth = one.cells
        whole = truth.box_yxyx[:, :2].min(axis=1) > 1
        whole &= (truth.box_yxyx[:, 2:] < np.array(one.image.shape[:2]) - 1).all(axis=1)
        red = np.isin(truth.names, ["rbc", "spherocyte"]) & whole
        matching = match_points(cells, (truth.box_yxyx[red, :2] + truth.box_yxyx[red, 2:]) / 2)
        found.append(matching.found)
        spherocyte = (np.asarray(truth.names)[red] == "spherocyte") & matching.found
        called.append(out["log_odds"][matching.detection[spherocyte]] > 0)
    return float(np.concatenate(found).mean()), float(np.concatenate(called).mean())


def test_missing_classes_do_no_harm_and_wrong_ones_lower_sensitivity(tmp_path):
    drawn, held_out = list(fields(seed=1, n=24)), list(fields(seed=2, n=20))
    start = trained("unnamed", drawn, tmp_path / "unnamed", steps=700)
    runs = {
        c: trained(c, drawn, tmp_path / c, steps=350, start=start)
        for c in ("fully", "half", "careless")
    }
    figures = {care: judged(run, held_out) for care, run in runs.items()}
    print(figures)
    (recall, sensitivity), (half_recall, half_sensitivity), (_, careless_sensitivity) = (
        figures.values()
    )
    assert recall > 0.95, "the runs are long enough"
    assert abs(half_recall - recall) < 0.01
    assert half_sensitivity > sensitivity - 0.05
    assert careless_sensitivity < half_sensitivity - 0.1
