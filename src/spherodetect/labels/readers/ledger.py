"""The result of reading one source of labels, and the ledger that a reader keeps meanwhile.

A reader opens a `Ledger`, adds one field for each image and notes what it could not use. `LabelSet`
is the result. It accounts for every annotation of the label files: each is in a field or in the
list of unread annotations. Files are paths relative to the source's root, with forward slashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from spherodetect.fields.names import natural_key
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.files import common_folder
from spherodetect.safety import quoted


@dataclass(frozen=True)
class Unread:
    """An annotation of a label file that is in no field; reason is a short code, as malformed."""

    file: str
    annotation_id: str
    reason: str


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The fields of one source, and the problems met while it was read.

    Attributes:
        fields: in natural order of their file names.
        findings: the reader's; `lint` adds those that need all fields together.
        unread: the annotations that are in no field.
        label_files: a field's file to the label file that describes it.
        broken: label files that describe many images and cannot be read at all.
        unreadable: a line for each label file of one image that cannot be read.
        keep: an object that must live as long as the fields' paths are used, such as the
            temporary folder of an unpacked zip.
        format: the format that was read, as in a recipe.
    """

    fields: tuple[LabelledField, ...]
    findings: tuple[Finding, ...] = ()
    unread: tuple[Unread, ...] = ()
    label_files: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    keep: object = field(default=None, repr=False)
    format: str = "coco"

    def where(self, fields: Iterable[LabelledField]) -> str:
        """The label file that describes all the fields, or else the folder common to theirs."""
        files = {self.label_files.get(f.file, f.file) for f in fields}
        return files.pop() if len(files) == 1 else common_folder(files) or "."

    @property
    def n_read(self) -> int:
        """Annotations in the label files: those in fields and those unread."""
        return sum(len(f.annotations) for f in self.fields) + len(self.unread)


