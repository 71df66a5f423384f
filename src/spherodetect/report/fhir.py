"""A patient's score as a FHIR R4 Observation.

LOINC 802-9, spherocytes in blood by light microscopy, is ordinal: its value is the grade, never a
percentage. LOINC has no codes for the percentage, the interval and the counts, so they are
components under codes of this package. The status is preliminary, and nothing is interpreted.
Without a grade the Observation has the reason instead.
"""

from __future__ import annotations

import math
from typing import Any

from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE, PatientScore

LOINC, SPHEROCYTES = "http://loinc.org", "802-9"
LOCAL = "urn:spherodetect:score"
UCUM = "http://unitsofmeasure.org"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def to_observation(score: PatientScore) -> dict[str, Any]:
    """Return the Observation as a JSON object, with the patient id as identifier, without a time.

    >>> to_observation(score)["code"]["coding"][0]["code"]  # doctest: +SKIP
    '802-9'
    """
    if score.grade:
        value: dict[str, Any] = {
            "valueCodeableConcept": {"text": f"{score.grade} ({score.grade_scheme})"}
        }
    else:
        reason = f"not graded: {score.status}"
        value = {
            "dataAbsentReason": {"coding": [{"system": _ABSENT, "code": "unknown"}], "text": reason}
        }
    return {
        "resourceType": "Observation",
        "contained": [
            {
                "resourceType": "Device",
                "id": "method",
                "deviceName": [{"name": f"spherodetect, {score.model}", "type": "model-name"}],
                "version": [{"value": score.version}],
            }
        ],
        "status": "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
        "code": {
            "coding": [
                {
                    "system": LOINC,
                    "code": SPHEROCYTES,
                    "display": "Spherocytes [Presence] in Blood by Light microscopy",
                }
            ],
            "text": "Spherocytes",
        },
        "subject": {"type": "Patient", "identifier": {"value": score.patient_id or "unknown"}},
        **value,
        "note": [{"text": RESEARCH_USE}, {"text": FIXED_SENTENCE}],
        "method": {"text": _method(score)},
        "device": {"reference": "#method"},
        "component": _components(score),
    }


def _method(score: PatientScore) -> str:
    method = "Counted on photographs of a stained smear"
    if score.basis == "reviewed":
        return (
            f"{method}; {score.n_reviewed} cells of a stratified random sample were named by people"
        )
    if score.basis == "labels":
        return f"{method}; the cells were named by people"
    named = f"{method}; the cells were named by a model"
    if math.isfinite(score.hs_score) and math.isnan(score.hs_score_low):
        return f"{named} whose error rates are not known; the percentage is not corrected"
    return named


def _components(score: PatientScore) -> list[dict[str, Any]]:
    """Return counts and percentages; counts only if there is no countable cell."""
    counts: dict[str, dict[str, Any]] = {
        "status": {"valueString": score.status},
        "countable-red-cells": {"valueInteger": score.n_countable},
        "flagged-cells": {"valueInteger": score.n_spherocytes},
        "fields": {"valueInteger": score.n_fields},
        "fields-rejected": {"valueInteger": score.n_fields_rejected},
        "basis": {"valueString": score.basis},
    }
    shares: dict[str, dict[str, Any]] = {
        "spherocytes-percent": {"valueQuantity": _percent(score.hs_score)},
        **_interval("spherocytes-percent-95-interval", score.hs_score_low, score.hs_score_high),
        "spherocytes-percent-uncorrected": {"valueQuantity": _percent(score.raw_percent)},
    }
    if score.basis == "reviewed":
        counts |= {
            "reviewed-cells": {"valueInteger": score.n_reviewed},
            "reviewed-spherocytes": {"valueInteger": score.n_reviewed_spherocytes},
        }
        low, high = score.model_score_low, score.model_score_high
        shares |= {
            "spherocytes-percent-by-model": {"valueQuantity": _percent(score.model_score)},
            **_interval("spherocytes-percent-by-model-95-interval", low, high),
        }
    known = {**shares, **counts} if math.isfinite(score.hs_score) else counts
    return [
        {
            "code": {"coding": [{"system": LOCAL, "code": code}], "text": code.replace("-", " ")},
            **value,
        }
        for code, value in known.items()
    ]


def _interval(code: str, low: float, high: float) -> dict[str, dict[str, Any]]:
    """Return the component of an interval; nothing without limits."""
    if math.isnan(low):
        return {}
    return {code: {"valueRange": {"low": _percent(low), "high": _percent(high)}}}


def _percent(value: float) -> dict[str, Any]:
    """Return a Quantity in percent; adding 0.0 turns -0.0 into 0.0."""
    return {"value": round(float(value), 4) + 0.0, "unit": "%", "system": UCUM, "code": "%"}
