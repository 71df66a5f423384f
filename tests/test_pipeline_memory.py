"""The memory of a run does not depend on the number of its fields."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_RUN = """
import resource, sys
from cohort_stub import Grid
from spherodetect.pipeline.run import score_patients
score_patients(sys.argv[1], model=Grid(), out=sys.argv[2], batch=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
#: Units of ru_maxrss in a MB.
_A_MB = 2**20 if sys.platform == "darwin" else 2**10


def _small_fields(to: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    for number in range(n):
        image = rng.integers(190, 230, (150, 200, 3)).astype(np.uint8)
        for y in range(10, 130, 25):
            for x in range(10, 130, 25):
                image[y : y + 16, x : x + 16, 1] = 60 if rng.random() < 0.3 else 140
        folder = to / f"p{number // 10:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return to


def _peak_mb(smears: Path, out: Path) -> float:
    command = [sys.executable, "-c", _RUN, str(smears), str(out)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1]) / _A_MB


@pytest.mark.slow
def test_a_thousand_fields_take_as_much_memory_as_a_hundred(tmp_path):
    few, many = (
        _peak_mb(_small_fields(tmp_path / f"{n}", n), tmp_path / f"out {n}") for n in (100, 1000)
    )
    # 900 photographs with their overlays would take 450 MB more. The last rows of the tables take
    # memory when they are written, up to a group of 100,000.
    assert many - few < 100, f"{few:.0f} MB for 100 fields, {many:.0f} MB for 1,000"
