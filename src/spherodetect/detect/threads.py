"""The number of threads among which TensorFlow divides one operation.

It decides in which order a long sum is added up, and so the last digits of a result. Equal numbers
give equal bytes.
"""

from __future__ import annotations

import os

#: TensorFlow reads it when it computes for the first time.
_VARIABLE = "TF_NUM_INTRAOP_THREADS"
#: More threads make the detection of a field hardly faster.
_MOST = 8


def n_threads() -> int:
    """As many as this process has cores, but at most 8; or what the environment says."""
    stated = os.environ.get(_VARIABLE, "")
    if stated.isdigit() and int(stated):
        return int(stated)
    sees = getattr(os, "sched_getaffinity", None)
    return max(1, min(len(sees(0)) if sees else os.cpu_count() or 1, _MOST))


def state_threads() -> None:
    """Let this process, and what it starts, use that number."""
    os.environ[_VARIABLE] = str(n_threads())


__all__ = ["n_threads", "state_threads"]
