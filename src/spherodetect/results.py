"""`RunResult`: what a run of detect, score or demo left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spherodetect.score import PatientScore


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run, for the command line and for callers.

    Attributes:
        scores: one a patient, in order.
        problems: a line for each thing that was left out.
        tables: name to path of the files written.
        report: the page to open first, or None.
    """

    scores: tuple[PatientScore, ...] = ()
    problems: tuple[str, ...] = ()
    tables: Mapping[str, Path] = field(default_factory=dict)
    report: Path | None = None
