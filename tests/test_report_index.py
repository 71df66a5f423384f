"""index: every patient has a row, the rows can be sorted without a script, texts stay texts."""

from __future__ import annotations

import re

from reporting import HOSTILE, NOTHING, Page, a_score
from spherodetect.report.index import write_index
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE, score_counts


def _page(tmp_path, rows, **options) -> Page:
    write_index(tmp_path / "index.html", rows, **options)
    return Page((tmp_path / "index.html").read_text("utf-8"))


ROWS = [
    (a_score(), "reports/patient 07.html"),
    (a_score(patient_id="b", status="field_quality", **NOTHING), None),
    (
        a_score(patient_id="c", hs_score=2.0, hs_score_low=1.9, grade="below 2+", n_countable=400),
        "reports/c.html",
    ),
]


def test_the_page_lists_every_patient_and_what_was_left_out(tmp_path):
    page = _page(tmp_path, ROWS, problems=["'a.jpg': the image is damaged", HOSTILE])
    assert [a["href"] for a in page.all("a")][:2] == [
        "./reports/patient%2007.html",
        "./reports/c.html",
    ]
    first, second, third = page.rows[1:]
    assert first[:3] == ["patient 07", "12.3 %", "9.1 to 16.2"]
    assert second[:3] == ["b", "–", "–"]
    assert second[5] == "field quality"
    assert third[0] == "c"
    assert page.section("Left out (2)").startswith("'a.jpg': the image is damaged")
    assert RESEARCH_USE in page.text
    assert FIXED_SENTENCE in page.text
    empty = _page(tmp_path, [])
    assert len(empty.rows) == 1
    assert RESEARCH_USE in empty.text


def test_the_page_has_no_script_and_lets_no_text_do_anything(tmp_path):
    page = _page(
        tmp_path, [(a_score(patient_id=HOSTILE, grade=HOSTILE), "r.html")] * 2, title=HOSTILE
    )
    assert not {tag for tag, _ in page.tags} & {"script", "i", "img"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "script-src" not in policy
    assert policy.startswith("default-src 'none'")


def _order(page: Page, column: str, *, falling: bool) -> list[int]:
    """The rows as the style sheet orders them: by a variable of the row, or its negative, or a
    large number."""
    variables = [
        dict(re.findall(r"--(\w+):(\d+);", attrs["style"]))
        for attrs in page.all("tr")
        if "style" in attrs
    ]
    last = 1_000_000
    order = [
        int(v.get(column, -last if falling else last)) * (-1 if falling else 1) for v in variables
    ]
    return sorted(range(len(order)), key=lambda i: order[i])


def test_each_column_sorts_both_ways_and_unknown_values_come_last(tmp_path):
    page = _page(tmp_path, ROWS)
    style = (tmp_path / "index.html").read_text().partition("</style>")[0]
    inputs = {attrs["id"] for attrs in page.all("input")}
    for column in (
        "patient",
        "score",
        "width",
        "grade",
        "status",
        "countable",
        "flagged",
        "fields",
        "rejected",
    ):
        assert {f"by-{column}", "falling"} <= inputs
        chosen, rows = f"body:has(#by-{column}:checked)", ".cohort tbody tr"
        assert f"{chosen} {rows} {{ order: var(--{column}, 1000000); }}" in style
        falling = f"order: calc(-1 * var(--{column}, -1000000));"
        assert f"{chosen}:has(#falling:checked) {rows} {{ {falling} }}" in style
    assert _order(page, "score", falling=False) == [2, 0, 1]
    assert _order(page, "score", falling=True) == [0, 2, 1]
    assert _order(page, "countable", falling=False) == [1, 2, 0]
    assert _order(page, "grade", falling=True) == [0, 2, 1]
    assert [attrs["id"] for attrs in page.all("input") if "checked" in attrs] == ["by-patient"]


def test_a_funnel_needs_five_patients_with_countable_cells(tmp_path):
    one, without, other = ROWS
    assert "Funnel plot" not in _page(tmp_path, [one, one, other, other, without]).text
    assert "Funnel plot" in _page(tmp_path, [one, one, other, other, other]).text
    blank = [(score_counts([0] * 3, [80] * 3, patient_id=name), None) for name in "abcde"]
    assert "Funnel plot" in _page(tmp_path, blank).text
