"""Isolated real cells with a low solidity: the share, a list and a contact sheet for a person.

    python -m benchmarks.outlines --out FOLDER [--model MODEL] [--fields 10]

The fields are evenly spaced in the sorted file names of Chula RBC-12, Dataset A, TXL-PBC and BCCD.
Every countable cell of the detector is measured. Those with a solidity below 0.93 are listed with
field and cell id, and outlines.png shows each beside its crop without an outline. A person then
tells notches of the cell from mistakes of its outline. Goal: at most 1 % of the countable cells are
listed without a notch that a person sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.real_overlaps import fields_of, opened
from benchmarks.sheet import Tile, write_sheet
from spherodetect import load_model, measure
from spherodetect.safety import atomic_write

DATA_SETS = ("chula", "dataset_a_mgg", "txl_pbc", "bccd")
MIN_SOLIDITY = 0.93


def evenly(files: Sequence[str], n: int) -> list[str]:
    """At most n of the sorted names, evenly spaced.

    >>> evenly(["d", "a", "b", "c"], 2)
    ['a', 'c']
    """
    ordered = sorted(files)
    return ordered if len(ordered) <= n else [ordered[k * len(ordered) // n] for k in range(n)]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the shares and the list, and write both and the sheet to a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of list and sheet")
    parser.add_argument("--model", help="a model folder; by default the bundled one")
    parser.add_argument("--fields", type=int, default=10, help="fields of each data set")
    args = parser.parse_args(argv)
    model = load_model(args.model) if args.model else load_model()
    lines, tiles = ["data_set,file,cell_id,solidity,diameter_px"], []
    for data_set in DATA_SETS:
        fields = fields_of(data_set)
        n_cells = n_low = 0
        for file in evenly(list(fields), args.fields):
            image, field = opened(fields[file])
            cells = measure(model.detect(image, field.um_per_px), image)
            solidity = cells.measurements["solidity"]
            low = np.flatnonzero(cells.countable & (solidity < MIN_SOLIDITY))
            n_cells, n_low = n_cells + int(cells.countable.sum()), n_low + len(low)
            for k in low.tolist():
                diameter = float(cells.measurements["diameter_px"][k])
                number = f"{file},{cells.cell_id[k]},{solidity[k]:.3f},{diameter:.0f}"
                lines.append(f"{data_set},{number}")
                box = cells.box_yxyx[k]
                center = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
                text = f"{len(tiles)} {data_set} {solidity[k]:.3f} {cells.cell_id[k]}"
                tiles.append(Tile(image, center, int(1.8 * diameter), [cells[[k]]], text))
        share = n_low / max(n_cells, 1)
        print(
            f"{data_set}: {n_low} of {n_cells} countable cells below {MIN_SOLIDITY} ({share:.1%})"
        )
    print("\n".join(lines))
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "outlines.csv", text=True) as file:
        file.write("\n".join([*lines, ""]))
    if tiles:
        write_sheet(tiles, args.out / "outlines.png", size_px=120, columns=6)


if __name__ == "__main__":
    main()
