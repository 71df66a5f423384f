"""`Batch`: how a run over many patients goes on, and what changes along it.

It keeps four numbers and a date of each patient, whatever the number of cells. Its page and
summary.json are written now and then, and at the end of the run.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.examined import Examined
from spherodetect.fields.dates import date_in_file
from spherodetect.fields.field import FieldList
from spherodetect.report.batch_page import write_batch_page
from spherodetect.report.batch_summary import MEASURES, Differing, Drift, Summary
from spherodetect.report.results import ResultsFolder
from spherodetect.safety import write_json

PAGE, SUMMARY = "batch.html", "summary.json"
_FORMAT = 1
#: Seconds between two pages of a run that goes on.
_EVERY_S = 30.0
#: Fields from which the rate is computed; those that an earlier run finished pass at once.
_RECENT = 100
#: A cell is doubtful if its probability lies between these.
_DOUBTFUL = (0.25, 0.75)
#: A patient differs if a median is so many robust standard deviations from that of all patients.
_DEVIATIONS = 5.0
#: Fewer patients show neither drift nor who differs.
_MIN_PATIENTS = 8
#: Part of the patients at each end of the batch that are compared.
_END = 0.2
#: Largest probability of a drift that is told, for the four measures together.
_DRIFT_P = 0.01


class Batch:
    """Gathers the fields of a run, and writes how it goes on.

    Args:
        found: all fields.
        results: the folder of the results.
        show_dates: write the patients' dates; they may tell who a patient is.
    """

    def __init__(
        self, found: FieldList, results: ResultsFolder, *, show_dates: bool = True
    ) -> None:
        self._found, self._results, self._show_dates = found, results, show_dates
        self._fields = {one.field_id: one for one in found}
        self._dates: list[datetime | None] = []
        self._problems = list(found.problems)
        self._patients = list(found.patients)
        self._ids: list[str] = []
        self._values: list[list[float]] = []
        self._current: list[Examined] = []
        self._n = self._n_unreadable = self._n_rejected = 0
        self._began = self._written = time.monotonic()
        self._recent = deque([(self._began, 0)], maxlen=_RECENT)

    def watching(self, fields: Iterable[Examined]) -> Iterator[Examined]:
        """The same fields, each of which is counted when it is there.

        Raises:
            SpherodetectError: a file cannot be written.
        """
        self._write(complete=False)
        for one in fields:
            self._add(one)
            yield one
            if time.monotonic() - self._written >= _EVERY_S:
                self._write(complete=False)

    def finish(self, problems: Sequence[str]) -> dict[str, Path]:
        """Write the end of the batch; returns name to path of the files.

        Raises:
            SpherodetectError: a file cannot be written.
        """
        self._end_patient()
        self._problems = list(problems)
        return self._write(complete=True)

    def _add(self, one: Examined) -> None:
        if self._current and self._current[0].patient_id != one.patient_id:
            self._end_patient()
        # The pixels are not kept.
        self._current.append(replace(one, photograph=None, overlay_image=None))
        self._n += 1
        self._n_unreadable += bool(one.problem)
        self._n_rejected += not one.problem and not one.quality.accepted
        if one.problem:
            self._problems.append(one.problem)
        self._recent.append((time.monotonic(), self._n))

    def _end_patient(self) -> None:
        if self._current:
            self._ids.append(self._current[0].patient_id)
            self._values.append(_measured(self._current))
            self._dates.append(self._date_of(self._current))
            self._current = []

    def _date_of(self, patient: Sequence[Examined]) -> datetime | None:
        """The earliest date of a patient's photographs."""
        fields = [self._fields[one.field_id] for one in patient if one.field_id in self._fields]
        dates = [one.taken or date_in_file(one.path) for one in fields]
        return min((date for date in dates if date is not None), default=None)

    def _write(self, *, complete: bool) -> dict[str, Path]:
        summary = self._summary(complete)
        places = {name: self._results.path(name) for name in (PAGE, SUMMARY)}
        write_json({"format": _FORMAT, **_plain(asdict(summary))}, places[SUMMARY])
        write_batch_page(places[PAGE], summary, seconds_between=_EVERY_S)
        self._written = time.monotonic()
        return places

    def _summary(self, complete: bool) -> Summary:
        now = time.monotonic()
        then, before = self._recent[0]
        rate = (self._n - before) / (now - then) if self._n > before and now > then else None
        values = np.array(self._values, float).reshape(-1, len(MEASURES))
        dates = [date for date in self._dates if date is not None]
        by_date = len(set(dates)) > 1 and len(dates) == len(self._dates)
        order = sorted(range(len(dates)), key=dates.__getitem__) if by_date else range(len(values))
        rows = [
            {
                "patient_id": self._ids[n],
                "date": _text(self._dates[n]) if self._show_dates else None,
                **dict(zip((m.name for m in MEASURES), self._values[n], strict=True)),
            }
            for n in order
        ]
        seconds = [(date - min(dates)).total_seconds() for date in dates]
        return Summary(
            complete,
            len(self._found),
            self._n,
            self._n_unreadable,
            self._n_rejected,
            len(self._patients),
            len(self._ids),
            round(now - self._began, 1),
            rate,
            0.0 if complete else (len(self._found) - self._n) / rate if rate else None,
            tuple(self._problems),
            drift_of(values, np.array(seconds) if by_date else None),
            differing_of(self._ids, values),
            tuple(rows),
            "date" if by_date else "order",
        )


