"""Shares of spherocytes: agreement with labels, ranking within fields, correction by others.

Percentages are 0 to 100, probabilities 0 to 1. A figure that cannot be measured is NaN. Rows are
those of rows.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherodetect.evaluation.rows import Rows, grouped, known_cells

#: Fields and groups with fewer labelled red cells have too uncertain a percentage.
MIN_FIELD_CELLS, MIN_GROUP_CELLS = 10, 50


def agreement(rows: Rows) -> dict[str, Any]:
    """The difference of each field's percentage of spherocytes, called minus labelled.

    After Bland and Altman (1986): `bias`, and the limits of agreement `low` and `high`, which are
    the bias -+ 1.96 standard deviations, all in percentage points. Only fields with at least
    MIN_FIELD_CELLS labelled red cells of known class count; they are in `fields`.
    """
    known = [r for r in rows if r["label"] in ("rbc", "spherocyte")]
    fields = []
    for name, group in grouped(known, "field").items():
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
    """The area under the ROC curve of p_spherocyte, of all fields and within fields.

    It is the probability that a spherocyte has a higher p_spherocyte than another red cell. Pairs
    within a field do not depend on differences between slides. Each pair counts once, and a tie
    counts half.
    """
    wins = 0.0
    pairs = 0
    n_fields = 0
    for group in grouped(rows, "field").values():
        p, truth = known_cells(group)
        if truth.any() and not truth.all():
            n = int(truth.sum()) * int((~truth).sum())
            wins += n * _auc(p, truth)
            pairs += n
            n_fields += 1
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
    """Each group's percentage of spherocytes, corrected by the error rates of the other groups.

    The counts are of found red cells of known class. The estimate and its 95 % interval are those
    of the HS score. Groups with fewer than MIN_GROUP_CELLS such cells are left out, and groups
    whose others have cells of one class only. `holds` says whether the interval contains the
    labelled percentage.
    """
    from spherodetect.score.counts import score_counts
    from spherodetect.score.rates import ClassifierRates

    known = [r for r in rows if r["label"] in ("rbc", "spherocyte") and int(r["found"])]
    groups = {k: group for k, group in grouped(known, key).items() if len(group) >= MIN_GROUP_CELLS}
    counts = {name: _error_counts(group) for name, group in groups.items()}
    result = []
    # A single group has no others to take error rates from.
    for name, group in groups.items() if len(groups) > 1 else ():
        others = np.array([c for other, c in counts.items() if other != name])
        true, called, other, false = (tuple(column) for column in others.T.tolist())
        rates = ClassifierRates(true, called, other, false)
        if not rates.known:
            continue
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
    """Labelled spherocytes, those called so, other red cells, those called spherocytes."""
    spherocytes = [r["called"] == "spherocyte" for r in rows if r["label"] == "spherocyte"]
    others = [r["called"] == "spherocyte" for r in rows if r["label"] == "rbc"]
    return len(spherocytes), sum(spherocytes), len(others), sum(others)
