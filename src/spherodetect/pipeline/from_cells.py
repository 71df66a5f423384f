"""Another tool's cells in, scores out: COCO results, or a table of cells, without any image.

COCO results are a .json that is a list of them, or a data set whose annotations carry a score. A
table of cells is a .csv with the columns patient_id, field_id and class_name; countable, cell_id
and a box (xmin_px, ymin_px, xmax_px, ymax_px) are used where they are there, so that cells.csv
comes back as it was written. Label images may stand beside a table, to say where its cells lie.

A red cell counts if its source says so (`countable`); where that says nothing, if it keeps clear of
the border and lies on no other cell, as far as boxes and image sizes are known. Class names are
read by `cells.canonical_name`; one that it does not know ends the run, for a kind of red cell that
is passed over would raise the percentage. Scores are not corrected unless the model that found the
cells is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.cells import RED_CELLS, SYNONYMS, canonical_name
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.fields.find import FieldList, find_fields, natural_key, patient_in
from spherodetect.labels.readers.coco import parse_coco, source_of
from spherodetect.labels.source import PATIENT_PATTERN
from spherodetect.pipeline.from_labels import write_scores
from spherodetect.pipeline.label_images import (
    boxes_of,
    paired,
    read_label_image,
    separate,
    split_label_images,
)
from spherodetect.report.results import RunResult
from spherodetect.safety import MAX_JSON_BYTES, quoted, read_bytes, read_csv, read_json
from spherodetect.score.counts import score_counts

if TYPE_CHECKING:
    from spherodetect.detect.model import Model

#: Detectors write down what they hardly believe in, for curves to be drawn; a cell is what they do
#: believe in.
MIN_SCORE = 0.5
#: The size of an image that nobody knows: no cell touches its right or lower border.
_UNKNOWN_SIZE = 10_000
_MAX_NAME = 80
_BOX = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")
_SCORED = re.compile(rb'"score"\s*:')


@dataclass(frozen=True, eq=False)
class _Field:
    """One field's cells: class names (N,), and which of them count (N,)."""

    patient_id: str
    names: np.ndarray
    countable: np.ndarray
    rejected: bool = False


def is_cell_source(path: str | Path) -> bool:
    """Whether a path is COCO results or a table of cells; neither a label file nor a manifest
    is."""
    path = Path(path)
    if not path.is_file():
        return False
    if path.suffix.lower() == ".json":
        data = read_bytes(path, max_bytes=MAX_JSON_BYTES)
        return (
            data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
            or _SCORED.search(data) is not None
        )
    if path.suffix.lower() == ".csv":
        header = next((cells for _, cells in read_csv(path, max_bytes=MAX_JSON_BYTES)), [])
        return "class_name" in {name.lower() for name in header}
    return False


def score_cells(
    paths: Sequence[Path],
    out: Path,
    *,
    scheme: Any,
    model: Model | None = None,
    patient_regex: re.Pattern[str] | None = None,
    pseudonymise: bool = False,
) -> RunResult:
    """Score the patients of results and tables; COCO data sets and label images among the paths go
    with them.

    model: what found the cells, if it is one of ours; its error rates correct the score.

    Raises:
        SpherodetectError: a file that is none of these, a class that is unknown, or nothing to
            count.
    """
    problems: list[str] = []
    results = {p: read_json(p, error=BadLabelsError) for p in paths if p.suffix.lower() == ".json"}
    tables = [p for p in paths if p.suffix.lower() == ".csv"]
    rest = [p for p in paths if p not in results and p not in tables]
    outlines: Mapping[str, Path] = {}
    if rest:
        found, outlines = split_label_images(find_fields(rest, exclude=[out]))
        problems += _spare(found)
    fields = _from_results(results, model.class_names if model else (), patient_regex, problems)
    for table in tables:
        fields += _from_table(table, outlines, problems)
    if not fields:
        raise SpherodetectError(f"{quoted(paths[0])}: expected cells, got none; export them again")
    patients: dict[str, list[_Field]] = {}
    for field in fields:
        patients.setdefault(field.patient_id, []).append(field)
    scores = [
        score_counts(
            [int((f.countable & (f.names == "spherocyte")).sum()) for f in counted],
            [int(f.countable.sum()) for f in counted],
            model=model,
            patient_id=patient,
            n_cells=sum(len(f.names) for f in counted),
            n_fields_rejected=len(mine) - len(counted),
            grade_scheme=scheme,
        )
        for patient, mine in sorted(patients.items(), key=lambda item: natural_key(item[0]))
        for counted in [[f for f in mine if not f.rejected]]
    ]
    if model is None and (tool := _tool(results.values())):
        scores = [replace(score, model=tool) for score in scores]
    return write_scores(scores, out, scheme=scheme, problems=problems, pseudonymise=pseudonymise)


def _spare(found: FieldList) -> list[str]:
    return [f"{quoted(f.field_id)}: left out, its cells come from the table" for f in found]


