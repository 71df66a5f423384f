"""Sentences of a report on stain, pixel size and look-alikes, and the table of provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spherodetect.cells import UNSEEN
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.detect.detector import name_of
from spherodetect.detect.model_folder import ModelCard
from spherodetect.examined import Examined
from spherodetect.safety import sha256
from spherodetect.scale.find import Scale, unread_bars
from spherodetect.score.counts import PatientScore
from spherodetect.score.lab_rates import LabRates

#: A cell is small below this share of the patient's median diameter, that of Chula's microcytes
#: (6.2 of 7.5 µm). From this share of small cells on a note is written; of drawn normal cells 6 to
#: 7 % are small.
_SMALL, _MANY_SMALL = 0.83, 0.15


#: What stands in model.json for the stain of a data set whose recipe does not name it.
_NOT_STATED = frozenset({"not stated", "unknown"})
#: With more groups than this, further ones hardly narrow an interval.
_FEW_GROUPS = 5
#: Files of a model whose checksums a report gives, and their names in the report.
_NAMED_FILES = {
    "saved_model/saved_model.pb": "graph",
    "saved_model/variables/variables.data-00000-of-00001": "weights",
}


#: Sources of a pixel size in the words of the report.
_SOURCES = {
    "given": "given",
    "file": "from the file's metadata",
    "scale bar": "from the scale bar",
    "cells": f"from the red cells, taken as {RBC_DIAMETER_UM:g} µm wide,",
}


def patient_notes(
    detector: Any, fields: Sequence[Examined], *, lab: LabRates | None = None
) -> list[str]:
    """Sentences on the limits of one patient's score.

    A detector without a model card has none on stains and look-alikes. With the rates of a
    laboratory there is none on look-alikes, for they are of another cut.
    """
    card = getattr(detector, "card", None)
    if card is None:
        return [scale_note(fields)]
    return [
        *(convention_notes(detector, fields) or stain_notes(card.stains_seen)),
        scale_note(fields),
        *([] if lab else [*rates_notes(card), *look_alike_notes(fields, card.rates.blocks)]),
    ]


def rates_notes(card: ModelCard) -> list[str]:
    """A sentence on what the error rates rest on, if that is few groups; nothing for many."""
    n = sum(block["true_spherocytes"] > 0 for block in card.rates.blocks)
    if card.conventions or not 0 < n <= _FEW_GROUPS:
        return []
    reference = card.rates.reference
    spread = (
        f" How much patients differ was also taken from {len(reference['blocks'])} of "
        f"{reference['model']} on this stain."
        if reference
        else ""
    )
    return [
        f"The error rates of this model come from {n} held-out patients or runs of fields.{spread} "
        "Labels of more patients, or a review of this one, narrow the interval."
    ]


def convention_notes(detector: Any, fields: Sequence[Examined]) -> list[str]:
    """By which laboratory's convention cells were called spherocytes; nothing without any."""
    known = getattr(detector, "conventions", ())
    accepted = [one.cells for one in fields if one.quality.accepted]
    if not known or not accepted:
        return []
    if detector.convention:
        return [f"Cells were called spherocytes by the stated convention: {detector.convention}."]
    distances = [cells.look_distance for cells in accepted if cells.look_distance is not None]
    counts = {
        name: sum(cells.convention == name for cells in accepted) for name in (*known, UNSEEN)
    }
    chosen = ", ".join(f"{name} in {n} field{'s' * (n != 1)}" for name, n in counts.items() if n)
    return [
        f"Convention by which cells were called spherocytes, chosen by look: {chosen} (median "
        f"distance of the fields' look {np.median(distances):.1f}; from "
        f"{detector.card.conventions['look_threshold']:.1f} on a film is unseen). The model was "
        f"taught these conventions: {', '.join(known)}."
    ]


def stain_notes(seen: Sequence[str]) -> list[str]:
    """A sentence if the model was never trained on May-Grünwald-Giemsa stain, or nobody says so."""
    if any("MGG" in stain or "May-Grünwald" in stain for stain in seen):
        return []
    stated = [stain for stain in seen if stain not in _NOT_STATED]
    if len(stated) < len(seen) or not seen:
        known = f" Stated: {', '.join(stated)}." if stated else ""
        return [
            "Whether this model saw May-Grünwald-Giemsa stain is not stated; the key stain of a "
            f"recipe says so.{known}"
        ]
    return [
        f"This model never saw May-Grünwald-Giemsa stain. Stains it has seen: {', '.join(seen)}."
    ]


