"""Grade schemes: the names a laboratory gives to ranges of the spherocyte percentage.

Limits are percentages, 0 to 100. A grade starts above its own lower limit and ends at the lower
limit of the next grade, which still belongs to it. Published schemes differ by a factor of ten, so
a grade is never written without the name of its scheme.

A laboratory's own table is a small YAML or JSON file:

    name: our-lab-2026
    grades: {"none": 0, "1+": 2, "2+": 10, "3+": 20}
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted, read_json, read_yaml

GRADE_PROBABILITY = 0.95
_MAX_FILE_BYTES = 64 * 1024
_MAX_GRADES = 20
_MAX_NAME = 40


@dataclass(frozen=True)
class GradeScheme:
    """Named, adjoining ranges of the spherocyte percentage.

    Attributes:
        name: name of the scheme, written beside every grade.
        grades: names of the grades, from the lowest range to the highest; at least two.
        from_percent: lower limit of each grade, rising from 0.

    Raises:
        ValueError: the names or limits are invalid.
    """

    name: str
    grades: tuple[str, ...]
    from_percent: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.grades) == len(self.from_percent) <= _MAX_GRADES:
            raise ValueError(
                f"expected 2 to {_MAX_GRADES} grades with one limit each, "
                f"got {len(self.grades)} grades and {len(self.from_percent)} limits"
            )
        for text in (self.name, *self.grades):
            if not (
                isinstance(text, str)
                and text.strip()
                and text.isprintable()
                and len(text) <= _MAX_NAME
            ):
                raise ValueError(
                    f"expected names of 1 to {_MAX_NAME} printable characters, got {quoted(text)}"
                )
        if len(set(self.grades)) < len(self.grades):
            raise ValueError(
                f"expected grades with different names, got {quoted(list(self.grades))}"
            )
        limits = self.from_percent
        rising = all(low < high for low, high in itertools.pairwise(limits))
        if limits[0] != 0 or not rising or not limits[-1] < 100:
            raise ValueError(
                f"expected lower limits that begin with 0 and rise, below 100, got {list(limits)}"
            )

    def grade(self, percent: np.ndarray) -> str:
        """The grade that contains 95 % of a distribution, else its two most probable neighbours.

        Args:
            percent: (N,) draws from the distribution of the percentage.

        Returns:
            The name of a grade, or two names joined by "or".

        >>> ICSH2015.grade(np.array([8.0, 9.0, 10.0])), ICSH2015.grade(np.array([3.0, 6.0]))
        ('2+', 'below 2+ or 2+')
        """
        edges = np.searchsorted(np.sort(percent), (*self.from_percent[1:], 100.0), side="right")
        probability = np.diff(edges, prepend=0) / len(percent)
        best = int(np.argmax(probability))
        if probability[best] >= GRADE_PROBABILITY:
            return self.grades[best]
        first = int(np.argmax(probability[:-1] + probability[1:]))
        return f"{self.grades[first]} or {self.grades[first + 1]}"


#: ICSH 2015 (Palmer et al., doi 10.1111/ijlh.12327), as transcribed from the paper. A laboratory
#: should check it against its own copy.
ICSH2015 = GradeScheme("icsh2015", ("below 2+", "2+", "3+"), (0.0, 5.0, 20.0))

SCHEMES = {ICSH2015.name: ICSH2015}


def load_grade_scheme(name_or_path: str | Path) -> GradeScheme:
    """A grade scheme, by its name or from a laboratory's YAML or JSON file.

    The module's text has an example of such a file.

    Raises:
        SpherodetectError: the name is unknown, or the file cannot be read or holds no valid scheme.
    """
    if (known := SCHEMES.get(str(name_or_path))) is not None:
        return known
    path, known_names = Path(name_or_path), ", ".join(SCHEMES)
    if (suffix := path.suffix.lower()) not in {".yaml", ".yml", ".json"}:
        raise SpherodetectError(
            f"grade scheme {quoted(path)}: expected {known_names}, or a .yaml or .json file"
        )
    read = read_json if suffix == ".json" else read_yaml
    table = read(path, max_bytes=_MAX_FILE_BYTES)
    grades = table.get("grades") if isinstance(table, Mapping) else None
    if not isinstance(grades, Mapping):
        raise SpherodetectError(
            f"{quoted(path)}: expected a name, and grades with their lower limits in percent, such "
            "as grades: {none: 0, 2+: 5, 3+: 20}, got something else; correct the table"
        )
    try:
        for name, limit in grades.items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)):
                raise ValueError(
                    f"expected a lower limit in percent for {quoted(name)}, got {quoted(limit)}"
                )
        ordered = sorted(grades.items(), key=lambda item: item[1])
        names, limits = zip(*ordered, strict=True) if ordered else ((), ())
        return GradeScheme(table.get("name", path.stem), names, tuple(map(float, limits)))
    except (ValueError, OverflowError) as problem:
        raise SpherodetectError(f"{quoted(path)}: {problem}; correct the table") from problem
