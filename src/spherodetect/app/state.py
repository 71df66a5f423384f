"""`State`: what the routes of one server share."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from spherodetect import __version__
from spherodetect.app.edit_fields import Measurer
from spherodetect.app.jobs import Job, Worker
from spherodetect.app.pictures import Pictures
from spherodetect.app.project import Project
from spherodetect.app.security import Access
from spherodetect.app.store.database import Database


@dataclass(frozen=True, eq=False)
class State:
    """The project that a server shows, and what does its work."""

    project: Project
    worker: Worker
    access: Access
    pictures: Pictures
    measurer: Measurer
    reload_web: bool = False
    preload: bool = False

    @property
    def base(self) -> Database:
        return self.project.base

    @property
    def version(self) -> str:
        """The version of this package."""
        return __version__

    def load_model(self, job: Job) -> Generator[None]:
        """Load the model before it is needed; a job."""
        self.project.detector()
        yield from ()


def reply(content: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, without the checks of a response model: a field may have thousands of objects."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate, as a file name may hold, is no UTF-8.
    data = text.encode(errors="backslashreplace")
    return Response(data, status, headers, media_type="application/json")


__all__ = ["State", "reply"]
