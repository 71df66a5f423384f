"""The speed of `spherodetect score`: a stated commit and this checkout, as whole processes in turn.

    python -m benchmarks.score [--before REV] [--rounds 3] [--fields 60] [--many 100 1000]

Both sides score the same real fields of ../shared/data into an empty folder: two fifths Chula
RBC-12 (640x480), two fifths Dataset A (640x640), and a fifth PBC (360x363), six fields a patient.
The code before is checked out from git into a temporary folder. Each side has one round before
those that count, so that its byte code is compiled. Printed are fields a second from start to end,
the ratio of the median times, that of the processor times, and the largest resident memory. Each
side uses its own bundled model unless --model names one for both; the cells of both sides are
counted, and the module says whether the tables are the same. With --many, the peak memory of so
many small drawn fields is printed.

Expected on two cores: see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
#: The commit of the bundled model 0.5.
BEFORE = "ed4c8e7"
#: Folder of real fields, and its share of all fields in fifths.
_SOURCES = (("chula-rbc-12/images", 2), ("dataset-a-mgg", 2), ("pbc-mgg", 1))
_FIELDS_A_PATIENT = 6
_SMALL_HW = (150, 200)


@dataclass(frozen=True)
class Run:
    """One command: seconds, seconds of processor time, and largest resident memory in MB."""

    wall: float
    processor: float
    peak_mb: float


def real_fields(data: Path, to: Path, n: int) -> Path:
    """n photographs, evenly chosen from each data set, in folders of patients."""
    for name, fifths in _SOURCES:
        files = sorted((data / name).rglob("*.jpg"))
        wanted = n * fifths // 5
        for k in range(wanted):
            folder = to / f"{name.partition('/')[0]}_{k // _FIELDS_A_PATIENT + 1}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[k * len(files) // wanted], folder)
    return to


def small_fields(to: Path, n: int) -> Path:
    """n drawn fields of 200x150 pixels, all different, ten a patient."""
    from PIL import Image

    from spherodetect.synthetic import draw_patient

    drawn, height, width = draw_patient(1, spherocyte_fraction=0.2, n_fields=4), *_SMALL_HW
    rng = np.random.default_rng(0)
    for number in range(n):
        image = drawn[number % len(drawn)].image
        y, x = (rng.integers(0, image.shape[k] - _SMALL_HW[k]) for k in (0, 1))
        folder = to / f"p{number // 10:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[y : y + height, x : x + width]).save(folder / f"{number}.png")
    return to


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A temporary work tree of a commit."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name, "before")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def score(tree: Path, fields: Path, out: Path, *options: str) -> Run:
    """Score a folder with the code of a checkout; the folder of the results is removed first."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    # As in an installed package, byte code is compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(out.with_name("byte code"))
    command = [sys.executable, "-m", "benchmarks.timed", sys.executable, "-m", "spherodetect"]
    command += ["score", str(fields), "--out", str(out), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    last = done.stdout.splitlines()[-1:] or [""]
    if done.returncode:
        raise SystemExit(f"score of {tree} failed: {done.stderr[-2000:]}")
    return Run(*map(float, last[0].split()))


def in_turn(
    trees: dict[str, Path], fields: Path, work: Path, rounds: int, *options: str
) -> dict[str, list[Run]]:
    """The runs of each checkout, after one that does not count, in alternating order."""
    runs: dict[str, list[Run]] = {name: [] for name in trees}
    for number in range(-1, rounds):
        for name in sorted(trees, reverse=number % 2 == 0):
            one = score(trees[name], fields, work / name, *options)
            print(
                f"  {'warm-up' if number < 0 else f'round {number + 1}'}, {name}: "
                f"{one.wall:.1f} s, processor {one.processor:.1f} s, {one.peak_mb:.0f} MB",
                flush=True,
            )
            if number >= 0:
                runs[name].append(one)
    return runs


def summary(runs: dict[str, list[Run]], n_fields: int) -> str:
    """What the runs of `before` and `now` say."""

    def middle(name: str, what: str) -> float:
        return median(getattr(one, what) for one in runs[name])

    lines = [
        f"{name}: {n_fields / middle(name, 'wall'):.2f} fields a second, "
        f"peak {middle(name, 'peak_mb'):.0f} MB"
        for name in runs
    ]
    wall, processor = (middle("before", w) / middle("now", w) for w in ("wall", "processor"))
    lines.append(f"{wall:.2f} times as fast, by processor time {processor:.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", default=BEFORE, metavar="REV")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--fields", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="a model folder for both; by default each its own")
    parser.add_argument("--many", type=int, nargs="*", default=[], metavar="N")
    args = parser.parse_args(arguments)
    options = ["--model", args.model] if args.model else []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if args.rounds:
            fields = real_fields(args.data, work / "fields", args.fields)
            n_fields = sum(1 for _ in fields.rglob("*.jpg"))
            with checked_out(args.before) as tree:
                trees = {"before": tree, "now": ROOT}
                runs = in_turn(trees, fields, work, args.rounds, *options)
            print(summary(runs, n_fields))
            tables = [(work / side / "cells.csv").read_bytes() for side in trees]
            same = "the same" if tables[0] == tables[1] else "another"
            counts = " and ".join(str(table.count(b"\n") - 1) for table in tables)
            print(f"{counts} cells; {same} cells.csv")
        for n in args.many:
            fields = small_fields(work / f"small {n}", n)
            one = score(ROOT, fields, work / "many", *options)
            print(f"{n} fields of 200x150: peak {one.peak_mb:.0f} MB, {one.wall:.0f} s", flush=True)


if __name__ == "__main__":
    main()
