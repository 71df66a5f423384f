"""threads: equal numbers of threads give equal bytes, so that all workers use the same one."""

from __future__ import annotations

import os

import pytest

from spherodetect.detect import threads


@pytest.mark.parametrize(
    ("cores", "stated", "expected"),
    [(1, "", 1), (4, "", 4), (64, "", 8), (64, "12", 12), (4, "0", 4), (4, "many", 4)],
)
def test_there_are_as_many_as_cores_up_to_a_limit_or_as_stated(
    cores, stated, expected, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", stated)
    assert threads.n_threads() == expected
    threads.state_threads()
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == str(expected)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert threads.n_threads() == expected, "a worker with fewer cores is told the same number"
