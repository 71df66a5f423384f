"""The account of one reading: every annotation of the label files is in a field or among the
unread, never neither.

A reader opens a `Ledger`, adds a field for each image and writes down what it could not use;
`LabelSet` is the result. Files are paths relative to the source's root, with forward slashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from spherodetect.fields.find import natural_key
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.files import common_folder
from spherodetect.safety import quoted


@dataclass(frozen=True)
class Unread:
    """An annotation that is in the label file and in no field. reason is a short code such as
    malformed."""

    file: str
    annotation_id: str
    reason: str


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The fields of one source, and what was wrong with it on reading.

    Attributes:
        fields: in natural order of their file names.
        findings: what the reader noticed; `lint` adds what only shows on the whole.
        unread: the annotations that are in no field.
        label_files: field's file to the label file that describes it.
        broken: label files of many images of which nothing could be read.
        keep: what must stay alive while the fields' paths are used (the folder that a zip was
            unpacked to).
    """

    fields: tuple[LabelledField, ...]
    findings: tuple[Finding, ...] = ()
    unread: tuple[Unread, ...] = ()
    label_files: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    keep: object = field(default=None, repr=False)

    def where(self, fields: Iterable[LabelledField]) -> str:
        """The label file that describes all the fields, or the folder that theirs lie in."""
        files = {self.label_files.get(f.file, f.file) for f in fields}
        return files.pop() if len(files) == 1 else common_folder(files) or "."

    @property
    def n_read(self) -> int:
        """Annotations in the label files: those in fields and those unread."""
        return sum(len(f.annotations) for f in self.fields) + len(self.unread)


class Ledger:
    """Collects fields, findings and unread annotations while a reader goes through a source."""

    def __init__(self) -> None:
        self._fields: dict[str, LabelledField] = {}
        self._label_files: dict[str, str] = {}
        self._unread: list[Unread] = []
        self._broken: list[str] = []
        self._findings: dict[tuple[str, str, str, str | None, str, str], list[str]] = {}

    @property
    def files(self) -> Collection[str]:
        """The images that were taken in so far."""
        return self._fields.keys()

    def add(self, labelled: LabelledField, *, label_file: str | None = None) -> None:
        """Take in one field; of an image that several label files describe, the first counts."""
        if labelled.file in self._fields:
            ids = [a.annotation_id for a in labelled.annotations]
            what = f"describes {quoted(labelled.file)} too, as {quoted(self._label_files.get(labelled.file, ''))} does"
            self.malformed(
                label_file or labelled.file,
                ids,
                what,
                split=labelled.split,
                mend="keep one of the two",
            )
            return
        self._fields[labelled.file] = labelled
        if label_file:
            self._label_files[labelled.file] = label_file

    def malformed(
        self, file: str, ids: Sequence[str], what: str, *, split: str | None = None, mend: str = ""
    ) -> None:
        """Write down annotations that cannot be used: they are unread, and a finding names them."""
        mend = mend or "mend or delete them in the labelling tool and export again"
        self.unread(file, ids, "malformed")
        self.find("malformed", file, what, ids, mend=mend, split=split, severity="error")

    def unread(self, file: str, ids: Sequence[str], reason: str) -> None:
        """Annotations of a label file that end up in no field, where a finding already says why."""
        self._unread += [Unread(file, i, reason) for i in ids]

    def broken(self, file: str, what: str, *, split: str | None = None) -> None:
        """A label file of many images that cannot be read at all, so that nobody knows how much is
        lost."""
        self._broken.append(file)
        self.find(
            "malformed",
            file,
            what,
            [],
            split=split,
            severity="error",
            mend="export it again, or name the right file under labels: in a recipe",
        )

    def without_image(self, file: str, ids: Sequence[str], *, split: str | None = None) -> None:
        """Labels whose image is nowhere; ids are the annotations that are lost where not even its
        size is known."""
        self.unread(file, ids, "labels-without-image")
        self.find(
            "labels-without-image",
            file,
            "the labelled image is not there",
            [],
            split=split,
            mend="put the image where the labels expect it, or delete its labels",
        )

    def without_labels(
        self, file: str, label_file: str | None, *, split: str | None = None
    ) -> None:
        """An image that nobody labelled, or whose labels are empty."""
        what = (
            f"{quoted(label_file)} holds no label of this image"
            if label_file
            else "the image has no label file"
        )
        self.find(
            "image-without-labels",
            file,
            what,
            [],
            split=split,
            mend="label it; what segmentation finds in it is otherwise of unknown class",
        )

    def bad_image(self, file: str, ids: Sequence[str], *, split: str | None = None) -> None:
        """A file that should be an image and is none, and the annotations that are lost with it."""
        self.malformed(
            file,
            ids,
            "expected an image, got a file without a readable image header",
            split=split,
            mend="put an image there that opens, or delete it and its labels",
        )

    def wrong_size(
        self,
        file: str,
        ids: Sequence[str],
        stated: tuple[int, int],
        real: tuple[int, int],
        *,
        label_file: str | None = None,
        split: str | None = None,
    ) -> None:
        """Labels of an image of another size (height, width): nobody knows where on this one they
        lie."""
        alike = abs(stated[0] * real[1] - stated[1] * real[0]) <= max(*stated, *real)
        likely = "resized after labelling" if alike else "cropped after labelling, or another image"
        what = f"labels state {stated[1]}x{stated[0]} pixels, the image has {real[1]}x{real[0]}: as if it was {likely}"
        self.unread(label_file or file, ids, "malformed")
        self.find(
            "malformed",
            file,
            what,
            ids,
            split=split,
            severity="error",
            mend="put the images there on which the labels were drawn, or export both together",
        )

    def turned(self, file: str, orientation: int, *, split: str | None = None) -> None:
        """An image that EXIF turns, and whose labels state the size that it has unturned: they were
        drawn on that."""
        what = f"EXIF turns the image (orientation {orientation}), but its labels are of the unturned one"
        self.find(
            "exif-rotation",
            file,
            what,
            [],
            split=split,
            severity="error",
            mend="here they turn with it; for other programs save the image upright without EXIF",
        )

    def find(
        self,
        code: str,
        file: str,
        what: str,
        ids: Sequence[str],
        *,
        mend: str,
        split: str | None = None,
        severity: str = "warning",
    ) -> None:
        """Note the same thing of some annotations of one file; equal notes become one finding that
        counts them."""
        self._findings.setdefault((code, severity, file, split, what, mend), []).extend(ids)

    def close(self, *, keep: object = None) -> LabelSet:
        """The finished account."""
        findings = tuple(
            Finding(code, severity, file, split, max(1, len(ids)), tuple(ids), what, mend)
            for (code, severity, file, split, what, mend), ids in self._findings.items()
        )
        fields = tuple(sorted(self._fields.values(), key=lambda f: natural_key(f.file)))
        return LabelSet(
            fields, findings, tuple(self._unread), self._label_files, tuple(self._broken), keep
        )
