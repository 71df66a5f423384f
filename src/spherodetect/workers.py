"""Worker processes that end with their parent, at once and without a word.

A worker never sees Ctrl-C, which a terminal sends to every process of a command; its parent ends
it. A worker whose parent was killed ends by itself. A script that uses workers needs the usual
`__main__` guard.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from spherodetect.errors import SpherodetectError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

#: Pieces of work for each worker that are handed out ahead of the results.
_AHEAD = 4
T = TypeVar("T")
R = TypeVar("R")
#: Called with a function and its arguments; yields the results in order.
Mapped = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextlib.contextmanager
def working(n: int, *, chunk: int = 1) -> Iterator[Mapped]:
    """Yields a function like `map`, whose calls run in n worker processes.

    At the end of the block the workers end, whatever they are doing. With n of 1 or less the calls
    run in this process.

    Args:
        n: number of processes.
        chunk: calls that a worker gets at a time.

    >>> with working(1) as mapped:
    ...     list(mapped(abs, [-1, 2]))
    [1, 2]
    """
    if n <= 1:
        yield map
        return
    from concurrent.futures import ProcessPoolExecutor

    before = set(multiprocessing.active_children())
    # Forking a process that runs TensorFlow's threads can hang.
    spawn = multiprocessing.get_context("spawn")
    _start_tracker()
    executor = ProcessPoolExecutor(n, spawn, initializer=_end_with_parent)
    try:
        yield lambda function, arguments: _Calls(executor, function, arguments, n, chunk).results()
    finally:
        # Nothing is cancelled: Python 3.11 prints a traceback if a worker ends before that is done.
        executor.shutdown(wait=False)
        end_workers(before)


class _Calls(Generic[T, R]):
    """The calls of a function, of which some run ahead of their results."""

    def __init__(
        self,
        executor: Executor,
        function: Callable[[T], R],
        arguments: Iterable[T],
        n: int,
        chunk: int,
    ) -> None:
        self._executor, self._function, self._chunk = executor, function, chunk
        self._rest = iter(arguments)
        self._most = _AHEAD * n
        self._waiting: deque[Future[list[R]]] = deque()
        self._submit()

    def _submit(self) -> None:
        while len(self._waiting) < self._most and (some := list(islice(self._rest, self._chunk))):
            # A worker starts with a call, and inherits the mask of signals.
            with _without_interrupts():
                self._waiting.append(self._executor.submit(_each, self._function, some))

    def results(self) -> Iterator[R]:
        from concurrent.futures.process import BrokenProcessPool

        try:
            while self._waiting:
                yield from self._waiting.popleft().result()
                self._submit()
        except BrokenProcessPool as problem:
            raise SpherodetectError(
                "a worker process was ended from outside, perhaps for its memory; "
                "close other programs, and start the command again"
            ) from problem


def _each(function: Callable[[T], R], arguments: list[T]) -> list[R]:
    return [function(one) for one in arguments]


def end_workers(kept: Iterable[multiprocessing.process.BaseProcess] = ()) -> None:
    """End the child processes of this process except the given ones."""
    for process in set(multiprocessing.active_children()) - set(kept):
        process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A block that Ctrl-C interrupts at its end; processes that start in it ignore Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # If it is not running yet, the tracker starts with the first worker, and unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start Python's tracker of semaphores, which outlives a parent that is killed and would then
    warn on its stderr."""
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _end_with_parent() -> None:
    """End this worker if its parent is killed; it would otherwise wait for work forever."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


__all__ = ["Mapped", "end_workers", "working"]
