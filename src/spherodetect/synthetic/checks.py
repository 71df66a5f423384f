"""The check of a numeric argument."""

from __future__ import annotations

import numpy as np


def require(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    """Check that low <= value <= high.

    Raises:
        ValueError: the value is out of range or NaN, or `whole` is set and it is no integer.
    """
    if not low <= value <= high or (whole and not isinstance(value, int | np.integer)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name}: expected a {kind} from {low:g} to {high:g}, got {value!r}")
