"""The output of a command in the terminal: tables on stdout, progress and errors on stderr.

Texts from outside are printed on one line, with their invisible characters escaped, and are never
interpreted as markup.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.labels.annotations import Finding
    from spherodetect.score.counts import PatientScore

#: Progress in a file or pipe is a line at most so often.
_SECONDS_BETWEEN_LINES = 5.0
#: Steps from which the remaining time is estimated.
_STEPS_OF_SPEED = 20
#: Findings of a kind that are printed, and places of each.
_FINDINGS_OF_A_KIND = 3
#: Characters of a table's width in a file or pipe, which has no width; a wrapped table cannot be
#: read by programs.
_WIDTH_IN_FILE = 200


def shown(text: object) -> str:
    r"""Return a text on one line, with invisible characters escaped.

    >>> print(shown("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in str(text).replace("\n", " ")
    )


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, as in "1 label" and "2,000 labels"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def say(message: str) -> None:
    """Print one line on stderr; it is never wrapped."""
    print(f"spherodetect: {shown(message)}", file=sys.stderr, flush=True)


def print_patients(scores: Sequence[PatientScore]) -> None:
    """Print the scores of the patients as a table."""
    from spherodetect.score.counts import RESEARCH_USE

    head = ["patient", "status", "HS score % [95 % interval]", "raw %", "grade", "cells", "fields"]
    reviewed = any(s.basis == "reviewed" for s in scores)
    head += ["reviewed", "model alone"] if reviewed else []
    rows = []
    for s in scores:
        interval = (
            _with_interval(s.hs_score, s.hs_score_low, s.hs_score_high)
            if s.n_countable
            else "no cells"
        )
        raw = f"{s.raw_percent:.1f}" if s.n_countable else ""
        rows.append(
            (
                s.patient_id,
                s.status,
                interval,
                raw,
                s.grade,
                f"{s.n_countable:,}",
                f"{s.n_fields:,}",
                *(_review_columns(s) if reviewed else ()),
            )
        )
    _print_table(head, rows, numbers={2, 3, 5, 6, 7, 8})
    print(RESEARCH_USE)


def _review_columns(s: PatientScore) -> tuple[str, str]:
    if s.basis != "reviewed":
        return "", ""
    model = _with_interval(s.model_score, s.model_score_low, s.model_score_high)
    return f"{s.n_reviewed:,}", model


def _with_interval(percent: float, low: float, high: float) -> str:
    """Return a percentage with its limits, or without those of a model of unknown error rates."""
    limits = "no interval" if math.isnan(low) else f"{low:.1f} to {high:.1f}"
    return f"{percent:.1f} [{limits}]"


def print_splits(manifest: Mapping[str, Any]) -> None:
    """Print the contents of a data set's splits, from its manifest."""
    splits, labels = manifest["splits"], manifest["annotations"]
    classes = list(
        dict.fromkeys(
            [*manifest["class_names"], *(c for s in splits.values() for c in s["classes"])]
        )
    )
    head = ("split", "images", "photographs", *classes)
    rows = [
        (
            name,
            *(
                f"{n:,}"
                for n in (s["images"], s["sources"], *(s["classes"].get(c, 0) for c in classes))
            ),
        )
        for name, s in splits.items()
    ]
    _print_table(head, rows, numbers=set(range(1, len(head))))
    dropped = labels["dropped"]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in dropped.items())
    print(
        f"{counted(labels['read'], 'label')} read, {labels['written']:,} written, "
        f"{sum(dropped.values()):,} dropped" + (f" ({reasons})" if reasons else "")
    )


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings as a table, and their number by severity.

    The table has one row a kind of finding, with the first few findings of that kind.
    """
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    rows = [
        (severity, code, f"{sum(finding.count for finding in same):,}", _finding_lines(same))
        for (severity, code), same in kinds.items()
    ]
    if rows:
        _print_table(
            ("", "finding", "count", "where, what, and what to do"), rows, numbers={2}, leading=1
        )
    n = Counter(finding.severity for finding in findings)
    severities = ("error", "warning", *(["note"] if n["note"] else []))
    print(", ".join(counted(n[severity], severity) for severity in severities))


def _finding_lines(same: Sequence[Finding]) -> list[str]:
    """Return lines about findings of one kind: the places of each message, then what to do."""
    places: dict[str, list[str]] = {}
    for f in same:
        split = f" ({f.split})" if f.split else ""
        times = f" x {f.count:,}" if f.count > 1 and len(same) > 1 else ""
        few = (
            f" annotation {', '.join(map(quoted, f.annotation_ids))}"
            if 0 < len(f.annotation_ids) <= 3
            else ""
        )
        place = "all files" if f.file == "." else quoted(f.file)
        places.setdefault(f.message, []).append(f"{place}{split}{few or times}")
    lines = []
    for message, where in itertools.islice(places.items(), _FINDINGS_OF_A_KIND):
        more = len(where) - _FINDINGS_OF_A_KIND
        rest = f" and {more:,} more" if more > 0 else ""
        lines.append(f"{', '.join(where[:_FINDINGS_OF_A_KIND])}{rest}: {message}")
    if (more := len(places) - _FINDINGS_OF_A_KIND) > 0:
        lines.append(f"{more:,} more like these; --json FILE writes them all")
    return [*lines, *(f"-> {mend}" for mend in dict.fromkeys(f.mend for f in same))]


class LogLines(logging.Handler):
    """Prints log records on stderr, above the bar of `progress_of` where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # A bar replaces sys.stderr while it is shown.
        print(shown(self.format(record)), file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_of(what: str, *, clock: bool = True) -> Iterator[Callable[..., None]]:
    """Yield update(done, total, label), which shows progress on stderr.

    In a terminal it is a bar, otherwise a line from time to time. Without `clock` the time left is
    not shown, because the label has it.
    """
    if not sys.stderr.isatty():
        yield _line_writer(what, clock=clock)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TimeRemainingColumn()] if clock else []),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int, label: object = "") -> None:
            bar.update(
                task,
                completed=done,
                total=total,
                description=escape(f"{what} {shown(label)}".strip()),
            )

        yield update


