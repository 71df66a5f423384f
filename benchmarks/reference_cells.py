"""Prints the measurements of labelled cells, which are the numbers of report/reference.py.

    python -m benchmarks.reference_cells [--every N]

The cells are normal cells and spherocytes of Chula RBC-12 (../shared/data), detected by the bundled
model and labelled by people. Only countable cells of fields that pass quality control are used.
Sizes in µm use the 0.193 µm/px of the scale bars. Relative sizes and densities are relative to the
field's median, in fields with at most a third of spherocytes by the model, so that the median is
that of other cells. Quantiles are in steps of 5 %.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherodetect import load_model, measure, read_image
from spherodetect.cells import Cells
from spherodetect.detect.matching import match_points
from spherodetect.quality import assess

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chula-rbc-12"
UM_PER_PX = 0.193
CLASSES = {0: "normal", 3: "spherocyte"}
MAX_SPHEROCYTES = 1 / 3


def main(argv: Sequence[str] | None = None) -> None:
    """Print the quantiles of each measurement and class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--every", metavar="N", type=int, default=1, help="look at every Nth labelled field only"
    )
    step = parser.parse_args(argv).every
    values: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for file in sorted((DATA / "labels").glob("*.txt"), key=lambda file: int(file.stem))[::step]:
        if (found := _field(file)) is None:
            continue
        cells, label = found
        few = np.mean(cells.names[cells.countable] == "spherocyte") <= MAX_SPHEROCYTES
        for number, name in CLASSES.items():
            chosen = cells.countable & (label == number)
            for measured in ("diameter_um", "pallor_fraction", "relative_diameter", "relative_od"):
                if few or not measured.startswith("relative"):
                    values[measured, name].append(cells.measurements[measured][chosen])
    for (measured, name), parts in values.items():
        all_of_them = np.concatenate(parts)
        all_of_them = all_of_them[np.isfinite(all_of_them)]
        quantiles = np.round(np.quantile(all_of_them, np.linspace(0, 1, 21)), 3).tolist()
        print(measured, name, len(all_of_them), quantiles)


def _field(file: Path) -> tuple[Cells, np.ndarray] | None:
    """The cells of a labelled field, and the class of each label, -1 without a label."""
    rows = [line.split() for line in file.read_text().splitlines()]
    points = np.array(
        [[int(y), int(x), int(c)] for x, y, c in (row for row in rows if len(row) == 3)]
    ).reshape(-1, 3)
    image = read_image(DATA / "images" / f"{file.stem}.jpg")
    cells = measure(load_model().detect(image, UM_PER_PX, field_id=file.stem), image)
    if not len(points) or not assess(image, cells).accepted:
        return None
    detection = match_points(cells, points[:, :2]).detection
    label = np.full(len(cells), -1)
    label[detection[detection >= 0]] = points[detection >= 0, 2]
    return cells, label


if __name__ == "__main__":
    main()
