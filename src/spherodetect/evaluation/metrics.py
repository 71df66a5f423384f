"""Figures of labelled cells that a model has judged, from rows as labelled_cells.csv has them.

A row is one labelled cell, or (label `duplicate`) a second detection of one that was called a
spherocyte. Its keys are `field`, `block`, `label` (rbc, spherocyte, wbc, platelet; `red cell` for
one of unknown kind, empty for a cell of unknown class), `fine` (the annotator's own name), `found`
(0 or 1), `called` (a class, empty for a missed cell) and `p_spherocyte` (0 for a missed cell).
Rates and probabilities are 0 to 1, percentages 0 to 100; what cannot be measured is NaN. No figure
needs TensorFlow.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.fields.find import natural_key

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: What counts for the class spherocyte; a duplicate counts against it.
_RED = ("rbc", "spherocyte", "duplicate")
_ANY_RED = ("rbc", "spherocyte", "red cell")
#: Fields and groups with fewer labelled red cells have no percentage worth comparing.
MIN_FIELD_CELLS, MIN_GROUP_CELLS = 10, 50
#: A rate of fewer cells than this says nothing of a group.
MIN_SPREAD_CELLS = 5
_DRAWS = 2000


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a labelled_cells.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            row | {"found": int(row["found"]), "p_spherocyte": float(row["p_spherocyte"])}
            for row in csv.DictReader(file)
        ]


def figures(rows: Rows) -> dict[str, Any]:
    """Counts, recall of red cells, and precision, sensitivity, F1 and specificity of the class
    spherocyte.

    A missed cell is missed, a duplicate is a false positive; specificity is that of the other red
    cells found.
    """
    totals = _totals(rows)
    return {"n_labels": int(totals[3]), "n_spherocytes": int(totals[2])} | {
        name: float(value) for name, value in _rates(totals).items()
    }


def _totals(rows: Rows) -> np.ndarray:
    """(7,): hits, called, spherocytes, labelled red cells, those found, other red cells found,
    those called."""
    totals = np.zeros(7)
    for row in rows:
        label, called = row["label"], row["called"] == "spherocyte"
        if label in _RED:
            totals[:3] += (label == "spherocyte" and called, called, label == "spherocyte")
        if label in _ANY_RED:
            totals[3:5] += (1, int(row["found"]))
        if label == "rbc" and int(row["found"]):
            totals[5:] += (1, called)
    return totals


def _rates(totals: np.ndarray) -> dict[str, np.ndarray]:
    """The rates of (..., 7) totals."""
    hits, called, true, labels, found, others, wrongly = np.moveaxis(
        np.asarray(totals, float), -1, 0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "recall": found / labels,
            "precision": hits / called,
            "sensitivity": hits / true,
            "f1": 2 * hits / (called + true),
            "specificity": 1 - wrongly / others,
        }


def grouped(rows: Rows, key: str) -> dict[str, list[Row]]:
    """The rows by one of their keys, in natural order; rows with nothing there are left out."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row[key]:
            groups[row[key]].append(row)
    return {name: groups[name] for name in sorted(groups, key=natural_key)}


def spread(rows: Rows, key: str) -> dict[str, dict[str, float]]:
    """Of each rate its median, mean, standard deviation and range over the n groups that have cells
    enough for it."""
    totals = [_totals(group) for group in grouped(rows, key).values()]
    result = {}
    for name, cells in (
        ("recall", 3),
        ("precision", 2),
        ("sensitivity", 2),
        ("f1", 2),
        ("specificity", 5),
    ):
        values = np.array([_rates(t)[name] for t in totals if t[cells] >= MIN_SPREAD_CELLS])
        values = values[np.isfinite(values)]
        known = values if len(values) else np.array([math.nan])
        result[name] = {
            "median": float(np.median(known)),
            "mean": float(known.mean()),
            "min": float(known.min()),
            "max": float(known.max()),
            "sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
            "n": len(values),
        }
    return result


def intervals(rows: Rows, *, draws: int = _DRAWS, seed: int = 1) -> dict[str, tuple[float, float]]:
    """Between which limits each rate lies in 90 of 100 bootstraps over fields (Efron 1979)."""
    per_field = np.array([_totals(group) for group in grouped(rows, "field").values()]).reshape(
        -1, 7
    )
    rates = _rates(_drawn(len(per_field), draws, seed) @ per_field)
    result = {}
    for name, values in rates.items():
        known = values[np.isfinite(values)]
        low, high = np.quantile(known, [0.05, 0.95]) if len(known) else (math.nan, math.nan)
        result[name] = (float(low), float(high))
    return result