def _countable(names: np.ndarray, box_yxyx: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(N,) red cells clear of the border and of each other; (N, 4) boxes are nan where they are not
    known."""
    red, known = np.isin(names, list(RED_CELLS)), np.isfinite(box_yxyx).all(axis=1)
    free = np.ones(len(names), bool)
    free[known] = separate(box_yxyx[known], size_hw)
    return red & free


def _class_names(names: Iterable[str], file: Path) -> np.ndarray:
    """(N,) canonical names; the first that nobody knows is an error."""
    given = list(names)
    meaning = {name: canonical_name(name) for name in set(given)}
    if unknown := sorted(name for name, known in meaning.items() if known is None):
        known_names = ", ".join(sorted(SYNONYMS))
        raise BadLabelsError(
            f"{quoted(file)}: expected a known class name, got {quoted(unknown[0])}; known: {known_names}; rename it"
        )
    return np.array([meaning[name] for name in given], dtype=object)


# --- COCO results
# ----------------------------------------------------------------------------------------------------


def _from_results(
    files: Mapping[Path, Any],
    class_names: Sequence[str],
    patient_regex: re.Pattern[str] | None,
    problems: list[str],
) -> list[_Field]:
    lists = {path: data for path, data in files.items() if isinstance(data, list)}
    data_sets = {path: data for path, data in files.items() if path not in lists}
    for path, data in data_sets.items():
        if not isinstance(data, dict) or not all(
            isinstance(data.get(key), list) for key in ("images", "categories")
        ):
            raise BadLabelsError(
                f"{quoted(path)}: expected COCO results or their images, got something else"
            )
    known = {
        key: [entry for data in data_sets.values() for entry in data[key]]
        for key in ("images", "categories")
    }
    fields = []
    for path, entries in lists.items():
        categories = known["categories"] or _categories_of(path, entries, class_names)
        fields += _results(
            path, entries, known | {"categories": categories}, patient_regex, problems
        )
    for path, data in (
        () if lists else data_sets.items()
    ):  # beside a list, a data set only names its images and classes
        fields += _results(path, data.get("annotations", []), data, patient_regex, problems)
    return fields


def _results(
    path: Path,
    entries: Any,
    known: Mapping[str, list[Any]],
    patient_regex: re.Pattern[str] | None,
    problems: list[str],
) -> list[_Field]:
    _require_detections(path, entries)
    cells = [e for e in entries if "countable" in e or not _is_below(e.get("score"), MIN_SCORE)]
    if few := len(entries) - len(cells):
        problems.append(
            f"{quoted(path)}: {few:,} detections left out, their score is below {MIN_SCORE}"
        )
    images = [entry for entry in known["images"] if isinstance(entry, dict)]
    if not images:
        images = _images_of(cells)
        problems.append(
            f"{quoted(path)}: no image sizes; cells at the right and lower border may count; give the "
            "file of the images too"
        )
    # Running numbers stand for names and ids, so that every field and cell is found again whatever
    # they were.
    content = {
        "images": [{**entry, "file_name": str(i)} for i, entry in enumerate(images)],
        "categories": known["categories"],
        "annotations": [{**entry, "id": i} for i, entry in enumerate(cells)],
    }
    labels = parse_coco(content, path)
    problems += [f"{quoted(path)}: {f.message}" for f in labels.findings if f.severity == "error"]
    fields: dict[tuple[str, str], _Field] = {}
    for labelled in labels.fields:
        entry = images[int(labelled.file.rpartition("/")[2])]
        names = _class_names((a.name for a in labelled.annotations), path)
        box = np.array([a.outline_box_yxyx for a in labelled.annotations], float).reshape(-1, 4)
        said = [cells[int(a.annotation_id)].get("countable") for a in labelled.annotations]
        counts = _countable(names, box, labelled.size_hw)
        counts = np.array(
            [c if s is None else bool(s) for c, s in zip(counts, said, strict=True)], bool
        )
        counts &= np.isin(names, list(RED_CELLS))
        patient = _patient(entry, path, patient_regex)
        source = patient, source_of(str(entry.get("file_name")))
        # Of the copies that an export makes of a photograph the one with most cells counts, as for
        # human labels.
        if source not in fields or len(fields[source].names) < len(names):
            fields[source] = _Field(patient, names, counts)
    return list(fields.values())


def _require_detections(path: Path, entries: Any) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadLabelsError(
            f"{quoted(path)}: expected COCO results as a list of detections, got something else"
        )


def _is_below(score: Any, limit: float) -> bool:
    return isinstance(score, int | float) and score < limit


def _images_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An entry for each image that detections name; its size is that of a run-length mask, or
    nobody knows it."""
    images: dict[Any, dict[str, Any]] = {}
    for cell in cells:
        image_id, outline = cell.get("image_id"), cell.get("segmentation")
        size = outline.get("size") if isinstance(outline, dict) else None
        if isinstance(image_id, int | str) and (image_id not in images or size):
            height, width = (
                size
                if isinstance(size, list) and len(size) == 2
                else (_UNKNOWN_SIZE, _UNKNOWN_SIZE)
            )
            images[image_id] = {
                "id": image_id,
                "file_name": str(image_id),
                "height": height,
                "width": width,
            }
    return list(images.values())


def _categories_of(path: Path, entries: Any, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes that detections name themselves, or else those of the model that found them; none
    is guessed."""
    _require_detections(path, entries)
    named = {
        e["category_id"]: e["category_name"]
        for e in entries
        if isinstance(e.get("category_name"), str) and isinstance(e.get("category_id"), int | str)
    }
    named = named or dict(enumerate(class_names, 1))
    if entries and not named:
        raise BadLabelsError(
            f"{quoted(path)}: expected to know the categories' names, got their ids alone; give the COCO file of the "
            "images and categories too, or the model with --model"
        )
    return [{"id": i, "name": name} for i, name in named.items()]


def _patient(entry: Mapping[str, Any], path: Path, patient_regex: re.Pattern[str] | None) -> str:
    """The patient that the image's entry states, or its file name speaks of, or its folder;
    otherwise the file's."""
    name = str(entry.get("file_name") or "").replace("\\", "/")
    stated, folder = entry.get("patient_id"), name.strip("/").rpartition("/")[0].partition("/")[0]
    if patient_regex is not None:
        return patient_in(name, patient_regex) or path.stem
    if isinstance(stated, str) and stated:
        return stated
    return patient_in(name, re.compile(PATIENT_PATTERN)) or folder or path.stem


def _tool(contents: Collection[Any]) -> str | None:
    """What the files say made them, if all say the same; a list of detections says nothing."""
    infos = [data.get("info") if isinstance(data, dict) else None for data in contents]
    names = {info.get("description") if isinstance(info, dict) else None for info in infos}
    name = names.pop() if len(names) == 1 else None
    return name if isinstance(name, str) and 0 < len(name) <= _MAX_NAME else None


# --- Tables of cells
# -------------------------------------------------------------------------------------------------


def _from_table(path: Path, outlines: Mapping[str, Path], problems: list[str]) -> list[_Field]:
    rows = _rows(path, problems)
    names = _class_names((row["class_name"] for row in rows), path)
    places: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault((row["patient_id"], row["field_id"]), []).append(i)
    label_images = paired((field_id for _, field_id in places), outlines)
    return [
        _table_field(
            patient, [rows[i] for i in mine], names[mine], label_images.get(field_id), path
        )
        for (patient, field_id), mine in places.items()
    ]


def _rows(path: Path, problems: list[str]) -> list[dict[str, str]]:
    needed = ("patient_id", "field_id", "class_name")
    rows: list[dict[str, str]] = []
    header: list[str] = []
    short: Counter[str] = Counter()
    for _, cells in read_csv(path, max_bytes=MAX_JSON_BYTES, error=BadLabelsError):
        if not header:
            header = [cell.lower() for cell in cells]
            if missing := [name for name in needed if name not in header]:
                raise BadLabelsError(
                    f"{quoted(path)}: expected the columns {', '.join(needed)}, got none of {', '.join(missing)}"
                )
            continue
        row = dict(zip(header, cells, strict=False))
        if empty := [name for name in needed if not row.get(name)]:
            short[empty[0]] += 1
        else:
            rows.append(row)
    problems += [
        f"{quoted(path)}: {n:,} rows left out, they have no {name}" for name, n in short.items()
    ]
    return rows


def _table_field(
    patient: str,
    rows: Sequence[Mapping[str, str]],
    names: np.ndarray,
    label_image: Path | None,
    path: Path,
) -> _Field:
    size, box = (
        (_UNKNOWN_SIZE, _UNKNOWN_SIZE),
        np.array([[_number(row.get(c)) for c in _BOX] for row in rows]),
    )
    box = box[:, [1, 0, 3, 2]]
    if label_image is not None:
        labels = read_label_image(label_image)
        outlined, size = boxes_of(labels), (labels.shape[0], labels.shape[1])
        box = np.array(
            [outlined.get(_number(row.get("cell_id")), (np.nan,) * 4) for row in rows], float
        )
        if not np.isfinite(box).all():
            raise BadLabelsError(
                f"{quoted(label_image)}: expected every cell_id of {quoted(path)}, got fewer; "
                "export both again"
            )
    if all(row.get("countable", "") for row in rows):
        counts = np.array(
            [_number(row["countable"]) == 1 or row["countable"].lower() == "true" for row in rows]
        )
        counts &= np.isin(names, list(RED_CELLS))
    else:
        counts = _countable(names, box, size)
    rejected = not counts.any() and any(row.get("exclusion_reason") == "field" for row in rows)
    return _Field(patient, names, counts, rejected)


def _number(text: str | None) -> float:
    try:
        return float((text or "nan").replace(",", "."))
    except ValueError:
        return np.nan


__all__ = ["is_cell_source", "score_cells"]