def drift_of(values: np.ndarray, at: np.ndarray | None = None) -> tuple[Drift, ...]:
    """The drift of each measure along the patients.

    Args:
        values: (P, M) measures of the patients; NaN where nothing was measured.
        at: (P,) the date of each patient as a number; by default their order.
    """
    from scipy.stats import spearmanr

    at = np.arange(len(values)) if at is None else at
    order = np.argsort(at, kind="stable")
    found = []
    for measure, column in zip(MEASURES, values[order].T, strict=True):
        is_known = np.isfinite(column)
        known = column[is_known]
        if len(known) < _MIN_PATIENTS:
            continue
        n_end = max(1, round(_END * len(known)))
        correlation, p = 0.0, 1.0
        places = at[order][is_known]
        if np.ptp(known) > 0 and np.ptp(places) > 0:
            correlation, p = map(float, spearmanr(places, known))
        first, last = (float(np.median(part)) for part in (known[:n_end], known[-n_end:]))
        drifts = p * len(MEASURES) < _DRIFT_P
        median = float(np.median(known))
        found.append(Drift(measure.name, median, first, last, correlation, p, drifts))
    return tuple(found)


def differing_of(ids: Sequence[str], values: np.ndarray) -> tuple[Differing, ...]:
    """The patients who differ from the others, the farthest first.

    Args:
        ids: of the patients.
        values: (P, M) their measures; NaN where nothing was measured.
    """
    found = []
    for measure, column in zip(MEASURES, values.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) < _MIN_PATIENTS:
            continue
        # 1.4826 makes the median deviation the standard deviation of normal values.
        spread = 1.4826 * float(np.median(np.abs(known - np.median(known))))
        if not spread:
            continue
        deviations = (column - np.median(known)) / spread
        found += [
            Differing(ids[n], measure.name, float(column[n]), float(deviations[n]))
            for n in map(int, np.flatnonzero(np.abs(deviations) > _DEVIATIONS))
        ]
    return tuple(sorted(found, key=lambda one: -abs(one.deviations)))


def _measured(fields: Sequence[Examined]) -> list[float]:
    """The measures of a patient, in the order of MEASURES."""
    read = [one for one in fields if not one.problem]
    p = [one.cells.p_spherocyte[one.counted] for one in read]
    every = np.concatenate(p) if p else np.zeros(0)
    low, high = _DOUBTFUL
    doubtful = float(100 * np.mean((every > low) & (every < high))) if len(every) else math.nan
    return [
        _median([one.quality.median_od for one in read]),
        _median([one.quality.focus for one in read]),
        _median([one.quality.rbc_diameter_px for one in read]),
        doubtful,
    ]


def _text(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat(sep=" ", timespec="minutes")


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan


def _plain(value: Any) -> Any:
    """A value as JSON knows it, where NaN is null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


__all__ = ["Batch", "differing_of", "drift_of"]
