"""Cells of known class that trained nothing -> the fusion head, its threshold, and the error rates of the score.

Everything here is fitted on held-out fields and judged on blocks that were left out of the fit: whole runs of fields
take turns, so that a block's predictions never saw its own labels. What is shipped is fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Weight decay of the fusion network, chosen for smooth answers, not tuned.
_ALPHA = 3.0
_HIDDEN = 12


@dataclass(frozen=True, eq=False)
class HeldOutCells:
    """Labelled cells with what the detector measured on them.

    Attributes:
        features: (N, F) of the graph's FEATURES.
        spherocyte: (N,) bool, the label.
        block: (N,) names of the blocks that rates are counted in.
        run: (N,) names of the groups that take turns; a run holds whole blocks.
        countable: (N,) bool, from the graph.
        name: (N,) the annotator's own name.
    """

    features: np.ndarray
    spherocyte: np.ndarray
    block: np.ndarray
    run: np.ndarray
    countable: np.ndarray
    name: np.ndarray


@dataclass(frozen=True, eq=False)
class Calibration:
    """What goes into the model folder.

    Attributes:
        weights: for FusionHead.assign.
        threshold: p_spherocyte from which a red cell is called a spherocyte.
        p_out_of_run: (N,) probabilities of the held-out cells from the fit that left their run out.
        rates: model.json's counts a block, countable cells only.
        figures: F1, average precision, Brier score and ECE of p_out_of_run.
    """

    weights: Mapping[str, np.ndarray]
    threshold: float
    p_out_of_run: np.ndarray
    rates: list[dict[str, Any]]
    figures: dict[str, float]


def calibrate(cells: HeldOutCells) -> Calibration:
    """Fit the fusion head on all runs, and judge the same fit on each run by the others."""
    p = np.zeros(len(cells.features))
    called = np.zeros(len(p), bool)
    for run in np.unique(cells.run):
        left_out = cells.run == run
        weights = fit(cells.features[~left_out], cells.spherocyte[~left_out])
        p[left_out] = probability(weights, cells.features[left_out])
        # The threshold is tuned on the other runs as well, again on what left each of them out where there are several.
        own = probability(weights, cells.features[~left_out])
        called[left_out] = p[left_out] >= best_threshold(own, cells.spherocyte[~left_out])
    weights = fit(cells.features, cells.spherocyte)
    threshold = best_threshold(p, cells.spherocyte)
    return Calibration(weights, threshold, p, _rates(cells, called), _figures(p, called, cells.spherocyte))


def fit(features: np.ndarray, spherocyte: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of the fusion head: a small multilayer perceptron, the mean of five starts by their first layers' sum."""
    from sklearn.neural_network import MLPClassifier

    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    x = np.clip((features - mean) / scale, -5, 5)
    network = MLPClassifier(
        (_HIDDEN,), activation="tanh", solver="lbfgs", alpha=_ALPHA, max_iter=500, random_state=0
    ).fit(x, spherocyte)
    return {
        "mean": mean, "scale": scale, "hidden_weights": network.coefs_[0], "hidden_bias": network.intercepts_[0],
        "output_weights": network.coefs_[1][:, 0], "linear": np.zeros(features.shape[1]),
        "bias": network.intercepts_[1][0],
    }  # fmt: skip


def probability(weights: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """What FusionHead computes, in NumPy, (N,)."""
    x = np.clip((features - weights["mean"]) / weights["scale"], -5, 5)
    hidden = np.tanh(x @ weights["hidden_weights"] + weights["hidden_bias"])
    return 1 / (1 + np.exp(-(hidden @ weights["output_weights"] + x @ weights["linear"] + weights["bias"])))


def best_threshold(p: np.ndarray, spherocyte: np.ndarray) -> float:
    """The probability that gives the best F1."""
    order = np.argsort(-p)
    hits = np.cumsum(spherocyte[order])
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + spherocyte.sum())
    return float(np.clip(p[order][np.argmax(f1)], 0.05, 0.95))


def average_precision(p: np.ndarray, positive: np.ndarray, *, n_positive: int | None = None) -> float:
    """Area under the precision-recall steps; n_positive counts missed positives too."""
    order = np.argsort(-p, kind="stable")
    hits = positive[order].astype(float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(n_positive if n_positive is not None else hits.sum(), 1))


def expected_calibration_error(p: np.ndarray, positive: np.ndarray, *, bins: int = 10) -> float:
    """Mean distance between probability and frequency over equal-width bins, weighted by cells (Naeini 2015)."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == k].sum() - positive[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(len(p), 1))


def _figures(p: np.ndarray, called: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    hits = int((called & truth).sum())
    return {
        "n_cells": len(p),
        "n_spherocytes": int(truth.sum()),
        "f1": 2 * hits / max(int(called.sum() + truth.sum()), 1),
        "average_precision": average_precision(p, truth),
        "sensitivity": hits / max(int(truth.sum()), 1),
        "specificity": float((~called & ~truth).sum() / max(int((~truth).sum()), 1)),
        "brier": float(np.mean((p - truth) ** 2)),
        "ece": expected_calibration_error(p, truth),
    }


def _rates(cells: HeldOutCells, called: np.ndarray) -> list[dict[str, Any]]:
    rates = []
    for block in _in_order(cells.block):
        here = (cells.block == block) & cells.countable
        truth = cells.spherocyte[here]
        fine = {
            str(name): {"n": int((cells.name[here] == name).sum()), "called": int(called[here & (cells.name == name)].sum())}
            for name in sorted(set(cells.name[here]))
        }
        rates.append(
            {
                "name": str(block),
                "true_spherocytes": int(truth.sum()),
                "called_of_true": int(called[here][truth].sum()),
                "true_others": int((~truth).sum()),
                "called_of_others": int(called[here][~truth].sum()),
                "fine_classes": fine,
            }
        )
    return rates


def _in_order(names: Sequence[str] | np.ndarray) -> list[str]:
    from spherodetect.labels.ledger import natural_order

    return sorted({str(name) for name in names}, key=natural_order)
