"""A detector and a cluster for tests of the cohort, without TensorFlow and without Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.cohort.ahead import WorkerLost
from spherodetect.cohort.worker import DetectorCopy, Outcome, Task, Worker
from spherodetect.score.rates import ClassifierRates, unknown_rates


class Grid:
    """A detector of somebody's own: 25 red cells in a grid, of which the dark ones are spherocytes.

    Args:
        seconds: how long it takes for a field.
        fatal: the mean of an image at which the process is killed.
    """

    name, identity, class_names = "grid", "1", ("rbc", "spherocyte")

    def __init__(self, seconds: float = 0.0, fatal: int = -1) -> None:
        self.seconds, self.fatal = seconds, fatal

    @property
    def rates(self) -> ClassifierRates:
        return unknown_rates("grid")

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        if round(float(image.mean())) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        y, x = (v.ravel() for v in np.mgrid[10:130:25, 10:130:25])
        box = np.stack([y, x, y + 16, x + 16], axis=1)
        masks = [np.ones((16, 16), bool)] * len(box)
        dark = [int(image[a:c, b:d].mean() < 100) for a, b, c, d in box]
        return Cells.from_labels(box, 1 + np.array(dark), masks, image_size_hw=image.shape[:2])


def write_smears(root: Path, *, n_patients: int = 2, n_fields: int = 3) -> Path:
    """Small photographs of patients, all different, and one file that is no image."""
    for patient in range(n_patients):
        folder = root / f"p{patient}"
        folder.mkdir(parents=True)
        for number in range(n_fields):
            made = np.random.default_rng(100 * patient + number)
            image = made.integers(190, 230, (140, 150, 3)).astype(np.uint8)
            for y in range(10, 130, 25):
                for x in range(10, 130, 25):
                    image[y : y + 16, x : x + 16, 1] = 60 if made.random() < 0.3 else 140
            Image.fromarray(image).save(folder / f"f{number}.png")
    (root / "p0" / "torn.png").write_bytes(b"no image")
    return root


def results_of(out: Path) -> dict[str, bytes]:
    """The bytes of all files of a folder of results."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


class StandIn:
    """A cluster in this process: the calls of a worker end one at a time, when somebody waits.

    Args:
        detector: what its workers examine with.
        dies: called with a worker's number and a task before the task is done; True if the worker
            dies of it.
        n_workers: how many workers.
        absent: the workers see none of the files.
    """

    def __init__(
        self,
        detector: Any,
        *,
        dies: Callable[[int, Task], bool] = lambda worker, task: False,
        n_workers: int = 2,
        absent: bool = False,
        code: str | None = None,
    ) -> None:
        self.n_workers, self._dies, self._absent, self._code = n_workers, dies, absent, code
        self._copy = DetectorCopy.of(detector)
        self._workers: list[Worker | None] = []
        self._calls: dict[int, tuple[int, Task | None]] = {}
        self.submitted: list[str] = []
        self.most_at_a_time = 0
        self.sent_files = 0

    def start(self) -> int:
        self._workers.append(Worker(self._copy, 1))
        return len(self._workers) - 1

    def _call(self, worker: int, task: Task | None) -> int:
        number = len(self.submitted) + 10_000 * len(self._workers) + 1_000_000 * len(self._calls)
        while number in self._calls:
            number += 1
        self._calls[number] = worker, task
        return number

    def greet(self, worker: int) -> int:
        return self._call(worker, None)

    def submit(self, worker: int, task: Task) -> int:
        self.submitted.append(task.field.field_id)
        self.sent_files += bool(task.files)
        call = self._call(worker, task)
        mine = [task for owner, task in self._calls.values() if owner == worker and task]
        self.most_at_a_time = max(self.most_at_a_time, len(mine))
        return call

    def wait(self, calls: Sequence[int], timeout_s: float) -> list[int]:
        # The last worker is the fastest, so that fields end in another order than they are asked.
        last = max(self._calls[call][0] for call in calls)
        return [next(call for call in calls if self._calls[call][0] == last)]

    def result(self, call: int) -> Any:
        owner, task = self._calls.pop(call)
        worker = self._workers[owner]
        if worker is None:
            raise WorkerLost("ended")
        if task is None:
            greeting = worker.greet()
            return greeting if self._code is None else type(greeting)("elsewhere", self._code)
        if self._dies(owner, task):
            self._workers[owner] = None
            raise WorkerLost("killed")
        if self._absent and not task.files:
            return Outcome(absent=True)
        return worker.examine(task)

    def end(self, worker: int) -> None:
        self._workers[worker] = None

    @property
    def n_alive(self) -> int:
        return sum(worker is not None for worker in self._workers)
