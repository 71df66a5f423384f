"""`Worker`: one loaded detector on one machine of a cluster, which examines a field a call.

It gives back the file by which `examine` keeps a finished field, and the field's overlay, so that
the run that asked for it has the bytes that it would have made itself. A photograph is read where
it lies; where another machine does not see the path, its bytes travel with the task.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spherodetect.detect.detector import Detector, as_detector, with_convention
from spherodetect.detect.model import Model
from spherodetect.detect.threads import n_threads
from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field
from spherodetect.pipeline.examine import examine, stored_under
from spherodetect.pipeline.overlay_files import drawn_overlay
from spherodetect.pipeline.store import FieldStore


@dataclass(frozen=True)
class Task:
    """A field to examine.

    Attributes:
        field: the field.
        key: the key of the finished field in the store of the run.
        scale_bar_um: the length of burnt-in scale bars in µm, or None.
        label_image: the field's label image, or None.
        files: the content of these files by path, or nothing if the worker is to read them.
        draw: whether the overlay is needed.
    """

    field: Field
    key: str
    scale_bar_um: float | None = None
    label_image: Path | None = None
    files: Mapping[Path, bytes] | None = None
    draw: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        content: the file of the finished field; None if the field has a problem.
        overlay: the field's overlay as PNG with the key of what it follows from, or None.
        absent: the worker's machine has no such files.
        error: an error that is no fault of the field, in one line.
    """

    content: bytes | None = None
    overlay: tuple[str, bytes] | None = None
    absent: bool = False
    error: str = ""


@dataclass(frozen=True)
class Greeting:
    """What a worker says when it is ready: its machine, and `code_key` there."""

    machine: str
    code: str


@dataclass(frozen=True)
class DetectorCopy:
    """A detector that can be sent: the files of a model folder, or an object that can be pickled.

    Attributes:
        files: relative path to content; of a model folder.
        convention: the model's stated convention.
        own: somebody's own detector.
        threads: among which TensorFlow divides an operation, as it does where the copy was made.
    """

    files: Mapping[str, bytes] | None = None
    convention: str | None = None
    own: Detector | None = None
    threads: int = 1

    @classmethod
    def of(cls, detector: Detector) -> DetectorCopy:
        """A copy of a loaded detector."""
        if not isinstance(detector, Model):
            return cls(own=detector)
        root = detector.folder
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        content = {name: path.read_bytes() for name, path in files.items()}
        return cls(content, detector.convention, threads=n_threads())

    def loaded(self, cores: int) -> Detector:
        """The detector, for a process that has so many cores."""
        if self.files is None:
            return as_detector(self.own)
        _use_cores(cores, self.threads)
        with tempfile.TemporaryDirectory(prefix="spherodetect-") as folder:
            for name, content in self.files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return with_convention(as_detector(folder), self.convention)


class Worker:
    """A detector that examines fields.

    Args:
        copy: the detector.
        cores: cores that it may compute on.
    """

    def __init__(self, copy: DetectorCopy, cores: int) -> None:
        self._detector = copy.loaded(cores)

    def greet(self) -> Greeting:
        """Say that the detector is loaded."""
        return Greeting(platform.node(), code_key())

    def examine(self, task: Task) -> Outcome:
        """Examine one field.

        An error that is no fault of the field leaves it to the run, which meets the same error.
        """
        try:
            return self._examined(task)
        except Exception as problem:
            return Outcome(error=f"{type(problem).__name__}: {problem}".partition("\n")[0])

    def _examined(self, task: Task) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="spherodetect-") as folder:
            task = _placed(task, Path(folder))
            store = FieldStore(Path(folder, "finished"))
            labels = task.label_image
            try:
                key = stored_under(
                    store,
                    task.field,
                    self._detector,
                    scale_bar_um=task.scale_bar_um,
                    label_image=labels,
                )
            except SpherodetectError:
                return Outcome(absent=not task.files)
            if key != task.key:  # another file at the same path
                return Outcome(absent=not task.files)
            overlay = None
            for one in examine(
                [task.field],
                self._detector,
                store=store,
                scale_bar_um=task.scale_bar_um,
                label_images={task.field.path: labels} if labels else None,
            ):
                if task.draw and not one.problem:
                    overlay = drawn_overlay(one)
            return Outcome(store.content(key), overlay)


def code_key() -> str:
    """A checksum of what the cells of any field follow from: this code and its libraries."""
    return FieldStore("").key()


def _placed(task: Task, folder: Path) -> Task:
    """The task with the files that came with it."""
    if task.files is None:
        return task
    places = {}
    for number, (path, content) in enumerate(task.files.items()):
        # The end of a name may say what the file is.
        places[path] = folder / f"{number}{''.join(path.suffixes)[-20:]}"
        places[path].write_bytes(content)
    labels = places[task.label_image] if task.label_image else None
    return replace(
        task, field=replace(task.field, path=places[task.field.path]), label_image=labels
    )


def _use_cores(cores: int, threads: int) -> None:
    """Limit the threads of this process; it must not have computed with TensorFlow yet.

    There may be more threads than cores: their number decides the last digits of a result.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["OMP_NUM_THREADS"] = str(cores)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


__all__ = ["DetectorCopy", "Greeting", "Outcome", "Task", "Worker", "code_key"]
