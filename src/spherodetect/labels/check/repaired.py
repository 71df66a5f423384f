"""Findings that need nobody's attention, because a recipe or `tfrecords` repairs their cause.

A recipe is what `tfrecords` works by, so a finding on a recipe's data set becomes a note where
nothing is left to do. A finding on an export alone keeps its severity: other programs that read the
export repair nothing.
"""

from __future__ import annotations

from dataclasses import replace

from spherodetect.labels.annotations import Finding

#: Code of a finding to what `tfrecords` does about it.
_REPAIRS = {
    "box-outside-image": "clips the boxes",
    "box-polygon-mismatch": "takes the box from the outline",
    "rectangle-mask": "segments the cell in each rectangle",
    "augmented-copies": "keeps copies in one split and evaluates one of them",
    "root-category": "matches classes by name",
    "gapped-category-ids": "matches classes by name",
    "duplicate-annotation-id": "makes the ids unique",
}
#: The same for a finding that is repaired in its milder form only: near-duplicates in one split,
#: and an image whose labels were turned with it.
_WARNING = {"near-duplicate-images": "keeps them in one split"}
_OF_READER = {"exif-rotation": "turns the labels with the image"}


def repaired(finding: Finding, *, by_reader: bool = False) -> Finding:
    """The finding as a note if `tfrecords` repairs its cause, or else as it is.

    Args:
        finding: on the data set of a recipe.
        by_reader: whether the reader of the labels noted it.

    >>> one = Finding("root-category", "warning", "a.json", None, 1, (), "no annotation", "omit it")
    >>> repaired(one).severity, repaired(one).mend
    ('note', 'nothing: spherodetect tfrecords matches classes by name')
    """
    repairs = _REPAIRS | (_OF_READER if by_reader else {})
    if finding.severity == "warning":
        repairs |= _WARNING
    if finding.code not in repairs:
        return finding
    mend = f"nothing: spherodetect tfrecords {repairs[finding.code]}"
    return replace(finding, severity="note", mend=mend)
