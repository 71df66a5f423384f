"""page: numbers are readable, axes are round, links stay inside their folder."""

from __future__ import annotations

import math
import re

import pytest

from spherodetect.report.page import axis_end, href, number


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (12.34, 1, "12.3"),
        (-0.04, 1, "0.0"),
        (1234567.8, 0, "1,234,568"),
        (None, 1, "–"),
        (math.nan, 2, "–"),
        (math.inf, 1, "–"),
    ],
)
def test_numbers_have_separators_and_unknown_ones_are_dashes(value, decimals, text):
    assert number(value, decimals) == text


@pytest.mark.parametrize(
    ("highest", "at_least", "end"),
    [(0, 0, 5), (4.9, 0, 10), (10, 25, 25), (40, 25, 50), (99, 0, 100)],
)
def test_the_shortest_round_axis(highest, at_least, end):
    assert axis_end(highest, at_least) == end


def test_links_stay_inside_the_folder_and_are_no_scripts():
    assert href(None) is None
    assert href("reports/patient 07.html") == "./reports/patient%2007.html"
    assert href("reports/100% #1?.html") == "./reports/100%25%20%231%3F.html"
    assert href("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    for link in ("../a.html", "/etc/passwd"):
        with pytest.raises(ValueError, match=re.escape(repr(link))):
            href(link)
