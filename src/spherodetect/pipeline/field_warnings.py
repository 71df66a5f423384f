"""Warnings about the fields of a run, each kind once."""

from __future__ import annotations

import logging
import re

from spherodetect.examined import Examined
from spherodetect.safety import quoted
from spherodetect.scale.find import Scale, unread_bars

logger = logging.getLogger(__name__)


class FieldWarnings:
    """Gathers what the users of fields should know; the first field of each kind is named."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}
        self._n: dict[str, int] = {}
        self._unread: list[Scale] = []

    def add(self, field: Examined) -> None:
        """Record the notes and the scale of one field."""
        for warning in filter(None, (*field.notes, field.scale.warning)):
            # Warnings that differ only in their figures are of one kind.
            kind = re.sub(r"\d", "", warning)
            self._first.setdefault(kind, (field.field_id, warning))
            self._n[kind] = self._n.get(kind, 0) + 1
        if field.scale.unread_bar_px:
            self._unread.append(field.scale)

    def log(self) -> None:
        """Log one warning of each kind."""
        for kind, (field_id, warning) in self._first.items():
            more = self._n[kind] - 1
            others = f" and {more} more" if more else ""
            logger.warning("%s%s: %s", quoted(field_id), others, warning)
        if unread := unread_bars(self._unread):
            logger.warning("%s", unread)


__all__ = ["FieldWarnings"]
