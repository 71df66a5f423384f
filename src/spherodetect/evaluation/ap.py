"""COCO's average precision of boxes and masks for each class, by pycocotools.

Only fully labelled fields count, because an unlabelled cell would turn a right detection into a
false positive. Only boxes and masks that people drew count. A detection is scored for every class,
with its probability of being a cell of that class. Labels of unknown class are ignore regions.
"""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.evaluation.truth import RED_CELL, Labelled, Truth
from spherodetect.report.interop import to_coco

#: Classes with a lower score are left out.
_MIN_SCORE = 0.01
#: Most detections of one field; a field has far more cells than COCO's default of 100.
_MAX_DETECTIONS = 3000
_KINDS = {"box": "bbox", "mask": "segm"}


class ApJudge:
    """Collects fields and computes the average precisions.

    >>> judge = ApJudge(truth, model.class_names)  # doctest: +SKIP
    >>> judge.add(labelled, cells)  # doctest: +SKIP
    >>> judge.result()["box"]["classes"]["spherocyte"]["ap50"]  # doctest: +SKIP
    """

    def __init__(self, truth: Truth, class_names: tuple[str, ...]) -> None:
        self.refused = {"box": truth.no_boxes, "mask": truth.no_masks}
        self.names = [*class_names, RED_CELL]
        self.n_fields = self.n_full = 0
        self.sizes: list[tuple[int, int]] = []
        self.labels: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def add(self, labelled: Labelled, cells: Cells) -> None:
        """Add a field; it counts if it is fully labelled and has drawn boxes or masks."""
        self.n_fields += 1
        if all(self.refused.values()) or not labelled.full:
            return
        self.n_full += 1
        self.sizes.append(cells.image_size_hw)
        image_id = len(self.sizes)
        for name, box, outline in zip(
            labelled.classes, labelled.box_yxyx, labelled.outlines, strict=True
        ):
            ymin, xmin, ymax, xmax = map(float, box)
            label = {
                "image_id": image_id,
                "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                "segmentation": outline,
                "area": (xmax - xmin) * (ymax - ymin),
                "iscrowd": 0,
            }
            self.labels += [label | kind for kind in self._categories(str(name))]
        red = [k for k, name in enumerate(cells.class_names) if name in RED_CELLS]
        columns = np.column_stack(
            [cells.class_probabilities, cells.class_probabilities[:, red].sum(axis=1)]
        )
        scores = columns * cells.confidence[:, None]
        for annotation, score in zip(to_coco([cells])["annotations"], scores, strict=True):
            shared = {
                "image_id": image_id,
                "bbox": annotation["bbox"],
                "segmentation": annotation["segmentation"],
            }
            self.found += [
                shared | {"category_id": k, "score": float(s)}
                for k, s in enumerate(score, 1)
                if s >= _MIN_SCORE
            ]

    def _categories(self, name: str) -> list[dict[str, int]]:
        """The categories in which a label counts, or in which it is an ignore region (iscrowd)."""
        if name not in self.names:
            return [{"category_id": k, "iscrowd": 1} for k in range(1, len(self.names) + 1)]
        is_kind = name in RED_CELLS and name != RED_CELL
        names = [name, RED_CELL] if is_kind else [name]
        return [{"category_id": self.names.index(one) + 1} for one in names]

    def result(self) -> dict[str, Any]:
        """For `box` and `mask` the reason why it is `refused`, or n_fields, n_partial and classes.

        Each class has n, ap (mean over IoU 0.50 to 0.95), ap50 and ap75.
        """
        partial = ""
        if self.n_full == 0:
            partial = (
                f"the labels are partial: each of the {self.n_fields} fields holds cells without a "
                "label"
            )
        return {
            kind: {"refused": self.refused[kind] or partial}
            if self.refused[kind] or partial
            else {
                "n_fields": self.n_full,
                "n_partial": self.n_fields - self.n_full,
                "classes": self._classes(kind),
            }
            for kind in _KINDS
        }

    def _classes(self, kind: str) -> dict[str, Any]:
        truth = [
            a for a in self.labels if not a["iscrowd"] and (kind == "box" or a["segmentation"])
        ]
        labelled = {
            k: [a for a in truth if a["category_id"] == k] for k in range(1, len(self.names) + 1)
        }
        red = self.names.index(RED_CELL) + 1
        kinds_known = len(labelled[red]) == sum(
            len(labelled[k]) for k, n in enumerate(self.names, 1) if n in RED_CELLS
        )
        result: dict[str, Any] = {}
        measured = self._precision(kind)
        for k, name in enumerate(self.names, 1):
            if not labelled[k]:
                result[name] = {"refused": "no label names it"}
            elif name in RED_CELLS and not kinds_known:
                result[name] = {"refused": "some labels say red cell and not which"}
            else:
                over = measured[:, :, k - 1]  # (10 overlaps, 101 recalls)
                result[name] = {
                    "n": len(labelled[k]),
                    "ap": _mean(over),
                    "ap50": _mean(over[0]),
                    "ap75": _mean(over[5]),
                }
        return result

    def _precision(self, kind: str) -> np.ndarray:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        key = "segmentation" if kind == "mask" else "bbox"
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": i, "height": h, "width": w} for i, (h, w) in enumerate(self.sizes, 1)
            ],
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.names, 1)],
            "annotations": [
                {
                    **a,
                    "id": i,
                    "iscrowd": int(a["iscrowd"] or not a[key]),
                    "segmentation": a["segmentation"] or _flat(a),
                }
                for i, a in enumerate(self.labels, 1)
            ],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            judge = COCOeval(
                truth, truth.loadRes(self.found) if self.found else COCO(), _KINDS[kind]
            )
            judge.params.maxDets, judge.params.areaRng, judge.params.areaRngLbl = (
                [_MAX_DETECTIONS],
                [[0, 1e10]],
                ["all"],
            )
            judge.evaluate()
            judge.accumulate()
        return np.asarray(judge.eval["precision"])[..., 0, 0]


def _flat(annotation: dict[str, Any]) -> list[list[float]]:
    """A box as an outline, used only as an ignore region."""
    x, y, w, h = annotation["bbox"]
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else math.nan
