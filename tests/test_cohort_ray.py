"""cohort on a real Ray of this machine: the same bytes whatever is killed. Needs [ray]."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cohort_stub import Grid, results_of, write_smears
from spherodetect.cli import main
from spherodetect.cohort import ray_cluster, score_cohort
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.run import score_patients

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra [ray]"
)
TESTS = Path(__file__).parent

#: A run in a process of its own, on two workers that take a third of a second for a field. It says
#: how many fields it has finished.
_RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from cohort_stub import Grid
from spherodetect.cohort import score_cohort

def tell(done, total, label):
    print(done, flush=True)

if __name__ == "__main__":
    score_cohort(sys.argv[1], out=sys.argv[2], model=Grid(0.3), workers=2, progress=tell)
"""


def test_a_missing_ray_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: None)
    write_smears(tmp_path / "smears", n_patients=1, n_fields=1)
    words = ["score", str(tmp_path / "smears"), "--out", str(tmp_path / "out"), "--ray", "local"]
    assert main(words) == 2
    expected = "spherodetect: a cluster needs Ray; pip install 'spherodetect[ray]'\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


def test_workers_without_ray_and_no_workers_are_one_sentence(tmp_path, capsys):
    words = ["score", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "2"]
    assert main(words) == 2
    assert "expected --workers and --cores with --ray only" in capsys.readouterr().err
    with pytest.raises(SpherodetectError, match="cores: expected a whole number above 0, got 0"):
        score_cohort(tmp_path, cores=0)


def _children(pid: int) -> list[int]:
    """The processes below a process."""
    own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [grandchild for child in map(int, own) for grandchild in (child, *_children(child))]


def _workers(pid: int) -> list[int]:
    """The processes of a driver's actors."""
    found = []
    for child in _children(pid):
        try:
            title = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        found += [child] if b"ray::Worker" in title else []
    return found


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _state(pid) not in ("", "Z")]


def _state(pid: int) -> str:
    """The state of a process, Z if it ended and its parent does not ask for it; empty if gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _gone(pids: list[int], seconds: float = 150.0) -> bool:
    """Whether processes end; agents of Ray look for their parent about once a minute."""
    end = time.monotonic() + seconds
    while _alive(pids) and time.monotonic() < end:
        time.sleep(0.2)
    return not _alive(pids)


@pytest.fixture(scope="module")
def smears(tmp_path_factory) -> Path:
    return write_smears(tmp_path_factory.mktemp("smears"), n_patients=4, n_fields=6)


@pytest.fixture(scope="module")
def undisturbed(smears, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    score_patients(smears, model=Grid(), out=out)
    return results_of(out)


def _started(smears: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, str(smears), str(out), str(TESTS)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TESTS)])
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def _until(process: subprocess.Popen[str], n_done: int) -> None:
    """Wait until a run has so many finished fields."""
    while (line := process.stdout.readline()) and int(line) < n_done:
        pass


@pytest.mark.slow
@needs_ray
def test_workers_killed_at_ten_moments_change_no_byte(smears, undisturbed, tmp_path):
    with _started(smears, tmp_path / "out") as process:
        n_killed = 0
        for moment in range(10):
            _until(process, 2 * moment + 1)
            for pid in _workers(process.pid)[: 1 + moment % 2]:
                os.kill(pid, signal.SIGKILL)
                n_killed += 1
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert n_killed >= 10, "some workers were between two lives"
    assert results_of(tmp_path / "out") == undisturbed


@pytest.mark.slow
@needs_ray
def test_a_driver_that_is_killed_leaves_nothing_and_goes_on(smears, undisturbed, tmp_path):
    with _started(smears, tmp_path / "out") as process:
        _until(process, 5)
        children = _children(process.pid)
        assert len(_workers(process.pid)) == 2
        process.kill()
    assert _gone(children), "the processes of Ray end with their driver"
    n_stored = len(list((tmp_path / "out").rglob("fields/*.npz")))
    assert n_stored >= 5 and (tmp_path / "out" / "INCOMPLETE.txt").is_file()
    with _started(smears, tmp_path / "out") as process:
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0 and errors == "", errors
    assert results_of(tmp_path / "out") == undisturbed


@pytest.mark.slow
@needs_ray
def test_a_field_that_kills_workers_is_named(tmp_path):
    smears = write_smears(tmp_path / "smears", n_patients=1, n_fields=3)
    Image.new("RGB", (150, 140), (7, 7, 7)).save(smears / "p0" / "f9.png")
    result = score_cohort(smears, out=tmp_path / "out", model=Grid(fatal=7), workers=2)
    assert [one for one in result.problems if "not examined, 3 workers" in one]
    assert (tmp_path / "out" / "cells.csv").read_text().count("f2.png") == 25


@pytest.mark.slow
@needs_ray
def test_ctrl_c_is_one_line_and_leaves_no_process(smears, tmp_path, bundled_model):
    out = str(tmp_path / "out")
    words = [sys.executable, "-m", "spherodetect", "score", str(smears), "--out", out]
    with subprocess.Popen(
        [*words, "--ray", "local", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + 300
        while not _workers(process.pid) and time.monotonic() < end:
            time.sleep(0.2)
        children = _children(process.pid)
        # A terminal sends Ctrl-C to all processes of a command.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in errors.splitlines() if not line.startswith("scoring: ")]
    assert lines == ["spherodetect: interrupted; the results are not complete"]
    assert _gone(children)


@pytest.mark.slow
@needs_ray
def test_real_fields_with_the_bundled_model_give_the_same_bytes(shared_data, tmp_path):
    images = sorted((shared_data / "chula-rbc-12").rglob("*.jpg"))[:4]
    for number, image in enumerate(images):
        folder = tmp_path / "smears" / f"p{number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder)
    (tmp_path / "smears" / "p1" / "torn.jpg").write_bytes(b"no image")
    words = [sys.executable, "-m", "spherodetect", "score", str(tmp_path / "smears"), "--out"]
    said = []
    for name, more in (("here", []), ("ray", ["--ray", "local", "--workers", "2"])):
        done = subprocess.run(
            [*words, str(tmp_path / name), *more], capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 3, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("scoring: ")]
        said.append((done.stdout.replace(str(tmp_path / name), "OUT"), lines))
    assert said[0] == said[1]
    here, there = results_of(tmp_path / "here"), results_of(tmp_path / "ray")
    assert sum(name.startswith("overlays/") for name in here) == 4
    assert here == there
