"""cli.interruption: Ctrl-C ends a command whatever it does; and the streams of a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types

import pytest

from spherodetect import cli
from spherodetect.cli.streams import libraries_log_to
from spherodetect.errors import SpherodetectError
from spherodetect.safety import naming, system_reason

_COMMAND = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)
from spherodetect import cli
stand = types.ModuleType("p")
def demo(out, progress, by_model):
    {body}
    return types.SimpleNamespace(
        scores=(), tables={{}}, report=None, key=None, problems=("left out",)
    )
stand.demo = demo
sys.modules["spherodetect.pipeline.demo"] = stand
sys.argv[1:] = ["demo", "--out", sys.argv[1]]
sys.exit(cli.main())
"""


def _started(body: str, out, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(body=body), str(out)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )


def test_code_that_does_not_notice_ctrl_c_is_ended(tmp_path):
    """As TensorFlow, which returns to Python when its call is done."""
    body = """print("on", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)"""
    with _started(body, tmp_path) as process:
        assert process.stdout.readline() == "on\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30)[1] == (
            "spherodetect: interrupted; the results are not complete\n"
        )
        assert process.returncode == 130


@pytest.mark.parametrize("closed", ["1", "1 2"])
def test_streams_that_are_closed_change_no_exit_code(tmp_path, closed):
    def close() -> None:
        for number in closed.split():
            os.close(int(number))

    with _started("print('x' * 100_000)", tmp_path, preexec_fn=close) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert said == ("" if "2" in closed else "spherodetect: left out\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path):
    with (
        open("/dev/full", "w") as full,
        _started("print('x' * 100_000)", tmp_path, stdout=full) as process,
    ):
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "No space left" in said


def test_streams_that_are_none(monkeypatch, tmp_path):
    stand = types.ModuleType("p")
    result = types.SimpleNamespace(
        scores=(), tables={}, report=None, key=None, problems=("left out",)
    )
    stand.demo = lambda out, progress, by_model: result
    monkeypatch.setitem(sys.modules, "spherodetect.pipeline.demo", stand)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 3
    assert (sys.stdout, sys.stderr) == (None, None)


def test_ctrl_c_is_one_line_at_the_earliest_moment(tmp_path):
    """The package imports nothing that takes long before the command line can catch it."""
    code = "import sys, spherodetect.__main__; sys.exit(bool({'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_errors_of_tensorflow_that_come_from_the_disk_are_the_systems(tmp_path):
    full = type("ResourceExhaustedError", (Exception,), {"__module__": "tensorflow.errors"})
    problem = full(f"{tmp_path}/x.part; No space left on device [Op:WriteFile]")
    assert "free some space" in system_reason(problem)
    assert not system_reason(full("OOM when allocating tensor"))
    assert not system_reason(ValueError("No space left on device"))
    expected = r"a\.tfrecord': cannot be written \(No space left"
    with pytest.raises(SpherodetectError, match=expected), naming(tmp_path / "a.tfrecord"):
        raise problem


_CHATTER = """
import os, sys
from pathlib import Path
from spherodetect.cli.streams import libraries_log_to, unheard_streams
with unheard_streams(), libraries_log_to(Path(sys.argv[1])):
    os.write(2, b"I0000 of C++\\n")
    print("progress", file=sys.stderr)
    if len(sys.argv) > 2:
        os.abort()
print("after", file=sys.stderr)
os.write(2, b"and C++ again\\n")
"""


def test_messages_of_libraries_go_to_the_log_and_those_of_the_command_to_stderr(tmp_path):
    log = tmp_path / "run" / "log.txt"
    command = [sys.executable, "-c", _CHATTER, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "progress\nafter\nand C++ again\n"
    assert log.read_text() == "I0000 of C++\n"
    # The last words of a library that aborts are kept.
    subprocess.run([*command, "abort"], capture_output=True, text=True, check=False)
    assert log.read_text() == 2 * "I0000 of C++\n"


def test_a_command_without_messages_leaves_no_log(tmp_path):
    with libraries_log_to(tmp_path / "run" / "log.txt"):
        pass
    assert not (tmp_path / "run").exists()
