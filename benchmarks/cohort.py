"""What a field costs on a cluster: its worker's processor time, and the driver's.

    python -m benchmarks.cohort [--fields 24]

Printed are, of fields of 640x480 with about 120 cells: processor seconds of a worker for a field
(decoding, detection, measurement, judgement, overlay) and the cells a second of one core; processor
seconds of the driver for a finished field (tables, masks, page of the patient), measured as a
second run into the same folder, and so the workers that one driver can keep busy; and the start of
a command. Without Ray the command itself draws the overlays, also in the second run, so that its
share is too large. Processor time depends little on other work on the machine.

With --ray N the files of a run on N workers are compared with those of a run without Ray. Printed
are the wall-clock time of both, which needs an idle machine, and the processor time of the command
on Ray, whose workers are no children of it: what one driver does for a field while workers draw.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.detect import write_fields

_FIELDS_A_PATIENT = 6


def write_smears(root: Path, n: int) -> Path:
    """n different fields of 640x480 in folders of patients."""
    for number, source in enumerate(write_fields(root, n)):
        folder = root / "smears" / f"p{number // _FIELDS_A_PATIENT}"
        folder.mkdir(parents=True, exist_ok=True)
        # The bytes after the end of a JPEG are not read, and make the fields different ones.
        content = source.read_bytes() + number.to_bytes(4, "big")
        (folder / f"{number}.jpg").write_bytes(content)
    return root / "smears"


def seconds_of(smears: Path, out: Path, *options: str) -> tuple[float, float]:
    """Processor time and wall-clock time of one command."""
    command = [sys.executable, "-m", "spherodetect", "score", str(smears), "--out", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, *options], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - began


def files_of(out: Path) -> dict[str, bytes]:
    paths = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fields", type=int, default=24)
    parser.add_argument("--ray", type=int, metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        smears = write_smears(root, args.fields)
        first = root / "first" / "p0"
        first.mkdir(parents=True)
        shutil.copy(next(smears.rglob("*.jpg")), first)
        start, _ = seconds_of(first.parent, root / "a")
        start_driver, _ = seconds_of(first.parent, root / "a")
        whole, wall = seconds_of(smears, root / "here")
        reference = files_of(root / "here")
        finished, _ = seconds_of(smears, root / "here")
        n_cells = reference["cells.csv"].count(b"\n") - 1
        more = args.fields - 1
        driver = (finished - start_driver) / more
        worker = (whole - start) / more - driver
        a_field = n_cells / args.fields
        print(f"start of a command with one field: {start:.1f} s of processor time")
        print(f"worker: {worker:.2f} s a field, {a_field / worker:.0f} cells a second of one core")
        print(
            f"driver: {driver:.2f} s a field; busy with {worker / driver:.1f} workers of one core"
        )
        if args.ray:
            ray = ("--ray", "local", "--workers", str(args.ray))
            start_ray, _ = seconds_of(first.parent, root / "ray-a", *ray)
            used_ray, on_ray = seconds_of(smears, root / "ray", *ray)
            print(f"without Ray {wall:.1f} s, on {args.ray} workers {on_ray:.1f} s")
            print(f"driver on Ray: {(used_ray - start_ray) / more:.2f} s a field")
            assert files_of(root / "ray") == reference, "both runs write the same files"


if __name__ == "__main__":
    main()
