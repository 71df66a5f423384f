"""Cells of known class that trained nothing -> calibrated probabilities and the error rates that
the score needs.

A cell is called a spherocyte where that is three times as likely as another red cell: one cut for
all runs, at which
1.4 % of the other cells are called so over all folds, because a patient with few spherocytes bears
few false calls. A cut tuned on one run suits no other: F1 and calibration depend on how many
spherocytes a run of fields happens to hold. Log odds are natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spherodetect.evaluation.metrics import average_precision, expected_calibration_error

#: Log odds of spherocyte against other red cell from which a cell is called a spherocyte.
CUT = math.log(3.0)
#: A block in which fewer of the countable cells carry a label is not a fair sample of its red
#: cells: people labelled what struck them, and the look-alikes of spherocytes strike. Its
#: spherocytes count, its other cells say nothing.
MIN_COVERAGE = 1 / 3
#: What people name otherwise when they label the same field again (Chula, 31 fields labelled twice,
#: 865 cells: 80 named spherocyte both times, 25 once): so many of the true spherocytes, and so many
#: of the other cells.
SPHEROCYTES_MISNAMED, OTHERS_MISNAMED = 0.135, 0.016
#: Where more than this part of a block's labels of one class are such slips, they say nothing of
#: the model.
MAX_SLIPS = 0.15


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
        field: (N,) the field's name.
        n_countable: block to the countable cells in it, labelled or not.
    """

    log_odds: np.ndarray
    spherocyte: np.ndarray
    block: np.ndarray
    run: np.ndarray
    countable: np.ndarray
    name: np.ndarray
    field: np.ndarray
    n_countable: dict[str, int]

    @classmethod
    def join(cls, parts: Sequence[HeldOutCells]) -> HeldOutCells:
        """The cells of several detectors, each of blocks of its own; a block that came before is
        left out."""
        seen: dict[str, int] = {}
        columns: dict[str, list[np.ndarray]] = {}
        for part in parts:
            new = ~np.isin(part.block.astype(str), list(seen))
            for f in fields(cls)[:-1]:
                columns.setdefault(f.name, []).append(getattr(part, f.name)[new])
            seen = {**part.n_countable, **seen}
        return cls(
            **{name: np.concatenate(column) for name, column in columns.items()}, n_countable=seen
        )

    def counts(self, block: str) -> tuple[bool, bool]:
        """Whether a block's spherocytes, and whether its other cells, are a fair sample with few
        slips."""
        here = self.countable & (self.block == block)
        spherocytes = int((here & self.spherocyte).sum())
        others = int(here.sum()) - spherocytes
        covered = spherocytes + others >= MIN_COVERAGE * max(self.n_countable.get(block, 0), 1)
        missed = SPHEROCYTES_MISNAMED / (1 - SPHEROCYTES_MISNAMED) * spherocytes
        return (
            OTHERS_MISNAMED * others <= MAX_SLIPS * spherocytes,
            covered and missed <= MAX_SLIPS * others,
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """What goes into the model folder.

    Attributes:
        slope, intercept: of the log odds of p_spherocyte on the network's, fitted on all held-out
            cells.
        threshold: p_spherocyte at CUT, from which a red cell is called a spherocyte.
        rates: model.json's counts a block, countable cells only.
        figures: of all labelled cells; brier and ece of the same fit with each run judged by the
            others.
    """

    slope: float
    intercept: float
    threshold: float
    rates: list[dict[str, Any]]
    figures: dict[str, float]


def calibrate(cells: HeldOutCells) -> Calibration:
    """Fit the probabilities, and count the errors of the cut."""
    p = np.zeros(len(cells.log_odds))
    for run in np.unique(cells.run):
        out = cells.run == run
        slope, intercept = platt(cells.log_odds[~out], cells.spherocyte[~out])
        p[out] = _sigmoid(slope * cells.log_odds[out] + intercept)
    called = cells.log_odds >= CUT
    slope, intercept = platt(cells.log_odds, cells.spherocyte)
    threshold = float(_sigmoid(slope * CUT + intercept))
    figures = _figures(cells.log_odds, p, called, cells.spherocyte)
    return Calibration(slope, intercept, threshold, _rates(cells, called), figures)


def platt(log_odds: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one variable (Platt 1999), by Newton's
    method."""
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


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def _figures(
    log_odds: np.ndarray, p: np.ndarray, called: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    hits = int((called & truth).sum())
    return {
        "n_cells": len(p),
        "n_spherocytes": int(truth.sum()),
        "f1": 2 * hits / max(int(called.sum() + truth.sum()), 1),
        "average_precision": average_precision(log_odds, truth),
        "sensitivity": hits / max(int(truth.sum()), 1),
        "specificity": float((~called & ~truth).sum() / max(int((~truth).sum()), 1)),
        "brier": float(np.mean((p - truth) ** 2)),
        "ece": expected_calibration_error(p, truth),
    }


def _rates(cells: HeldOutCells, called: np.ndarray) -> list[dict[str, Any]]:
    rates = []
    for block in _in_order(cells.block):
        here = (cells.block == block) & cells.countable
        truth, positive, name = cells.spherocyte[here], called[here], cells.name[here]
        spherocytes_count, others_count = cells.counts(block)
        fine = {
            str(n): {"n": int((name == n).sum()), "called": int(positive[name == n].sum())}
            for n in sorted(set(name))
        }
        rates.append(
            {
                "name": str(block),
                "true_spherocytes": int(truth.sum()) if spherocytes_count else 0,
                "called_of_true": int(positive[truth].sum()) if spherocytes_count else 0,
                "true_others": int((~truth).sum()) if others_count else 0,
                "called_of_others": int(positive[~truth].sum()) if others_count else 0,
                "labelled_share": round(
                    int(here.sum()) / max(cells.n_countable.get(block, 0), 1), 3
                ),
                "fine_classes": fine,
                # [labelled, called] of every field: how much they scatter is part of the evidence.
                "fields": [
                    [int((at := cells.field[here] == field).sum()), int(positive[at].sum())]
                    for field in _in_order(cells.field[here])
                ],
            }
        )
    return rates


def _in_order(names: Sequence[str] | np.ndarray) -> list[str]:
    from spherodetect.fields.find import natural_key

    return sorted({str(name) for name in names}, key=natural_key)
