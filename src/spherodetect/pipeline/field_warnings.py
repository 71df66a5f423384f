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
        self._unread: dict[str, Scale] = {}
        # SHA-256 of a file to the first field and patient that has it.
        self._files: dict[str, tuple[str, str]] = {}

    def add(self, field: Examined) -> None:
        """Record the notes and the scale of one field."""
        for warning in filter(None, (*field.notes, field.scale.warning, self._copy_of(field))):
            # Warnings that differ only in their figures are of one kind.
            kind = re.sub(r"\d", "", warning)
            self._first.setdefault(kind, (field.field_id, warning))
            self._n[kind] = self._n.get(kind, 0) + 1
        if field.scale.unread_bar_px:
            self._unread[field.field_id] = field.scale

    def _copy_of(self, field: Examined) -> str:
        """Empty, or that the same file was counted before."""
        first, patient = self._files.setdefault(field.sha256, (field.field_id, field.patient_id))
        if not field.sha256 or first == field.field_id:
            return ""
        if patient == field.patient_id:
            return "the same file as another field of its patient; both are counted, delete one"
        return "the same file as a field of another patient; check whose photograph it is"

    def log(self) -> None:
        """Log one warning of each kind."""
        for kind, (field_id, warning) in self._first.items():
            more = self._n[kind] - 1
            others = f" and {more} more" if more else ""
            logger.warning("%s%s: %s", quoted(field_id), others, warning)
        if unread := unread_bars(self._unread):
            logger.warning("%s", unread)


__all__ = ["FieldWarnings"]