class Ledger:
    """Collects fields, findings and unread annotations while a reader works."""

    def __init__(self) -> None:
        self._fields: dict[str, LabelledField] = {}
        self._label_files: dict[str, str] = {}
        self._unread: list[Unread] = []
        self._broken: list[str] = []
        self._unreadable: list[str] = []
        self._findings: dict[tuple[str, str, str, str | None, str, str], list[str]] = {}

    @property
    def files(self) -> Collection[str]:
        """The image files added so far."""
        return self._fields.keys()

    def add(self, labelled: LabelledField, *, label_file: str | None = None) -> None:
        """Add one field; if several label files describe an image, the first one is used."""
        if labelled.file in self._fields:
            ids = [a.annotation_id for a in labelled.annotations]
            first = quoted(self._label_files.get(labelled.file, ""))
            self.malformed(
                label_file or labelled.file,
                ids,
                f"describes {quoted(labelled.file)} too, as {first} does",
                split=labelled.split,
                mend="keep one of the two",
            )
            return
        self._fields[labelled.file] = labelled
        if label_file:
            self._label_files[labelled.file] = label_file

    def malformed(
        self,
        file: str,
        ids: Sequence[str],
        message: str,
        *,
        split: str | None = None,
        mend: str = "mend or delete them in the labelling tool and export again",
    ) -> None:
        """Note annotations that cannot be used; they become unread, and a finding lists them."""
        self.unread(file, ids, "malformed")
        self.note("malformed", file, message, ids, mend=mend, split=split, severity="error")

    def unread(self, file: str, ids: Sequence[str], reason: str) -> None:
        """Count annotations as unread; the caller notes a finding that says why."""
        self._unread += [Unread(file, i, reason) for i in ids]

    def broken(self, file: str, message: str, *, split: str | None = None) -> None:
        """Note a label file of many images that cannot be read at all.

        The number of annotations lost with it is not known.
        """
        self._broken.append(file)
        self.note(
            "malformed",
            file,
            message,
            [],
            split=split,
            severity="error",
            mend="export it again, or name the right file under labels: in a recipe",
        )

    def unreadable(self, file: str, message: str, *, split: str | None = None) -> None:
        """Note a label file of one image that cannot be read.

        The number of annotations lost with it is not known, so the file is named instead.
        """
        self._unreadable.append(f"{quoted(file)}: {message}; its labels and image are left out")
        self.malformed(file, [], message, split=split, mend="export it again")

    def without_image(
        self, file: str, ids: Sequence[str], *, split: str | None = None, near: str | None = None
    ) -> None:
        """Note labels without an image.

        Args:
            file: the image, or the label file if no image is named.
            ids: the annotations that are lost because not even the image's size is known.
            split: the export's split.
            near: an image of a similar name, which may be the one that is meant.
        """
        self.unread(file, ids, "labels-without-image")
        similar = f"; {quoted(near)} has a similar name" if near else ""
        self.note(
            "labels-without-image",
            file,
            f"the labelled image is not there{similar}",
            [],
            split=split,
            mend="put the image where the labels expect it, or delete its labels",
            severity="error",
        )

    def without_labels(
        self, file: str, label_file: str | None, *, split: str | None = None
    ) -> None:
        """Note an image without a label file (None), or with an empty one."""
        message = "the image has no label file"
        if label_file:
            message = f"{quoted(label_file)} holds no label of this image"
        self.note(
            "image-without-labels",
            file,
            message,
            [],
            split=split,
            mend="label it, or leave it out; an empty label file says that it shows no cell",
        )

    def bad_image(self, file: str, ids: Sequence[str], *, split: str | None = None) -> None:
        """Note an image file that cannot be opened, and the annotations lost with it."""
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
        stated_hw: tuple[int, int],
        real_hw: tuple[int, int],
        *,
        label_file: str | None = None,
        split: str | None = None,
    ) -> None:
        """Note labels that state another size than their image has: their place is not known."""
        same_ratio = stated_hw[0] * real_hw[1] - stated_hw[1] * real_hw[0]
        resized = abs(same_ratio) <= max(*stated_hw, *real_hw)
        cause = (
            "resized after labelling" if resized else "cropped after labelling, or another image"
        )
        self.unread(label_file or file, ids, "malformed")
        self.note(
            "malformed",
            file,
            f"labels state {stated_hw[1]}x{stated_hw[0]} pixels, "
            f"the image has {real_hw[1]}x{real_hw[0]}; it was probably {cause}",
            ids,
            split=split,
            severity="error",
            mend="put the images there on which the labels were drawn, or export both together",
        )

    def turned(self, file: str, orientation: int, *, split: str | None = None) -> None:
        """Note an image that EXIF turns although its labels state the stored image's size."""
        self.note(
            "exif-rotation",
            file,
            f"EXIF turns the image (orientation {orientation}), "
            "but its labels are in the pixels of the stored image",
            [],
            split=split,
            severity="error",
            mend="here the labels are turned too; "
            "for other programs save the image upright without EXIF",
        )

    def note(
        self,
        code: str,
        file: str,
        message: str,
        ids: Sequence[str],
        *,
        mend: str,
        split: str | None = None,
        severity: str = "warning",
    ) -> None:
        """Note a finding on annotations of a file; equal notes become one finding with a count."""
        key = (code, severity, file, split, message, mend)
        self._findings.setdefault(key, []).extend(ids)

    def close(self, *, keep: object = None) -> LabelSet:
        """The finished label set."""
        findings = tuple(
            Finding(code, severity, file, split, max(1, len(ids)), tuple(ids), message, mend)
            for (code, severity, file, split, message, mend), ids in self._findings.items()
        )
        fields = tuple(sorted(self._fields.values(), key=lambda f: natural_key(f.file)))
        return LabelSet(
            fields,
            findings,
            tuple(self._unread),
            self._label_files,
            tuple(self._broken),
            tuple(self._unreadable),
            keep,
        )
