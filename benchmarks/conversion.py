"""The speed of conversion to TFRecords, compared with Model Garden's `create_coco_tf_record`.

    python -m benchmarks.conversion [--fields 8] [--cells 120] [--workers 1] [--rounds 5]

Expected: at least 3 times as fast; a minute on one core. Both read the same export of drawn fields:
JPEGs of 640 x 480 pixels and a COCO file with the outline of every cell (about 25 corners, as
people click them). Both write a mask of every cell, with the same number of processes (1 is this
process alone). Ours is the whole of `spherodetect tfrecords`: it also checks the labels, looks for
near-duplicates, splits by source, decodes and encodes each image, and writes a manifest. The recipe
says what unlabelled cells are; where it does not, a sample of the photographs is segmented first,
once for a data set. The peer is the function of the script with `include_masks`. Both results must
have the same cells, with masks of the same area.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.timing import Comparison, side_by_side
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.coco_writer import to_coco
from spherodetect.labels.recipe import Recipe
from spherodetect.records.tfrecords import build

if TYPE_CHECKING:
    from spherodetect.synthetic import SyntheticField

_LABELS = "_annotations.coco.json"


def compare(*, fields: int = 8, cells: int = 120, workers: int = 1, rounds: int = 5) -> Comparison:
    """Convert drawn fields with both; asserts that both wrote the same cells."""
    from absl import flags
    from official.vision.data import create_coco_tf_record as peer

    # 0 processes: the peer converts in this process.
    flags.FLAGS(["conversion", f"--num_processes={workers if workers > 1 else 0}"])
    with tempfile.TemporaryDirectory() as folder:
        export, out = (
            write_export(Path(folder) / "export", fields=fields, cells=cells),
            Path(folder),
        )
        labels, numbers = str(export / _LABELS), iter(range(1000))

        def ours() -> None:
            recipe = Recipe("drawn", "coco", export, unlabelled_cells="none")
            build(recipe, out / f"ours_{next(numbers)}", workers=workers)

        def theirs() -> None:
            peer._create_tf_record_from_coco_annotations(
                labels,
                [str(export)],
                str(out / "peer"),
                1,
                object_annotations_file=labels,
                include_masks=True,
            )

        result = side_by_side(
            "conversion", ours, theirs, items=fields, unit="images", rounds=rounds
        )
        areas = [
            list(_mask_areas(sorted(out.glob(pattern))))
            for pattern in ("ours_0/*.tfrecord", "peer-*.tfrecord")
        ]
    counts = [sum(map(len, each)) for each in areas]
    assert counts[0] == counts[1] > 0, f"expected the same cells, got {counts}"
    assert abs(np.sum(np.concatenate(areas[0])) / np.sum(np.concatenate(areas[1])) - 1) < 0.05
    return result


def write_export(folder: Path, *, fields: int, cells: int) -> Path:
    """An export as Roboflow writes it: images and one COCO file in a folder."""
    from PIL import Image

    from spherodetect.synthetic import draw_field  # each of several processes imports this module

    folder.mkdir(parents=True)
    labelled = []
    for number in range(fields):
        drawn = draw_field(np.random.default_rng(number), n_cells=cells)
        path = folder / f"field_{number:03d}.jpg"
        Image.fromarray(drawn.image).save(path, quality=92)
        labelled.append(
            LabelledField(
                path.name, path, drawn.image.shape[:2], tuple(_outlines(drawn)), path.stem
            )
        )
    (folder / _LABELS).write_text(json.dumps(to_coco(labelled)), encoding="utf-8")
    return folder


def _outlines(drawn: SyntheticField) -> Iterator[Annotation]:
    """The outlines of the cells as a person clicks them, at most half a pixel off."""
    from skimage.measure import approximate_polygon, find_contours

    named = zip(drawn.cells.names, drawn.cells.pixel_masks(), strict=True)
    for number, (name, (mask, (y, x))) in enumerate(named, 1):
        longest = max(find_contours(np.pad(mask, 1).astype(float), 0.5), key=len)
        polygon = approximate_polygon(longest, 0.5)[:-1] - 0.5 + [y, x]
        (y0, x0), (y1, x1) = polygon.min(axis=0), polygon.max(axis=0)
        yield Annotation(str(number), str(name), (y0, x0, y1, x1), polygons=(polygon,))


def _mask_areas(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The areas of all cells of each record."""
    import tensorflow as tf

    for raw in tf.data.TFRecordDataset([str(path) for path in paths]).as_numpy_iterator():
        feature = tf.train.Example.FromString(raw).features.feature
        yield np.array(feature["image/object/area"].float_list.value)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("fields", 8), ("cells", 120), ("workers", 1), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(compare(**vars(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
