"""Routes of the small classifier and of the embedding."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from spherodetect.app.api.bodies import EmbeddingBody, PathId, TrainBody
from spherodetect.app.embedding import embed
from spherodetect.app.errors import Conflict, NotThere
from spherodetect.app.state import State, reply
from spherodetect.app.store.labels import active_set, labels_of
from spherodetect.app.training import (
    classifier_view,
    examples,
    newest,
    split_of,
    train,
    why_not_ready,
)

#: The way on to a training of the network.
_COMMANDS = (
    "spherodetect tfrecords recipe.yaml --out records",
    "spherodetect train experiment.yaml --run run",
    "spherodetect export run --out model",
)


def learning_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["learning"])
    base = state.base

    @routes.get("/training", summary="What there is to train on")
    def training() -> Response:
        return reply(_overview(state))

    @routes.post("/classifiers", summary="Train a classifier and apply it to all objects")
    def fit(body: TrainBody) -> Response:
        labelled = examples(base, include_reviewed=body.include_reviewed)
        split = split_of(base, labelled)
        chosen = labelled[np.isin(labelled.groups(split.kind), split.train)]
        if why := why_not_ready(chosen):
            raise Conflict(why)
        work = train(base, body.reviewer, include_reviewed=body.include_reviewed)
        job = state.worker.submit("train", "Training a classifier", work)
        return reply({"job": job.to_json()}, 202)

    @routes.get("/classifiers", summary="The classifiers of the active set")
    def listed() -> Response:
        rows = base.rows(
            "SELECT id FROM classifier WHERE set_id = ? ORDER BY id", (active_set(base),)
        )
        views = [classifier_view(base, row["id"]) for row in rows]
        return reply({"classifiers": views, "active": newest(base)})

    @routes.get("/classifiers/{classifier_id}.json", summary="A classifier as a file")
    def document(classifier_id: PathId) -> Response:
        row = base.row("SELECT model FROM classifier WHERE id = ?", (classifier_id,))
        if row is None:
            raise NotThere(f"classifier {classifier_id}: expected one of this project, got none")
        name = f'attachment; filename="classifier-{classifier_id}.json"'
        return reply(json.loads(row["model"]), headers={"Content-Disposition": name})

    @routes.post("/embeddings", summary="Place objects in the plane by their measurements")
    def embedding(body: EmbeddingBody) -> Response:
        work = embed(base, method=body.method, most=body.max, seed=body.seed)
        title = "PCA" if body.method == "pca" else "t-SNE"
        return reply({"job": state.worker.submit("embedding", title, work).to_json()}, 202)

    return routes


def _overview(state: State) -> dict[str, Any]:
    base = state.base
    every = examples(base, include_reviewed=True)
    labelled = every[~every.reviewed]
    split = split_of(base, labelled)
    chosen = labelled[np.isin(labelled.groups(split.kind), split.train)]
    why = why_not_ready(chosen)
    rows = []
    for label in labels_of(base, active_set(base)):
        own = labelled[labelled.labels == label.id]
        rows.append(
            {
                "label": label.id,
                "name": label.name,
                "meaning": label.meaning,
                "n": len(own.ids),
                "n_patients": len(set(own.patients.tolist())),
                "n_fields": len(set(own.fields.tolist())),
                "n_reviewed": int(((every.labels == label.id) & every.reviewed).sum()),
            }
        )
    return {
        "labels": rows,
        "groups": split.kind,
        "n_groups": len(split.train) + len(split.validation),
        "validation": list(split.validation),
        "warning": split.warning,
        "ready": not why,
        "why": why,
        "commands": list(_COMMANDS),
    }


__all__ = ["learning_routes"]
