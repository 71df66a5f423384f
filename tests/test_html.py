"""html: a page stands alone, says what was measured and no more, and lets no text from outside do anything."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.grades import GradeScheme
from spherodetect.quality import FieldQuality
from spherodetect.report.html import MAX_GALLERY, Crop, ReportField, write_index, write_patient_report
from spherodetect.score import FIXED_SENTENCE, RESEARCH_USE, STATUSES, PatientScore

HOSTILE = "<script>alert(1)</script>\"'&\n\u202e{{7*7}}\udc80"
PROVENANCE = {"model": "small", "model sha256": "0" * 64}


def _score(**changes) -> PatientScore:
    values = {
        "patient_id": "patient 07", "status": "ok", "hs_score": 12.34, "hs_score_low": 9.1, "hs_score_high": 16.2,
        "raw_percent": 13.0, "grade": "2+", "grade_scheme": "icsh2015", "p_above_5_percent": 1.0,
        "p_above_20_percent": 0.003, "n_fields": 11, "n_fields_rejected": 1, "n_cells": 1500, "n_countable": 1200,
        "n_spherocytes": 156, "model": "small", "version": "0.1.0",
    }  # fmt: skip
    return PatientScore(**(values | changes))


NOTHING = {
    "hs_score": math.nan, "hs_score_low": math.nan, "hs_score_high": math.nan, "raw_percent": math.nan, "grade": "",
    "p_above_5_percent": math.nan, "p_above_20_percent": math.nan, "n_cells": 0, "n_countable": 0, "n_spherocytes": 0,
}  # fmt: skip


def _quality(reason: str = "") -> FieldQuality:
    return FieldQuality(
        accepted=not reason, reason=reason, focus=12.3, exposure=0.7, density=0.31, n_cells=3, rbc_diameter_px=40.0,
        median_od=0.15, no_pallor=0.1, burnt=0.0, grain=0.01, explained=1.0, red_to_green=0.4, brighter=0.0,
    )  # fmt: skip


def _cells(field_id: str, p: tuple[float, ...] = (0.9, 0.1, 0.7)) -> Cells:
    n = len(p)
    boxes = np.array([[10, 20 * i, 28, 20 * i + 18] for i in range(1, n + 1)])
    ids = np.where(np.array(p) > 0.5, 2, 1)
    cells = Cells.from_labels(boxes, ids, [np.ones((18, 18), bool)] * n, image_size_hw=(2000, 2000), field_id=field_id)
    measured = {"diameter_px": 36.0, "relative_diameter": 0.87, "pallor_fraction": 0.016, "relative_od": 1.29}
    return replace(
        cells, p_spherocyte=np.array(p), um_per_px=0.2, measurements={k: np.full(n, v) for k, v in measured.items()}
    )


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _fields(n: int = 2, size: tuple[int, int] = (320, 250)) -> list[ReportField]:
    picture = _noise(*size)
    return [ReportField(f"p/{i}.png", picture, _quality(), _cells(f"p/{i}.png")) for i in range(n)]


class _Page(HTMLParser):
    """Tags, attributes and text of a page; checks that what opens is closed."""

    _VOID = frozenset({"meta", "img", "br", "rect", "line", "circle"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def images(self) -> list[bytes]:
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [base64.b64decode(source.partition("base64,")[2]) for source in sources]


def _report(tmp_path, score=None, fields=(), crops=(), **options) -> _Page:
    path = tmp_path / "report.html"
    write_patient_report(path, score or _score(), fields, crops, **{"provenance": PROVENANCE, **options})
    return _Page(path.read_text("utf-8"))


def test_the_page_states_the_figure_and_how_it_came_about(tmp_path):
    fields = [*_fields(), ReportField("p/bad.png", _noise(64, 48), _quality("out of focus: 3.1"), _cells("p/bad.png"))]
    page = _report(
        tmp_path, fields=fields, limit_of_blank=2.5, notes=["This model never saw MGG stain."],
        provenance=PROVENANCE | {"tile": 640},
    )  # fmt: skip
    for words in (
        "patient 07", "12.3 %", "95 % interval 9.1 to 16.2 %", "Grade 2+ (icsh2015)",
        "Fields 12 1 rejected, with 3 cells",
        "Cells found 1,500", "Countable red cells 1,200", "Flagged as spherocytes 156 13.0 % of the countable",
        "limit of blank 2.5 % (a proxy: no healthy controls are public)", "corrected for what the model gets wrong",
        "Fields counted (2)", "2 of 3 countable flagged", "Fields rejected (1) p/bad.png out of focus: 3.1",
        "model sha256 " + "0" * 64, "tile 640", "This model never saw MGG stain.", FIXED_SENTENCE, RESEARCH_USE,
    ):  # fmt: skip
        assert words in page.text
    assert len(page.images()) == 3


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("empty", [False, True])
def test_every_status_has_plain_words_and_none_interprets(tmp_path, status, empty):
    page = _report(tmp_path, _score(status=status, **(NOTHING if empty else {})), _fields(1))
    assert status in page.text
    said = page.text.replace(RESEARCH_USE, "").replace(FIXED_SENTENCE, "").lower()
    for word in ("positive", "negative", "diagnos", "hereditary", "disease", "disorder", "likely", "suspect"):
        assert word not in said
    assert not re.search(r"\bnan\b", said)
    assert "not graded" in said or status in ("ok", "low_confidence", "at_or_below_limit_of_blank")


def test_what_is_wanting_is_named_and_how_many_fields_would_do(tmp_path):
    few = _score(status="low_confidence", n_countable=700, n_fields=8, hs_score_low=5, hs_score_high=17)
    text = _report(tmp_path, few, more_fields=4).text
    assert "700 countable cells (expected 1,000); 8 fields (expected 10); an interval 12.0 points wide" in text
    assert "About 4 more fields like these" in text
    assert "About 1 more field like these" in _report(tmp_path, few, more_fields=1).text
    assert "would not narrow" in _report(tmp_path, few, more_fields=None).text
    fewer = _score(status="insufficient_cells", n_countable=90, n_fields=5, grade="")
    assert "90 countable cells (expected 200)." in _report(tmp_path, fewer).text
    assert "more field" not in _report(tmp_path, _score(), more_fields=0).text
    assert "human labels" in _report(tmp_path, _score(model="labels")).text
    none = _score(status="field_quality", **NOTHING)
    assert "more field" not in _report(tmp_path, none, more_fields=10).text.lower()


def test_the_cells_left_out_are_counted_by_reason(tmp_path):
    fields = _fields(1)
    cells = replace(fields[0].cells, countable=np.array([True, False, False]), class_id=np.array([2, 1, 4]))
    page = _report(tmp_path, fields=[fields[0]._replace(cells=cells)])
    assert "left out: 1 overlapping or not whole, 1 not a red cell Countable" in page.text


def test_text_from_outside_stays_text(tmp_path):
    fields = [
        ReportField(HOSTILE, _noise(20, 20), _quality(), _cells(HOSTILE)),
        ReportField(HOSTILE + "2", None, _quality(HOSTILE), _cells("b")),
    ]
    score = _score(patient_id=HOSTILE, grade=HOSTILE, grade_scheme=HOSTILE, model=HOSTILE)
    page = _report(
        tmp_path, score, fields, [Crop(HOSTILE, 1, _noise(8, 8))], provenance={HOSTILE: HOSTILE}, notes=[HOSTILE],
        scheme=GradeScheme("<b>", ("<i>none", "<i>some"), (0.0, 9.0)),
    )  # fmt: skip
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "i", "iframe", "object", "link", "form"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "{{7*7}}" in page.text  # shown, not run
    assert "<script>alert(1)</script>" in page.text
    raw = (tmp_path / "report.html").read_text("utf-8")
    assert "\u202e" not in raw
    assert "\udc80" not in raw
    write_index(tmp_path / "index.html", [(score, "reports/a.html")], title=HOSTILE)
    index = _Page((tmp_path / "index.html").read_text("utf-8"))
    assert not {tag for tag, _ in index.tags} & {"script", "i", "img"}


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = _report(tmp_path, fields=_fields(), crops=[Crop("p/0.png", 1, _noise(9, 9))])
    for _, attrs in page.tags:
        assert not set(attrs) & {"href", "srcset", "action"}
        assert attrs.get("src", "data:image/").startswith("data:image/")
    style = (tmp_path / "report.html").read_text("utf-8").partition("</style>")[0]
    assert not re.search(r"url\(|@import|http:|https:", style)
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_flagged_cells_come_the_most_certain_first_with_their_numbers(tmp_path):
    fields = [*_fields(2), ReportField("p/bad.png", None, _quality("too dense"), _cells("p/bad.png"))]
    fields[1] = fields[1]._replace(cells=_cells("p/1.png", (0.95, math.nan, 0.8)))
    crops = [Crop(f"p/{i}.png", k, _noise(10, 10)) for i in (0, 1) for k in (3, 1)]
    crops += [Crop("p/bad.png", 1, _noise(10, 10)), Crop("p/1.png", 2, _noise(10, 10))]
    page = _report(tmp_path, fields=fields, crops=crops)
    gallery = page.text.partition("most certain first")[2].partition("p: the model")[0]
    assert re.findall(r"p ([\d.–]+) ", gallery) == ["0.95", "0.90", "0.80", "0.70", "–"]
    assert "7.2 µm (0.87)" in gallery
    assert "pallor 2 % · density 1.29" in gallery
    assert "centre/rim –" in gallery  # not measured
    assert "p/1.png #1" in gallery
    assert "p/bad.png" not in gallery


def test_a_long_gallery_is_cut_and_says_so(tmp_path):
    field = ReportField("a", None, _quality(), _cells("a", (0.9,) * (MAX_GALLERY + 3)))
    crops = [Crop("a", k + 1, _noise(4, 4)) for k in range(MAX_GALLERY + 3)]
    page = _report(tmp_path, fields=[field], crops=crops)
    assert len(page.images()) == MAX_GALLERY
    assert "3 more flagged cells not shown" in page.text


def test_twelve_fields_of_the_worst_kind_stay_below_8_mb(tmp_path):
    fields = _fields(12, (2400, 1886))
    page = _report(tmp_path, fields=fields, crops=[Crop("p/0.png", 1, _noise(112, 112))] * MAX_GALLERY)
    assert (tmp_path / "report.html").stat().st_size < 8_000_000
    sizes = {Image.open(io.BytesIO(data)).size for data in page.images()[-12:]}
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert width >= 480
    assert width / height == pytest.approx(2400 / 1886, rel=0.01)


def test_what_a_camera_wrote_beside_the_pixels_stays_behind(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe 1970-01-01"
    out = io.BytesIO()
    _noise(30, 30).save(out, "JPEG", exif=exif, comment=b"Jane Doe")
    photo = Image.open(io.BytesIO(out.getvalue()))
    photo.load()
    field = ReportField("a", photo, _quality(), _cells("a"))
    for data in _report(tmp_path, fields=[field], crops=[Crop("a", 1, photo)]).images():
        assert b"Jane" not in data
        assert not Image.open(io.BytesIO(data)).getexif()


def test_the_same_result_gives_the_same_bytes(tmp_path):
    pages = []
    for _ in range(2):
        _report(tmp_path, fields=_fields(), crops=[Crop("p/0.png", 1, _noise(9, 9))])
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("low", "at", "high", "end"), [(0, 0, 1, 25), (3, 12.34, 18, 25), (15, 22, 31, 50), (60, 70, 99, 100)]
)
def test_the_scale_is_true_to_scale(tmp_path, low, at, high, end):
    page = _report(tmp_path, _score(hs_score_low=low, hs_score=at, hs_score_high=high))
    marker = next(attrs for tag, attrs in page.tags if tag == "circle")
    interval = next(attrs for tag, attrs in page.tags if tag == "line" and attrs.get("y1") == attrs.get("y2") == "50")
    places = [float(v) for v in (interval["x1"], marker["cx"], interval["x2"])]
    assert places == pytest.approx([20 + 950 * value / end for value in (low, at, high)], abs=0.06)
    limits = [float(a["x1"]) for tag, a in page.tags if tag == "line" and a.get("stroke-width") == "2.5"]
    assert limits == pytest.approx([20 + 950 * limit / end for limit in (5, 20)], abs=0.06)


def test_the_index_lists_every_patient_and_links_inside_its_folder(tmp_path):
    rows = [
        (_score(), "reports/patient 07.html"),
        (_score(patient_id="b", status="field_quality", **NOTHING), None),
        (_score(patient_id="c"), "reports/100% #1?.html"),
    ]
    write_index(tmp_path / "index.html", rows)
    page = _Page((tmp_path / "index.html").read_text("utf-8"))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["./reports/patient%2007.html", "./reports/100%25%20%231%3F.html"]
    for words in ("patient 07", "12.3 %", "9.1 to 16.2", "field quality", RESEARCH_USE, FIXED_SENTENCE):
        assert words in page.text
    write_index(tmp_path / "index.html", [])
    assert "No patient was scored" in (tmp_path / "index.html").read_text("utf-8")
    for link in ("../a.html", "/etc/passwd"):
        with pytest.raises(ValueError, match="inside the index's folder"):
            write_index(tmp_path / "index.html", [(_score(), link)])
    write_index(tmp_path / "index.html", [(_score(), "javascript:alert(1)")])
    assert 'href="./javascript%3Aalert%281%29"' in (tmp_path / "index.html").read_text("utf-8")


def test_a_place_that_cannot_be_written_is_named_and_the_old_page_stays(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpherodetectError, match=r"r\.html.*cannot be written"):
        write_patient_report(tmp_path / "file" / "r.html", _score(), [], provenance={})
    path = tmp_path / "old.html"
    path.write_text("old")
    with pytest.raises(KeyError):
        write_patient_report(path, _score(status="unheard of"), [], provenance={})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
