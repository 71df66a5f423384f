"""How the score of a patient was computed: a table from fields over cells to the score."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherodetect.examined import Examined
from spherodetect.report.page import number
from spherodetect.score.counts import PatientScore

#: Text of each reason for which a cell is not countable.
_EXCLUSIONS = {
    "border": "cut by the border",
    "overlap": "overlapping or not whole",
    "overlay": "under text, a scale bar or a pointer",
    "not_rbc": "not a red cell",
}


def score_steps(
    score: PatientScore, fields: Sequence[Examined], limit_of_blank: float
) -> list[tuple[str, str, str]]:
    """Return rows of name, number and remark.

    Args:
        score: the patient's score.
        fields: all examined fields of the patient, also the rejected ones.
        limit_of_blank: in percent of raw_percent, or NaN if it is not known.
    """
    reasons: dict[str, int] = dict.fromkeys(_EXCLUSIONS, 0)
    for field in fields:
        for reason in field.cells.exclusion_reason[field.accepted]:
            reasons[reason] = reasons.get(reason, 0) + 1
    reasons.pop("", None)
    lost = sum(int((~field.accepted).sum()) for field in fields)
    rejected = f"{score.n_fields_rejected:,} rejected" + (
        f", with {lost:,} cells that are not counted below" if lost else ""
    )
    left_out = ", ".join(f"{n:,} {_EXCLUSIONS.get(why, why)}" for why, n in reasons.items() if n)
    rows = [
        ("Fields", f"{score.n_fields + score.n_fields_rejected:,}", rejected),
        ("Cells found", f"{score.n_cells:,}", f"left out: {left_out}" if left_out else ""),
        (
            "Countable red cells",
            f"{score.n_countable:,}",
            "whole, separate, in a field that passed",
        ),
    ]
    if score.n_countable:
        raw = f"{number(score.raw_percent)} % of the countable red cells, uncorrected"
        proxy = (
            f"; limit of blank {number(limit_of_blank)} % (a proxy: no healthy controls are public)"
        )
        # The limit of blank is for the model's count, which a reviewed score does not rest on. On
        # an unseen stain nobody knows it.
        unseen = score.status == "unseen_stain"
        has_blank = math.isfinite(limit_of_blank) and score.basis != "reviewed" and not unseen
        blank = proxy if has_blank else ""
        corrected = "corrected for the model's errors"
        if score.basis == "labels":
            corrected = "not corrected: human labels"
        elif unseen:
            corrected = "not corrected: the model's error rates on such films are not known"
        elif math.isnan(score.hs_score_low):
            corrected = "not corrected: the model's error rates are not known"
        rows.append(("Flagged as spherocytes", f"{score.n_spherocytes:,}", raw + blank))
        if score.basis != "reviewed":
            rows.append(("HS score", f"{number(score.hs_score)} %", corrected))
    return rows


__all__ = ["score_steps"]
