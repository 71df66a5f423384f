"""What the app refuses, by the kind of answer that a browser gets.

Every message is one sentence in the words of the command line.
"""

from __future__ import annotations

from spherodetect.errors import SpherodetectError


class NotThere(SpherodetectError):
    """An id that names nothing."""


class Conflict(SpherodetectError):
    """A change that the present state does not allow."""


class TooLarge(SpherodetectError):
    """Something beyond a stated limit of size."""


class WrongType(SpherodetectError):
    """Content of a type that is not understood."""


class StorageError(SpherodetectError):
    """The file cannot be written; the change is not stored."""


class Busy(SpherodetectError):
    """The queue is full.

    Attributes:
        retry_s: seconds after which another try makes sense.
    """

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__(message)
        self.retry_s = retry_s


__all__ = ["Busy", "Conflict", "NotThere", "StorageError", "TooLarge", "WrongType"]
