"""`Project`: a folder with photographs, its store, and the detector that finds cells in them.

The folder may hold photographs, folders of patients, or what `spherodetect score` wrote, whose
photographs lie elsewhere; it may be empty too. Photographs are never changed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.app.errors import NotThere
from spherodetect.app.jobs import Job
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import FieldRow, add_field, known_files, one_field, set_present
from spherodetect.app.store.labels import make_first_set
from spherodetect.detect.detector import Detector, as_detector, with_convention
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.field import Field, FieldList
from spherodetect.fields.find import find_fields
from spherodetect.fields.image import MAX_IMAGE_BYTES, read_image
from spherodetect.fields.scan import is_scan
from spherodetect.photograph import Photograph
from spherodetect.pipeline.label_images import paired, split_label_images
from spherodetect.pipeline.run_file import FILE as RUN_FILE
from spherodetect.pipeline.run_file import load_run
from spherodetect.report.results import HIDDEN
from spherodetect.safety import quoted, read_bytes, sha256
from spherodetect.safety.text import os_reason
from spherodetect.scale.bar import find_scale_bar
from spherodetect.scale.file_metadata import file_pixel_size
from spherodetect.scale.find import SCALE_BAR, find_scale
from spherodetect.scale.ocr import read_length_um

#: Where the app writes results; it is never searched for photographs.
RESULTS = "spherodetect-results"
#: Decoded photographs that are kept in memory.
_PICTURE_BYTES = 256 * 2**20


class Project:
    """An open project.

    Args:
        folder: is made if there is none.
        detector: a model folder, a loaded model, or an object with `detect`; by default that of the
            results, or the bundled model. It is loaded when it is first needed.

    Raises:
        SpherodetectError: the folder cannot be used.
    """

    def __init__(self, folder: str | Path, detector: str | Path | Detector | None = None) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpherodetectError(
                f"{quoted(folder)}: expected a folder that can be made or written, got none "
                f"({error.strerror}); name another folder"
            ) from error
        self.base = Database(self.folder)
        make_first_set(self.base)
        self.problems: list[str] = []
        self.label_images: Mapping[str, Path] = {}
        self._detector, self._loaded = detector, False
        self._loading = threading.Lock()
        self._photographs: OrderedDict[int, Photograph] = OrderedDict()
        self._pictures = threading.Lock()

    def __repr__(self) -> str:
        return f"Project({str(self.folder)!r})"

    def close(self) -> None:
        self.base.close()

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits, made once: two projects may have folders of one name."""
        with self.base.writing():
            row = self.base.row("SELECT value FROM meta WHERE key = 'project_id'")
            if row is not None:
                return str(row["value"])
            made = secrets.token_hex(8)
            self.base.insert("meta", key="project_id", value=made)
            return made

    def token(self) -> str:
        """The random token of this project, which only its owner can read.

        It is kept, so that a page that is open goes on after the server was started again.

        Raises:
            SpherodetectError: the file cannot be read or written.
        """
        path = self.hidden / "app-token"
        try:
            path.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_urlsafe(32))
            token = path.read_text().strip()
        except OSError as error:
            raise SpherodetectError(
                f"{quoted(path)}: cannot be used ({os_reason(error)}); check the permissions"
            ) from error
        if len(token) < 16:
            raise SpherodetectError(f"{quoted(path)}: expected a token, got less; delete the file")
        return token

    @property
    def name(self) -> str:
        return self.folder.resolve().name or "project"

    @property
    def hidden(self) -> Path:
        """The folder of what can be made again, such as detected fields."""
        return self.folder / HIDDEN

    @property
    def is_results(self) -> bool:
        """Whether the folder is what `spherodetect score` wrote."""
        return (self.hidden / RUN_FILE).is_file()

    @property
    def model_is_loaded(self) -> bool:
        return self._loaded

    def detector(self) -> Detector:
        """The detector; the first call loads a model, that of the results where it is of some.

        Raises:
            SpherodetectError: the model cannot be used.
        """
        with self._loading:
            if not self._loaded:
                if self._detector is None and self.is_results:
                    settings = load_run(self.folder)
                    found = as_detector(settings.model)
                    self._detector = with_convention(found, settings.convention)
                else:
                    self._detector = as_detector(self._detector)
                self._loaded = True
        assert isinstance(self._detector, Detector)
        return self._detector

    def field(self, field_id: int) -> FieldRow:
        """A field by its id.

        Raises:
            NotThere: there is none.
        """
        found = one_field(self.base, field_id)
        if found is None:
            raise NotThere(f"field {field_id}: expected a field of this project, got none")
        return found

    def path_of(self, field: FieldRow) -> Path:
        """The file of a field."""
        return self.folder / field.path

    def photograph(self, field: FieldRow) -> Photograph:
        """The decoded photograph of a field; the last few are kept.

        Raises:
            BadImageError: the file is gone, damaged, or another one by now.
        """
        with self._pictures:
            if field.id in self._photographs:
                self._photographs.move_to_end(field.id)
                return self._photographs[field.id]
        data = read_bytes(
            self.path_of(field), max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=field.name
        )
        photograph = Photograph(read_image(data, name=field.name))
        if photograph.size_hw != field.size_hw:
            raise BadImageError(
                f"{quoted(field.name)}: expected the image of {field.size_hw} (height, width) that "
                f"was read before, got {photograph.size_hw}; look for new files again"
            )
        with self._pictures:
            self._photographs[field.id] = photograph
            held = sum(_held(one) for one in self._photographs.values())
            while held > _PICTURE_BYTES and len(self._photographs) > 1:
                _, old = self._photographs.popitem(last=False)
                held -= _held(old)
        return photograph

    def find(self) -> FieldList:
        """The photographs that lie in the folder, or that its results are of."""
        if self.is_results:
            settings = load_run(self.folder)
            by_path = settings.label_images
            found = settings.found
            self.label_images = {
                field.field_id: by_path[field.path] for field in found if field.path in by_path
            }
            return found
        try:
            found = find_fields(self.folder, exclude=[self.folder / RESULTS])
        except SpherodetectError:
            return FieldList(())  # nothing yet
        photographs, labels = split_label_images(found)
        self.label_images = paired((field.field_id for field in photographs), labels)
        return photographs

    def scan(self, job: Job) -> Generator[None]:
        """Read the photographs that are new, a step each; a job."""
        found = self.find()
        self.problems = list(found.problems)
        known, there = known_files(self.base), []
        for number, field in enumerate(found):
            job.progress(number, len(found), field.field_id)
            path = self._relative(field.path)
            stamp = _stamp(field.path)
            if known.get(path, ("", 0))[0] == stamp != "":
                there.append(known[path][1])
                continue
            try:
                field_id, is_new = self.add(field)
            except SpherodetectError as error:
                self.problems.append(str(error))
            else:
                if not is_new and field_id in there:
                    self.problems.append(
                        f"{quoted(field.field_id)}: left out, it is a copy of another photograph"
                    )
                there.append(field_id)
            yield
        # Photographs that were added in the browser lie beside results of other photographs.
        listed = {self._relative(field.path) for field in found}
        there += [
            field_id
            for path, (_, field_id) in known.items()
            if path not in listed and (self.folder / path).is_file()
        ]
        set_present(self.base, there)
        job.progress(len(found), len(found))
        job.result = {"n_fields": len(set(there)), "problems": self.problems}

    def add(self, field: Field) -> tuple[int, bool]:
        """Read a photograph and add it; its id, and whether it is new.

        Raises:
            SpherodetectError: it cannot be used.
        """
        if is_scan(field.path):
            raise BadImageError(
                f"{quoted(field.field_id)}: left out, a slide scan; use `spherodetect score`"
            )
        stamp = _stamp(field.path)
        data = read_bytes(
            field.path, max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=field.field_id
        )
        photograph = Photograph(read_image(data, name=field.field_id))
        scale = find_scale(
            photograph, field.um_per_px, file_size=file_pixel_size(data), field_id=field.field_id
        )
        diameter = photograph.rbc_diameter_px
        rows = photograph.rows
        return add_field(
            self.base,
            sha256=sha256(data),
            patient=field.patient_id,
            name=field.field_id,
            path=self._relative(field.path),
            size_hw=photograph.size_hw,
            stamp=stamp,
            um_per_px=scale.um_per_px,
            scale_source=_source(scale.source) if scale.um_per_px else None,
            bar=_bar(photograph.image),
            strip_rows=rows if rows < photograph.size_hw[0] else None,
            rbc_diameter_px=round(diameter, 2) if np.isfinite(diameter) else None,
        )

    def _relative(self, path: Path) -> str:
        """A path relative to the project, so that the folder may be moved; else absolute."""
        path, folder = path.resolve(), self.folder.resolve()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _held(photograph: Photograph) -> int:
    """The bytes of a photograph: its pixels, and at most four times as many for its densities."""
    return 5 * photograph.image.nbytes


def _stamp(path: Path) -> str:
    """Size and time of a file: unchanged, the file is not read again."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _source(source: str) -> str:
    return "bar" if source == SCALE_BAR else source


def _bar(image: np.ndarray) -> dict[str, Any] | None:
    """The scale bar of an image as the store keeps it."""
    bar = find_scale_bar(image)
    if bar is None:
        return None
    top, left, bottom, right = bar.box_yxyx
    middle, half = (left + right) / 2, bar.length_px / 2
    y = (top + bottom) / 2
    return {
        "x0": middle - half,
        "y0": y,
        "x1": middle + half,
        "y1": y,
        "length_px": bar.length_px,
        "length_um": read_length_um(image, bar),
        "box_yxyx": [top, left, bottom, right],
    }


__all__ = ["RESULTS", "Project"]
