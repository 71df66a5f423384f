"""Held-out cells of several laboratories -> the conventions that the graph holds.

A convention is a logistic regression on the networks' log odds and the evidence relative to the
field (graph/conventions.py), fitted on one laboratory's cells. Every figure that is reported of it
comes from a fit that left out the cell's own fold, that is its patient or run of fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spherodetect.evaluation.metrics import average_precision, expected_calibration_error
from spherodetect.graph.conventions import FEATURES, LOOK, Conventions

#: A calibrated probability from which a cell is called a spherocyte: as many are called as there
#: are.
CUT = 0.5
#: Strength of the prior on the weights of the evidence, in units of their spread. The weight of the
#: log odds has none.
PRIOR = 3.0
#: The threshold of a look lies half-way between the distance that this share of the fields of
#: left-out blocks lies within, and the distance that this share of the fields of a data set that
#: was left out as a whole lies beyond.
SEEN_SHARE = 0.9
#: Least variance of a descriptor.
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class JudgedCells:
    """Labelled red cells of one or several laboratories, each judged by a detector that had not
    seen it.

    Attributes:
        features: (N, F) in the order of FEATURES; the log odds hold the field's prevalence.
        spherocyte: (N,) bool, the label.
        countable: (N,) bool.
        laboratory: (N,) the convention's name.
        fold: (N,) the group that is left out together.
        block: (N,) the patient or run of fields that rates are counted in.
        name: (N,) the annotator's own name.
        field: (N,) the field's name.
    """

    features: np.ndarray
    spherocyte: np.ndarray
    countable: np.ndarray
    laboratory: np.ndarray
    fold: np.ndarray
    block: np.ndarray
    name: np.ndarray
    field: np.ndarray

    def __len__(self) -> int:
        return len(self.spherocyte)

    def __getitem__(self, index: np.ndarray) -> JudgedCells:
        return JudgedCells(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[JudgedCells]) -> JudgedCells:
        """The cells of several parts, in order."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


@dataclass(frozen=True, eq=False)
class Row:
    """One convention: weights (F,), intercept and cut, and its probabilities of left-out cells."""

    weights: np.ndarray
    intercept: float
    cut: float

    def p(self, features: np.ndarray) -> np.ndarray:
        """(N,) probabilities of cells with such features."""
        z = features @ self.weights + self.intercept
        return 1 / (1 + np.exp(-np.clip(z, -50, 50)))


def fit_row(
    features: np.ndarray,
    spherocyte: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    used: Sequence[str] = FEATURES,
) -> Row:
    """A logistic regression by Newton's method; features that are not used have a weight of 0.

    Args:
        features: (N, F) in the order of FEATURES.
        spherocyte: (N,) bool.
        weight: (N,) how much each cell counts.
        used: names of the features that may have a weight.
    """
    columns = [FEATURES.index(name) for name in used]
    x = features[:, columns].astype(float)
    counts = np.ones(len(x)) if weight is None else weight
    center = np.average(x, axis=0, weights=counts)
    spread = np.sqrt(np.average((x - center) ** 2, axis=0, weights=counts)) + 1e-6
    z = np.concatenate([(x - center) / spread, np.ones((len(x), 1))], axis=1)
    penalty = np.array([0.0 if name == "log_odds" else PRIOR for name in used] + [0.0]) + 1e-6
    beta = np.zeros(z.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(z @ beta, -50, 50)))
        gradient = z.T @ (counts * (spherocyte - p)) - penalty * beta
        curvature = (z * (counts * p * (1 - p))[:, None]).T @ z + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        beta += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    weights = np.zeros(len(FEATURES))
    weights[columns] = beta[:-1] / spread
    return Row(weights, float(beta[-1] - (beta[:-1] / spread) @ center), CUT)


def left_out(cells: JudgedCells, *, used: Sequence[str] = FEATURES) -> np.ndarray:
    """(N,) probabilities of each cell by a fit on the other folds of its laboratory."""
    p = np.full(len(cells), np.nan)
    for laboratory in np.unique(cells.laboratory):
        for fold in np.unique(cells.fold[cells.laboratory == laboratory]):
            here = (cells.laboratory == laboratory) & (cells.fold == fold)
            others = (cells.laboratory == laboratory) & (cells.fold != fold)
            p[here] = fit_row(cells.features[others], cells.spherocyte[others], used=used).p(
                cells.features[here]
            )
    return p


