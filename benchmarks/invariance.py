"""The change of the counts of a field under changes of the image that keep its cells.

    python -m benchmarks.invariance [--every N] [--um-per-px F]

36 fields take 8 minutes of two cores. The fields are of Chula RBC-12 (../shared/data); two thirds
have five or more labelled spherocytes. The bundled model detects the cells of each field after
flips, rotations, crops, enlargement, reduction and tiling. Without --um-per-px the scale comes from
the field's own cells, and its variation is part of the result. A cropped field is compared on the
common part, without a margin of one cell. No image of 0.028 µm a pixel is public, so the last row
enlarges a part of each field to 2400x1800 at that pixel size and compares it with its reduction by
area to 0.193 µm.

The first number is the mean over the fields of the absolute change of the number of cells, in
percent. The others are sums over the fields of the absolute changes, in percent of the sum of the
counts: cells, spherocytes, countable cells and countable spherocytes. Spherocytes are pooled,
because one more is 50 % in a field of two. Goal: 1 % of the cells and 3 % of the spherocytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherodetect import Cells, Model, load_model, read_image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chula-rbc-12"
#: Pixels cut off at the top and at the left; none is a multiple of the network's stride.
SHIFTS = ((3, 0), (0, 5), (7, 7), (13, 22))
TILES_PX = (160, 250)
#: Height, width and µm a pixel of a camera with more pixels, and of Chula.
_FINE_HW, _FINE_UM, _UM = (1800, 2400), 0.028, 0.193
_SPHEROCYTE = "3"

Counts = np.ndarray  #: cells, spherocytes, countable cells, countable spherocytes


@dataclass(frozen=True)
class Change:
    """One change of the image: its name, and the counts before and after, each (fields, 4)."""

    name: str
    before: np.ndarray
    after: np.ndarray

    @property
    def percent(self) -> np.ndarray:
        """The change in percent of the counts before, (4,)."""
        return (
            100
            * np.abs(self.after - self.before).sum(axis=0)
            / np.maximum(self.before.sum(axis=0), 1)
        )

    @property
    def mean_percent(self) -> float:
        """Mean over the fields of the change of the number of cells, in percent of it."""
        return float(
            np.mean(100 * np.abs(self.after - self.before)[:, 0] / np.maximum(self.before[:, 0], 1))
        )

    def __str__(self) -> str:
        return f"{self.name:16}" + "".join(f"{p:8.2f}" for p in (self.mean_percent, *self.percent))


def fields(every: int = 1) -> list[Path]:
    """24 fields with spherocytes and 12 without, spread over the data set; every Nth of them."""
    codes = {
        f: [line.split()[-1] for line in f.read_text().splitlines() if line]
        for f in DATA.glob("labels/*.txt")
    }
    ordered = sorted(codes, key=lambda f: int(f.stem))
    some = [f for f in ordered if codes[f].count(_SPHEROCYTE) >= 5]
    none = [f for f in ordered if _SPHEROCYTE not in codes[f] and len(codes[f]) >= 5]
    chosen = some[:: len(some) // 24][:24] + none[:: len(none) // 12][:12]
    return [DATA / "images" / f"{f.stem}.jpg" for f in chosen][::every]


def changes(model: Model, paths: Sequence[Path], *, um_per_px: float | None = None) -> list[Change]:
    """All changes of these fields."""
    rows: dict[str, list[tuple[Counts, Counts]]] = {}
    for path in paths:
        for name, before, after in _changed(model, read_image(path), um_per_px):
            rows.setdefault(name, []).append((before, after))
    return [
        Change(name, *(np.array(side) for side in zip(*pairs, strict=True)))
        for name, pairs in rows.items()
    ]


def _changed(
    model: Model, image: np.ndarray, um_per_px: float | None
) -> Iterator[tuple[str, Counts, Counts]]:
    from PIL import Image

    found = model.detect(image, um_per_px)
    whole = _counts(found)
    turns: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "left to right": lambda a: a[:, ::-1],
        "upside down": lambda a: a[::-1],
        "quarter turn": np.rot90,
        "half turn": lambda a: a[::-1, ::-1],
        "three quarters": lambda a: np.rot90(a, 3),
    }
    for name, turn in turns.items():
        yield name, whole, _counts(model.detect(np.ascontiguousarray(turn(image)), um_per_px))
    margin = 1.2 * (found.rbc_diameter_px or 0)
    for y, x in SHIFTS:
        cut = model.detect(np.ascontiguousarray(image[y:, x:]), um_per_px)
        yield (
            f"shift {y}, {x}",
            _counts(found, inside=(y + margin, x + margin)),
            _counts(cut, inside=(margin, margin)),
        )
    for tile_px in TILES_PX:
        yield (
            f"tiles of {tile_px} px",
            whole,
            _counts(model.detect(image, um_per_px, tile_px=tile_px)),
        )
    height, width = image.shape[:2]

    def resized(pixels: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
        method = Image.Resampling.BICUBIC if hw > pixels.shape[:2] else Image.Resampling.BOX
        return np.asarray(Image.fromarray(pixels).resize(hw[::-1], method))

    for factor in (2.0, 0.5):
        other = resized(image, (round(height * factor), round(width * factor)))
        yield (
            f"{factor:g} times",
            whole,
            _counts(model.detect(other, um_per_px and um_per_px / factor)),
        )
    part = round(_FINE_HW[0] * _FINE_UM / _UM), round(_FINE_HW[1] * _FINE_UM / _UM)
    y, x = (height - part[0]) // 2, (width - part[1]) // 2
    fine = resized(image[y : y + part[0], x : x + part[1]], _FINE_HW)
    coarse, scale = resized(fine, part), um_per_px and um_per_px * part[0] / _FINE_HW[0]
    yield (
        "0.028 and 0.193",
        _counts(model.detect(coarse, um_per_px)),
        _counts(model.detect(fine, scale)),
    )


def _counts(cells: Cells, *, inside: tuple[float, float] = (0.0, 0.0)) -> Counts:
    """Counts of the cells whose centre of the box is below and right of a point."""
    cells = cells[((cells.box_yxyx[:, :2] + cells.box_yxyx[:, 2:]) / 2 >= inside).all(axis=1)]
    sphere = cells.names == "spherocyte"
    return np.array(
        [len(cells), sphere.sum(), cells.countable.sum(), (cells.countable & sphere).sum()], float
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", metavar="N", type=int, default=1, help="every Nth field only")
    parser.add_argument("--um-per-px", type=float, help="pixel size, 0.193 for these fields")
    args = parser.parse_args(argv)
    paths = fields(args.every)
    found = changes(load_model(), paths, um_per_px=args.um_per_px)
    print(
        f"{len(paths)} fields; per field: cells, spherocytes, countable, countable spherocytes",
        end=" ",
    )
    print(", ".join(f"{n:.1f}" for n in found[0].before.mean(axis=0)))
    print(
        "in percent; per field: cells; in sums: cells, spherocytes, countable, "
        "countable spherocytes"
    )
    print("\n".join(map(str, found)))


if __name__ == "__main__":
    main()
