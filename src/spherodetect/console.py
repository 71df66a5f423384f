"""What people see of a command: tables on stdout, progress and lines of error on stderr.

Names that come from outside are shown on one line with nothing invisible in it, and never read as
markup.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.labels.annotations import Finding
    from spherodetect.score.counts import PatientScore

_SECONDS_BETWEEN_LINES = 5.0
_STEPS_OF_A_PACE = 20
_FINDINGS_OF_A_KIND = 3
_WIDTH_OF_A_FILE = 200  # a pipe has no width of its own, and a folded table in it helps nobody


def shown(text: object) -> str:
    r"""Text on one line, what is invisible in it written out.

    >>> print(shown("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in str(text).replace("\n", " ")
    )


def counted(n: int, noun: str) -> str:
    """A number with its noun, as in "1 label" and "2,000 labels"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def say(message: str) -> None:
    """One line on stderr, never wrapped."""
    print(f"spherodetect: {shown(message)}", file=sys.stderr, flush=True)


def print_patients(scores: Sequence[PatientScore]) -> None:
    """The patients' scores as a table."""
    from spherodetect.score.counts import RESEARCH_USE

    head = ("patient", "status", "HS score % [95 % interval]", "raw %", "grade", "cells", "fields")
    rows = []
    for s in scores:
        interval = (
            f"{s.hs_score:.1f} [{s.hs_score_low:.1f} to {s.hs_score_high:.1f}]"
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
            )
        )
    _print_table(head, rows, numbers={2, 3, 5, 6})
    print(RESEARCH_USE)


def print_splits(manifest: Mapping[str, Any]) -> None:
    """What a data set's splits hold, from its manifest."""
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
    dropped = sum(labels["dropped"].values())
    print(
        f"{counted(labels['read'], 'label')} read, {labels['written']:,} written, {dropped:,} dropped"
    )


def print_findings(findings: Sequence[Finding]) -> None:
    """Findings as a table, a row a kind with the first few of it, and how many errors and warnings
    there are."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    rows = [
        (severity, code, f"{sum(finding.count for finding in same):,}", _told(same))
        for (severity, code), same in kinds.items()
    ]
    if rows:
        _print_table(
            ("", "finding", "count", "where, what, and what to do"), rows, numbers={2}, leading=1
        )
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")


def _told(same: Sequence[Finding]) -> list[str]:
    """Lines about findings of one kind: where and what, the same things once; then what to do."""
    places: dict[str, list[str]] = {}
    for f in same:
        split = f" ({f.split})" if f.split else ""
        times = f" x {f.count:,}" if f.count > 1 and len(same) > 1 else ""
        few = (
            f" annotation {', '.join(map(quoted, f.annotation_ids))}"
            if 0 < len(f.annotation_ids) <= 3
            else ""
        )
        places.setdefault(f.message, []).append(f"{quoted(f.file)}{split}{few or times}")
    lines = []
    for message, where in itertools.islice(places.items(), _FINDINGS_OF_A_KIND):
        more = len(where) - _FINDINGS_OF_A_KIND
        rest = f" and {more:,} more" if more > 0 else ""
        lines.append(f"{', '.join(where[:_FINDINGS_OF_A_KIND])}{rest}: {message}")
    if (more := len(places) - _FINDINGS_OF_A_KIND) > 0:
        lines.append(f"{more:,} more like these; --json FILE writes them all")
    return [*lines, *(f"-> {mend}" for mend in dict.fromkeys(f.mend for f in same))]


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Callable[..., None]]:
    """Yields update(done, total, label): a bar where people look on, otherwise a line now and
    then."""
    if not sys.stderr.isatty():
        yield _line_writer(what)
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
        TimeRemainingColumn(),
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


def _line_writer(what: str) -> Callable[..., None]:
    last = time.monotonic()
    # The pace of late, for what an earlier run had finished already goes by at once.
    pace = deque([(last, 0)], maxlen=_STEPS_OF_A_PACE)

    def update(done: int, total: int, label: object = "") -> None:
        nonlocal last
        now = time.monotonic()
        pace.append((now, done))
        if done >= total or now - last >= _SECONDS_BETWEEN_LINES:
            last, (then, before) = now, pace[0]
            left = (total - done) * (now - then) / (done - before) if total > done > before else 0
            told = f" ({timedelta(seconds=round(left))} left)" if left else ""
            print(
                shown(f"{what}: {done} of {total} {label}".strip() + told),
                file=sys.stderr,
                flush=True,
            )

    return update


def _print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | Sequence[str]]],
    *,
    numbers: set[int],
    leading: int = 0,
) -> None:
    """Print a table; a cell is a text, or the lines of one; leading lines are left empty between
    rows."""
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
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
