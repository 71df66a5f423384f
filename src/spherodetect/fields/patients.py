"""The patient in a path, found by a regular expression."""

from __future__ import annotations

import re

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted


def patient_pattern(patient_regex: str | None) -> re.Pattern[str] | None:
    """The compiled pattern for `patient_in`, or None without a regular expression.

    Raises:
        SpherodetectError: patient_regex is not a regular expression, or has no group.
    """
    if patient_regex is None:
        return None
    expected = (
        f"patient pattern {quoted(patient_regex)}: "
        "expected a regular expression with a group for the patient"
    )
    try:
        pattern = re.compile(patient_regex)
    except (re.error, RecursionError, OverflowError) as problem:
        raise SpherodetectError(f"{expected}, got an invalid one ({quoted(problem)})") from problem
    if not pattern.groups:
        raise SpherodetectError(f"{expected}, got none; put round brackets around the patient")
    return pattern


def patient_in(path: str, pattern: re.Pattern[str]) -> str:
    """The patient in a path: the pattern's group `patient`, else its first group.

    The result is empty if the pattern does not match.
    """
    match = pattern.search(path)
    if not match:
        return ""
    return (match["patient" if "patient" in pattern.groupindex else 1] or "").strip()
