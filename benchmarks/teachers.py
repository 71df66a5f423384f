"""Masks from boxes by three teachers: segmentation, the bundled detector, and LiteMedSAM.

    python -m benchmarks.teachers compare [--fields 24] [--teachers NAME...]
    python -m benchmarks.teachers teach TEACHER SHARD... --out FOLDER

Labels that are boxes need masks before they can teach the mask head. `spherodetect tfrecords` takes
them from segmentation by optical density (labels/repair/refine.py). `compare` asks each teacher for
the cells in the boxes of drawn fields whose outlines are known: those of benchmarks.overlaps, half
of whose cells overlap. A box without a mask is silent, and costs nothing but a lesson. The masks
that are given count: their mean IoU with the drawn outline, and the share of bad ones, below an IoU
of 0.8. The IoU of an overlapped cell is with its whole outline, as a box means it.

`teach` writes records whose masks are those of a teacher, to train on; all else stays. LiteMedSAM
needs the extra [sam].
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.overlaps import DEGREES, KINDS, drawn_fields
from spherodetect.cells import RED_CELLS
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.geometry import box_iou, stretch_mask
from spherodetect.labels.repair.masks import MIN_QUALITY

#: The diameter of red cells in the drawn fields, in pixels.
_DIAMETER_PX = RBC_DIAMETER_UM / 0.193
#: A mask with a lower IoU with the drawn outline teaches a wrong one.
_BAD = 0.8
#: A detection with a lower IoU with the box is not its cell.
_SAME_BOX = 0.6
#: LiteMedSAM sees 256 pixels: tiles of about this many diameters a side show cells large enough.
_DIAMETERS_A_TILE = 5.0


@dataclass(frozen=True, eq=False)
class Taught:
    """The mask of a box: (h, w) bool over whole pixels, from origin_yx of the field on."""

    mask: np.ndarray
    origin_yx: tuple[int, int]

    def over(self, box_yxyx: np.ndarray) -> np.ndarray:
        """The mask within the whole pixels of a box."""
        y0, x0, y1, x1 = np.round(box_yxyx).astype(int)
        out = np.zeros((max(1, y1 - y0), max(1, x1 - x0)), bool)
        top, left = self.origin_yx[0] - y0, self.origin_yx[1] - x0
        height, width = self.mask.shape
        inner = np.s_[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        part = self.mask[max(0, -top) :, max(0, -left) :]
        target = out[inner]
        target[:] = part[: target.shape[0], : target.shape[1]]
        return out


#: (image, boxes (N, 4), diameter of a red cell in px) to N masks, None where it is silent.
Teacher = Callable[[np.ndarray, np.ndarray, float], list[Taught | None]]


def by_segmentation(
    image: np.ndarray, boxes: np.ndarray, diameter_px: float
) -> list[Taught | None]:
    """The masks of `spherodetect tfrecords`."""
    from spherodetect.labels.repair.refine import Refiner
    from spherodetect.segment import segment

    refiner = Refiner(segment(image, rbc_diameter_px=diameter_px), diameter_px)
    found = [refiner.in_box(box) for box in boxes]
    return [
        Taught(one.mask, (int(one.origin_yx[0]), int(one.origin_yx[1])))
        if one.quality >= MIN_QUALITY
        else None
        for one in found
    ]


def by_detector(image: np.ndarray, boxes: np.ndarray, diameter_px: float) -> list[Taught | None]:
    """The masks of the detections whose boxes agree, one to one: pseudo-masks."""
    from scipy.optimize import linear_sum_assignment

    cells = _detector().detect(image, RBC_DIAMETER_UM / diameter_px)
    iou = box_iou(boxes, np.asarray(cells.box_yxyx, float).reshape(-1, 4))
    found = [Taught(mask, corner) for mask, corner in cells.pixel_masks()]
    masks: list[Taught | None] = [None] * len(boxes)
    for a, b in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
        if iou[a, b] >= _SAME_BOX:
            masks[a] = found[b]
    return masks


def by_sam(image: np.ndarray, boxes: np.ndarray, diameter_px: float) -> list[Taught | None]:
    """The masks of LiteMedSAM, prompted by the boxes."""
    from spherodetect.app.methods.sam import in_boxes

    tiles = max(1, round(max(image.shape[:2]) / (_DIAMETERS_A_TILE * diameter_px)))
    masks: list[Taught | None] = [None] * len(boxes)
    for k, outline, _ in in_boxes(image, boxes, diameter_px=diameter_px, tiles_per_side=tiles):
        masks[k] = Taught(outline.mask, (outline.box_yxyx[0], outline.box_yxyx[1]))
    return masks


TEACHERS: dict[str, Teacher] = {
    "segmentation": by_segmentation,
    "detector": by_detector,
    "sam": by_sam,
}


@cache
def _detector():
    from spherodetect import load_model

    return load_model()


@dataclass(frozen=True, eq=False)
class Judged:
    """Drawn cells with the masks that a teacher gave, as parallel arrays.

    Attributes:
        kind: (N,) one of KINDS' values, or other.
        overlapped: (N,) bool.
        iou: (N,) with the drawn outline, NaN where the teacher is silent.
    """

    kind: np.ndarray
    overlapped: np.ndarray
    iou: np.ndarray


def judge(teacher: Teacher, n_fields: int) -> Judged:
    """The masks that a teacher gives for the boxes of drawn cells."""
    rows: list[tuple[str, bool, float]] = []
    for drawn in drawn_fields(n_fields):
        truth = drawn.cells
        counted = np.flatnonzero(np.isin(truth.names, list(RED_CELLS)) & ~truth.at_border)
        boxes = truth.box_yxyx[counted].astype(float)
        shape, shared = (truth.measurements[name] for name in ("shape", "overlap_fraction"))
        masks = teacher(drawn.image, boxes, _DIAMETER_PX)
        for k, taught in zip(counted, masks, strict=True):
            iou = np.nan if taught is None else _iou(taught, truth.masks[k], truth.box_yxyx[k])
            rows.append((KINDS.get(shape[k], "other"), shared[k] > DEGREES[0], iou))
    kind, overlapped, values = zip(*rows, strict=True)
    return Judged(np.array(kind), np.array(overlapped), np.array(values))


def _iou(taught: Taught, mask: np.ndarray, box: np.ndarray) -> float:
    """The IoU of a taught mask with a drawn one over its box; the part beyond the box counts."""
    y0, x0 = np.floor(box[:2]).astype(int)
    around = np.array([y0, x0, y0 + mask.shape[0], x0 + mask.shape[1]], float)
    both = int((taught.over(around) & mask).sum())
    either = int(taught.mask.sum()) + int(mask.sum()) - both
    return both / max(either, 1)


def table(judged: dict[str, Judged]) -> list[str]:
    """Mean IoU, share of bad masks and share of silent boxes, by kind, as a Markdown table."""
    head = " | ".join(f"{name}: IoU, bad, silent" for name in judged)
    lines = [f"| drawn cells | n | {head} |", "|---" * (2 + len(judged)) + "|"]
    for overlapped in (False, True):
        for kind in ("", *dict.fromkeys(KINDS.values()), "other"):
            parts = []
            for one in judged.values():
                chosen = one.overlapped == overlapped
                if kind:
                    chosen &= one.kind == kind
                iou = one.iou[chosen]
                given = iou[np.isfinite(iou)]
                n = len(iou)
                parts.append(
                    f"{given.mean():.3f}, {(given < _BAD).mean():.3f}, {1 - len(given) / n:.3f}"
                    if len(given)
                    else "–"
                )
            name = "overlapped" if overlapped else "separate"
            lines.append(f"| {name} {kind or 'cells'} | {n} | {' | '.join(parts)} |")
    return lines


def teach(teacher: Teacher, shards: Sequence[Path], out: Path) -> tuple[int, int]:
    """Records with the masks of a teacher; how many boxes there are, and how many have a mask.

    Cells without a label keep the masks of segmentation: no box of theirs is known.
    """
    import tensorflow as tf

    from spherodetect.records.examples import MASK_SIZE, read_examples

    out.mkdir(parents=True, exist_ok=True)
    n_boxes = n_masks = 0
    for shard in shards:
        raws = [*tf.data.TFRecordDataset([str(shard)]).as_numpy_iterator()]
        lines = []
        for raw, read in zip(raws, read_examples([shard]), strict=True):
            example = tf.train.Example.FromString(raw)
            feature = example.features.feature
            ids = feature["image/object/annotation_id"].bytes_list.value
            labelled = np.flatnonzero([bool(one) for one in ids])
            masks, known = read["masks"], read["mask_known"]
            quality = read["mask_quality"]
            boxes = read["box_yxyx"][labelled].astype(float)
            taught = teacher(read["image"], boxes, read["rbc_diameter_px"])
            for k, box, one in zip(labelled, boxes, taught, strict=True):
                known[k] = one is not None
                quality[k] = float(one is not None)
                masks[k] = stretch_mask(one.over(box), MASK_SIZE) if one is not None else False
            n_boxes, n_masks = n_boxes + len(labelled), n_masks + int(known[labelled].sum())
            bits = np.packbits(masks.reshape(-1)).tobytes()
            feature["image/object/mask/bits"].bytes_list.value[:] = [bits]
            feature["image/object/mask/known"].int64_list.value[:] = known.astype(int).tolist()
            feature["image/object/mask/quality"].float_list.value[:] = quality.tolist()
            lines.append(example.SerializeToString())
        with tf.io.TFRecordWriter(str(out / shard.name)) as writer:
            for line in lines:
                writer.write(line)
        sys.stderr.write(f"{shard.name}: {n_masks} of {n_boxes} boxes have a mask\n")
    return n_boxes, n_masks


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("compare", help="the teachers' masks of drawn cells")
    one.add_argument("--fields", type=int, default=24, help="number of drawn fields")
    one.add_argument(
        "--teachers", nargs="+", choices=TEACHERS, default=["segmentation", "detector"]
    )
    two = commands.add_parser("teach", help="records with the masks of a teacher")
    two.add_argument("teacher", choices=TEACHERS)
    two.add_argument("shards", nargs="+", type=Path)
    two.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.command == "teach":
        teach(TEACHERS[args.teacher], args.shards, args.out)
        return
    judged = {name: judge(TEACHERS[name], args.fields) for name in args.teachers}
    sys.stdout.write("\n".join([*table(judged), ""]))


if __name__ == "__main__":
    main()
