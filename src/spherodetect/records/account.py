"""The account of every label of a data set, counted while records are written, and the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spherodetect.labels.annotations import Finding
from spherodetect.labels.check.beside import CODE, on_slide_finding
from spherodetect.labels.readers.ledger import LabelSet, Unread
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import Instance
from spherodetect.records.convert import Converted
from spherodetect.safety import file_sha256


@dataclass
class Part:
    """The account of some fields of one split.

    Attributes:
        split: the split.
        images: images written.
        written: labels written.
        clipped: written labels that were clipped to the image.
        unlabelled: cells added without a label.
        repaired: reason to number of repaired labels.
        classes: patient (empty where it is not known) to class name to labels written.
        dropped: labels that were not written, as manifest.json lists them.
        problems: one line for each image that could not be read.
    """

    split: str
    images: int = 0
    written: int = 0
    clipped: int = 0
    unlabelled: int = 0
    repaired: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, one: Converted, recipe: Recipe) -> None:
        """Count one field."""
        self.dropped += [asdict(item) for item in one.found.dropped]
        self.repaired = dict(Counter(self.repaired) + one.found.repaired)
        if one.png is None:
            self.problems.append(one.problem)
            return
        labelled = [i for i in one.found.instances if i.annotation_id]
        self.images += 1
        self.clipped += one.found.clipped
        self.written += len(labelled)
        self.unlabelled += len(one.found.instances) - len(labelled)
        patient = one.labelled.patient_id or ""
        counts = Counter(self.classes.get(patient, {})) + Counter(
            _class_text(i, recipe) for i in labelled
        )
        self.classes[patient] = dict(counts)


class Account:
    """Adds up the parts of a data set to the manifest, and checks that read = written + dropped."""

    def __init__(self, recipe: Recipe, labels: LabelSet, splits: Mapping[str, str]) -> None:
        self.recipe, self.labels, self.splits = recipe, labels, splits
        self.parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Count a part."""
        self.parts.append(part)

    def manifest(self, findings: Sequence[Finding], *, forced: bool) -> dict[str, Any]:
        """The labels' part of manifest.json; the writer adds the checksums."""
        dropped = [asdict(item) for item in self.labels.unread]
        for labelled in self.labels.fields:
            missing = "labels-without-image" if labelled.path is None else "augmented-copy"
            if labelled.path is None or labelled.file not in self.splits:
                dropped += [
                    asdict(Unread(labelled.file, a.annotation_id, missing))
                    for a in labelled.annotations
                ]
        dropped += [item for part in self.parts for item in part.dropped]
        written = sum(part.written for part in self.parts)
        if self.labels.n_read != written + len(dropped):
            raise AssertionError(
                f"{self.labels.n_read} annotations read, {written} written, {len(dropped)} dropped"
            )
        return {
            "name": self.recipe.name,
            "stain": self.recipe.stain,
            "class_names": list(self.recipe.class_names),
            "annotations": {
                "read": self.labels.n_read,
                "written": written,
                "clipped": sum(part.clipped for part in self.parts),
                "repaired": _sorted(
                    sum((Counter(part.repaired) for part in self.parts), Counter[str]())
                ),
                "dropped": _sorted(Counter(item["reason"] for item in dropped)),
            },
            "unlabelled_cells": sum(part.unlabelled for part in self.parts),
            "splits": {split: self._split(split) for split in sorted(set(self.splits.values()))},
            "forced": forced,
            "dropped_items": dropped,
            "problems": [
                *self.labels.unreadable,
                *(line for part in self.parts for line in part.problems),
            ],
            "findings": [asdict(finding) for finding in (*findings, *self._beside(dropped))],
        }

    def _beside(self, dropped: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
        """The findings on labels that the conversion dropped because they meet no cell."""
        ids: dict[tuple[str, str | None], list[str]] = {}
        fields = {field.file: field for field in self.labels.fields}
        for item in dropped:
            if item["reason"] == CODE:
                label_file = self.labels.label_files.get(item["file"], item["file"])
                key = label_file, fields[item["file"]].split
                ids.setdefault(key, []).append(item["annotation_id"])
        return (on_slide_finding(file, split, found) for (file, split), found in ids.items())

    def _split(self, split: str) -> dict[str, Any]:
        members = [f for f in self.labels.fields if self.splits.get(f.file) == split]
        parts = [part for part in self.parts if part.split == split]
        patients: dict[str, Counter[str]] = {}
        for part in parts:
            for patient, classes in part.classes.items():
                patients.setdefault(patient, Counter()).update(classes)
        return {
            "images": sum(part.images for part in parts),
            "patients": sorted({f.patient_id for f in members if f.patient_id}),
            "sources": len({f.view_id or f.source_id for f in members}),
            "fields": sorted({file_digest(f.path) for f in members if f.path is not None}),
            "classes": _sorted(sum(patients.values(), Counter[str]())),
            "classes_by_patient": {
                patient: _sorted(patients[patient]) for patient in sorted(patients)
            },
            "unlabelled_cells": sum(part.unlabelled for part in parts),
        }


def file_digest(path: Path) -> str:
    """The first 12 hexadecimal digits of an image file's SHA-256.

    A model's provenance lists the images of its training by these.
    """
    return file_sha256(path)[:12]


def _class_text(instance: Instance, recipe: Recipe) -> str:
    if instance.class_id:
        return recipe.class_names[instance.class_id - 1]
    return "unknown" if instance.class_set & 1 else "red cell of unknown kind"


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