def scale_note(fields: Sequence[Examined]) -> str:
    """A sentence on the sources of the pixel sizes, and on what contradicts them."""
    of_source: dict[str, list[Scale]] = {}
    for s in fields:
        of_source.setdefault(s.scale.source, []).append(s.scale)
    known = [
        f"{_SOURCES[source]} in {len(scales)} field{'s' * (len(scales) != 1)}{_error(scales)}"
        for source, scales in of_source.items()
    ]
    doubts = list(dict.fromkeys(s.scale.warning for s in fields if s.scale.warning))
    doubt = (
        f" Not all of it fits: {doubts[0]}{f' (and {len(doubts) - 1} more)' * (len(doubts) > 1)}."
        if doubts
        else ""
    )
    unread = unread_bars({s.field_id: s.scale for s in fields})
    unread_note = f" {unread[:1].upper()}{unread[1:]}." if unread else ""
    return f"Pixel size: {', '.join(known)}.{doubt}{unread_note}"


def _error(scales: Sequence[Scale]) -> str:
    """The median standard error of the scales in brackets, if it is known."""
    errors = [scale.relative_error for scale in scales if math.isfinite(scale.relative_error)]
    return f" (standard error {100 * np.median(errors):.2g} %)" if errors else ""


def look_alike_notes(fields: Sequence[Examined], blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence if many of the cells that were not flagged are small.

    Small cells are flagged more often than others, so that the score may be too high.
    """
    relative = [
        s.cells.measurements["relative_diameter"][
            s.cells.countable & (s.cells.names != "spherocyte")
        ]
        for s in fields
        if s.quality.accepted
    ]
    small = np.concatenate([*relative, np.zeros(0)]) < _SMALL
    if not small.size or small.mean() < _MANY_SMALL:
        return []
    fine = [
        (name, counts) for block in blocks for name, counts in block.get("fine_classes", {}).items()
    ]
    shares = []
    for wanted in (True, False):
        counts = [c for name, c in fine if name != "spherocyte" and (name == "microcyte") is wanted]
        shares.append(100 * sum(c["called"] for c in counts) / max(sum(c["n"] for c in counts), 1))
    return [
        f"{100 * small.mean():.0f} % of the other countable cells are small (below {_SMALL} of the "
        f"patient's median diameter). Of microcytes on held-out fields this model called "
        f"{shares[0]:.1f} % spherocytes, of all other cells {shares[1]:.1f} %: the score may be "
        "too "
        "high."
    ]


def provenance(
    detector: Any, score: PatientScore, fields: Sequence[Examined], *, lab: LabRates | None = None
) -> dict[str, Any]:
    """Name to value: software, model, a laboratory's own rates, settings and checksums."""
    card = getattr(detector, "card", None)
    photographs = sha256("".join(sorted(field.sha256 for field in fields)).encode())
    if card is None:
        return {
            "Software": f"spherodetect {score.version}",
            "Detector": name_of(detector),
            "Settings": f"grades of {score.grade_scheme}",
            **_lab(lab),
            "sha256 of the photographs": photographs,
        }
    thresholds = card.thresholds
    return {
        "Software": f"spherodetect {score.version}",
        "Model": name_of(detector),
        "Stains it has seen": ", ".join(card.stains_seen),
        "Experiment": card.provenance.experiment,
        "Settings": f"confidence from {thresholds.confidence:.2f}, p_spherocyte from "
        f"{thresholds.p_spherocyte:.2f}, grades of {score.grade_scheme}",
        **{
            f"sha256 of the {what}": card.checksums.get(name, "unknown")
            for name, what in _NAMED_FILES.items()
        },
        **_lab(lab),
        "sha256 of the photographs": photographs,
    }


def _lab(lab: LabRates | None) -> dict[str, str]:
    if lab is None:
        return {}
    return {
        "Rates": f"of {lab.name}, from {len(lab.blocks)} reviewed patients; not the model's own",
        "Calibration there": f"log odds times {lab.slope:.2f} plus {lab.intercept:.2f}; "
        f"p_spherocyte from {lab.p_spherocyte:.2f}",
    }
