"""Writes evaluation.html: the figures of an evaluation on one page without further files.

Plots are SVG inside of the page. The same result gives the same bytes. Rates are 0 to 1,
percentages 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherodetect.evaluation import rows as labels
from spherodetect.evaluation import shares
from spherodetect.evaluation.leaks import TRAINED_ON
from spherodetect.evaluation.plots import draw_plots
from spherodetect.evaluation.worst import KINDS, MAX_ERRORS_A_FIELD, Error, Gallery
from spherodetect.report.page import data_uri, write_page

if TYPE_CHECKING:
    from spherodetect.evaluation.result import Evaluation

_RATES = ("recall", "sensitivity", "precision", "f1", "specificity")


def write_evaluation_page(
    path: Path, result: Evaluation, rows: Sequence[Mapping[str, Any]], gallery: Gallery
) -> None:
    """Write the page of an evaluation.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    details = result.details
    write_page(
        path,
        "evaluation.html.j2",
        result=result,
        details=details,
        provenance=details["provenance"],
        leaky=details["provenance"]["held_out"] == TRAINED_ON,
        rates=_RATES,
        plots=draw_plots(result, rows),
        confusion=_shaded(details["confusion"]),
        fine=_shaded(details["confusion_fine"]),
        extras=_extras(result),
        errors=[
            (kind, gallery.n_seen[kind], [_entry(error) for error in gallery.errors[kind]])
            for kind in KINDS
        ],
        most_a_field=MAX_ERRORS_A_FIELD,
        min_cells={
            "field": shares.MIN_FIELD_CELLS,
            "group": shares.MIN_GROUP_CELLS,
            "spread": labels.MIN_SPREAD_CELLS,
        },
    )


def _extras(result: Evaluation) -> dict[str, Any]:
    full, detected, extra = result.extras
    unlabelled = sum(f["n_unlabelled"] for f in result.details["fields"] if f["fully_labelled"])
    share = extra / detected if detected else None
    return {
        "n_full": full,
        "n_detected": detected,
        "n_extra": extra,
        "share": share,
        "n_unlabelled": unlabelled,
    }


def _shaded(table: Mapping[str, Any]) -> dict[str, Any]:
    """A confusion matrix with the share of each count in its row, which sets its shade."""
    rows = []
    for name, counts in table["rows"]:
        total = sum(counts)
        cells = [{"n": n, "share": n / total if total else 0.0} for n in counts]
        rows.append({"name": name, "n": total, "cells": cells, "background": name == "background"})
    return {"columns": table["columns"], "rows": rows}


def _entry(error: Error) -> dict[str, Any]:
    row, evidence = error.row, error.evidence
    return {
        "uri": data_uri(error.picture, "PNG"),
        "field": row["field"],
        "x": row["x_px"],
        "y": row["y_px"],
        "label": row["fine"] or row["label"],
        "p": row["p_spherocyte"] if row["found"] else None,
        "diameter": evidence.get("diameter_px"),
        "relative_diameter": evidence.get("relative_diameter"),
        "pallor": 100 * evidence.get("pallor_fraction", math.nan),
        "ratio": evidence.get("center_rim_ratio"),
        "density": evidence.get("relative_od"),
    }
