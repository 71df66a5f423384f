"""`examine`: the fields of patients one after the other, each detected, measured and judged.

The next field is read and decoded by a thread in the meantime.

A field that cannot be used is yielded too, with its problem, and the others go on. Nothing is
written but finished fields, where a store is given, and no lock is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.detector import Detector, as_detector, identity_of
from spherodetect.detect.model import Model
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.fields.find import find_fields
from spherodetect.fields.image import MAX_IMAGE_BYTES, read_picture
from spherodetect.fields.scan import LARGE_PIXELS, is_scan
from spherodetect.fields.strip import block_mean
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine_scan import PartProgress, examine_large, examine_scan, no_parts
from spherodetect.pipeline.look_ahead import LookAhead, is_large
from spherodetect.pipeline.store import FieldStore, FinishedField
from spherodetect.safety import file_sha256, quoted, read_bytes, sha256
from spherodetect.scale.file_metadata import file_pixel_size
from spherodetect.scale.find import Scale

#: Images with more pixels are judged by the classical segmentation before the model is run.
_LARGE_PIXELS = 3_000_000
#: A photograph of very many pixels is reduced until a red cell has at least this many across. The
#: network sees fewer.
_ENOUGH_PX = 80
#: In a large image smaller objects are no red cells.
_LEAST_CELL_PX = 10.0


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

    with LookAhead(begun(), alone=_is_large) as ready:
        for field, start in zip(listed, ready, strict=True):
            problem, one = "", None
            try:
                if isinstance(start, SpherodetectError):
                    raise start
                one = _examined(start, finder, kept, progress)
            except _StoreError:
                raise
            except SpherodetectError as error:
                problem = str(error)
            # The next field is decoded in the meantime, and this one is not kept for it.
            del start
            # Yielded outside of the try block: an error of the consumer is no problem of the field.
            yield one if one is not None else Examined.unreadable(field, problem)


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
    if len(photograph.image) * photograph.image.shape[1] <= _LARGE_PIXELS:
        photograph.density  # noqa: B018  # computed now, while another field is detected
    return _Begun(field, digest, key, label_image, None, photograph, scale)


def _examined(
    begun: _Begun, detector: Detector, store: FieldStore | None, progress: PartProgress
) -> Examined:
    """One field, examined unless it is finished.

    Raises:
        SpherodetectError: the field cannot be used.
    """
    field, finished, photograph = begun.field, begun.finished, begun.photograph
    if finished is None and store:
        # The same image may have come a moment ago.
        finished = store.load(begun.key)
    if finished is None:
        if photograph is None or begun.scale is None:
            photograph, finished = examine_scan(
                field, detector, begun.label_image, progress=progress
            )
        else:
            finished = _detected(
                field, photograph, begun.scale, detector, begun.label_image, progress
            )
        if store:
            try:
                store.save(begun.key, finished)
            except SpherodetectError as error:
                raise _StoreError(str(error)) from error
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


def _detected(
    field: Field,
    photograph: Photograph,
    scale: Scale,
    detector: Detector,
    label_image: Path | None,
    progress: PartProgress,
) -> FinishedField:
    step = 1
    if isinstance(detector, Model) and label_image is None:
        step = _reduction(photograph)
    small = photograph
    if step > 1:
        small = Photograph(block_mean(photograph.image, step), notes=photograph.file_notes)
    finished = _in_full(field.field_id, small, _times(scale, step), detector, label_image, progress)
    return _enlarged(finished, step, photograph.size_hw)


def _reduction(photograph: Photograph) -> int:
    """The factor by which a photograph of very many pixels may be reduced: the network would not
    see more of its cells."""
    height, width = photograph.size_hw
    if height * width <= LARGE_PIXELS or not photograph.rbc_diameter_px > _ENOUGH_PX:
        return 1
    return int(photograph.rbc_diameter_px / _ENOUGH_PX)


def _times(scale: Scale, step: int) -> Scale:
    """The scale of a copy that is smaller by a factor."""
    return replace(scale, um_per_px=scale.um_per_px * step) if scale.um_per_px else scale


def _enlarged(finished: FinishedField, step: int, size_hw: tuple[int, int]) -> FinishedField:
    """The result in the pixels of the photograph."""
    if step == 1:
        return finished
    quality, scale = finished.quality, finished.scale
    um_per_px = scale.um_per_px / step if scale.um_per_px else None
    return replace(
        finished,
        cells=finished.cells.enlarged(step, size_hw),
        quality=replace(quality, rbc_diameter_px=quality.rbc_diameter_px * step),
        scale=replace(scale, um_per_px=um_per_px),
    )


def _in_full(
    field_id: str,
    photograph: Photograph,
    scale: Scale,
    detector: Detector,
    label_image: Path | None,
    progress: PartProgress,
) -> FinishedField:
    """A photograph detected, measured and judged at the size that it has."""
    from spherodetect.measure import measure
    from spherodetect.pipeline.label_images import read_label_image, with_outlines
    from spherodetect.quality import MIN_CELLS, assess

    height, width = photograph.size_hw
    early = assess(photograph) if height * width > _LARGE_PIXELS else None
    if (
        early
        and not early.accepted
        and (early.n_cells < MIN_CELLS or early.rbc_diameter_px < _LEAST_CELL_PX)
    ):
        # An image that is no smear, such as grain, would be enlarged and cut into thousands of
        # tiles.
        cells = Cells.empty(
            field_id=field_id, image_size_hw=(height, width), um_per_px=scale.um_per_px
        )
        return FinishedField(measure(cells, photograph), early, scale, notes=photograph.notes)
    if isinstance(detector, Model) and label_image is None and height * width > LARGE_PIXELS:
        cells = examine_large(photograph, scale, detector, field_id=field_id, progress=progress)
    else:
        cells = _detect(detector, photograph, scale, field_id)
        if label_image is not None:
            cells = with_outlines(cells, read_label_image(label_image))
        cells = measure(photograph.cut_off(cells), photograph)
    reference = cells.countable & np.isin(cells.names, list(RED_CELLS))
    scale = scale.or_cells(cells.measurements["diameter_px"][reference])
    return FinishedField(cells, assess(photograph, cells), scale, notes=photograph.notes)


def _detect(detector: Detector, photograph: Photograph, scale: Scale, field_id: str) -> Cells:
    """The cells of a field by our model, or by somebody's own detector."""
    if isinstance(detector, Model):
        return detector.detect(photograph, scale, field_id=field_id)
    cells = detector.detect(photograph.image, scale.um_per_px)
    if not isinstance(cells, Cells) or cells.image_size_hw != photograph.size_hw:
        got = repr(cells) if isinstance(cells, Cells) else type(cells).__name__
        raise SpherodetectError(
            f"{quoted(field_id)}: expected the detector to return Cells of an image of "
            f"{photograph.size_hw} (height, width), got {got}"
        )
    return replace(
        cells, field_id=field_id, um_per_px=scale.um_per_px, um_per_px_source=scale.source
    )


def _read(path: Path, name: str) -> bytes:
    return read_bytes(path, max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=name)


__all__ = ["examine", "stored_under"]
