"""`examine_ahead`: workers fill the store of finished fields ahead of the run that needs them.

The run goes through its fields in order, as without a cluster. A field that a worker finished is
found in the store; any other is examined by the run itself. So tables, overlays and reports come
from the same code, from the same bytes, in the same order. Finished fields wait on the disk, and
only the fields that are being examined are in memory.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from spherodetect.cohort.worker import Outcome, Task, code_key
from spherodetect.detect.detector import Detector, identity_of
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.fields.scan import is_scan
from spherodetect.pipeline.examine import examine, stored_under
from spherodetect.pipeline.examine_scan import PartProgress, no_parts
from spherodetect.pipeline.store import FieldStore
from spherodetect.safety import quoted

logger = logging.getLogger(__name__)

#: Fields that a worker has at a time: one, and one to go on with.
_AT_A_TIME = 2
#: Fields a worker by which the cluster may be ahead of the run. They wait on the disk.
_AHEAD = 32
#: Workers that may end while they examine the same field.
_TRIES = 3
#: Starts that may fail in a row beyond one of each worker.
_STARTS = 2
#: Seconds until a wait is looked at again, and until a wait for the first worker is told.
_LOOK_S, _PATIENCE_S = 5.0, 60.0


class WorkerLost(Exception):
    """A worker ended, with its machine or alone, or could not start."""


class Cluster(Protocol):
    """Starts workers and carries calls to them. A call is an object that only the cluster knows."""

    @property
    def n_workers(self) -> int:
        """How many workers there are to be, at most."""

    def start(self) -> Any:
        """Begin to start a worker; returns it."""

    def greet(self, worker: Any) -> Any:
        """Begin the call `Worker.greet`, which ends when the worker is ready."""

    def submit(self, worker: Any, task: Task) -> Any:
        """Begin the call `Worker.examine`. A worker does its calls in order."""

    def wait(self, calls: Sequence[Any], timeout_s: float) -> Sequence[Any]:
        """The calls that ended, at least one unless the time is over."""

    def result(self, call: Any) -> Any:
        """The result of a call that ended.

        Raises:
            WorkerLost: the worker ended before its result was here.
        """

    def end(self, worker: Any) -> None:
        """End a worker, whatever it does."""


def examine_ahead(
    fields: Sequence[Field],
    detector: Detector,
    *,
    cluster: Cluster,
    store: FieldStore | None = None,
    scale_bar_um: float | None = None,
    label_images: Mapping[Path, Path] | None = None,
    progress: PartProgress = no_parts,
) -> Generator[Examined, None, None]:
    """Yields what `examine` yields, from fields that a cluster examines side by side.

    A field whose workers end three times is named in its `problem`, and the others go on.

    Args:
        fields: the fields.
        detector: a loaded model, or an object with the attribute `identity`.
        cluster: where the workers run.
        store: where finished fields are kept, with overlays that the workers draw; by default in a
            temporary folder, and without them.
        scale_bar_um: the length of burnt-in scale bars in µm, if the user states it.
        label_images: photograph to its label image.
        progress: told of every part of an image that the run itself examines in parts.

    Raises:
        SpherodetectError: the detector has no identity, no worker starts, a worker has other code
            than this run, or the store cannot be written.
    """
    if identity_of(detector) is None:
        raise SpherodetectError(
            f"model: expected a detector with an attribute `identity`, by which a cluster keeps "
            f"finished fields, got {type(detector).__name__} without it"
        )
    labels = label_images or {}
    draw = store is not None
    with contextlib.ExitStack() as stack:
        if store is None:
            folder = tempfile.TemporaryDirectory(prefix="spherodetect-")
            store = FieldStore(stack.enter_context(folder))
        ahead = _Ahead(cluster, fields, detector, store, scale_bar_um, labels, draw)
        stack.callback(ahead.end)
        for number, one in enumerate(fields):
            problem = ahead.problem_of(number)
            if problem:
                yield Examined.unreadable(one, problem)
                continue
            yield from examine(
                one,
                detector,
                store=store,
                scale_bar_um=scale_bar_um,
                label_images={one.path: labels[one.path]} if one.path in labels else None,
                progress=progress,
            )


@dataclass(frozen=True)
class _Call:
    """A call that examines a field, the field's number, and its key in the store."""

    call: Any
    number: int
    key: str


@dataclass(eq=False)
class _Place:
    """A worker and its calls, in order; it greets first."""

    worker: Any
    greeting: Any = None
    calls: deque[_Call] = field(default_factory=deque)