def _drawn(n: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n) how often each of n units is drawn, n at a time with replacement."""
    return (
        np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
        if n
        else np.zeros((draws, 0))
    )


@dataclass(frozen=True)
class Comparison:
    """F1 of a less F1 of b on the same fields, and between which limits it lies in 90 of 100
    bootstraps."""

    f1_a: float
    f1_b: float
    low: float
    high: float
    n_fields: int

    @property
    def difference(self) -> float:
        """F1 of a less F1 of b."""
        return self.f1_a - self.f1_b

    def __str__(self) -> str:
        return (
            f"F1 {self.f1_a:.3f} against {self.f1_b:.3f}: {self.difference:+.3f}, 90 % of bootstraps over "
            f"{self.n_fields} fields between {self.low:+.3f} and {self.high:+.3f}"
        )


def compare(a: Rows, b: Rows, *, draws: int = _DRAWS, seed: int = 1) -> Comparison:
    """Compare two evaluations by F1 of the class spherocyte: a paired bootstrap over the fields
    that both judged.

    Args:
        a, b: rows with `field`, `label` and `called`; rows of other columns do no harm.

    Raises:
        ValueError: no field in common, or a field that holds another number of spherocytes in one
            than in the other.

    >>> cell = {"field": "1.jpg", "label": "spherocyte", "called": "spherocyte", "found": 1}
    >>> print(compare([cell], [cell | {"called": "rbc"}]))
    F1 1.000 against 0.000: +1.000, 90 % of bootstraps over 1 fields between +1.000 and +1.000
    """
    totals = [
        {field: _totals(group) for field, group in grouped(rows, "field").items()}
        for rows in (a, b)
    ]
    fields = [field for field in totals[0] if field in totals[1]]
    differing = next((f for f in fields if totals[0][f][2] != totals[1][f][2]), None)
    if not fields or differing:
        got = f"other labels in {differing!r}" if differing else "none"
        raise ValueError(
            f"expected fields in common with the same labels, got {got}; judge both by the same recipe"
        )
    drawn = _drawn(len(fields), draws, seed)
    both = [np.array([one[f] for f in fields]) for one in totals]
    f1 = [float(_rates(one.sum(axis=0))["f1"]) for one in both]
    many = [np.nan_to_num(_rates(drawn @ one)["f1"]) for one in both]
    low, high = np.quantile(many[0] - many[1], [0.05, 0.95])
    return Comparison(f1[0], f1[1], float(low), float(high), len(fields))


def confusion(
    rows: Rows, extras: Iterable[Row], classes: Sequence[str], *, key: str = "label"
) -> dict[str, Any]:
    """How labelled cells were called: a count a label and call, with background on both sides.

    Args:
        rows: labelled cells.
        extras: detections of nothing labelled, in fully labelled fields.
        classes: the model's classes, the columns; `missed` is the last.
        key: `label`, or `fine` for the annotators' own names.

    Returns:
        columns, and rows of (label, counts), the most frequent label first and background last.
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


