"""What half-labelled smears teach: three short runs on the same drawn fields, labelled with more and less care.

    fully       every cell with its class
    half        every second cell without a class
    careless    every second cell called normal, as a naive conversion of half-labelled smears does
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spherodetect.labels.ledger import LabelSet
from spherodetect.labels.recipe import Recipe

pytestmark = [pytest.mark.train, pytest.mark.slow]
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "chula.yaml"
STEPS = 500
#: 30 px a cell.
UM_PER_PX = 0.25


def fields(*, seed: int, n: int, spherocytes: float = 0.4) -> Iterator:
    from spherodetect.synthetic import SmearStyle, draw_field

    for number in range(n):
        rng = np.random.default_rng([seed, number])
        yield draw_field(rng, size_hw=(288, 352), n_cells=45, spherocyte_fraction=spherocytes, n_platelets=2, n_white=0,
                         style=replace(SmearStyle(), um_per_px=UM_PER_PX), overlap_fraction=0.02)  # fmt: skip


def labelled(drawn: list, care: str, folder: Path) -> LabelSet:
    """The drawn fields as somebody labelled them."""
    from PIL import Image

    from spherodetect.labels.annotations import LabelledField
    from spherodetect.labels.drawn import _annotations

    named = []
    for number, one in enumerate(drawn):
        path = folder / f"{number}.png"
        Image.fromarray(one.image).save(path)
        annotations = list(_annotations(one))
        for k in range(number % 2, len(annotations), 2):
            if care == "half":
                annotations[k] = replace(annotations[k], name="cell")
            elif care == "careless" and annotations[k].name == "spherocyte":
                annotations[k] = replace(annotations[k], name="rbc")
        named.append(LabelledField(path.name, path, one.image.shape[:2], tuple(annotations), source_id=path.stem,
                                   um_per_px=UM_PER_PX))  # fmt: skip
    return LabelSet(tuple(named))


def trained(care: str, drawn: list, folder: Path):
    from spherodetect.tfrecords import write_tfrecords
    from spherodetect.training.export import restore
    from spherodetect.training.run import train

    folder.mkdir()
    recipe = Recipe(care, "coco", folder, unknown=frozenset({"cell"}))
    labels = labelled(drawn, care, folder)
    write_tfrecords(recipe, folder / "records", labels=labels, splits={f.file: "train" for f in labels.fields})
    train(
        EXPERIMENT, folder / "run",
        overrides=[
            f"task.train_data.input_path={folder}/records/*.tfrecord", "task.train_data.weights=null",
            "task.validation_data.input_path=''", "task.model.input_size=[192, 192, 3]",
            "task.train_data.global_batch_size=2", f"trainer.train_steps={STEPS}", "trainer.checkpoint_interval=500",
            f"trainer.optimizer_config.learning_rate.cosine.decay_steps={STEPS}",
            "trainer.optimizer_config.warmup.linear.warmup_steps=50",
        ],
    )  # fmt: skip
    return restore(folder / "run")[1]


def judged(detector, drawn: list) -> tuple[float, float]:
    """Recall of cells, and the share of the found spherocytes that are called so."""
    import tensorflow as tf

    from spherodetect.matching import match_points

    call = tf.function(detector)
    found, called = [], []
    for one in drawn:
        out = {key: value.numpy() for key, value in call(tf.constant(one.image), tf.constant(UM_PER_PX)).items()}
        from spherodetect.cells import Cells

        cells = Cells.from_labels(out["boxes_yxyx"], out["class_ids"], out["masks"], image_size_hw=one.image.shape[:2])
        truth = one.cells
        whole = truth.box_yxyx[:, :2].min(axis=1) > 1
        whole &= (truth.box_yxyx[:, 2:] < np.array(one.image.shape[:2]) - 1).all(axis=1)
        red = np.isin(truth.names, ["rbc", "spherocyte"]) & whole
        centers = (truth.box_yxyx[red, :2] + truth.box_yxyx[red, 2:]) / 2
        matching = match_points(cells, centers)
        found.append(matching.found)
        is_spherocyte = (np.asarray(truth.names)[red] == "spherocyte") & matching.found
        called.append(out["log_odds"][matching.detection[is_spherocyte]] > 0)
    return float(np.concatenate(found).mean()), float(np.concatenate(called).mean())


def test_a_missing_class_costs_nothing_and_a_wrong_one_costs_spherocytes(tmp_path):
    drawn, held_out = list(fields(seed=1, n=24)), list(fields(seed=2, n=14))
    figures = {care: judged(trained(care, drawn, tmp_path / care), held_out) for care in ("fully", "half", "careless")}
    print(figures)
    (recall, sensitivity), (half_recall, half_sensitivity), (_, careless_sensitivity) = figures.values()
    assert recall > 0.9, "the runs are long enough to say something"
    assert half_recall > recall - 0.01
    assert half_sensitivity > sensitivity - 0.05
    assert careless_sensitivity < half_sensitivity - 0.1
