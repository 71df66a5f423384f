"""workers: results in order, and workers that end with their parent without a word."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.workers import working


def _die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_without_workers_the_calls_run_here():
    with working(1) as mapped:
        assert list(mapped(os.getpid.__class__, [])) == []
        assert list(mapped(abs, range(-3, 0))) == [3, 2, 1]


def test_results_come_in_order_and_the_workers_end():
    before = multiprocessing.active_children()
    with working(2, chunk=3) as mapped:
        assert list(mapped(abs, range(-50, 0))) == list(range(50, 0, -1))
        workers = [p for p in multiprocessing.active_children() if p not in before]
        assert len(workers) == 2
    # `join` may return early: a thread of the executor waits for the same processes, and the one
    # of both that comes second does not learn at once that a process has ended.
    end = time.monotonic() + 60
    while any(process.is_alive() for process in workers) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(process.is_alive() for process in workers)


def test_a_worker_that_is_killed_is_one_sentence():
    with working(2) as mapped, pytest.raises(SpherodetectError, match="ended from outside"):
        list(mapped(_die, [1, 2]))


_INTERRUPTED = """
import signal, sys, time
from spherodetect.workers import working

signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    try:
        with working(2) as mapped:
            work = mapped(time.sleep, [600] * 9)
            print("on", flush=True)
            list(work)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
"""


@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_ctrl_c_to_a_group_ends_it_without_tracebacks(tmp_path, seconds):
    script = tmp_path / "work.py"
    script.write_text(_INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "on\n"
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        # The pipe is closed when the last process of the group has ended.
        assert process.communicate(timeout=60)[1] == "interrupted\n"
        assert process.returncode == 130


def test_the_workers_of_a_process_that_is_ended_end_without_a_warning(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(_INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "on\n"
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == -signal.SIGTERM