def known_cells(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """p_spherocyte (N,) and truth (N,) bool of the found red cells of known class."""
    kinds = [r for r in rows if r["label"] in ("rbc", "spherocyte") and int(r["found"])]
    p = np.array([float(r["p_spherocyte"]) for r in kinds])
    return p, np.array([r["label"] == "spherocyte" for r in kinds], bool)


def reliability(p: np.ndarray, truth: np.ndarray, *, bins: int = 10) -> list[dict[str, float]]:
    """Probability against frequency in bins of equal width, with Wilson's 95 % interval (1927);
    empty bins left out."""
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
    # Rounding may leave the limits on the wrong side of 0 and 1.
    return min(p, max(0.0, (p + zz / 2 - half) / (1 + zz))), max(
        p, min(1.0, (p + zz / 2 + half) / (1 + zz))
    )


def precision_recall(p: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (K,) at each distinct score, from the highest down; a missed cell comes
    with score 0."""
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(p[order]) != 0, True) & (p[order] > 0) if len(p) else np.zeros(0, bool)
    return hits[last] / max(int(truth.sum()), 1), hits[last] / (np.flatnonzero(last) + 1)


def agreement(rows: Rows) -> dict[str, Any]:
    """Percentage of spherocytes a field, called less labelled, on its labelled cells: Bland and
    Altman (1986).

    Only fields with at least MIN_FIELD_CELLS labelled red cells of known class; `bias`, `low` and
    `high` (limits of agreement, bias -+ 1.96 standard deviations) are percentage points, `fields`
    what they come from.
    """
    fields = []
    for name, group in grouped(
        [r for r in rows if r["label"] in ("rbc", "spherocyte")], "field"
    ).items():
        found = [r for r in group if int(r["found"])]
        if len(group) >= MIN_FIELD_CELLS and found:
            labelled = 100 * sum(r["label"] == "spherocyte" for r in group) / len(group)
            called = 100 * sum(r["called"] == "spherocyte" for r in found) / len(found)
            fields.append(
                {
                    "field": name,
                    "n": len(group),
                    "labelled_percent": labelled,
                    "called_percent": called,
                }
            )
    difference = np.array([f["called_percent"] - f["labelled_percent"] for f in fields])
    bias = float(difference.mean()) if len(fields) else math.nan
    sd = float(difference.std(ddof=1)) if len(fields) > 1 else math.nan
    return {
        "n_fields": len(fields),
        "bias": bias,
        "sd": sd,
        "low": bias - 1.96 * sd,
        "high": bias + 1.96 * sd,
        "fields": fields,
    }


def within_field(rows: Rows) -> dict[str, float]:
    """Probability that a spherocyte has the higher p_spherocyte of two found cells: of all fields,
    and of the same one.

    The second is blind to what tells slides apart. Pairs of all fields count alike; ties count
    half.
    """
    wins = pairs = 0.0
    n_fields = 0
    for group in grouped(rows, "field").values():
        p, truth = known_cells(group)
        if truth.any() and not truth.all():
            n = int(truth.sum()) * int((~truth).sum())
            wins, pairs, n_fields = wins + n * _auc(p, truth), pairs + n, n_fields + 1
    return {
        "auc": _auc(*known_cells(rows)),
        "auc_within_field": wins / pairs if pairs else math.nan,
        "n_fields": n_fields,
    }


def _auc(p: np.ndarray, truth: np.ndarray) -> float:
    from scipy.stats import rankdata

    n, m = int(truth.sum()), int((~truth).sum())
    if not n or not m:
        return math.nan
    return float((rankdata(p)[truth].sum() - n * (n + 1) / 2) / (n * m))


def leave_one_out(rows: Rows, *, key: str) -> list[dict[str, Any]]:
    """Each group's percentage of spherocytes, corrected by the error rates of all other groups,
    against its labels.

    Counts are those of found red cells of known class, the estimate and its 95 % interval those of
    the HS score. Groups with fewer than MIN_GROUP_CELLS of them are left out; a single group has no
    others.
    """
    from spherodetect.score.counts import score_counts
    from spherodetect.score.rates import ClassifierRates

    kinds = [r for r in rows if r["label"] in ("rbc", "spherocyte") and int(r["found"])]
    groups = {k: group for k, group in grouped(kinds, key).items() if len(group) >= MIN_GROUP_CELLS}
    counts = {name: _error_counts(group) for name, group in groups.items()}
    result = []
    for name, group in groups.items() if len(groups) > 1 else ():
        others = np.array([c for other, c in counts.items() if other != name])
        true, called, other, wrongly = (tuple(column) for column in others.T.tolist())
        rates = ClassifierRates(true, called, other, wrongly)
        fields = [_error_counts(field) for field in grouped(group, "field").values()]
        score = score_counts(
            [f[1] + f[3] for f in fields], [f[0] + f[2] for f in fields], model=rates
        )
        labelled = 100 * counts[name][0] / len(group)
        result.append(
            {
                key: name,
                "n_fields": len(fields),
                "n_cells": len(group),
                "labelled_percent": labelled,
                "called_percent": score.raw_percent,
                "corrected_percent": score.hs_score,
                "low": score.hs_score_low,
                "high": score.hs_score_high,
                "holds": bool(score.hs_score_low <= labelled <= score.hs_score_high),
            }
        )
    return result


def _error_counts(rows: Rows) -> tuple[int, int, int, int]:
    """True spherocytes, those called so, other red cells, those called so."""
    sphere = [r["called"] == "spherocyte" for r in rows if r["label"] == "spherocyte"]
    other = [r["called"] == "spherocyte" for r in rows if r["label"] == "rbc"]
    return len(sphere), sum(sphere), len(other), sum(other)


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean precision at each positive, in falling order of score; a missed positive comes with the
    lowest score."""
    hits = np.asarray(positive, float)[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))


def expected_calibration_error(p: np.ndarray, positive: np.ndarray, *, bins: int = 10) -> float:
    """Mean distance between probability and frequency over equal-width bins, weighted by cells
    (Naeini 2015)."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == k].sum() - positive[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(len(p), 1))
