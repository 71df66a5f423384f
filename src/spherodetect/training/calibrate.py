"""Calibrates probabilities and counts the errors that the score needs, on held-out labelled cells.

A red cell is called a spherocyte if the log odds against another red cell are CUT or more. The same
cut holds for all runs. A cut that is tuned on one run does not fit another run, because F1 and
calibration depend on the number of spherocytes in its fields. A high cut calls few other cells,
but slides then differ more in sensitivity, and intervals get wider; experiments/README.md compares
cuts. Log odds are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spherodetect.evaluation.metrics import average_precision, expected_calibration_error
from spherodetect.safety import quoted

#: Error rates need so many held-out groups (patients, or runs of neighbouring fields) with so many
#: labelled spherocytes each, and so many other labelled red cells in all. The spread of the rates
#: between patients cannot be told from one of them.
MIN_GROUPS, MIN_SPHEROCYTES, MIN_OTHERS = 2, 10, 100
#: A cell with these log odds of spherocyte against other red cell, or more, is a spherocyte.
CUT = math.log(1.5)
#: If less than this share of a block's countable cells is labelled, its other red cells are not
#: used. People then labelled conspicuous cells, such as the look-alikes of spherocytes, and these
#: are not a fair sample. Its spherocytes are used.
MIN_COVERAGE = 1 / 3
#: Share of the spherocytes, and of the other red cells, that people label differently the second
#: time (Chula, 31 fields labelled twice, 865 cells: 80 labelled spherocyte both times, 25 once).
SPHEROCYTES_MISNAMED, OTHERS_MISNAMED = 0.135, 0.016
#: If more than this share of a block's labels of one class is expected to be wrong, they are not
#: used.
MAX_LABEL_ERRORS = 0.15


@dataclass(frozen=True, eq=False)
class HeldOutCells:
    """Labelled red cells of held-out fields with the result of the detector.

    Attributes:
        log_odds: (N,) of spherocyte against other red cell.
        spherocyte: (N,) bool, the label.
        block: (N,) names of the blocks; error rates are counted in each block.
        run: (N,) names of the groups for cross-validation; a run consists of whole blocks.
        countable: (N,) bool, the decision of the graph.
        name: (N,) the annotator's own class name.
        field: (N,) the field's name.
        n_countable: block to the number of its countable cells, labelled or not.
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
        """The cells of several detectors; a block that an earlier one has is left out."""
        n_countable: dict[str, int] = {}
        columns: dict[str, list[np.ndarray]] = {}
        for part in parts:
            new = ~np.isin(part.block.astype(str), list(n_countable))
            for f in fields(cls)[:-1]:
                columns.setdefault(f.name, []).append(getattr(part, f.name)[new])
            n_countable = {**part.n_countable, **n_countable}
        joined = {name: np.concatenate(column) for name, column in columns.items()}
        return cls(**joined, n_countable=n_countable)

    def usable(self, block: str) -> tuple[bool, bool]:
        """Whether a block's spherocytes, and whether its other red cells, are used.

        They are used if they are a fair sample of the block and few of their labels are wrong.
        """
        here = self.countable & (self.block == block)
        spherocytes = int((here & self.spherocyte).sum())
        others = int(here.sum()) - spherocytes
        covered = spherocytes + others >= MIN_COVERAGE * max(self.n_countable.get(block, 0), 1)
        wrong_spherocytes = OTHERS_MISNAMED * others
        wrong_others = SPHEROCYTES_MISNAMED / (1 - SPHEROCYTES_MISNAMED) * spherocytes
        return (
            wrong_spherocytes <= MAX_LABEL_ERRORS * spherocytes,
            covered and wrong_others <= MAX_LABEL_ERRORS * others,
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration of a model.

    Attributes:
        slope, intercept: of the log odds of p_spherocyte on the uncalibrated log odds, fitted on
            all held-out cells.
        threshold: p_spherocyte at CUT.
        rates: counts of each block, as model.json has them; of countable cells only.
        figures: accuracy on all labelled cells. For brier and ece each run is calibrated by the
            fit on the others.
    """

    slope: float
    intercept: float
    threshold: float
    rates: list[dict[str, Any]]
    figures: dict[str, float]


def shortfall(cells: HeldOutCells | None) -> str:
    """What is missing for a calibration, in a clause with the next step; empty if nothing is."""
    counts = (
        {}
        if cells is None
        else {
            str(run): int(cells.spherocyte[cells.run == run].sum()) for run in np.unique(cells.run)
        }
    )
    others = 0 if cells is None else int((~cells.spherocyte).sum())
    enough = sum(count >= MIN_SPHEROCYTES for count in counts.values())
    if enough >= MIN_GROUPS and others >= MIN_OTHERS:
        return ""
    found = ", ".join(f"{count} in {quoted(run)}" for run, count in counts.items())
    return (
        f"expected {MIN_GROUPS} or more held-out groups (patients, or runs of fields) with at "
        f"least {MIN_SPHEROCYTES} labelled spherocytes each, and {MIN_OTHERS} other labelled red "
        f"cells, got {enough} such groups (spherocytes: {found or 'none'}) and {others} other "
        "cells; hold out more groups with `train --folds patient`, or name further runs with --fold"
    )


def calibrate(cells: HeldOutCells) -> Calibration:
    """The calibration of held-out cells: a fit of the probabilities, and the errors at CUT."""
    p = np.zeros(len(cells.log_odds))
    for run in np.unique(cells.run):
        out = cells.run == run
        slope, intercept = platt(cells.log_odds[~out], cells.spherocyte[~out])
        p[out] = _sigmoid(slope * cells.log_odds[out] + intercept)
    called = cells.log_odds >= CUT
    slope, intercept = platt(cells.log_odds, cells.spherocyte)
    threshold = float(_sigmoid(slope * CUT + intercept))
    figures = figures_of(cells.log_odds, p, called, cells.spherocyte)
    return Calibration(slope, intercept, threshold, block_rates(cells, called), figures)


def platt(log_odds: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one variable (Platt 1999).

    Newton's method, with a weak quadratic penalty towards a slope of 1.
    """
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


def figures_of(
    log_odds: np.ndarray, p: np.ndarray, called: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Accuracy as model.json has it.

    Args:
        log_odds: (N,) that rank the cells.
        p: (N,) calibrated probabilities.
        called: (N,) bool.
        truth: (N,) bool, the labels.
    """
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


def block_rates(cells: HeldOutCells, called: np.ndarray) -> list[dict[str, Any]]:
    """Counts of each block as model.json has them, of countable cells that are used."""
    rates = []
    for block in _in_order(cells.block):
        here = (cells.block == block) & cells.countable
        truth, positive, name = cells.spherocyte[here], called[here], cells.name[here]
        spherocytes_used, others_used = cells.usable(block)
        fine = {
            str(n): {"n": int((name == n).sum()), "called": int(positive[name == n].sum())}
            for n in sorted(set(name))
        }
        rates.append(
            {
                "name": str(block),
                "true_spherocytes": int(truth.sum()) if spherocytes_used else 0,
                "called_of_true": int(positive[truth].sum()) if spherocytes_used else 0,
                "true_others": int((~truth).sum()) if others_used else 0,
                "called_of_others": int(positive[~truth].sum()) if others_used else 0,
                "labelled_share": round(
                    int(here.sum()) / max(cells.n_countable.get(block, 0), 1), 3
                ),
                "fine_classes": fine,
                # [labelled, called] of each field, for the spread between fields.
                "fields": [
                    [int((at := cells.field[here] == field).sum()), int(positive[at].sum())]
                    for field in _in_order(cells.field[here])
                ],
            }
        )
    return rates


def _in_order(names: Sequence[str] | np.ndarray) -> list[str]:
    from spherodetect.fields.names import natural_key

    return sorted({str(name) for name in names}, key=natural_key)
