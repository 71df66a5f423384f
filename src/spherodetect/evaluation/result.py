"""The result of an evaluation as one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """The figures of an evaluation; printed, it is a short table.

    Attributes:
        n_fields, n_labels, n_spherocytes: fields with labels, labelled red cells, and labelled
            spherocytes among them.
        recall: share of the labelled red cells that have a detection.
        precision, sensitivity, f1: of the class spherocyte. A missed spherocyte is a false
            negative, a duplicate is a false positive.
        specificity: of the other labelled red cells that were found.
        average_precision: of p_spherocyte; a missed spherocyte has a score of 0.
        brier, ece: of p_spherocyte on found cells.
        duplicates: share of the detections that are second detections of a matched cell.
        white_or_platelet_called: white cells and platelets called spherocytes, and all labelled
            ones.
        blocks: figures of each block of fields.
        extras: fully labelled fields, whole cells detected in them, and those without a label.
        warning: why the fields are not, or may not be, held out; empty if they are.
        details: the other content of evaluation.json.
    """

    model: str
    n_fields: int
    n_labels: int
    n_spherocytes: int
    recall: float
    precision: float
    sensitivity: float
    f1: float
    specificity: float
    average_precision: float
    brier: float
    ece: float
    duplicates: float
    white_or_platelet_called: tuple[int, int]
    blocks: tuple[Mapping[str, Any], ...]
    extras: tuple[int, int, int] = (0, 0, 0)
    warning: str = ""
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        figures = {k: v for k, v in vars(self).items() if isinstance(v, float)}
        called, total = self.white_or_platelet_called
        lines = [
            f"{self.model}: {self.n_labels} labelled red cells, {self.n_spherocytes} spherocytes, "
            f"in {self.n_fields} fields"
        ]
        lines += [f"  {name.replace('_', ' '):18s}{value:.3f}" for name, value in figures.items()]
        lines.append(f"  white cells and platelets called spherocyte: {called} of {total}")
        lines += [
            f"  block {b['block']:>10}: recall {b['recall']:.3f}, f1 {b['f1']:.3f} "
            f"({b['n_spherocytes']} of {b['n_labels']})"
            for b in self.blocks
        ]
        full, detected, extra = self.extras
        lines.append(
            f"  detections without a label: {extra} of {detected}, in {full} fully labelled fields"
        )
        return "\n".join(
            [*lines, *([f"  not known to be held out: {self.warning}"] if self.warning else [])]
        )
