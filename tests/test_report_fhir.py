"""fhir: the grade is the value of LOINC 802-9, the percentage has a local code, nothing is
interpreted."""

from __future__ import annotations

import json

import pytest

from reporting import NOTHING, a_score
from spherodetect.errors import SpherodetectError
from spherodetect.report.fhir import LOCAL, FhirContext, to_observation
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE, STATUSES


def _components(observation: dict) -> dict[str, dict]:
    return {part["code"]["coding"][0]["code"]: part for part in observation["component"]}


def test_the_grade_is_the_value_of_802_9_and_the_percentage_is_not():
    observation = to_observation(a_score())
    assert observation["resourceType"] == "Observation"
    assert observation["status"] == "preliminary"
    assert [(c["system"], c["code"]) for c in observation["code"]["coding"]] == [
        ("http://loinc.org", "802-9")
    ]
    assert observation["valueCodeableConcept"] == {"text": "2+ (icsh2015)"}
    assert "dataAbsentReason" not in observation
    parts = _components(observation)
    assert parts["spherocytes-percent"]["valueQuantity"] == {
        "value": 12.34,
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    interval = parts["spherocytes-percent-95-interval"]["valueRange"]
    assert (interval["low"]["value"], interval["high"]["value"]) == (9.1, 16.2)
    assert parts["countable-red-cells"]["valueInteger"] == 1200
    for part in parts.values():
        assert [c["system"] for c in part["code"]["coding"]] == [LOCAL]
        assert sum(key.startswith("value") for key in part) == 1


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("empty", [False, True])
def test_whatever_the_status_it_is_whole_json_and_claims_nothing(status, empty):
    changes = NOTHING if empty else {"grade": "" if status in STATUSES[:3] else "2+"}
    observation = to_observation(a_score(status=status, **changes))
    assert ("valueCodeableConcept" in observation) != ("dataAbsentReason" in observation)
    text = json.dumps(observation, allow_nan=False)
    assert "interpretation" not in text
    said = text.replace(RESEARCH_USE, "").replace(FIXED_SENTENCE, "").lower()
    for word in ("positive", "negative", "diagnos", "hereditary", "disease", "d58"):
        assert word not in said
    notes = [note["text"] for note in observation["note"]]
    assert notes[:2] == [RESEARCH_USE, FIXED_SENTENCE]
    assert notes[2:] == ([f"Status: {status}"] if "valueCodeableConcept" in observation else [])
    assert _components(observation)["status"]["valueString"] == status
    assert ("spherocytes-percent" in _components(observation)) != empty
    if "dataAbsentReason" in observation:
        assert status in observation["dataAbsentReason"]["text"]


def test_who_and_with_what():
    observation = to_observation(a_score(patient_id='7 "x"'))
    assert observation["subject"]["identifier"]["value"] == '7 "x"'
    (device,) = observation["contained"]
    assert observation["device"]["reference"] == f"#{device['id']}"
    assert "small" in device["deviceName"][0]["name"]
    assert device["version"][0]["value"] == "0.1.0"


def test_times_and_the_system_of_the_patient_ids_are_options():
    plain = to_observation(a_score())
    assert not {"effectiveDateTime", "issued"} & plain.keys()
    assert plain["subject"]["identifier"]["system"].startswith("urn:uuid:")
    context = FhirContext("2026-11-30", "2026-11-30T09:00:00+01:00", "https://h.example/patients")
    stated = to_observation(a_score(), context)
    assert stated["effectiveDateTime"] == "2026-11-30"
    assert stated["issued"] == "2026-11-30T09:00:00+01:00"
    assert stated["subject"]["identifier"]["system"] == "https://h.example/patients"


@pytest.mark.parametrize(
    "wrong",
    [
        {"effective": "yesterday"},
        {"effective": "2026-11-30T09:00:00"},
        {"issued": "2026-11-30"},
        {"patient_system": "our hospital"},
    ],
)
def test_a_wrong_option_is_named(wrong):
    with pytest.raises(SpherodetectError, match=r"FHIR .*: expected"):
        FhirContext(**wrong)


def test_who_made_the_results_is_the_performer():
    assert "performer" not in to_observation(a_score())
    observation = to_observation(a_score(), FhirContext(made_by="Laboratory 1"))
    assert observation["performer"] == [{"display": "Laboratory 1"}]


@pytest.mark.parametrize("status", STATUSES)
def test_an_observation_is_valid_fhir(status):
    fhir = pytest.importorskip("fhir.resources.R4B.observation")
    grade = "" if status in STATUSES[:3] else "2+"
    context = FhirContext("2026-11-30", "2026-11-30T09:00:00+01:00")
    fhir.Observation.model_validate(to_observation(a_score(status=status, grade=grade), context))
