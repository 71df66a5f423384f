"""The share of overlapping drawn cells that come out as separate cells, and the IoU of outlines.

    python -m benchmarks.overlaps [--fields 24] [--model MODEL]

The fields are drawn anew with other seeds than the training data: half of the red cells overlap in
chains of two or three, and a sixth touches a neighbour. Stain, light and focus are random. Both
methods, the Mask R-CNN and the watershed of `segment`, get the same images with their pixel size.

A drawn cell is found if an outline has an IoU of at least 0.5 with its full outline, one to one. A
pair is separated if both cells are found. Its degree is the common area as a share of the smaller
cell. A cell that shares at most 0.05 of its area is separate. Cells at the border are left out.
The watershed gives every pixel to one cell, so the IoU of its overlapped cells cannot reach 1.
Intervals are 90 % of bootstraps over fields. Real overlaps are judged by `real_overlaps`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from benchmarks.classical import segmented
from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.identity import mask_overlaps
from spherodetect.synthetic import SyntheticField, draw_field, random_style

#: What a drawn shape is called in the tables; other shapes count in the totals alone.
KINDS = {
    "discocyte": "normal", "spherocyte": "spherocyte", "target": "target", "hypochromic": "pale",
    "flat": "pale", "stomatocyte": "stomatocyte", "burr": "crenated",
}  # fmt: skip
#: An outline with a lower IoU is not that of the cell.
FOUND_IOU = 0.5
#: Limits of the degree of overlap of pairs. The truth counts cells up to the first as separate.
DEGREES = (0.05, 0.15, 0.25, 0.35, 1.0)
#: Drawn often enough that each kind is counted.
_SHARES = {
    "discocyte": 0.34, "target": 0.16, "hypochromic": 0.1, "flat": 0.08, "stomatocyte": 0.14,
    "burr": 0.1, "ovalocyte": 0.04, "macrocyte": 0.04,
}  # fmt: skip
_SEED, _UM_PER_PX = 88_001, 0.193

Detect = Callable[[np.ndarray], Cells]


@dataclass(frozen=True, eq=False)
class Judged:
    """Drawn cells and pairs with what a method made of them, as parallel arrays.

    Attributes:
        field: (N,) number of the field.
        kind: (N,) one of KINDS' values, or other.
        shared: (N,) share of the cell's area that is common with other cells.
        iou: (N,) of its outline, 0 for a cell that is not found.
        pair_field, degree: (P,) of pairs that share more than DEGREES[0] of the smaller cell.
        separated: (P,) bool.
    """

    field: np.ndarray
    kind: np.ndarray
    shared: np.ndarray
    iou: np.ndarray
    pair_field: np.ndarray
    degree: np.ndarray
    separated: np.ndarray


def drawn_fields(n: int) -> Iterator[SyntheticField]:
    """Fields with many overlapping cells of all kinds."""
    for k in range(n):
        rng = np.random.default_rng([_SEED, k])
        style = random_style(rng, um_per_px=_UM_PER_PX)
        yield draw_field(
            rng,
            n_cells=75,
            spherocyte_fraction=0.2,
            style=replace(style, overlays=0.0, shape_shares=_SHARES),
            overlap_fraction=0.5,
            touching_fraction=0.16,
        )


def matched_iou(truth: Cells, found: Cells) -> np.ndarray:
    """(N,) IoU of each true cell with its outline, one to one; 0 for a cell that is not found."""
    from scipy.optimize import linear_sum_assignment

    iou = np.zeros((len(truth), len(found)))
    for a, b, value, _ in mask_overlaps(truth, found):
        iou[a, b] = value if value >= FOUND_IOU else 0.0
    rows, columns = linear_sum_assignment(iou, maximize=True)
    best = np.zeros(len(truth))
    best[rows] = iou[rows, columns]
    return best


def judge(fields: Sequence[SyntheticField], detect: Detect) -> Judged:
    """Judge a method on drawn fields."""
    cells: list[tuple[int, str, float, float]] = []
    pairs: list[tuple[int, float, bool]] = []
    for k, drawn in enumerate(fields):
        truth = drawn.cells
        iou = matched_iou(truth, detect(drawn.image))
        counted = np.isin(truth.names, list(RED_CELLS)) & ~truth.at_border
        shape, shared = (truth.measurements[name] for name in ("shape", "overlap_fraction"))
        cells += [
            (k, KINDS.get(shape[i], "other"), shared[i], iou[i]) for i in np.flatnonzero(counted)
        ]
        pairs += [
            (k, degree, iou[a] > 0 and iou[b] > 0)
            for a, b, _, degree in mask_overlaps(truth, truth)
            if a < b and counted[a] and counted[b] and degree > DEGREES[0]
        ]
    field, kind, share, values = zip(*cells, strict=True)
    pair_field, degrees, separated = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Judged(
        np.array(field),
        np.array(kind, object),
        np.array(share, float),
        np.array(values),
        np.array(pair_field, int),
        np.array(degrees, float),
        np.array(separated, bool),
    )


def share_and_interval(
    hit: np.ndarray, field: np.ndarray, *, draws: int = 2000, seed: int = 1
) -> tuple[float, float, float]:
    """The mean of values, and its limits in 90 of 100 bootstraps over fields."""
    _, at = np.unique(field, return_inverse=True)
    totals = np.stack([np.bincount(at, hit.astype(float)), np.bincount(at)], axis=1)
    n = len(totals)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws) @ totals
    low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [0.05, 0.95])
    return float(hit.mean()), float(low), float(high)


def pair_table(methods: dict[str, Judged]) -> list[str]:
    """The share of separated pairs by degree of overlap, as a Markdown table."""
    lines = [
        f"| common area of the smaller cell | pairs | {' | '.join(methods)} |",
        "|---" * (2 + len(methods)) + "|",
    ]
    limits = [*pairwise(DEGREES), (DEGREES[0], DEGREES[-1])]
    for low, high in limits:
        parts = []
        for judged in methods.values():
            chosen = (judged.degree > low) & (judged.degree <= high)
            parts.append(_share(judged.separated[chosen], judged.pair_field[chosen]))
        whole = (low, high) == limits[-1]
        name = "**all**" if whole else f"{low:.2f} to {high:.2f}"
        lines.append(f"| {name} | {int(chosen.sum())} | {' | '.join(parts)} |")
    return lines


def cell_table(methods: dict[str, Judged]) -> list[str]:
    """The share of found cells and their mean IoU by kind, as a Markdown table."""
    head = " | ".join(f"{name}: found | IoU" for name in methods)
    lines = [f"| cells | n | {head} |", "|---" * (2 + 2 * len(methods)) + "|"]
    first = next(iter(methods.values()))
    for overlapped in (False, True):
        for kind in ("", *dict.fromkeys(KINDS.values()), "other"):
            parts = []
            for judged in methods.values():
                chosen = (judged.shared > DEGREES[0]) == overlapped
                if kind:
                    chosen &= judged.kind == kind
                iou = judged.iou[chosen]
                mean = f"{iou[iou > 0].mean():.3f}" if (iou > 0).any() else "–"
                parts += [_share(iou > 0, judged.field[chosen]), mean]
            n = int(chosen.sum())
            name = "overlapped" if overlapped else "separate"
            label = f"{name} {kind}" if kind else f"**{name}**"
            lines.append(f"| {label} | {n} | {' | '.join(parts)} |")
    assert len(first.iou) == sum(int(line.split("|")[2]) for line in lines if "**" in line)
    return lines


def _share(hit: np.ndarray, field: np.ndarray) -> str:
    if not len(hit):
        return "–"
    mean, low, high = share_and_interval(hit, field)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    from spherodetect import load_model

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fields", type=int, default=24, help="number of drawn fields")
    parser.add_argument("--model", help="a model folder; by default the bundled one")
    args = parser.parse_args(argv)
    model = load_model(args.model) if args.model else load_model()
    fields = list(drawn_fields(args.fields))
    methods = {
        "Mask R-CNN": judge(fields, lambda image: model.detect(image, _UM_PER_PX)),
        "watershed": judge(fields, segmented),
    }
    print("\n".join([*pair_table(methods), "", *cell_table(methods)]))


if __name__ == "__main__":
    main()