def pooled_row(cells: JudgedCells, *, used: Sequence[str] = FEATURES) -> Row:
    """The row of an unseen film: all laboratories count alike."""
    names, place, count = np.unique(cells.laboratory, return_inverse=True, return_counts=True)
    weight = (len(cells) / len(names) / count)[place]
    return fit_row(cells.features, cells.spherocyte, weight=weight, used=used)


def figures(p: np.ndarray, spherocyte: np.ndarray, *, cut: float = CUT) -> dict[str, float]:
    """Counts, F1, average precision, sensitivity, specificity and calibration of left-out cells."""
    called = p >= cut
    hits = int((called & spherocyte).sum())
    return {
        "n_cells": len(p),
        "n_spherocytes": int(spherocyte.sum()),
        "f1": 2 * hits / max(int(called.sum() + spherocyte.sum()), 1),
        "average_precision": average_precision(p, spherocyte),
        "sensitivity": hits / max(int(spherocyte.sum()), 1),
        "specificity": float((~called & ~spherocyte).sum() / max(int((~spherocyte).sum()), 1)),
        "called_share": float(called.mean()) if len(p) else float("nan"),
        "labelled_share": float(spherocyte.mean()) if len(p) else float("nan"),
        "brier": float(np.mean((p - spherocyte) ** 2)),
        "ece": expected_calibration_error(p, spherocyte),
    }


def fit_looks(looks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Means (K, D) and whitening (K, D, D) of the descriptors of K data sets' fields, (n, D) each.

    The whitening divides by the standard deviations within data sets, the same for all of them. A
    data set of three patients has no covariance of its own to speak of: with one, 36 of 37 fields
    of a left-out patient of Dataset A lay nearer to Chula, and with this one none does.
    """
    variance = np.mean([np.var(one, axis=0) for one in looks], axis=0) + _LEAST_VARIANCE
    whitening = np.diag(variance**-0.5)
    return np.array([one.mean(axis=0) for one in looks]), np.stack([whitening] * len(looks))


def look_distances(look: np.ndarray, means: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """(n, K) from fields (n, D) to each look."""
    difference = look[:, None, :] - means[None]
    return np.linalg.norm(np.einsum("kij,nkj->nki", whitening, difference), axis=2)


def look_threshold(looks: Sequence[np.ndarray], blocks: Sequence[np.ndarray]) -> float:
    """The distance of a look beyond which a film is unseen, see SEEN_SHARE.

    Args:
        looks: (n, D) of each data set's fields.
        blocks: (n,) their patients or runs of fields.
    """
    known, strange = [], []
    for k, (look, block) in enumerate(zip(looks, blocks, strict=True)):
        others = [one for j, one in enumerate(looks) if j != k]
        if others:
            distances = look_distances(look, *fit_looks(others)).min(axis=1)
            strange.append(float(np.quantile(distances, 1 - SEEN_SHARE)))
        for name in np.unique(block):
            rest = look[block != name]
            if len(rest) >= len(LOOK):
                distances = look_distances(look[block == name], *fit_looks([*others, rest]))
                known.append(distances.min(axis=1))
    near = float(np.quantile(np.concatenate(known), SEEN_SHARE))
    return 0.5 * (near + min(strange)) if strange else near


def assemble(
    rows: dict[str, Row], unseen: Row, looks: Sequence[tuple[str, np.ndarray]], *, threshold: float
) -> Conventions:
    """The conventions of the graph, from the rows by name and each taught data set's convention and
    descriptors."""
    names = tuple(rows)
    every: list[Any] = [*rows.values(), unseen]
    means, whitening = fit_looks([look for _, look in looks])
    return Conventions(
        names=names,
        weights=np.array([row.weights for row in every]),
        intercept=np.array([row.intercept for row in every]),
        cut=np.array([row.cut for row in every]),
        looks=np.array([names.index(name) for name, _ in looks], int),
        means=means,
        whitening=whitening,
        threshold=threshold,
    )
