"""The standard streams of a command.

The exit code tells how the command ended, and not whether anybody read its output. So a reader that
leaves (`| head`) and a closed stream change nothing: what is written after that is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

_STDERR = 2
#: Errors of a stream whose reader has left, or whose terminal is gone.
_READER_LEFT = frozenset({errno.EPIPE, errno.EBADF, errno.EIO})


@contextlib.contextmanager
def unheard_streams() -> Iterator[None]:
    """Within this context, stdout and stderr accept text whether or not it can be delivered.

    A character that the terminal cannot show is escaped.
    """
    _open_descriptors()
    with (
        contextlib.redirect_stdout(_unheard(sys.stdout)),
        contextlib.redirect_stderr(_unheard(sys.stderr)),
    ):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()


@contextlib.contextmanager
def libraries_log_to(file: Path) -> Iterator[None]:
    """Within this context, what TensorFlow's C++ code says on stderr is appended to a file.

    It has no switch for some of its messages, and no user can act on them. Python's own stderr
    stays where it is.
    """
    is_new = not file.parent.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    with file.open("ab") as log, contextlib.ExitStack() as stack:
        if _is_descriptor(sys.stderr, _STDERR):
            stream = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=sys.stderr.encoding)
            stack.enter_context(stream)
            stack.enter_context(contextlib.redirect_stderr(_unheard(stream)))
        os.dup2(log.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)
            if not file.stat().st_size:
                file.unlink()
                if is_new:
                    with contextlib.suppress(OSError):
                        file.parent.rmdir()


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def _open_descriptors() -> None:
    """Open the null device in place of closed streams.

    A file that is opened later would get the number of the stream, and the output with it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _unheard(stream: TextIO | None) -> TextIO:
    if stream is None or stream.closed:
        return io.StringIO()  # closed when the command was started
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    return cast("TextIO", _Unheard(stream))


class _Unheard:
    """A stream whose reader may leave."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as problem:
            self._leave(problem)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as problem:
            self._leave(problem)

    def _leave(self, problem: OSError) -> None:
        """Send what is buffered, and all that follows, nowhere, unless the disk is at fault."""
        if problem.errno not in _READER_LEFT:
            raise problem
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
