"""A patient's score as a FHIR R4 Observation, and `FhirContext`, which the pages show too.

LOINC 802-9, spherocytes in blood by light microscopy, is ordinal: its value is the grade, never a
percentage. LOINC has no codes for the percentage, the interval and the counts, so they are
components under codes of this package. The status is preliminary, and nothing is interpreted.
Without a grade the Observation has the reason instead; beside a grade the status is a note.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE, PatientScore

LOINC, SPHEROCYTES = "http://loinc.org", "802-9"
#: The system of this package's own codes. URNs of the registered name space `uuid` need no owner.
LOCAL = f"urn:uuid:{uuid5(NAMESPACE_URL, 'spherodetect score')}"
#: The system of a patient's identifier where the laboratory states none.
PATIENTS = f"urn:uuid:{uuid5(NAMESPACE_URL, 'spherodetect patient')}"
UCUM = "http://unitsofmeasure.org"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


#: Why there is no grade, in the words of FHIR; any other status has the code "unknown".
_ABSENT_CODES = {
    "out_of_domain": "not-applicable",
    "field_quality": "error",
    "unseen_stain": "unsupported",
    "uncalibrated": "unsupported",
    "insufficient_cells": "not-performed",
    "at_or_below_limit_of_blank": "not-applicable",
}


@dataclass(frozen=True)
class FhirContext:
    """What a laboratory states about its results, for the Observations and the pages.

    Attributes:
        effective: when the blood was taken, as FHIR's dateTime, or empty.
        issued: when the result was made available, as FHIR's instant, or empty.
        patient_system: URI of the system of the patient ids, or empty.
        made_by: the person or laboratory that made the results, or empty.
    """

    effective: str = ""
    issued: str = ""
    patient_system: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        for name, text, is_instant in (
            ("effective", self.effective, False),
            ("issued", self.issued, True),
        ):
            if text and not _is_time(text, is_instant=is_instant):
                raise SpherodetectError(
                    f"FHIR {name} time: expected a time as 2026-11-30T09:00:00+01:00, "
                    f"got {quoted(text)}"
                )
        if self.patient_system and not _URI.fullmatch(self.patient_system):
            raise SpherodetectError(
                "FHIR patient system: expected a URI such as https://hospital.example/patients, "
                f"got {quoted(self.patient_system)}"
            )


def _is_time(text: str, *, is_instant: bool) -> bool:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return False
    is_date = len(text) == len("2026-11-30") and text.count("-") == 2
    has_zone = "T" in text and time.tzinfo is not None and len(text) >= len("2026-11-30T09:00:00Z")
    return has_zone or (is_date and not is_instant)


def to_observation(score: PatientScore, context: FhirContext | None = None) -> dict[str, Any]:
    """Return the Observation as a JSON object, with the patient id as identifier.

    Args:
        score: of one patient.
        context: times and the system of the patient ids; by default no time is stated.

    >>> to_observation(score)["code"]["coding"][0]["code"]  # doctest: +SKIP
    '802-9'
    """
    context = context or FhirContext()
    times = {"effectiveDateTime": context.effective, "issued": context.issued}
    identifier = {
        "system": context.patient_system or PATIENTS,
        "value": score.patient_id or "unknown",
    }
    notes = [RESEARCH_USE, FIXED_SENTENCE]
    if score.grade:
        notes.append(f"Status: {score.status}")
        value: dict[str, Any] = {
            "valueCodeableConcept": {"text": f"{score.grade} ({score.grade_scheme})"}
        }
    else:
        reason = f"not graded: {score.status}"
        code = _ABSENT_CODES.get(str(score.status), "unknown")
        value = {
            "dataAbsentReason": {"coding": [{"system": _ABSENT, "code": code}], "text": reason}
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
        "subject": {"type": "Patient", "identifier": identifier},
        **{name: time for name, time in times.items() if time},
        **({"performer": [{"display": context.made_by}]} if context.made_by else {}),
        **value,
        "note": [{"text": note} for note in notes],
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
    if score.status == "unseen_stain":
        return f"{named} that was not taught this stain; the percentage is not corrected"
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