class _Ahead:
    """What the cluster does and did."""

    def __init__(
        self,
        cluster: Cluster,
        fields: Sequence[Field],
        detector: Detector,
        store: FieldStore,
        scale_bar_um: float | None,
        label_images: Mapping[Path, Path],
        draw: bool,
    ) -> None:
        self._cluster, self._fields, self._detector = cluster, fields, detector
        self._store, self._scale_bar_um, self._labels = store, scale_bar_um, label_images
        self._draw = draw
        self._places: list[_Place] = []
        self._position = self._next = 0
        #: Fields that the run may ask for: they are in the store, or the run examines them.
        self._done: set[int] = set()
        self._again: deque[int] = deque()
        self._tries: dict[int, int] = {}
        self._lost: dict[int, str] = {}
        self._with_files = False
        self._failed_starts, self._began = 0, time.monotonic()
        self._greeted = self._told = self._failed = False

    def problem_of(self, number: int) -> str:
        """Wait until the run may ask for a field; returns why it cannot be examined, if so."""
        self._position = number
        self._submit()
        while number not in self._done:
            self._wait()
            self._submit()
        self._done.discard(number)
        return self._lost.pop(number, "")

    def end(self) -> None:
        """End all workers."""
        for place in self._places:
            self._cluster.end(place.worker)
        self._places.clear()

    def _submit(self) -> None:
        """Give each worker that is ready its next fields."""
        if not self._places:
            task = self._next_task()
            if task is None:
                return
            self._again.appendleft(task[0])
            self._places = [self._started() for _ in range(self._cluster.n_workers)]
        # Each worker gets a first field before any gets a second.
        for n_calls in range(_AT_A_TIME):
            for place in self._places:
                if place.greeting is None and len(place.calls) == n_calls:
                    task = self._next_task()
                    if task is None:
                        return
                    call = self._cluster.submit(place.worker, task[1])
                    place.calls.append(_Call(call, task[0], task[1].key))

    def _started(self) -> _Place:
        worker = self._cluster.start()
        return _Place(worker, self._cluster.greet(worker))

    def _next_task(self) -> tuple[int, Task] | None:
        """The next field that a worker has to examine."""
        # Before the first field that has to be examined, the cluster is not asked for its size.
        last = self._position + _AHEAD * max(1, len(self._places))
        while True:
            if self._again:
                number = self._again.popleft()
            elif self._next < min(len(self._fields), last):
                number, self._next = self._next, self._next + 1
            else:
                return None
            task = self._task(self._fields[number])
            if task is not None:
                return number, task
            self._done.add(number)

    def _task(self, one: Field) -> Task | None:
        """A field as a task; None if it is in the store, or left to the run itself."""
        labels = self._labels.get(one.path)
        try:
            key = stored_under(
                self._store,
                one,
                self._detector,
                scale_bar_um=self._scale_bar_um,
                label_image=labels,
            )
            if self._store.load(key) is not None:
                return None
            files = None
            if self._with_files:
                if is_scan(one.path):
                    return None
                files = {path: path.read_bytes() for path in (one.path, labels) if path}
        except (SpherodetectError, OSError):  # the run says what is wrong with it
            return None
        return Task(one, key, self._scale_bar_um, labels, files, self._draw)

    def _wait(self) -> None:
        """Wait until some call ends."""
        calls = {
            call: place
            for place in self._places
            for call in (place.greeting, *(one.call for one in place.calls))
            if call is not None
        }
        ended = self._cluster.wait(list(calls), _LOOK_S)
        if not self._greeted and not self._told and time.monotonic() - self._began > _PATIENCE_S:
            self._told = True
            logger.warning("the cluster has started no worker yet; has it as many free cores?")
        for call in ended:
            place = calls[call]
            # The calls of a worker that was lost in the meantime are gone.
            if place not in self._places:
                continue
            if call is place.greeting:
                self._greet(place)
            elif own := [one for one in place.calls if one.call is call]:
                self._finish(place, own[0])

    def _greet(self, place: _Place) -> None:
        try:
            greeting = self._cluster.result(place.greeting)
        except WorkerLost as problem:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS + len(self._places):
                raise SpherodetectError(f"no worker of the cluster starts: {problem}") from problem
            self._replace(place)
            return
        if greeting.code != code_key():
            raise SpherodetectError(
                f"machine {quoted(greeting.machine)} of the cluster: expected the same version of "
                "spherodetect and of its libraries as here, got another; install the same there"
            )
        place.greeting, self._greeted, self._failed_starts = None, True, 0

    def _finish(self, place: _Place, one: _Call) -> None:
        try:
            outcome: Outcome = self._cluster.result(one.call)
        except WorkerLost as problem:
            self._lose(place, problem)
            return
        place.calls.remove(one)
        if outcome.absent:
            self._with_files = True
            self._again.append(one.number)
            return
        if outcome.error and not self._failed:
            self._failed = True
            logger.warning(
                "%s: a worker cannot examine it (%s); fields like this are examined here",
                quoted(self._fields[one.number].field_id),
                outcome.error,
            )
        if outcome.content is not None:
            if outcome.overlay is not None:
                self._store.put_overlay(*outcome.overlay)
            self._store.put(one.key, outcome.content)
        self._done.add(one.number)

    def _lose(self, place: _Place, problem: WorkerLost) -> None:
        """Replace a worker that ended; what it had to do is done again."""
        numbers = [one.number for one in place.calls]
        self._replace(place)
        # A worker examines its first field, and the others only waited.
        first = numbers[0]
        self._tries[first] = self._tries.get(first, 0) + 1
        logger.info("%s: a worker ended (%s)", self._fields[first].field_id, problem)
        if self._tries[first] >= _TRIES:
            self._lost[first] = (
                f"{quoted(self._fields[first].field_id)}: not examined, {_TRIES} workers of the "
                "cluster ended with it, perhaps for their memory; score it on a larger machine"
            )
            self._done.add(first)
            del numbers[0]
        self._again.extendleft(reversed(numbers))

    def _replace(self, place: _Place) -> None:
        self._cluster.end(place.worker)
        self._places[self._places.index(place)] = self._started()


__all__ = ["Cluster", "WorkerLost", "examine_ahead"]
