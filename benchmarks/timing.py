"""Times two functions in turn in one process, so that other work on the machine affects both."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Comparison:
    """The times of two functions.

    Attributes:
        name: of the comparison.
        unit: of the items.
        items: in each call.
        ours, peer: (seconds, seconds of processor time) of the call in each round.
    """

    name: str
    unit: str
    items: int
    ours: tuple[tuple[float, float], ...]
    peer: tuple[tuple[float, float], ...]

    @property
    def ratio(self) -> float:
        """The speed of ours relative to the peer: the quotient of the median times."""
        return self._ratio(0)

    def _ratio(self, clock: int) -> float:
        return median(t[clock] for t in self.peer) / median(t[clock] for t in self.ours)

    def __str__(self) -> str:
        ours, peer = (self.items / median(t[0] for t in times) for times in (self.ours, self.peer))
        return (
            f"{self.name}: ours {ours:,.1f}, peer {peer:,.1f} {self.unit} a second: "
            f"{self.ratio:.1f} times as many; by processor time {self._ratio(1):.1f} times "
            f"({len(self.ours)} rounds)"
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
    """Call each once as a warm-up, then both in each round, in alternating order."""
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
    """Processor time of this process and of its finished children, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
