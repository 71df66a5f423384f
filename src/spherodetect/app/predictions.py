"""What a small classifier says of objects, from their measurements; see training.py.

Probabilities are 0 to 1. A prediction is kept for each object and label set; a later classifier of
the set replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from spherodetect.app.store.database import Database
from spherodetect.app.store.labels import active_set, labels_of

#: Measurements that do not depend on the camera; see `measure`.
FEATURES = (
    "relative_diameter", "circularity", "solidity", "aspect_ratio", "pallor_fraction",
    "center_rim_ratio", "mean_od", "relative_od",
)  # fmt: skip
_CHUNK = 5000


def features_of(measurements: Sequence[Mapping[str, float]]) -> np.ndarray:
    """(N, 8) float64, NaN for what was not measured."""
    rows = [[one.get(name, np.nan) for name in FEATURES] for one in measurements]
    return np.array(rows, float).reshape(-1, len(FEATURES))


def predicted(model: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """(N, K) probabilities of the model's labels, in their order."""
    values = np.where(np.isfinite(features), features, np.array(model["median"]))
    scaled = (values - np.array(model["mean"])) / np.array(model["scale"])
    logits = scaled @ np.array(model["coef"]).T + np.array(model["intercept"])
    logits -= logits.max(axis=1, keepdims=True)
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)


def predict_all(base: Database, classifier_id: int, model: Mapping[str, Any]) -> Generator[None]:
    """Predict every object by a classifier of the active set, a step for some thousands."""
    last = 0
    while True:
        rows = base.rows(
            "SELECT o.id, t.measurements FROM object o JOIN outline t ON t.id = o.outline_id "
            "WHERE o.id > ? ORDER BY o.id LIMIT ?",
            (last, _CHUNK),
        )
        if not rows:
            break
        last = rows[-1]["id"]
        _store(base, classifier_id, model, rows)
        yield
    with base.writing():
        for row in base.rows("SELECT id FROM field WHERE present = 1"):
            base.changed("field", row["id"])
        base.changed("classifier")


def predict_field(base: Database, field_id: int) -> None:
    """Predict the objects of a field, which were found anew, by the newest classifier, if any."""
    row = base.row(
        "SELECT id, model FROM classifier WHERE set_id = ? ORDER BY id DESC LIMIT 1",
        (active_set(base),),
    )
    if row is None:
        return
    rows = base.rows(
        "SELECT o.id, t.measurements FROM object o JOIN outline t ON t.id = o.outline_id "
        "WHERE o.field_id = ?",
        (field_id,),
    )
    _store(base, row["id"], json.loads(row["model"]), rows)


def _store(
    base: Database, classifier_id: int, model: Mapping[str, Any], rows: Sequence[Any]
) -> None:
    set_id = active_set(base)
    there = {label.id for label in labels_of(base, set_id)}
    # A label may have been deleted since the training.
    kept = [k for k, label in enumerate(model["labels"]) if label in there]
    if not rows or not kept:
        return
    p = predicted(model, features_of([json.loads(row["measurements"]) for row in rows]))[:, kept]
    best = p.argmax(axis=1)
    ordered = np.sort(np.pad(p, ((0, 0), (1, 0))), axis=1)
    doubt = 1 - (ordered[:, -1] - ordered[:, -2])
    with base.writing():
        for k, row in enumerate(rows):
            base.execute(
                "INSERT OR REPLACE INTO prediction VALUES (?, ?, ?, ?, ?, ?)",
                (
                    row["id"],
                    set_id,
                    classifier_id,
                    int(model["labels"][kept[best[k]]]),
                    round(float(ordered[k, -1]), 5),
                    round(float(doubt[k]), 5),
                ),
            )


__all__ = ["FEATURES", "features_of", "predict_all", "predict_field", "predicted"]
