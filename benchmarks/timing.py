"""Two ways to the same result, timed in turn in one process, so that what else the machine does
disturbs both alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Comparison:
    """What was timed: a round's entry is (seconds, seconds of processor time) of a call that gets
    through all items."""

    name: str
    unit: str
    items: int
    ours: tuple[tuple[float, float], ...]
    peer: tuple[tuple[float, float], ...]

    @property
    def ratio(self) -> float:
        """How many times as many items a second: the peer's median time over ours."""
        return self._ratio(0)

    def _ratio(self, clock: int) -> float:
        return median(t[clock] for t in self.peer) / median(t[clock] for t in self.ours)

    def __str__(self) -> str:
        ours, peer = (self.items / median(t[0] for t in times) for times in (self.ours, self.peer))
        return (
            f"{self.name}: ours {ours:,.1f}, peer {peer:,.1f} {self.unit} a second: {self.ratio:.1f} times as many; "
            f"by processor time {self._ratio(1):.1f} times ({len(self.ours)} rounds)"
        )


def side_by_side(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    items: int,
    unit: str,
    rounds: int,
) -> Comparison:
    """Call each once to warm up, then both in every round, taking turns to begin."""
    calls = {"ours": ours, "peer": peer}
    times: dict[str, list[tuple[float, float]]] = {who: [] for who in calls}
    for number in range(-1, rounds):
        for who in sorted(calls, reverse=number % 2 == 0):
            wall, processor = time.perf_counter(), _processor_s()
            calls[who]()
            if number >= 0:
                times[who].append((time.perf_counter() - wall, _processor_s() - processor))
    return Comparison(name, unit, items, tuple(times["ours"]), tuple(times["peer"]))


def _processor_s() -> float:
    """Seconds that this process and the processes it waited for have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
