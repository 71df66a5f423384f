"""The time that a training takes, told before it begins. This module does not need Model Garden."""

from __future__ import annotations

import os

#: Steps of a training that goes on from the weights of a model.
TUNING_STEPS = 200
#: Seconds a step times cores, and seconds to build the graphs: measured on two shared cores.
_CORE_SECONDS, _GRAPH_SECONDS = 2.6, 120
#: More cores do not make a step of four crops faster.
_MOST_CORES = 8


def cpu_time(steps: int, *, trainings: int = 1) -> str:
    """The processors of this machine and the time of trainings on them, as a phrase.

    Args:
        steps: of each training.
        trainings: one after the other.

    >>> cpu_time(400)  # doctest: +SKIP
    'about 11 minutes on 2 CPU cores if idle'
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    seconds = trainings * (_GRAPH_SECONDS + steps * _CORE_SECONDS / min(cores, _MOST_CORES))
    return f"about {seconds / 60:.0f} minutes on {cores} CPU cores if idle"


__all__ = ["TUNING_STEPS", "cpu_time"]
