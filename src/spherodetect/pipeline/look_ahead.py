"""Iterators whose next items are computed by a thread while the present one is used.

A run has steps that need the processor in turns: decoding, the network, drawing, compression. Two
of them at a time use two cores. The items keep their order, and so do errors: an error of the
source is raised where the item would have come. Only a stated number of items wait.

`LookAhead` advances an iterator, `mapped_ahead` calls a function.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Generic, Self, TypeVar

from spherodetect.examined import Examined
from spherodetect.fields.scan import LARGE_PIXELS
from spherodetect.photograph import Photograph

#: Examined fields that may wait to be drawn and written.
_FIELDS = 2
Item = TypeVar("Item")
Made = TypeVar("Made")


class Abandoned(Exception):
    """Nobody waits for what this thread computes."""


class LookAhead(Generic[Item]):
    """The items of an iterator, computed ahead by a thread of their own.

    Args:
        source: the iterator; only the thread advances it.
        n: how many items may wait at most.
        alone: says of an item that nothing is computed until it has been used, because it takes
            much memory.

    >>> with LookAhead(iter("abc")) as items:
    ...     print(list(items))
    ['a', 'b', 'c']
    """

    def __init__(
        self, source: Iterator[Item], *, n: int = 1, alone: Callable[[Item], bool] | None = None
    ) -> None:
        self._source, self._n, self._is_alone = source, n, alone or _never
        self._waiting: deque[Item] = deque()
        self._error: BaseException | None = None
        self._ended = self._closed = False
        #: An item that is alone was computed, and has not been used up.
        self._halted = False
        self._changed = threading.Condition()
        self._thread: _Ahead | None = None

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._thread is None:
            self._thread = _Ahead(self._compute)
            self._thread.start()
        with self._changed:
            # The item before has been used up. One that waits may be alone still.
            self._halted = any(map(self._is_alone, self._waiting))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _compute(self) -> None:
        """Advance the source until it ends or nobody waits for it."""
        try:
            while self._may_go_on():
                item = next(self._source)
                with self._changed:
                    self._halted = self._is_alone(item)
                    self._waiting.append(item)
                    self._changed.notify_all()
                del item  # only the queue keeps it
        except (StopIteration, Abandoned):
            pass
        except BaseException as problem:
            self._error = problem
        finally:
            if isinstance(self._source, Generator):
                self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _may_go_on(self) -> bool:
        """Wait until another item may be computed; False if none will be asked for."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (len(self._waiting) < self._n and not self._halted)
            )
            return not self._closed

    def close(self) -> None:
        """Compute no more items; waits for the one that is being computed."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.abandoned = True
            if self._thread is not threading.current_thread():
                self._thread.join()

    def __exit__(self, *error: object) -> None:
        self.close()


class _Ahead(threading.Thread):
    """The thread. A daemon, so that a program which is interrupted twice does not wait for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(target=work, name="look ahead", daemon=True)
        self.abandoned = False


def mapped_ahead(
    function: Callable[[Item], Made], items: Iterable[Item], *, alone: Callable[[Item], bool]
) -> Iterator[Made]:
    """The results of a function, which a thread calls with the next item while one is used.

    The calling thread advances the items.

    Args:
        function: called with one item at a time.
        items: of which one is taken ahead.
        alone: says of an item that no other is taken until its result has been used, because it
            takes much memory.

    >>> list(mapped_ahead(str.upper, "abc", alone=lambda item: False))
    ['A', 'B', 'C']
    """
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="map ahead")
    try:
        for item in items:
            is_alone = alone(item)
            waiting.append(pool.submit(function, item))
            del item  # only its result is kept
            while len(waiting) > (0 if is_alone else 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def examined_ahead(fields: Iterable[Examined]) -> LookAhead[Examined]:
    """The fields of `examine`, which a thread examines while earlier ones are drawn and written."""
    # The densities take four times as much memory as the pixels, and are not needed any more.
    pixels = (_with_pixels_only(one) for one in fields)
    return LookAhead(pixels, n=_FIELDS, alone=lambda one: is_large(one.cells.image_size_hw))


def is_large(size_hw: tuple[int, int]) -> bool:
    """Whether an image takes so much memory that no other is to be in memory beside it."""
    return size_hw[0] * size_hw[1] > LARGE_PIXELS


def _with_pixels_only(one: Examined) -> Examined:
    photograph = one.photograph
    return replace(one, photograph=Photograph(photograph.image)) if photograph else one


def _never(item: object) -> bool:
    return False


def stop_if_abandoned() -> None:
    """Let long work end early in a thread for which nobody waits.

    Raises:
        Abandoned: it is such a thread.
    """
    if getattr(threading.current_thread(), "abandoned", False):
        raise Abandoned


__all__ = [
    "Abandoned",
    "LookAhead",
    "examined_ahead",
    "is_large",
    "mapped_ahead",
    "stop_if_abandoned",
]
