"""Cells for other programs: COCO, GeoJSON for QuPath, label images and binary masks, supervision;
in native pixels.

Pixel (0, 0) covers x and y from 0 to 1, as in COCO and QuPath. Masks are written per pixel,
straight from their boxes: no field is filled once a cell. Where masks overlap in an image, a pixel
is of one cell, see `Cells.label_image`. COCO's boxes are (x, y, width, height), here and in
labels/coco.py alone.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.cells import Cells, pixel_windows
from spherodetect.rle import run_lengths
from spherodetect.safety import atomic_write

if TYPE_CHECKING:
    import supervision

#: Distinct for colour-blind eyes too (Okabe and Ito, Color Universal Design, 2008); any other class
#: is yellow.
CLASS_COLOURS = {
    "rbc": (0, 114, 178),
    "spherocyte": (213, 94, 0),
    "wbc": (0, 158, 115),
    "platelet": (204, 121, 167),
}
OTHER_COLOUR = (240, 228, 66)
_STRIP_PX = 1 << 24


def class_colour(name: str) -> tuple[int, int, int]:
    """The RGB colour of a class."""
    return CLASS_COLOURS.get(name, OTHER_COLOUR)


def to_coco(fields: Iterable[Cells], *, patient_ids: Sequence[str] | None = None) -> dict[str, Any]:
    """A COCO data set, which is also COCO results: annotations carry score and p_spherocyte.

    Ids count from 1 and never repeat; category_id is the class id; segmentation is a compressed
    run-length mask of the field. patient_ids, one a field, stand with the images.

    Raises:
        ValueError: the fields' classes differ, or there is not one patient_id a field.

    >>> coco = to_coco([cells])  # doctest: +SKIP
    """
    fields = list(fields)
    class_names = fields[0].class_names if fields else ()
    if any(cells.class_names != class_names for cells in fields):
        raise ValueError(
            "expected fields of the same classes, got several sets of names; write a file for each"
        )
    patients = (
        [{"patient_id": p} for p in patient_ids] if patient_ids is not None else [{}] * len(fields)
    )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (cells, patient) in enumerate(zip(fields, patients, strict=True), 1):
        height, width = cells.image_size_hw
        images.append(
            {
                "id": image_id,
                "file_name": cells.field_id,
                "width": width,
                "height": height,
                **patient,
            }
        )
        for annotation in _coco_annotations(cells):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return coco_head(class_names) | {"images": images, "annotations": annotations}


def coco_head(class_names: Sequence[str]) -> dict[str, Any]:
    """The members of a COCO data set, in order, with categories and still without images."""
    categories = [
        {"id": i, "name": name, "supercategory": "cell"} for i, name in enumerate(class_names, 1)
    ]
    return {
        "info": {"description": "spherodetect"},
        "images": [],
        "categories": categories,
        "annotations": [],
    }


def _coco_annotations(cells: Cells) -> Iterator[dict[str, Any]]:
    for i, (mask, corner) in enumerate(cells.pixel_masks()):
        ymin, xmin, ymax, xmax = (float(v) for v in cells.box_yxyx[i])
        yield {
            "category_id": int(cells.class_id[i]),
            "bbox": [round(v, 2) for v in (xmin, ymin, xmax - xmin, ymax - ymin)],
            "area": int(mask.sum()),
            "segmentation": run_lengths(
                mask, origin_yx=corner, size_hw=cells.image_size_hw
            ).to_coco(),
            "iscrowd": 0,
            "score": round(float(cells.confidence[i]), 4),
            "p_spherocyte": round(float(cells.p_spherocyte[i]), 4),
            "countable": int(cells.countable[i]),
        }


def to_geojson(fields: Cells | Iterable[Cells]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection as QuPath 0.4 and later reads it: one detection a cell, with
    class and measurements.

    Outlines run through the middle between the last pixel inside and the first outside, so that the
    pixels whose centre lies within are the mask. A cell without a pixel is drawn as its box. Each
    feature names its field_id.

    >>> geojson = to_geojson(cells)  # doctest: +SKIP
    """
    fields = [fields] if isinstance(fields, Cells) else fields
    return {
        "type": "FeatureCollection",
        "features": [feature for cells in fields for feature in _features(cells)],
    }


def _features(cells: Cells) -> Iterator[dict[str, Any]]:
    names = cells.names
    for i, (mask, (y0, x0)) in enumerate(cells.pixel_masks()):
        name = str(names[i])
        numbers = {"confidence": cells.confidence[i], "p_spherocyte": cells.p_spherocyte[i]}
        numbers |= {key: values[i] for key, values in cells.measurements.items()}
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{cells.field_id}#{cells.cell_id[i]}")),
            "geometry": _geometry(mask, (y0, x0))
            if mask.any()
            else _box_geometry(cells.box_yxyx[i]),
            "properties": {
                "objectType": "detection",
                "name": str(cells.cell_id[i]),
                "classification": {"name": name, "color": list(class_colour(name))},
                "measurements": {
                    key: round(float(v), 6) for key, v in numbers.items() if np.isfinite(v)
                },
                "field_id": cells.field_id,
            },
        }


