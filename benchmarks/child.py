"""An object in a process of its own, with its own memory and threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def _serve(channel: Connection, make: Callable[..., Any], *args: Any) -> None:
    """The loop of the process: answers each (method, arguments...) with the result."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    instance = make(*args)
    channel.send(None)
    while (request := channel.recv()) is not None:
        channel.send(getattr(instance, request[0])(*request[1:]))


class Child:
    """An object in a process of its own.

    Args:
        make: makes the object from args in that process; both are pickled.
        stopped: stop the whole process between requests, including threads that prefetch.
    """

    def __init__(self, make: Callable[..., Any], *args: Any, stopped: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, *args), daemon=True)
        self._process.start()
        self._channel.recv()
        self._stopped = stopped
        self._signal(signal.SIGSTOP)

    def ask(self, *request: Any) -> Any:
        """Call a method of the object."""
        self._signal(signal.SIGCONT)
        self._channel.send(request)
        answer = self._channel.recv()
        self._signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        """End the process."""
        self._signal(signal.SIGCONT)
        self._channel.send(None)
        self._process.join(30)

    def _signal(self, which: int) -> None:
        if self._stopped:
            os.kill(self._process.pid, which)
