"""Cells of known class that trained nothing -> calibrated probabilities, a threshold, and the error rates of the score.

Whole runs of fields take turns: what is fitted on all the others is judged on the one left out, so that no block's figures
rest on its own labels. What is shipped is fitted on all of them. Log odds are natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A block in which fewer of the countable cells carry a label is not a fair sample of its red cells: people labelled what
#: struck them, and the look-alikes of spherocytes strike. Its spherocytes count, its other cells say nothing.
MIN_COVERAGE = 0.4
#: Nor do the other cells where spherocytes outnumber them this much: labels agree with themselves on 85 % of cells, so
#: that there they are mostly spherocytes that somebody misnamed.
MAX_SPHEROCYTE_SHARE = 0.5
#: The threshold gives up this share of the best F1 at most for false positives that vary less between slides.
_F1_FOR_STEADINESS = 0.06


@dataclass(frozen=True, eq=False)
class HeldOutCells:
    """Labelled red cells with what the detector said of them, and the fields they lie in.

    Attributes:
        log_odds: (N,) of spherocyte against other red cell.
        spherocyte: (N,) bool, the label.
        block: (N,) names of the blocks that rates are counted in.
        run: (N,) names of the groups that take turns; a run holds whole blocks.
        countable: (N,) bool, from the graph.
        name: (N,) the annotator's own name.
        n_countable: block to the countable cells in it, labelled or not.
    """

    log_odds: np.ndarray
    spherocyte: np.ndarray
    block: np.ndarray
    run: np.ndarray
    countable: np.ndarray
    name: np.ndarray
    n_countable: dict[str, int]

    @property
    def fair(self) -> frozenset[str]:
        """Blocks whose labels are a fair sample of their other red cells."""
        fair = set()
        for block, n in self.n_countable.items():
            here = self.countable & (self.block == block)
            labelled, spherocytes = int(here.sum()), int((here & self.spherocyte).sum())
            if labelled >= MIN_COVERAGE * max(n, 1) and spherocytes < MAX_SPHEROCYTE_SHARE * labelled:
                fair.add(block)
        return frozenset(fair)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What goes into the model folder.

    Attributes:
        slope, intercept: of the log odds of p_spherocyte on the network's.
        threshold: p_spherocyte from which a red cell is called a spherocyte.
        rates: model.json's counts a block, countable cells only, each block judged by what was fitted on other runs.
        figures: of the same predictions over all labelled cells.
    """

    slope: float
    intercept: float
    threshold: float
    rates: list[dict[str, Any]]
    figures: dict[str, float]


def calibrate(cells: HeldOutCells) -> Calibration:
    """Fit on all runs, and judge the same fit on each run by the others."""
    p = np.zeros(len(cells.log_odds))
    called = np.zeros(len(p), bool)
    for run in np.unique(cells.run):
        out = cells.run == run
        slope, intercept = platt(cells.log_odds[~out], cells.spherocyte[~out])
        p[out] = _sigmoid(slope * cells.log_odds[out] + intercept)
        called[out] = cells.log_odds[out] >= choose_cut(cells, ~out)
    slope, intercept = platt(cells.log_odds, cells.spherocyte)
    cut = choose_cut(cells, np.ones(len(p), bool))
    threshold = float(_sigmoid(slope * cut + intercept))
    return Calibration(slope, intercept, threshold, _rates(cells, called), _figures(p, called, cells.spherocyte))


def platt(log_odds: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one variable (Platt 1999), by Newton's method."""
    x = np.stack([log_odds, np.ones_like(log_odds)], axis=1).astype(float)
    beta = np.array([1.0, 0.0])
    for _ in range(50):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (positive - p) - 1e-3 * (beta - [1, 0])
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2), gradient)
        beta += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[0]), float(beta[1])


def choose_cut(cells: HeldOutCells, rows: np.ndarray) -> float:
    """The log odds from which a cell is called a spherocyte.

    A score corrects for a mean error rate, not for one that differs between slides. Of the cuts whose F1 is near the
    best one, the highest has the fewest false positives, and with them the least spread.
    """
    x, truth = cells.log_odds[rows], cells.spherocyte[rows]
    order = np.argsort(-x, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(x) + 1) + max(int(truth.sum()), 1))
    good = np.flatnonzero(f1 >= (1 - _F1_FOR_STEADINESS) * f1.max())
    return float(x[order][good[0]])


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean precision at each positive, in falling order of score; a missed positive comes with the lowest score."""
    hits = np.asarray(positive, float)[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))


def expected_calibration_error(p: np.ndarray, positive: np.ndarray, *, bins: int = 10) -> float:
    """Mean distance between probability and frequency over equal-width bins, weighted by cells (Naeini 2015)."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == k].sum() - positive[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(len(p), 1))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


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
        truth, positive, fair = cells.spherocyte[here], called[here], block in cells.fair
        fine = {
            str(name): {"n": int((cells.name[here] == name).sum()), "called": int(positive[cells.name[here] == name].sum())}
            for name in sorted(set(cells.name[here]))
        }
        rates.append(
            {
                "name": str(block),
                "true_spherocytes": int(truth.sum()),
                "called_of_true": int(positive[truth].sum()),
                "true_others": int((~truth).sum()) if fair else 0,
                "called_of_others": int(positive[~truth].sum()) if fair else 0,
                "labelled_share": round(int(here.sum()) / max(cells.n_countable[block], 1), 3),
                "fine_classes": fine,
            }
        )
    return rates


def _in_order(names: Sequence[str] | np.ndarray) -> list[str]:
    from spherodetect.fields import natural_key

    return sorted({str(name) for name in names}, key=natural_key)