def _geometry(mask: np.ndarray, origin_yx: tuple[int, int]) -> dict[str, Any]:
    from scipy.ndimage import label
    from skimage.measure import find_contours

    # Each 4-connected part has one outer ring, which is the widest, and a ring for each of its
    # holes.
    parts, n_parts = label(np.pad(mask, 1))
    polygons = []
    for part in range(1, n_parts + 1):
        rings = find_contours(parts == part, 0.5)
        rings.sort(key=lambda ring: np.prod(np.ptp(ring, axis=0)), reverse=True)
        polygons.append(
            [(_corners(ring)[:, ::-1] + origin_yx[::-1] - 0.5).tolist() for ring in rings]
        )
    if n_parts == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _corners(ring: np.ndarray) -> np.ndarray:
    """The points of a closed ring where its direction changes, and its first and last."""
    steps = np.diff(ring, axis=0)
    turns = (steps[1:] != steps[:-1]).any(axis=1)
    return ring[np.concatenate([[True], turns, [True]])]


def _box_geometry(box_yxyx: np.ndarray) -> dict[str, Any]:
    ymin, xmin, ymax, xmax = (round(float(v), 2) for v in box_yxyx)
    ymax, xmax = max(ymax, ymin + 0.1), max(xmax, xmin + 0.1)  # a ring without area is no polygon
    ring = [[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax], [xmin, ymin]]
    return {"type": "Polygon", "coordinates": [ring]}


def to_label_tiff(cells: Cells, path: str | Path, *, um_per_px: float | None = None) -> None:
    """Write a label image: 0 is background, cell_id elsewhere; uint16, or uint32 from 65,536 cells
    on.

    The pixel size, from um_per_px or the cells, is in the file where it is known.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    import tifffile

    (height, width), dtype = cells.image_size_hw, np.uint16 if len(cells) < 2**16 else np.uint32
    scale = um_per_px or cells.um_per_px
    pixels_per_cm, unit = ((1e4 / scale, 1e4 / scale), "CENTIMETER") if scale else (None, None)
    # A strip at a time is in memory, however large the field.
    rows = min(height, max(1, _STRIP_PX // max(width, 1)))
    strips = (
        cells.label_image((y, min(y + rows, height))).astype(dtype) for y in range(0, height, rows)
    )
    # tifffile takes strips one by one only where they are compressed already.
    data = (zlib.compress(strip.tobytes()) for strip in strips)
    with atomic_write(path) as file:
        tifffile.imwrite(
            file,
            data,
            shape=(height, width),
            dtype=dtype,
            rowsperstrip=rows,
            compression="zlib",
            metadata={"axes": "YX"},
            resolution=pixels_per_cm,
            resolutionunit=unit,
            photometric="minisblack",
        )


def to_class_mask(cells: Cells, class_name: str, path: str | Path) -> None:
    """Write the pixels of all cells of a class as a binary PNG, 255 on 0.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    from PIL import Image

    chosen = cells[cells.names == class_name]
    image = Image.fromarray((chosen.label_image() > 0).astype(np.uint8) * np.uint8(255))
    with atomic_write(path) as file:
        image.save(file, "PNG")


def to_supervision(cells: Cells) -> supervision.Detections:
    """The cells of one field as `supervision.Detections` (pip install 'spherodetect[supervision]').

    Class ids count from 0 there; names, p_spherocyte, countable and every measurement stand in
    `data`. Masks are `supervision.CompactMask`, so that none is a full frame.

    >>> detections = to_supervision(cells)  # doctest: +SKIP
    """
    import supervision

    height, width = cells.image_size_hw
    y0, x0, y1, x1 = pixel_windows(cells.box_yxyx, cells.image_size_hw).T
    masks = supervision.CompactMask.from_coco_rle(
        [
            run_lengths(mask, origin_yx=corner, size_hw=(height, width)).to_coco()
            for mask, corner in cells.pixel_masks()
        ],
        np.stack([x0, y0, x1 - 1, y1 - 1], axis=1).astype(
            np.float32
        ),  # supervision's boxes of masks are closed
        (height, width),
    )
    return supervision.Detections(
        xyxy=cells.box_yxyx[:, [1, 0, 3, 2]],
        mask=masks,
        confidence=cells.confidence,
        class_id=cells.class_id.astype(int) - 1,
        data={
            "class_name": cells.names.astype(str),
            "p_spherocyte": cells.p_spherocyte,
            "countable": cells.countable,
            **cells.measurements,
        },
    )
