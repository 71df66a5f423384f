"""pipeline.field_warnings: what users should know of fields, each kind once."""

from __future__ import annotations

import logging
from types import SimpleNamespace

from spherodetect.pipeline.field_warnings import FieldWarnings


def _field(patient: str, name: str, digest: str) -> SimpleNamespace:
    scale = SimpleNamespace(warning="", unread_bar_px=0)
    return SimpleNamespace(
        patient_id=patient, field_id=f"{patient}/{name}", sha256=digest, notes=(), scale=scale
    )


def test_a_file_that_is_counted_twice_is_named(caplog):
    warnings = FieldWarnings()
    for one in (
        _field("a", "1.jpg", "x"),
        _field("a", "1 copy.jpg", "x"),
        _field("a", "1 copy 2.jpg", "x"),
        _field("a", "2.jpg", "y"),
        _field("b", "2.jpg", "y"),
        _field("b", "3.jpg", "z"),
    ):
        warnings.add(one)
    with caplog.at_level(logging.WARNING):
        warnings.log()
    own, other = caplog.messages
    assert own.startswith(
        "'a/1 copy.jpg' and 1 more: the same file as another field of its patient"
    )
    assert other.startswith("'b/2.jpg': the same file as a field of another patient")
