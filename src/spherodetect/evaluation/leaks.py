"""Checks that a model was not trained on the fields on which it is about to be evaluated.

model.json states, for each data set: the checksums of its records, its splits with the digests of
their image files and with their patients, and by `input_path` which records were used for training.
Two further sources count as training data: the data of the run whose checkpoint this run began
with, and the held-out fields on which the second look was trained. Patients that a run left out
(`train --folds`) do not count, although the patterns match their records. A model of an earlier
version has no digests and is judged by the names of data set and split. If model.json does not say
enough, the result is NOT_KNOWN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from spherodetect.detect.provenance import Provenance, matches_split
from spherodetect.evaluation.truth import Truth
from spherodetect.labels.recipe import SPLITS
from spherodetect.safety import quoted

HELD_OUT, TRAINED_ON, NOT_KNOWN = "held-out", "trained-on", "not-known"


@dataclass(frozen=True)
class HeldOut:
    """Whether the fields of a split were held out from training.

    Attributes:
        status: HELD_OUT, TRAINED_ON or NOT_KNOWN.
        reason: a clause that explains the status; empty for HELD_OUT.
        calibrated: whether p_spherocyte was calibrated on records of this split.
    """

    status: str
    reason: str = ""
    calibrated: bool = False


@dataclass(frozen=True)
class _TrainingRecords:
    """Records that a model was trained on.

    Attributes:
        pattern: the file pattern in the run's settings.
        name: the data set; empty if the provenance has no manifest of it.
        split: the manifest's entry of the split, or None.
        checksums: of the records.
    """

    pattern: str
    name: str = ""
    split: Mapping[str, Any] | None = None
    checksums: frozenset[str] = frozenset()

    @property
    def digests(self) -> frozenset[str]:
        """Digests of the image files; empty if they are not known."""
        return frozenset((self.split or {}).get("fields") or ())

    @property
    def patients(self) -> frozenset[str]:
        """The patients that are known."""
        return frozenset((self.split or {}).get("patients") or ())


def check_held_out(truth: Truth, provenance: Provenance) -> HeldOut:
    """Check that the split was held out from the training of a model."""
    validation = provenance.record_patterns("validation_data")
    calibrated = any(matches_split(pattern, truth.name, truth.split) for pattern in validation)
    training = list(_training_records(provenance, truth.patients))
    if reason := next(filter(None, (_leak(truth, one) for one in training)), ""):
        return HeldOut(TRAINED_ON, reason, calibrated)
    patterns = [one.pattern for one in training]
    name_is_known = any(
        matches_split(pattern, truth.name, split) for pattern in patterns for split in SPLITS
    )
    undocumented = [one.pattern for one in training if not (one.digests and truth.digests)]
    if not training or (undocumented and not name_is_known):
        names = [quoted(PurePosixPath(pattern).name) for pattern in undocumented]
        return HeldOut(
            NOT_KNOWN,
            f"model.json does not say which fields of {', '.join(names) or 'any data'} the model "
            "was trained on",
            calibrated,
        )
    return HeldOut(HELD_OUT, "", calibrated)


def _leak(truth: Truth, training: _TrainingRecords) -> str:
    """How the split is part of training records; empty if it is not."""
    if common := len(truth.digests & training.digests):
        images = f"{common} of the {len(truth.digests)} images"
        return f"the model was trained on {images} of split {truth.split!r}"
    if truth.checksums & training.checksums:
        return f"the model was trained on the records of split {truth.split!r}"
    comparable = training.digests and truth.digests
    if not comparable and matches_split(training.pattern, truth.name, truth.split):
        return f"the model was trained on split {truth.split!r} of {quoted(truth.name)}"
    patients = truth.patients & training.patients if training.name == truth.name else frozenset()
    if patients:
        listed = ", ".join(quoted(patient) for patient in sorted(patients)[:3])
        return (
            f"the model was trained on other fields of {len(patients)} of its patients ({listed})"
        )
    return ""


def _training_records(
    provenance: Provenance, patients: frozenset[str]
) -> Iterator[_TrainingRecords]:
    """The records of a run and of those before it that may have fields of these patients."""
    for pattern in provenance.record_patterns("train_data"):
        documented = list(_documented(provenance, pattern)) or [_TrainingRecords(pattern)]
        # A split with one of the patients is left out if the run left out all of them.
        left_out = bool(patients) and patients <= provenance.left_out
        yield from (one for one in documented if not (left_out and one.patients & patients))
    initial = [provenance.initial] if provenance.initial else []
    for other in (*initial, *provenance.second_look):
        yield from _training_records(other, patients)


def _documented(provenance: Provenance, pattern: str) -> Iterator[_TrainingRecords]:
    """The splits in the manifests whose records the pattern matches."""
    base = PurePosixPath(pattern).name
    for name, manifest in provenance.data.items():
        for split, part in manifest.get("splits", {}).items():
            checksums = frozenset(
                value
                for file, value in manifest.get("checksums", {}).items()
                if fnmatch(file, base) and file.startswith(f"{name}-{split}-")
            )
            if checksums:
                yield _TrainingRecords(pattern, name, part, checksums)
