"""What people see of a command: tables on stdout, progress and lines of error on stderr.

Names that come from outside are shown on one line with nothing invisible in it, and never read as markup.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.labels.annotations import Finding
    from spherodetect.score import PatientScore

_SECONDS_BETWEEN_LINES = 5.0
_FINDINGS_OF_A_KIND = 3
_WIDTH_OF_A_FILE = 200  # a pipe has no width of its own, and a folded table in it helps nobody


def shown(text: object) -> str:
    r"""Text on one line, what is invisible in it written out.

    >>> print(shown("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text).replace("\n", " "))


def counted(n: int, noun: str) -> str:
    """A number with its noun, as in "1 label" and "2,000 labels"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def say(message: str) -> None:
    """One line on stderr, never wrapped."""
    print(f"spherodetect: {shown(message)}", file=sys.stderr, flush=True)


def print_patients(scores: Sequence[PatientScore]) -> None:
    """The patients' scores as a table."""
    from spherodetect.score import RESEARCH_USE

    head = ("patient", "status", "HS score % [95 % interval]", "raw %", "grade", "cells", "fields")
    rows = []
    for s in scores:
        interval = f"{s.hs_score:.1f} [{s.hs_score_low:.1f} to {s.hs_score_high:.1f}]" if s.n_countable else "no cells"
        raw = f"{s.raw_percent:.1f}" if s.n_countable else ""
        rows.append((s.patient_id, s.status, interval, raw, s.grade, f"{s.n_countable:,}", f"{s.n_fields:,}"))
    _print_table(head, rows, numbers={2, 3, 5, 6})
    print(RESEARCH_USE)


def print_splits(manifest: Mapping[str, Any]) -> None:
    """What a data set's splits hold, from its manifest."""
    splits, labels = manifest["splits"], manifest["annotations"]
    classes = list(dict.fromkeys([*manifest["class_names"], *(c for s in splits.values() for c in s["classes"])]))
    head = ("split", "images", "photographs", *classes)
    rows = [
        (name, *(f"{n:,}" for n in (s["images"], s["sources"], *(s["classes"].get(c, 0) for c in classes))))
        for name, s in splits.items()
    ]
    _print_table(head, rows, numbers=set(range(1, len(head))))
    dropped = sum(labels["dropped"].values())
    print(f"{counted(labels['read'], 'label')} read, {labels['written']:,} written, {dropped:,} dropped")


def print_findings(findings: Sequence[Finding]) -> None:
    """Findings a line each, the first few of a kind, and how many errors and warnings there are."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.code), []).append(finding)
    for (severity, code), same in kinds.items():
        for finding in itertools.islice(same, _FINDINGS_OF_A_KIND):
            where = quoted(finding.file) + (f" ({finding.split})" if finding.split else "")
            print(shown(f"{severity}: {code} x {finding.count}: {where}: {finding.message}; {finding.mend}"))
        if (more := len(same) - _FINDINGS_OF_A_KIND) > 0:
            print(f"{severity}: {code}: {more:,} more like these; --json FILE writes them all")
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Callable[..., None]]:
    """Yields update(done, total, label): a bar where people look on, otherwise a line now and then."""
    if not sys.stderr.isatty():
        yield _line_writer(what)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int, label: object = "") -> None:
            bar.update(task, completed=done, total=total, description=escape(f"{what} {shown(label)}".strip()))

        yield update


def _line_writer(what: str) -> Callable[..., None]:
    last = time.monotonic()

    def update(done: int, total: int, label: object = "") -> None:
        nonlocal last
        if done >= total or time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(shown(f"{what}: {done} of {total} {label}".strip()), file=sys.stderr, flush=True)

    return update


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: set[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for index, name in enumerate(head):
        table.add_column(Text(shown(name)), justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
