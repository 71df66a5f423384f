"""Grade schemes: the range that contains a distribution, and the files of laboratories."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.score.grades import ICSH2015, GradeScheme, load_grade_scheme


@pytest.mark.parametrize(
    ("percent", "grade"),
    [
        ([1] * 95 + [9] * 5, "below 2+"),
        ([1] * 94 + [9] * 6, "below 2+ or 2+"),
        ([4] * 2 + [10] * 96 + [30] * 2, "2+"),
        # No pair has 95 %: the more probable one.
        ([4] * 10 + [10] * 60 + [30] * 30, "2+ or 3+"),
        ([5.0, 20.0], "below 2+ or 2+"),  # a grade begins above its limit
        ([20.01] * 20, "3+"),
        ([0.0, 100.0], "below 2+ or 2+"),
    ],
)
def test_a_grade_holds_95_percent_or_two_neighbours_share_it(percent, grade):
    assert ICSH2015.grade(np.random.default_rng(0).permutation(np.array(percent, float))) == grade


def test_schemes_are_found_by_name_and_read_from_files(tmp_path):
    assert load_grade_scheme("icsh2015") is ICSH2015
    table = {"name": "ours", "grades": {"3+": 20, "none": 0, "1+": 2.5}}
    (tmp_path / "a.json").write_text(json.dumps(table))
    (tmp_path / "ours.yml").write_text("grades: {none: 0, 1+: 2.5, 3+: 20}\n")
    expected = GradeScheme("ours", ("none", "1+", "3+"), (0.0, 2.5, 20.0))
    assert (
        load_grade_scheme(tmp_path / "a.json")
        == load_grade_scheme(str(tmp_path / "ours.yml"))
        == expected
    )


@pytest.mark.parametrize(
    "text",
    [
        "grades: [1, 2]",
        "- a",
        "",
        "grades: {}",
        "grades: {a: 0}",
        "grades: {a: 1, b: 2}",
        "grades: {a: 0, b: 100}",
        "grades: {a: 0, b: 5, c: 5}",
        "grades: {a: 0, b: .nan}",
        "grades: {a: 0, b: five}",
        "grades: {a: 0, b: true}",
        "grades: {a: 0, 1: 5}",
        "grades: {a: 0, '': 5}",
        'grades: {a: 0, "b\\nc": 5}',
        "name: [x]\ngrades: {a: 0, b: 5}",
        "grades: {a: 0, b: 5",
        f"grades: {{a: 0, {'b' * 41}: 5}}",
        "#" * 70_000,
    ],
)
def test_the_error_of_an_invalid_table_is_one_line_with_the_file_name(tmp_path, text):
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(SpherodetectError) as caught:
        load_grade_scheme(path)
    assert (
        "ours.yaml" in str(caught.value)
        and "expected" in str(caught.value)
        and "\n" not in str(caught.value)
    )


@pytest.mark.parametrize("name", ["icsh2016", "none.yaml", "grades.txt", "a\nb"])
def test_an_unknown_scheme_is_named(name):
    with pytest.raises(SpherodetectError) as caught:
        load_grade_scheme(name)
    assert repr(name)[1:-1] in str(caught.value) and "\n" not in str(caught.value)
