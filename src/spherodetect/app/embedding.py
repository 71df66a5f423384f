"""Objects in the plane by their measurements: PCA, or t-SNE in one thread.

Objects of training and of validation are embedded together and marked apart, so a person sees
whether the validation groups lie where the training groups do.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from hashlib import blake2b
from typing import Any

import numpy as np

from spherodetect.app.errors import Conflict
from spherodetect.app.jobs import Job, Work
from spherodetect.app.predictions import features_of
from spherodetect.app.selection import Seen, seen_objects
from spherodetect.app.store.database import Database
from spherodetect.app.training import examples, split_of

_LEAST = 3
_PERPLEXITY = 30.0


def embed(base: Database, *, method: str, most: int, seed: int) -> Work:
    """A job that places at most `most` objects in the plane, the labelled ones first."""

    def work(job: Job) -> Generator[None]:
        job.progress(0, 1, method)
        seen = seen_objects(base)
        chosen = _chosen(seen, most, seed)
        values = _scaled(base, [one.id for one in chosen])
        known = np.isfinite(values).all(axis=1)
        chosen = [one for one, is_known in zip(chosen, known, strict=True) if is_known]
        values = values[known]
        if len(chosen) < _LEAST:
            raise Conflict(
                f"expected at least {_LEAST} measured objects, got {len(chosen)}; find objects "
                "first"
            )
        explained = None
        if method == "pca":
            at, explained = _pca(values)
        else:
            at = _tsne(values, seed)
        part = _parts(base, chosen)
        job.result = {
            "method": method,
            "explained": explained,
            "n_left_out": len(seen) - len(chosen),
            "points": [
                {
                    "object": one.id,
                    "x": round(float(x), 4),
                    "y": round(float(y), 4),
                    "label": one.human,
                    "shown": one.shown,
                    "part": part[one.id],
                }
                for one, (x, y) in zip(chosen, at, strict=True)
            ],
        }
        yield from ()

    return work


def _chosen(seen: list[Seen], most: int, seed: int) -> list[Seen]:
    def order(one: Seen) -> tuple[bool, bytes]:
        return one.human is None, blake2b(f"{seed}|{one.id}".encode()).digest()

    chosen = sorted(seen, key=order)[:most]
    return sorted(chosen, key=lambda one: one.id)


def _scaled(base: Database, ids: list[int]) -> np.ndarray:
    """(N, F) standardised features; a measurement that an object lacks takes the median."""
    rows = base.rows_of(
        "SELECT o.id, t.measurements FROM object o JOIN outline t ON t.id = o.outline_id "
        "WHERE o.id IN (?)",
        ids,
    )
    by_id = {row["id"]: json.loads(row["measurements"]) for row in rows}
    values = features_of([by_id[k] for k in ids])
    if not len(values):
        return values
    measured = np.isfinite(values)
    values = values[:, measured.any(axis=0)]
    values = np.where(np.isfinite(values), values, np.nanmedian(values, axis=0))
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.where(measured.any(axis=1)[:, None], scaled, np.nan)


def _pca(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    _, sizes, axes = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    # The sign of an axis is free; the largest part of each points upwards.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    axes = axes[:2] * signs[:2, None]
    share = sizes**2 / max(float((sizes**2).sum()), 1e-12)
    at = values @ axes.T
    if at.shape[1] < 2:
        at = np.column_stack([at, np.zeros((len(at), 2 - at.shape[1]))])
    return at, [round(float(v), 4) for v in share[:2]]


def _tsne(values: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(values) - 1) / 3)
    init: Any = "pca" if min(values.shape) >= 2 else "random"
    model = TSNE(perplexity=perplexity, init=init, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(values.astype(np.float32)))


def _parts(base: Database, chosen: list[Seen]) -> dict[int, str]:
    labelled = examples(base)
    split = split_of(base, labelled)
    groups = labelled.groups(split.kind)
    part = dict.fromkeys((one.id for one in chosen), "none")
    for object_id, group in zip(labelled.ids.tolist(), groups.tolist(), strict=True):
        if object_id in part:
            part[object_id] = "validation" if group in split.validation else "train"
    return part


__all__ = ["embed"]
