"""Labelled cells that a model has judged, as rows, and the rates that follow from them.

A row is one labelled cell, as in labelled_cells.csv. With the label `duplicate` it is a second
detection of a cell that was called a spherocyte. The keys of a row:

    field, block   the field and its block of fields
    label          rbc, spherocyte, wbc, platelet; `red cell` for one of unknown kind; empty for a
                   cell of unknown class
    fine           the annotator's own class name
    found          0 or 1
    called         a class; empty for a missed cell
    p_spherocyte   0 for a missed cell

Rates and probabilities are 0 to 1. A rate that cannot be measured is NaN.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.fields.names import natural_key

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: Labels that count for the class spherocyte; a duplicate is a false positive.
_RED = ("rbc", "spherocyte", "duplicate")
_ANY_RED = ("rbc", "spherocyte", "red cell")
#: Rates of a group with fewer cells than this are left out of the spread.
MIN_SPREAD_CELLS = 5
#: Rate to the place of its number of cells in `totals`.
_CELLS_OF_RATE = {"recall": 3, "precision": 2, "sensitivity": 2, "f1": 2, "specificity": 5}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a labelled_cells.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            row | {"found": int(row["found"]), "p_spherocyte": float(row["p_spherocyte"])}
            for row in csv.DictReader(file)
        ]


def figures(rows: Rows) -> dict[str, Any]:
    """Counts of labels, recall of red cells, and the rates of the class spherocyte.

    A missed spherocyte is a false negative, and a duplicate is a false positive. Specificity is
    that of the other red cells that were found.
    """
    counts = totals(rows)
    return {"n_labels": int(counts[3]), "n_spherocytes": int(counts[2])} | {
        name: float(value) for name, value in rates(counts).items()
    }


def totals(rows: Rows) -> np.ndarray:
    """Counts of cells, (7,) float64.

    In order: true positives, called spherocytes, labelled spherocytes, labelled red cells, found
    red cells, found other red cells, and those of them that are called spherocytes.
    """
    counts = np.zeros(7)
    for row in rows:
        label, called = row["label"], row["called"] == "spherocyte"
        if label in _RED:
            counts[:3] += (label == "spherocyte" and called, called, label == "spherocyte")
        if label in _ANY_RED:
            counts[3:5] += (1, int(row["found"]))
        if label == "rbc" and int(row["found"]):
            counts[5:] += (1, called)
    return counts


def rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The rates of (..., 7) counts, see `totals`."""
    hits, called, true, labels, found, others, false = np.moveaxis(np.asarray(counts, float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "recall": found / labels,
            "precision": hits / called,
            "sensitivity": hits / true,
            "f1": 2 * hits / (called + true),
            "specificity": 1 - false / others,
        }


def grouped(rows: Rows, key: str) -> dict[str, list[Row]]:
    """The rows by the value of a key, in natural order; rows with an empty value are left out."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row[key]:
            groups[row[key]].append(row)
    return {name: groups[name] for name in sorted(groups, key=natural_key)}


def spread(rows: Rows, key: str) -> dict[str, dict[str, float]]:
    """Median, mean, range and standard deviation of each rate over groups with enough cells."""
    groups = [totals(group) for group in grouped(rows, key).values()]
    result = {}
    for name, cells in _CELLS_OF_RATE.items():
        values = np.array([rates(t)[name] for t in groups if t[cells] >= MIN_SPREAD_CELLS])
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


def known_cells(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """p_spherocyte (N,) and truth (N,) bool of the found red cells of known class."""
    kinds = [r for r in rows if r["label"] in ("rbc", "spherocyte") and int(r["found"])]
    p = np.array([float(r["p_spherocyte"]) for r in kinds])
    return p, np.array([r["label"] == "spherocyte" for r in kinds], bool)
