"""Recall, extra detections and known white cells of every data set, of held-out cells.

    python -m benchmarks.laboratories FILE.npz... [--confidence P]

The files are what `python -m spherodetect.training.laboratories collect` wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from spherodetect.training.survey import read_survey


def report(files: list[Path], *, confidence: float) -> None:
    """Print recall, extra detections and known white cells of every data set."""
    for file in files:
        a = read_survey(file)
        data_set = a["fields_data_set"]
        for name in sorted(set(data_set)):
            of_label = data_set[a["labels_field"]] == name
            of_cell = (data_set[a["cells_field"]] == name) & (a["cells_confidence"] >= confidence)
            whole = of_label & ~a["labels_cut"]
            red = whole & np.isin(a["labels_class_id"], (0, 1, 2))
            recall = (a["labels_confidence"][red] >= confidence).mean()
            extra = (of_cell & (a["cells_label"] < 0)).sum() / max(of_label.sum(), 1)
            label = a["cells_label"]
            white = of_label & (a["labels_class_id"] == 3)
            hits = of_cell & (label >= 0)
            known = hits & (a["labels_class_id"][np.maximum(label, 0)] == 3)
            as_white = (a["cells_class_id"][known] == 3).sum()
            countable = of_cell & a["cells_countable"]
            print(
                f"{file.stem:14} {name:18} fields {(data_set == name).sum():4} "
                f"red {red.sum():6} recall {recall:.3f} extra {extra:.2f} "
                f"white known {as_white}/{white.sum()} countable {countable.sum()}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--confidence", type=float, default=0.03)
    args = parser.parse_args()
    report(args.files, confidence=args.confidence)


if __name__ == "__main__":
    main()
