"""`spherodetect app`: review, label, train and correct in the browser, and REST on the same server.

A project is a folder. Its photographs stay as they are; everything that people do is kept in
review.sqlite beside them (see `store`). The browser talks to `server` by paths below api/, other
programs by paths below v1/. One worker thread does everything that takes long (see `jobs`).
Needs the extra [app].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spherodetect.app.notebook import show


def __getattr__(name: str) -> Any:
    # The server and its libraries are imported when they are needed.
    if name != "show":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spherodetect.app.notebook import show

    return show


__all__ = ["show"]
