"""Plots of an evaluation as SVG data URIs, drawn by matplotlib without its global state."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spherodetect.evaluation import metrics

if TYPE_CHECKING:
    from spherodetect.evaluation.result import Evaluation

_INK, _SOFT = "#1b2530", "#5b6673"
_BLUE, _ORANGE, _GREEN = "#0048ba", "#d55e00", "#00825f"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _SOFT,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e9edf1",
    "legend.frameon": False,
    "svg.hashsalt": "spherodetect",
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
}


def draw_plots(result: Evaluation, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The plots of the page by name; empty text for a plot without data."""
    details = result.details
    left_out, robustness = details["leave_one_out"], details["robustness"]
    with matplotlib.rc_context(_STYLE):
        return {
            "ranking": _svg(_ranking(result, rows)),
            "reliability": _svg(_reliability(result)),
            "agreement": _svg(_agreement(details["agreement"])),
            "groups": _svg(_groups(left_out["groups"], left_out["unit"]))
            if left_out["groups"]
            else "",
            "robustness": _svg(_robustness(robustness["changes"])) if robustness else "",
        }


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue().encode()).decode()}"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _ranking(result: Evaluation, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Precision against recall of the class spherocyte, with the model's threshold.

    Missed cells are included.
    """
    red = [r for r in rows if r["label"] in ("rbc", "spherocyte", "duplicate")]
    recall, precision = metrics.precision_recall(
        np.array([r["p_spherocyte"] for r in red]),
        np.array([r["label"] == "spherocyte" for r in red], bool),
    )
    figure, (axes,) = _figure(4.4, 3.7)
    axes.step(recall, precision, where="post", color=_BLUE, linewidth=1.6)
    if math.isfinite(result.precision) and math.isfinite(result.sensitivity):
        axes.plot(
            result.sensitivity,
            result.precision,
            "o",
            color=_ORANGE,
            markersize=8,
            markeredgecolor="white",
        )
        left = result.sensitivity > 0.5
        axes.annotate(
            "as called",
            (result.sensitivity, result.precision),
            (-9 if left else 9, -12),
            color=_ORANGE,
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
        )
    axes.set(
        xlim=(0, 1.01),
        ylim=(0, 1.02),
        xlabel="sensitivity (missed cells included)",
        ylabel="precision",
    )
    axes.set_title(
        f"Average precision {_number(result.average_precision)}", loc="left", fontsize=10
    )
    return figure


def _reliability(result: Evaluation) -> Figure:
    figure, (axes,) = _figure(4.4, 3.7)
    bins = result.details["reliability"]
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    x, y = [b["mean_p"] for b in bins], [b["frequency"] for b in bins]
    error = [[b["frequency"] - b["low"] for b in bins], [b["high"] - b["frequency"] for b in bins]]
    axes.errorbar(x, y, yerr=error, fmt="o", color=_BLUE, markersize=5, elinewidth=1.2, capsize=2.5)
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.1, 1.04), xlabel="p_spherocyte", ylabel="labelled spherocyte"
    )
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    for b in bins:
        axes.text(b["from"] + 0.05, -0.085, f"{b['n']:,}", ha="center", fontsize=7, color=_SOFT)
    axes.set_title(
        f"Brier {_number(result.brier)}, calibration error {_number(result.ece)}",
        loc="left",
        fontsize=10,
    )
    return figure


def _agreement(agreement: Mapping[str, Any]) -> Figure:
    """Bland and Altman's plot; a point is a field."""
    figure, (axes,) = _figure(5.2, 3.7)
    fields = agreement["fields"]
    labelled, called = (
        np.array([f[k] for f in fields]) for k in ("labelled_percent", "called_percent")
    )
    size = np.array([f["n"] for f in fields], float)
    axes.scatter(
        (labelled + called) / 2,
        called - labelled,
        6 + size / 3,
        color=_BLUE,
        alpha=0.45,
        linewidth=0,
    )
    axes.axhline(0, color=_SOFT, linewidth=0.8)
    ends = {"bias": agreement["bias"], "low": agreement["low"], "high": agreement["high"]}
    for name, value in ends.items():
        if math.isfinite(value):
            axes.axhline(
                value,
                color=_ORANGE,
                linewidth=1.3,
                linestyle="-" if name == "bias" else (0, (4, 3)),
            )
            axes.annotate(
                f"{value:+.1f}",
                (1, value),
                (3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                color=_ORANGE,
                annotation_clip=False,
                fontsize=8,
            )
    axes.set(
        xlabel="spherocytes, mean of called and labelled (%)",
        ylabel="called less labelled (points)",
    )
    axes.set_title(
        "Each labelled field: bias and 95 % limits of agreement", loc="left", fontsize=10
    )
    return figure


def _groups(groups: Sequence[Mapping[str, Any]], unit: str) -> Figure:
    """Labelled percentage and corrected one, by the error rates of the other groups."""
    figure, (axes,) = _figure(4.4, max(2.0, 0.9 + 0.28 * len(groups)))
    for k, group in enumerate(groups):
        y = len(groups) - k
        axes.plot(
            [group["low"], group["high"]],
            [y, y],
            color=_BLUE,
            linewidth=2.4,
            alpha=0.5,
            solid_capstyle="round",
        )
        axes.plot(group["corrected_percent"], y, "o", color=_BLUE, markersize=5)
        axes.plot(
            group["labelled_percent"], y, "D", color=_ORANGE, markersize=5, markeredgecolor="white"
        )
    axes.set_yticks(range(len(groups), 0, -1), [_short(str(group[unit])) for group in groups])
    axes.set(xlabel="spherocytes (%)", xlim=(-1, None), ylim=(0.3, len(groups) + 0.7))
    axes.set_title("Labelled (orange) and estimated (blue)", loc="left", fontsize=10)
    axes.grid(False, axis="y")
    return figure


def _robustness(changes: Sequence[Mapping[str, Any]]) -> Figure:
    kinds = list(dict.fromkeys(c["kind"] for c in changes if c["kind"] != "none"))
    figure, panels = _figure(9.4, 3.0, len(kinds))
    unchanged = changes[0]
    lines = (
        ("recall", _INK, "o"),
        ("sensitivity", _ORANGE, "s"),
        ("specificity", _GREEN, "^"),
        ("f1", _BLUE, "D"),
    )
    axes: Axes
    for axes, kind in zip(panels, kinds, strict=True):
        tried = [unchanged, *(c for c in changes if c["kind"] == kind)]
        for name, color, marker in lines:
            label = "F1" if name == "f1" else name
            axes.plot(
                [c[name] for c in tried],
                marker=marker,
                markersize=4,
                color=color,
                linewidth=1.4,
                label=label,
            )
        axes.set_xticks(
            range(len(tried)),
            [c["strength"].replace(" of a cell", "") for c in tried],
            rotation=35,
            ha="right",
            fontsize=8,
        )
        axes.set(ylim=(0, 1.03))
        axes.set_title(f"{kind} (of a cell)" if kind == "blur" else kind, loc="left", fontsize=10)
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].legend(loc="lower left", fontsize=8)
    return figure


def _short(text: str, most: int = 18) -> str:
    """A name for an axis: printable, without the middle if it is long.

    The sign $ is escaped, because matplotlib begins a formula with it.
    """
    text = "".join(c for c in text if c.isprintable()).replace("$", r"\$")
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def _number(value: float, decimals: int = 3) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"
