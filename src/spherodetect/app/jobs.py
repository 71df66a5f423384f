"""`Worker`: the one thread that does everything that takes long, a step at a time.

A job is a generator that yields after each step, such as a field. Of several jobs, each does one
step in turn, so a short job does not wait for the end of a long one. A job can be cancelled between
its steps; what its finished steps stored stays. At most one job runs and four wait.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from spherodetect.app.errors import Busy, NotThere
from spherodetect.errors import SpherodetectError

logger = logging.getLogger(__name__)

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
MAX_WAITING = 4
#: Jobs that ended are remembered, the latest of them.
_REMEMBERED = 40
_FIRST_GUESS_S = 5.0
_UNEXPECTED = "an unexpected error ended this job; the terminal of the server says more"


class Cancelled(Exception):
    """Ends a job that was cancelled inside of a step."""


@dataclass(eq=False)
class Job:
    """One job; the worker changes it, others read it.

    Attributes:
        id, kind, title: what it is.
        state: WAITING, RUNNING, DONE, FAILED or CANCELLED.
        done, total, label: progress, and the step in work.
        error: one sentence, or None.
        result: what a finished job gives, or None.
        ended_at: of `time.monotonic`, or None.
    """

    id: str
    kind: str
    title: str
    state: str = WAITING
    done: int = 0
    total: int = 0
    label: str = ""
    error: str | None = None
    result: Any = None
    ended_at: float | None = None
    cancelled: bool = False
    _ended: threading.Event = field(default_factory=threading.Event)

    def progress(self, done: int, total: int, label: str = "") -> None:
        """Note what is done; the job calls it."""
        self.done, self.total, self.label = done, total, label

    def check(self) -> None:
        """End the job here if it was cancelled; a step that takes long calls it.

        Raises:
            Cancelled: it was.
        """
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False if it did not come in time."""
        return self._ended.wait(seconds)

    def to_json(self, *, result: bool = False) -> dict[str, Any]:
        """The job as browsers see it."""
        names = ("id", "kind", "title", "state", "done", "total", "label", "error")
        shown: dict[str, Any] = {name: getattr(self, name) for name in names}
        return shown | {"result": self.result if result else None}


#: Does a job: yields after each step, and sets `job.result`.
Work = Callable[[Job], Generator[None]]


class Worker:
    """The queue of jobs and its thread.

    Args:
        max_waiting: how many jobs may wait.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self.max_waiting = max_waiting
        self._condition = threading.Condition()
        self._active: deque[tuple[Job, Generator[None]]] = deque()
        self._in_work: Job | None = None
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)
        self._seconds = _FIRST_GUESS_S
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="spherodetect-worker", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, kind: str, title: str, work: Work) -> Job:
        """Queue a job.

        Raises:
            Busy: the queue is full.
        """
        with self._condition:
            n = len(self._active) + (self._in_work is not None)
            if n > self.max_waiting:
                wait_s = max(1, round(self._seconds * n))
                raise Busy(
                    f"the queue is full: one job runs and {self.max_waiting} wait; try again in "
                    f"{wait_s} seconds",
                    wait_s,
                )
            job = Job(f"j{next(self._numbers)}", kind, title)
            self._jobs[job.id] = job
            self._active.append((job, work(job)))
            self._forget()
            self._condition.notify()
            return job

    def get(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            NotThere: there is none, or it ended long ago.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise NotThere("job: expected the id of a job of this server, got another one")
        return job

    def jobs(self) -> list[Job]:
        """The jobs that are remembered, in their order."""
        with self._condition:
            return list(self._jobs.values())

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it waits, after its present step if it runs."""
        job = self.get(job_id)
        with self._condition:
            job.cancelled = True
            for entry in list(self._active):
                if entry[0] is job:
                    self._active.remove(entry)
                    self._end(job, CANCELLED)
                    entry[1].close()
        return job

    def stop(self) -> None:
        """End the thread after the present step."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join(timeout=60)

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not self._active and not self._stopped:
                    self._condition.wait()
                if self._stopped:
                    for job, _ in self._active:
                        self._end(job, CANCELLED)
                    return
                job, steps = self._active.popleft()
                self._in_work = job
            began = time.monotonic()
            goes_on = self._advance(job, steps)
            with self._condition:
                self._in_work = None
                self._seconds += 0.2 * (time.monotonic() - began - self._seconds)
                if goes_on and job.cancelled:
                    steps.close()
                    self._end(job, CANCELLED)
                elif goes_on:
                    self._active.append((job, steps))

    def _advance(self, job: Job, steps: Generator[None]) -> bool:
        """Do one step; whether there are more."""
        job.state = RUNNING
        try:
            next(steps)
        except StopIteration:
            self._end(job, DONE)
        except Cancelled:
            self._end(job, CANCELLED)
        except SpherodetectError as error:
            job.error = str(error)
            self._end(job, FAILED)
        except Exception:
            logger.exception("job %s, %s", job.id, job.kind)
            job.error = _UNEXPECTED
            self._end(job, FAILED)
        else:
            return True
        return False

    def _end(self, job: Job, state: str) -> None:
        job.state, job.ended_at = state, time.monotonic()
        job._ended.set()

    def _forget(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.ended_at is not None]
        for job_id in ended[:-_REMEMBERED]:
            del self._jobs[job_id]


__all__ = [
    "CANCELLED",
    "DONE",
    "FAILED",
    "MAX_WAITING",
    "RUNNING",
    "WAITING",
    "Job",
    "Work",
    "Worker",
]
