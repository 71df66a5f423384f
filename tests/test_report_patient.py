"""patient: a page states measurements without interpreting them, is complete, and escapes texts."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reporting import HOSTILE, NOTHING, Page, a_field, a_quality, a_score, noise, some_cells
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.report.fhir import FhirContext
from spherodetect.report.languages import STATUS_TEXTS
from spherodetect.report.patient import MAX_FLAGGED, MAX_GALLERY, MAX_NEAREST, write_patient_report
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE, STATUSES
from spherodetect.score.grades import GradeScheme

PROVENANCE = {"model": "small", "sha256 of the model": "0" * 64}


def _report(tmp_path, score=None, fields=(), **options) -> Page:
    path = tmp_path / "report.html"
    write_patient_report(path, score or a_score(), fields, **{"provenance": PROVENANCE, **options})
    return Page(path.read_text("utf-8"))


def _fields(folder, n: int = 2, **options) -> list[Examined]:
    return [a_field(folder, f"p/{i}.png", **options) for i in range(n)]


def _facts(page: Page) -> dict[str, list[str]]:
    """First cell of a row -> the other cells."""
    return {row[0]: row[1:] for row in page.rows if row}


def test_the_page_states_the_score_and_how_it_was_computed(tmp_path):
    fields = [*_fields(tmp_path), a_field(tmp_path, "p/bad.png", reason="out of focus: 3.1")]
    page = _report(
        tmp_path,
        fields=fields,
        limit_of_blank=2.5,
        notes=["a note"],
        provenance=PROVENANCE | {"tile": 640},
        unread={"p/torn.png": "the image is damaged"},
    )
    for part in ("patient 07", "12.3 %", "9.1 to 16.2 %", "2+ (icsh2015)", "a note"):
        assert part in page.text
    assert FIXED_SENTENCE in page.text
    assert RESEARCH_USE in page.text
    facts = _facts(page)
    assert [facts[name][0] for name in ("Fields", "Cells found", "Countable red cells")] == [
        "12", "1,500", "1,200",
    ]  # fmt: skip
    assert re.findall(r"\d+", facts["Fields"][1]) == ["1", "3"]  # rejected, and their cells
    n_flagged, remark = facts["Flagged as spherocytes"]
    assert n_flagged == "156"
    assert re.findall(r"[\d.]+ %", remark) == ["13.0 %", "2.5 %"]
    assert "limit of blank" in remark
    assert facts["HS score"][0] == "12.3 %"
    assert "corrected" in facts["HS score"][1]
    assert "2 of 3 countable" in page.section("Fields counted (2)")
    assert facts["p/torn.png"] == ["the image is damaged"]
    assert "p/bad.png out of focus: 3.1" in page.section("Fields rejected (2)")
    assert facts["sha256 of the model"] == ["0" * 64]
    assert facts["tile"] == ["640"]
    # Three overlays; four flagged cells, two of them in pairs; the two cells that are not flagged;
    # the four flagged cells again in the list of all.
    assert len(page.images()) == 3 + 4 + 2 + 2 + 4


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("empty", [False, True])
def test_every_status_has_plain_words_and_none_interprets(tmp_path, status, empty):
    page = _report(
        tmp_path, a_score(status=status, **(NOTHING if empty else {})), _fields(tmp_path, 1)
    )
    assert status in page.text
    said = page.text.replace(RESEARCH_USE, "").replace(FIXED_SENTENCE, "").lower()
    for word in (
        "positive",
        "negative",
        "diagnos",
        "hereditary",
        "disease",
        "disorder",
        "likely",
        "suspect",
    ):
        assert word not in said
    assert not re.search(r"\bnan\b", said)
    assert "not graded" in said or status in ("ok", "low_confidence")


def test_what_is_missing_is_named_and_how_many_fields_would_be_enough(tmp_path):
    few = a_score(
        status="low_confidence", n_countable=700, n_fields=8, hs_score_low=5, hs_score_high=17
    )
    text = _report(tmp_path, few, more_fields=4).text
    for part in ("700 countable cells (expected 1,000)", "8 fields (expected 10)", "12.0 points"):
        assert part in text
    assert "4 more fields" in text
    assert "1 more field " in _report(tmp_path, few, more_fields=1).text
    assert "not narrow" in _report(tmp_path, few, more_fields=None).text
    none = _report(tmp_path, a_score(status="insufficient_cells", grade=""), more_fields=None).text
    assert "200 countable cells in 3 fields" in none
    fewer = a_score(status="insufficient_cells", n_countable=90, n_fields=5, grade="")
    text = _report(tmp_path, fewer).text
    assert "90 countable cells (expected 200)" in text
    assert "fields (expected" not in text
    assert "more field" not in _report(tmp_path, a_score(), more_fields=0).text
    assert "human labels" in _report(tmp_path, a_score(model="labels", basis="labels")).text
    none = a_score(status="field_quality", **NOTHING)
    assert "more field" not in _report(tmp_path, none, more_fields=10).text.lower()


def test_an_unseen_stain_has_an_uncorrected_score_without_limit_of_blank(tmp_path):
    known = _report(tmp_path, a_score(), _fields(tmp_path, 1), limit_of_blank=2.5)
    unseen = a_score(status="unseen_stain", grade="")
    page = _report(tmp_path, unseen, _fields(tmp_path, 1), limit_of_blank=2.5)
    for one, corrected in ((known, True), (page, False)):
        facts = _facts(one)
        assert ("2.5" in facts["Flagged as spherocytes"][1]) == corrected
        assert ("not corrected" in facts["HS score"][1]) != corrected
        assert ("Probability that it is above" in one.text) == corrected


def test_the_cells_left_out_are_counted_by_reason(tmp_path):
    fields = _fields(tmp_path, 1)
    cells = replace(
        fields[0].cells, countable=np.array([True, False, False]), class_id=np.array([2, 1, 4])
    )
    page = _report(tmp_path, fields=[replace(fields[0], cells=cells)])
    assert re.findall(r"(\d) (\w+)", _facts(page)["Cells found"][1]) == [
        ("1", "overlapping"),
        ("1", "not"),
    ]


def test_text_from_outside_stays_text(tmp_path):
    fields = [
        a_field(tmp_path, HOSTILE),
        Examined(HOSTILE, some_cells(HOSTILE + "2"), a_quality(HOSTILE)),
    ]
    score = a_score(patient_id=HOSTILE, grade=HOSTILE, grade_scheme=HOSTILE, model=HOSTILE)
    page = _report(
        tmp_path,
        score,
        fields,
        provenance={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        unread={HOSTILE: HOSTILE},
        scheme=GradeScheme("<b>", ("<i>none", "<i>some"), (0.0, 9.0)),
    )
    assert not {tag for tag, _ in page.tags} & {"script", "i", "iframe", "object", "link", "form"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "{{7*7}}" in page.text  # shown, not run
    assert "<script>alert(1)</script>" in page.text
    raw = (tmp_path / "report.html").read_text("utf-8")
    assert "\u202e" not in raw
    assert "\udc80" not in raw


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = _report(tmp_path, fields=_fields(tmp_path))
    for _, attrs in page.tags:
        assert not set(attrs) & {"srcset", "action"}
        assert attrs.get("href", "#").startswith("#")
        assert attrs.get("src", "data:image/").startswith("data:image/")
    style = (tmp_path / "report.html").read_text("utf-8").partition("</style>")[0]
    assert not re.search(r"url\(|@import|http:|https:", style)
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_flagged_cells_come_with_their_numbers_and_with_what_is_like_them(tmp_path):
    page = _report(tmp_path, fields=[a_field(tmp_path, "p/1.png", p=(0.7, 0.1, 0.95, 0.3))])
    pairs = page.section("Flagged cells")
    assert re.findall(r"(\d\.\d\d) p (\d\.\d\d)", pairs) == [("0.95", "0.30"), ("0.70", "0.10")]
    for words in (
        "7.2 µm size 7.2 µm",
        "0.87 rel. size 0.87",
        "2 % pallor 2 %",
        "0.95 centre/rim 0.30",
        "1.29 rel. density 1.29",
        "p/1.png #3 p/1.png #4",
    ):
        assert words in pairs
    nearest = page.section("Not flagged")
    assert re.findall(r"p (\d\.\d\d)", nearest) == ["0.30", "0.10"]


def test_a_long_list_is_cut_and_says_so(tmp_path):
    n_fields, n_each = 3, MAX_FLAGGED // 3 + 1
    p = (0.9,) * n_each + (0.2,) * (MAX_NEAREST // 3 + 1)
    page = _report(tmp_path, fields=_fields(tmp_path, n_fields, p=p))
    assert f"All flagged cells ({n_fields * n_each})" in page.text
    assert f"{n_fields * n_each - MAX_FLAGGED} more flagged cell" in page.text
    pairs = MAX_GALLERY + min(MAX_GALLERY, n_fields * (MAX_NEAREST // 3 + 1))
    assert len(page.images()) == pairs + MAX_NEAREST + MAX_FLAGGED + n_fields
    assert "more flagged cell" not in _report(tmp_path, fields=[a_field(tmp_path, "b")]).text


def test_every_flagged_cell_is_there_the_least_certain_first_with_the_cut(tmp_path):
    fields = [
        a_field(tmp_path, "a", p=(0.7, 0.1, 0.998, 0.3)),
        a_field(tmp_path, "b", p=(0.55, 0.2, 0.0)),
    ]
    section = _report(tmp_path, fields=fields).section("All flagged cells")
    listed, _, told = section.partition("Below each cell")
    shown = re.findall(r">?\d\.\d\d", listed)
    flagged = sorted(
        float(one.cells.p_spherocyte[k]) for one in fields for k in np.flatnonzero(one.flagged)
    )
    assert shown == [">0.99" if p > 0.99 else f"{p:.2f}" for p in flagged]
    assert f"lowest p of a flagged cell is {flagged[0]:.2f}" in told


def test_a_picture_and_its_cell_in_the_field_lead_to_each_other(tmp_path):
    page = _report(tmp_path, fields=_fields(tmp_path))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for attrs in page.all("a") if "href" in attrs}
    assert targets <= set(ids)
    marks = {name for name in ids if re.fullmatch(r"f\d+c\d+", name)}
    assert marks and marks <= targets, "each mark is reached from a picture"
    back = {f"k{name}" for name in marks} & set(ids)
    assert back and back <= targets, "each picture of the list is reached from its mark"


def test_the_page_says_when_and_by_whom_it_was_made_if_that_is_stated(tmp_path):
    _report(tmp_path)
    plain = (tmp_path / "report.html").read_text()
    assert "Issued" not in plain and "@top-right" not in plain and 'class="made"' not in plain
    context = FhirContext("2026-11-29", "2026-11-30T09:00:00+01:00", made_by="<b>Dr. A")
    page = _report(tmp_path, context=context)
    words = "Blood taken 2026-11-29, issued 2026-11-30 09:00 +01:00, made by <b>Dr. A"
    assert words in page.text
    html = (tmp_path / "report.html").read_text()
    assert "<b>Dr. A" not in html and "@top-right" in html


def test_every_status_is_told_in_every_language():
    assert {frozenset(texts) for texts in STATUS_TEXTS.values()} >= {
        frozenset(texts) | set(STATUSES) for texts in STATUS_TEXTS.values()
    }


def test_a_page_without_a_countable_cell_is_whole(tmp_path):
    page = _report(
        tmp_path,
        a_score(status="field_quality", **NOTHING),
        [a_field(tmp_path, "a", reason="too dense")],
    )
    assert "Fields rejected (1)" in page.text
    for heading in ("Flagged", "All flagged", "Not flagged", "Size, pallor", "Fields counted"):
        assert not page.section(heading)
    assert len(page.images()) == 1


@pytest.mark.parametrize(("n", "size"), [(4, (2400, 1886)), (24, (640, 480))])
def test_fields_of_the_worst_kind_stay_below_8_mb(n, size, tmp_path):
    fields = [
        replace(one, overlay=tmp_path / "worst.png") for one in _fields(tmp_path, n, size=(9, 9))
    ]
    noise(*size).save(tmp_path / "worst.png", compress_level=0)
    page = _report(tmp_path, fields=fields)
    assert (tmp_path / "report.html").stat().st_size < 8_000_000
    sizes = {Image.open(io.BytesIO(data)).size for data in page.images()[-n:]}
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert width >= 240
    assert width / height == pytest.approx(
        640 / 480, rel=0.01
    )  # the field alone, without the strip below it


def test_what_a_camera_wrote_beside_the_pixels_stays_behind(tmp_path):
    field = a_field(tmp_path, "a")
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe 1970-01-01"
    for path in (field.image, field.overlay):
        with Image.open(path) as picture:
            picture.load()
        picture.save(path, "PNG", exif=exif)
    for data in _report(tmp_path, fields=[field]).images():
        assert b"Jane" not in data
        assert not Image.open(io.BytesIO(data)).getexif()


def test_the_same_result_gives_the_same_bytes(tmp_path):
    fields, pages = _fields(tmp_path), []
    for _ in range(2):
        _report(tmp_path, fields=fields)
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("low", "at", "high", "end"),
    [(0, 0, 1, 25), (3, 12.34, 18, 25), (15, 22, 31, 50), (60, 70, 99, 100)],
)
def test_the_scale_is_true_to_scale(tmp_path, low, at, high, end):
    page = _report(tmp_path, a_score(hs_score_low=low, hs_score=at, hs_score_high=high))
    marker = next(attrs for tag, attrs in page.tags if tag == "circle")
    interval = next(
        attrs
        for tag, attrs in page.tags
        if tag == "line" and attrs.get("y1") == attrs.get("y2") == "50"
    )
    places = [float(v) for v in (interval["x1"], marker["cx"], interval["x2"])]
    assert places == pytest.approx([20 + 950 * value / end for value in (low, at, high)], abs=0.06)
    limits = [
        float(a["x1"]) for tag, a in page.tags if tag == "line" and a.get("stroke-width") == "2.5"
    ]
    assert limits == pytest.approx([20 + 950 * limit / end for limit in (5, 20)], abs=0.06)


def test_a_place_that_cannot_be_written_is_named_and_the_old_page_stays(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpherodetectError, match=r"r\.html.*written"):
        write_patient_report(tmp_path / "file" / "r.html", a_score(), [], provenance={})
    path = tmp_path / "old.html"
    path.write_text("old")
    with pytest.raises(KeyError):
        write_patient_report(path, a_score(status="unheard of"), [], provenance={})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