def _line_writer(what: str, *, clock: bool) -> Callable[..., None]:
    """Return update(done, total, label), which prints a line from time to time."""
    last = time.monotonic()
    # Only the last steps: fields that an earlier run finished pass at once, and would make the
    # estimate of the remaining time too short. The first step of all does not count either: it also
    # loads the model or starts the processes, and takes many times as long as the others.
    recent: deque[tuple[float, int]] = deque(maxlen=_STEPS_OF_SPEED)

    def update(done: int, total: int, label: object = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done:
            recent.append((now, done))
        if done >= total or now - last >= _SECONDS_BETWEEN_LINES:
            last, (then, before) = now, recent[0] if recent else (now, done)
            left = (total - done) * (now - then) / (done - before) if total > done > before else 0
            remaining = f" ({timedelta(seconds=round(left))} left)" if left and clock else ""
            line = f"{what}: {done} of {total} {label}".strip() + remaining
            print(shown(line), file=sys.stderr, flush=True)

    return update


def _print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | Sequence[str]]],
    *,
    numbers: set[int],
    leading: int = 0,
) -> None:
    """Print a table.

    Args:
        head: names of the columns.
        rows: their cells; a cell is a text or several lines.
        numbers: indices of the columns that are aligned to the right.
        leading: number of empty lines between rows.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, leading=leading)
    for index, name in enumerate(head):
        table.add_column(
            Text(shown(name)), justify="right" if index in numbers else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(
            *(
                Text("\n".join(map(shown, [cell] if isinstance(cell, str) else cell)))
                for cell in row
            )
        )
    Console(width=None if sys.stdout.isatty() else _WIDTH_IN_FILE).print(table)
