"""Was a model trained on the fields that it is about to be measured on? What model.json says of its
data decides.

Of each data set are known: the checksums of its records, its splits with the digests of their image
files and with their patients, and by `input_path` which of the records taught. A run that went on
from another run's weights was taught by that run's data too, and a second look by what its folds
held out. A model from before digests were kept is judged by the names of data set and split; where
these say nothing, the answer is that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from spherodetect.detect.model_folder import names_split, record_patterns
from spherodetect.evaluation.truth import Truth
from spherodetect.labels.recipe import SPLITS
from spherodetect.safety import quoted

HELD_OUT, TRAINED_ON, NOT_KNOWN = "held-out", "trained-on", "not-known"


@dataclass(frozen=True)
class Descent:
    """Whether a model saw the fields in training.

    Attributes:
        status: HELD_OUT, TRAINED_ON or NOT_KNOWN.
        reason: a clause, empty for HELD_OUT.
        calibrated: whether p_spherocyte was calibrated on records of this split.
    """

    status: str
    reason: str = ""
    calibrated: bool = False


@dataclass(frozen=True)
class _Taught:
    """Records that taught: a pattern, and what the manifest says of the split that it names, if
    anything does."""

    pattern: str
    name: str = ""
    part: Mapping[str, Any] | None = None
    checksums: frozenset[str] = frozenset()


def descent(truth: Truth, card: Mapping[str, Any]) -> Descent:
    """Hold a split against the content of a model.json."""
    provenance = card.get("provenance") or {}
    validation = record_patterns(provenance, "validation_data")
    calibrated = any(names_split(pattern, truth.name, truth.split) for pattern in validation)
    taught = list(_taught(provenance))
    if reason := next(filter(None, (_leak(truth, one) for one in taught)), ""):
        return Descent(TRAINED_ON, reason, calibrated)
    by_name = any(names_split(one.pattern, truth.name, split) for one in taught for split in SPLITS)
    silent = [
        one.pattern for one in taught if not (one.part and one.part.get("fields") and truth.digests)
    ]
    if not taught or (silent and not by_name):
        what = ", ".join(quoted(PurePosixPath(pattern).name) for pattern in silent) or "any data"
        return Descent(
            NOT_KNOWN,
            f"model.json does not say which fields of {what} the model was trained on",
            calibrated,
        )
    return Descent(HELD_OUT, "", calibrated)


def _leak(truth: Truth, taught: _Taught) -> str:
    part = taught.part or {}
    digests = frozenset(part.get("fields") or ())
    if common := len(truth.digests & digests):
        return f"the model was trained on {common} of the {len(truth.digests)} images of split {truth.split!r}"
    if truth.checksums & taught.checksums:
        return f"the model was trained on the records of split {truth.split!r}"
    if not (digests and truth.digests) and names_split(taught.pattern, truth.name, truth.split):
        return f"the model was trained on split {truth.split!r} of {quoted(truth.name)}"
    if taught.name == truth.name and (
        patients := truth.patients & frozenset(part.get("patients") or ())
    ):
        listed = ", ".join(quoted(patient) for patient in sorted(patients)[:3])
        return (
            f"the model was trained on other fields of {len(patients)} of its patients ({listed})"
        )
    return ""


def _taught(provenance: Mapping[str, Any]) -> Iterator[_Taught]:
    data = provenance.get("data") or {}
    for pattern in record_patterns(provenance, "train_data"):
        known = False
        base = PurePosixPath(pattern).name
        for name, manifest in data.items():
            for split, part in manifest.get("splits", {}).items():
                sums = {
                    v
                    for k, v in manifest.get("checksums", {}).items()
                    if fnmatch(k, base) and k.startswith(f"{name}-{split}-")
                }
                if sums:
                    known = True
                    yield _Taught(pattern, name, part, frozenset(sums))
        if not known:
            yield _Taught(pattern)
    for other in filter(None, (provenance.get("initial"), *(provenance.get("second_look") or ()))):
        yield from _taught(other)
