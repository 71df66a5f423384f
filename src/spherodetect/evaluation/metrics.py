"""Metrics of a classifier: confusion, calibration, precision and recall.

Probabilities and rates are 0 to 1. Rows are those of rows.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from spherodetect.evaluation.rows import Row, Rows


def confusion(
    rows: Rows, extras: Iterable[Row], classes: Sequence[str], *, key: str = "label"
) -> dict[str, Any]:
    """The confusion matrix of labelled cells: counts of each label and call.

    Args:
        rows: labelled cells.
        extras: detections without a label, in fully labelled fields; they are the last row.
        classes: of the model.
        key: `label`, or `fine` for the annotators' own names.

    Returns:
        `columns`: the classes and `missed`; `rows`: (label, counts), the most frequent label first
        and `background` last.
    """
    columns = [*classes, "missed"]
    table: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(columns, 0))
    for row in rows:
        if row["label"] != "duplicate":
            name = row[key] or "unknown"
            table[name][row["called"] or "missed"] += 1
    ordered = sorted(table, key=lambda name: (-sum(table[name].values()), name))
    background = dict.fromkeys(columns, 0)
    for row in extras:
        background[row["called"]] += 1
    listed = [(name, [table[name][c] for c in columns]) for name in ordered]
    return {"columns": columns, "rows": [*listed, ("background", [background[c] for c in columns])]}


def reliability(p: np.ndarray, truth: np.ndarray, *, bins: int = 10) -> list[dict[str, float]]:
    """Mean probability and frequency in bins of equal width, with Wilson's 95 % interval (1927).

    Empty bins are left out.
    """
    which = np.minimum((p * bins).astype(int), bins - 1)
    result = []
    for k in range(bins):
        here = which == k
        n, hits = int(here.sum()), int(truth[here].sum())
        if n:
            low, high = wilson(hits, n)
            result.append(
                {
                    "from": k / bins,
                    "n": n,
                    "mean_p": float(p[here].mean()),
                    "frequency": hits / n,
                    "low": low,
                    "high": high,
                }
            )
    return result


def wilson(hits: int, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    >>> [round(x, 3) for x in wilson(10, 100)]
    [0.055, 0.174]
    """
    p, zz = hits / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n))
    low, high = (p + zz / 2 - half) / (1 + zz), (p + zz / 2 + half) / (1 + zz)
    # Rounding errors can put a limit outside of 0 to 1, or on the wrong side of p.
    return min(p, max(0.0, low)), max(p, min(1.0, high))


def precision_recall(p: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, (K,) each, at each distinct score from the highest down.

    A missed cell has a score of 0, and no threshold finds it.
    """
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(p[order]) != 0, True) & (p[order] > 0) if len(p) else np.zeros(0, bool)
    return hits[last] / max(int(truth.sum()), 1), hits[last] / (np.flatnonzero(last) + 1)


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean of the precision at each positive, in falling order of score.

    A missed positive must have the lowest score.
    """
    hits = np.asarray(positive, float)[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))


def expected_calibration_error(p: np.ndarray, positive: np.ndarray, *, bins: int = 10) -> float:
    """Mean distance between probability and frequency over bins of equal width (Naeini 2015).

    The bins are weighted by their number of cells.
    """
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == k].sum() - positive[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(len(p), 1))
