"""A drawn project for the tests of the app, and a detector that knows the truth of its fields."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.synthetic import draw_patient

TOKEN = "a-token-of-the-tests"
SIZE_HW = (270, 360)
_keys = iter(range(10**9))


class Truth:
    """Finds the drawn cells of a field by its pixels; spherocytes get p near 1, others near 0.

    Every tenth cell is called the other way, with p near 1/2, so there is something to doubt.
    """

    identity = "truth of the tests"
    name = "truth"

    def __init__(self) -> None:
        self.known: dict[bytes, Cells] = {}
        self.pause_s = 0.0

    def learn(self, image: np.ndarray, cells: Cells) -> None:
        n = np.arange(len(cells))
        sphere = cells.class_names.index("spherocyte") + 1
        p = np.where(cells.class_id == sphere, 0.93, 0.04) + 0.001 * (n % 30)
        p = np.where(n % 10 == 9, 0.55 - 0.2 * (cells.class_id == sphere), p).astype(np.float32)
        red = np.isin(cells.names, ["rbc", "spherocyte"])
        called = np.where(red, np.where(p > 0.5, sphere, 1), cells.class_id).astype(np.int32)
        self.known[image.tobytes()] = replace(
            cells, p_spherocyte=p, class_id=called, measurements={}
        )

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        time.sleep(self.pause_s)
        return self.known[image.tobytes()]


def draw_project(
    folder: Path, *, n_patients: int = 3, n_fields: int = 2, n_cells: int = 50
) -> Truth:
    """Write the photographs of patients p1, p2, ... and return their truth."""
    truth = Truth()
    for number in range(1, n_patients + 1):
        place = folder / f"p{number}"
        place.mkdir(parents=True)
        drawn = draw_patient(
            number,
            spherocyte_fraction=0.3,
            n_fields=n_fields,
            n_cells=n_cells,
            size_hw=SIZE_HW,
            patient_id=f"p{number}",
        )
        for k, field in enumerate(drawn, 1):
            Image.fromarray(field.image).save(place / f"f{k}.png")
            truth.learn(field.image, field.cells)
    return truth


def draw_hardware(folder: Path, *, n_fields: int = 3) -> dict[str, list[tuple[float, float, str]]]:
    """Write photographs of washers and nuts; file name to (x, y, name) of each object."""
    rng = np.random.default_rng(5)
    truth: dict[str, list[tuple[float, float, str]]] = {}
    rows, columns = np.mgrid[:300, :400] + 0.5
    for k in range(1, n_fields + 1):
        image = np.full((300, 400, 3), 225, float)
        objects = []
        for i in range(20):
            y, x = 35 + 58 * (i // 5) + rng.uniform(-4, 4), 40 + 78 * (i % 5) + rng.uniform(-5, 5)
            away = np.hypot(rows - y, columns - x)
            if (i + k) % 2:
                name, inside = "washer", (away < 20) & (away > 8)
            else:
                turn = np.arctan2(rows - y, columns - x) + rng.uniform(0, 1)
                side = np.cos(np.mod(turn, np.pi / 3) - np.pi / 6)
                name, inside = "nut", (away * side < 14) & (away > 4)
            image[inside] = 90
            objects.append((float(x), float(y), name))
        image += rng.normal(0, 2, image.shape)
        (folder / f"box{k}").mkdir(parents=True)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / f"box{k}/a.png")
        truth[f"box{k}/a.png"] = objects
    return truth


def key() -> str:
    """A new client key."""
    return f"test-key-{next(_keys):08d}"


def finished(client: Any, answer: Any, *, seconds: float = 300.0) -> dict[str, Any]:
    """Wait for the job of an answer; returns the job with its result."""
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    end = time.monotonic() + seconds
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < end, job
        time.sleep(0.01)
        job = client.get(f"/api/jobs/{job['id']}").json()["job"]
    return job
