"""The prior of a tuned detector: its log odds on the scale of the model from which it went on.

A training whose fields have a smaller share of a class than those before lowers the log odds of all
its cells against red cells, and with them a cut that was chosen before. The ranking of the cells
stays. The shift of spherocytes is measured on the same labelled cells by both detectors, near the
cut. It becomes `Thresholds.spherocyte_prior`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spherodetect.training.survey import read_survey

#: Cells whose mean log odds of the two detectors lie within this of 0 are near the cut.
_NEAR = 3.0


def prior_shift(before: Path, now: Path) -> tuple[float, int]:
    """What is to be added to the log odds of a tuned detector, and the number of cells behind it.

    Args:
        before: held-out cells of the detector from which it went on, see survey.py.
        now: cells of the tuned detector in fields of the same names; a part of them suffices.
    """
    old, new = _log_odds(before), _log_odds(now)
    pairs = np.array([(old[key], new[key]) for key in new if key in old]).reshape(-1, 2)
    near = np.abs(pairs.mean(axis=1)) < _NEAR
    if not near.any():
        return 0.0, 0
    return float(np.median(pairs[near, 0] - pairs[near, 1])), int(near.sum())


def _log_odds(file: Path) -> dict[tuple[str, int], float]:
    """(field, number of the label in it) to the log odds of the cell that was found there."""
    arrays = read_survey(file)
    fields = arrays["fields_name"].astype(str)
    field = arrays["labels_field"]
    first = np.searchsorted(field, np.arange(len(fields)))
    label = arrays["cells_label"]
    is_red = np.isin(arrays["labels_class_id"], (1, 2))
    return {
        (str(fields[field[k]]), int(k - first[field[k]])): float(value)
        for k, value in zip(label, arrays["cells_log_odds"], strict=True)
        if k >= 0 and is_red[k]
    }


__all__ = ["prior_shift"]
