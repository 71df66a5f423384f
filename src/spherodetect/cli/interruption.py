"""Ctrl-C ends a command within two seconds, whatever it is doing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from spherodetect.console import say
from spherodetect.workers import end_workers

#: Exit code of a command that was interrupted.
INTERRUPTED = 130
#: Seconds after Ctrl-C in which a command may end by itself. TensorFlow does not notice Ctrl-C
#: before its call returns, which may take a minute.
_GRACE = 1.0
_SHOW_CURSOR = "\x1b[?25h"


def interruptible(command: Callable[[], int], *, until_exit: bool) -> int:
    """The exit code of a command, which Ctrl-C ends within two seconds, with its workers.

    Python raises KeyboardInterrupt where the main thread runs Python code. If the command has not
    ended a while later, a thread ends the process.

    Args:
        command: returns its exit code.
        until_exit: the process is this command's own, and may be ended after the command too.
    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    watch = _Watch()
    interrupted = False
    try:
        return command()
    except KeyboardInterrupt:
        interrupted = True
        watch.say_interrupted()
        return INTERRUPTED
    finally:
        watch.end(stop=not (interrupted and until_exit))


class _Watch:
    """Ends the process if its command does not end soon after Ctrl-C."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._saying = threading.Lock()
        read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(read_end,), daemon=True).start()

    def say_interrupted(self) -> None:
        """Say that the command was interrupted, once."""
        if self._saying.acquire(blocking=False):
            say("interrupted; the results are not complete")

    def end(self, *, stop: bool) -> None:
        """Restore the signals; stop the watch, or let it see the process end."""
        if stop:
            self._ended.set()
        signal.set_wakeup_fd(self._before)
        os.close(self._write_end)

    def _watch(self, signals: int) -> None:
        with os.fdopen(signals, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] == signal.SIGINT and not self._ended.wait(_GRACE):
                    self._end_process()

    def _end_process(self) -> None:
        end_workers()
        with contextlib.suppress(Exception):
            if sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)
            self.say_interrupted()
        os._exit(INTERRUPTED)


__all__ = ["interruptible"]
