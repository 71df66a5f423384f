"""`examine`: the fields of patients one after the other, each detected, measured and judged.

Three threads work on three fields at a time: one reads and decodes, the calling thread runs the
detector, and one measures and judges what it found.

A field that cannot be used is yielded too, with its problem, and the others go on. Nothing is
written but finished fields, where a store is given, and no lock is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spherodetect.detect.detector import Detector, as_detector, identity_of
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.fields.find import find_fields
from spherodetect.fields.image import MAX_IMAGE_BYTES, read_picture
from spherodetect.fields.scan import is_scan
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine_scan import PartProgress, examine_scan, no_parts
from spherodetect.pipeline.find_cells import EARLY_PIXELS, find_cells
from spherodetect.pipeline.look_ahead import LookAhead, is_large, mapped_ahead
from spherodetect.pipeline.store import FieldStore, FinishedField
from spherodetect.safety import file_sha256, read_bytes, sha256
from spherodetect.scale.file_metadata import file_pixel_size
from spherodetect.scale.find import Scale


def examine(
    fields: str | Path | Field | Iterable[str | Path | Field],
    detector: str | Path | Detector | None = None,
    *,
    store: str | Path | FieldStore | None = None,
    scale_bar_um: float | None = None,
    label_images: Mapping[str, str | Path] | Mapping[Path, str | Path] | None = None,
    progress: PartProgress = no_parts,
) -> Iterator[Examined]:
    """Examine fields one at a time, in order.

    Args:
        fields: fields as `find_fields` returns them, or whatever it takes: folders, images,
            manifests.
        detector: a model folder, a loaded model, or an object with `detect(image, um_per_px)`; by
            default the bundled model.
        store: where finished fields are kept and found again. A detector of somebody's own needs an
            attribute `identity` for it.
        scale_bar_um: the length of burnt-in scale bars in µm, if the user states it.
        label_images: photograph to its label image, which then gives the outlines of the cells.
        progress: told of every part of an image that is examined in parts.

    Yields:
        one record a field. A field that cannot be used has a `problem` and no cells.

    Raises:
        SpherodetectError: no field was found, the detector is unusable, or the store cannot be
            written.

    >>> for one in examine("smears"):  # doctest: +SKIP
    ...     print(one.field_id, len(one.cells), one.quality)
    """
    listed = _fields(fields)
    finder = as_detector(detector)
    if isinstance(store, str | Path):
        store = FieldStore(store)
    outlines = {Path(image): Path(labels) for image, labels in (label_images or {}).items()}
    settings = _settings(finder, scale_bar_um)
    kept = store if settings["model"] is not None else None

    def begun() -> Iterator[_Begun | SpherodetectError]:
        for field in listed:
            try:
                yield _begun(field, kept, settings, outlines.get(field.path))
            except SpherodetectError as error:
                yield error

    def detected(ready: Iterable[_Begun | SpherodetectError]) -> Iterator[_Detected]:
        waiting: set[str] = set()
        for field, start in zip(listed, ready, strict=True):
            finish: Callable[[], Examined] | None = None
            problem = ""
            try:
                if isinstance(start, SpherodetectError):
                    raise start
                finish = _detected(start, finder, kept, progress, waiting)
            except SpherodetectError as error:
                problem = str(error)
            large = _is_large(start)
            # The next field is decoded in the meantime, and this one is not kept for it.
            del start
            yield _Detected(field, finish, problem, large)

    with LookAhead(begun(), alone=_is_large) as ready:
        yield from mapped_ahead(_Detected.examined, detected(ready), alone=lambda one: one.is_large)


def stored_under(
    store: FieldStore,
    field: Field,
    detector: Detector,
    *,
    scale_bar_um: float | None = None,
    label_image: Path | None = None,
) -> str:
    """The key under which `examine` keeps a field.

    Raises:
        SpherodetectError: a file cannot be read.
    """
    settings = _settings(detector, scale_bar_um)
    return _key(store, field, _contents(field)[1], label_image, settings)


def _settings(detector: Detector, scale_bar_um: float | None) -> Mapping[str, object]:
    """What the cells of all fields follow from."""
    return {"model": identity_of(detector), "scale_bar_um": scale_bar_um}


class _StoreError(SpherodetectError):
    """A finished field could not be stored: no fault of the field."""


def _fields(fields: str | Path | Field | Iterable[str | Path | Field]) -> Iterable[Field]:
    if isinstance(fields, Field):
        return [fields]
    if isinstance(fields, str | Path):
        return find_fields([fields])
    given = list(fields)
    known = [one for one in given if isinstance(one, Field)]
    if len(known) == len(given):
        return known
    return find_fields([one for one in given if not isinstance(one, Field)])


@dataclass(frozen=True, eq=False)
class _Begun:
    """A field of which all is known that the detector is not needed for.

    Attributes:
        field: the field.
        digest: SHA-256 of its file.
        key: of the finished field in the store; empty without a store.
        label_image: outlines of another tool, or None.
        finished: the finished field of the store, or None.
        photograph, scale: decoded, and its pixel size; None for a scan and for a finished field.
    """

    field: Field
    digest: str
    key: str
    label_image: Path | None
    finished: FinishedField | None = None
    photograph: Photograph | None = None
    scale: Scale | None = None


@dataclass(frozen=True, eq=False)
class _Detected:
    """A field whose cells were found, if it could be used.

    Attributes:
        field: the field.
        finish: measures, judges and stores it.
        problem: why it could not be used, or empty.
        is_large: whether no other field is to be in memory beside it.
    """

    field: Field
    finish: Callable[[], Examined] | None
    problem: str
    is_large: bool

    def examined(self) -> Examined:
        """The field, with its problem if it cannot be used."""
        problem = self.problem
        if self.finish is not None:
            try:
                return self.finish()
            except _StoreError:
                raise
            except SpherodetectError as error:
                problem = str(error)
        return Examined.unreadable(self.field, problem)


def _is_large(one: _Begun | SpherodetectError) -> bool:
    return isinstance(one, _Begun) and bool(one.photograph and is_large(one.photograph.size_hw))


def _begun(
    field: Field, store: FieldStore | None, settings: Mapping[str, object], label_image: Path | None
) -> _Begun:
    """One field, from the store or decoded.

    Raises:
        SpherodetectError: the field cannot be used.
    """
    from spherodetect.scale.find import find_scale

    data, digest = _contents(field)
    key = _key(store, field, digest, label_image, settings) if store else ""
    finished = store.load(key) if store else None
    if finished is not None or data is None:
        return _Begun(field, digest, key, label_image, finished)
    picture = read_picture(data, name=field.field_id)
    photograph = Photograph(picture.pixels, notes=picture.notes)
    scale_bar_um = settings["scale_bar_um"]
    assert scale_bar_um is None or isinstance(scale_bar_um, int | float)
    scale = find_scale(
        photograph,
        field.um_per_px,
        file_size=file_pixel_size(data),
        scale_bar_um=scale_bar_um,
        field_id=field.field_id,
    )
    if len(photograph.image) * photograph.image.shape[1] <= EARLY_PIXELS:
        photograph.density  # noqa: B018  # computed now, while another field is detected
    return _Begun(field, digest, key, label_image, None, photograph, scale)


def _detected(
    begun: _Begun,
    detector: Detector,
    store: FieldStore | None,
    progress: PartProgress,
    waiting: set[str],
) -> Callable[[], Examined]:
    """Find the cells of one field, unless it is finished; returns what remains to be done.

    Args:
        begun: the field.
        detector: the detector.
        store: where finished fields are kept, or None.
        progress: told of every part of an image that is examined in parts.
        waiting: keys of the fields that are found and not stored yet.

    Raises:
        SpherodetectError: the field cannot be used.
    """
    known = begun.finished
    if known is None and store:
        # The same image may have come a moment ago.
        known = store.load(begun.key)
    photograph: Photograph | None = begun.photograph
    if known is not None:
        finished = known
        return lambda: _record(begun, finished, photograph)
    if begun.key in waiting:
        # The same image comes just before this one, and is stored before the rest of this is done.
        return _detected_later(begun, detector, store, progress)
    if photograph is None or begun.scale is None:
        photograph, scanned = examine_scan(
            begun.field, detector, begun.label_image, progress=progress
        )
        rest: Callable[[], FinishedField] = lambda: scanned  # noqa: E731
    else:
        rest = find_cells(
            begun.field, photograph, begun.scale, detector, begun.label_image, progress
        )
    if store is None:
        return lambda: _record(begun, rest(), photograph)
    waiting.add(begun.key)

    def stored() -> Examined:
        try:
            finished = rest()
            try:
                store.save(begun.key, finished)
            except SpherodetectError as error:
                raise _StoreError(str(error)) from error
        finally:
            waiting.discard(begun.key)
        return _record(begun, finished, photograph)

    return stored


def _detected_later(
    begun: _Begun, detector: Detector, store: FieldStore | None, progress: PartProgress
) -> Callable[[], Examined]:
    """All of a field's examination, for later."""
    return lambda: _detected(begun, detector, store, progress, set())()


def _record(begun: _Begun, finished: FinishedField, photograph: Photograph | None) -> Examined:
    field = begun.field
    return Examined(
        field.patient_id,
        replace(finished.cells, field_id=field.field_id),
        finished.quality,
        image=field.path,
        scale=finished.scale,
        sha256=begun.digest,
        parts=finished.parts,
        notes=finished.notes,
        photograph=photograph,
    )


def _contents(field: Field) -> tuple[bytes | None, str]:
    """The bytes of a field's file, without those of a scan, and their checksum."""
    data = None if is_scan(field.path) else _read(field.path, field.field_id)
    return data, file_sha256(field.path, error=BadImageError) if data is None else sha256(data)


def _key(
    store: FieldStore,
    field: Field,
    digest: str,
    label_image: Path | None,
    settings: Mapping[str, object],
) -> str:
    labels = [sha256(_read(label_image, str(label_image)))] if label_image else []
    return store.key(digest, *labels, **settings, um_per_px=field.um_per_px)


def _read(path: Path, name: str) -> bytes:
    return read_bytes(path, max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=name)


__all__ = ["examine", "stored_under"]
