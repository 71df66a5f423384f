"""The lists of a COCO file: whether they are there, the ids of the annotations, and the categories.

Messages name the list, the key, and the type of value that is there instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spherodetect.labels.readers.coco_values import ID_LIMIT, described, id_of
from spherodetect.labels.readers.files import listed

LISTS = ("images", "annotations", "categories")


def problem_of_lists(data: Any) -> str | None:
    """Why parsed JSON is no COCO, or None if it has all of COCO's lists."""
    if not isinstance(data, dict):
        return f"expected COCO with the lists {', '.join(LISTS)}, got {described(data)}"
    for key in LISTS:
        if not isinstance(data.get(key), list):
            got = described(data[key]) if key in data else "no such key"
            return f"expected COCO with the lists {', '.join(LISTS)}, got {got} for {key}"
    return None


def wrong_value(place: str, key: str, expected: str, entry: Any) -> str:
    """The message on an entry of a list whose value for a key cannot be used."""
    if not isinstance(entry, dict):
        return f"{place}: expected keys and values, got {described(entry)}"
    got = described(entry[key]) if key in entry else "no such key"
    return f"{place}: expected {key} as {expected}, got {got}"


def unique_ids(entries: Sequence[Any]) -> tuple[list[str], list[str]]:
    """The annotations' ids as text, `#2`, `#3` ... appended to repeated ones; and the latter.

    An annotation without an id gets its place in the list, as in `at 0`.
    """
    n_given, taken = Counter[str](), set[str]()
    ids, repeated = [], []
    for number, entry in enumerate(entries):
        given = id_of(entry.get("id")) if isinstance(entry, dict) else None
        unique = name = f"at {number}" if given is None else str(given)
        while unique in taken:
            n_given[name] += 1
            unique = f"{name}#{n_given[name] + 1}"
        taken.add(unique)
        ids.append(unique)
        if unique != name:
            repeated.append(unique)
    return ids, repeated


@dataclass(frozen=True)
class Categories:
    """The categories of a file.

    Attributes:
        names: id to name.
        root: the id of Roboflow's category 0, the project, which has no annotation; or None.
        problems: a line for each entry that cannot be used.
    """

    names: Mapping[int | str, str]
    root: int | str | None
    problems: tuple[str, ...]

    @property
    def gapped(self) -> list[int | str]:
        """The ids without the root's, if they are not 1, 2, 3 ...; else empty."""
        real = sorted((k for k in self.names if k != self.root), key=lambda k: (str(type(k)), k))
        return [] if real == list(range(1, len(real) + 1)) else real


def read_categories(categories: Sequence[Any], annotations: Sequence[Any]) -> Categories:
    """The categories; the annotations tell which are used."""
    names: dict[int | str, str] = {}
    parents: dict[int | str, str] = {}
    problems = []
    for number, category in enumerate(categories):
        place = f"categories[{number}]"
        key = id_of(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if key is None:
            problems.append(wrong_value(place, "id", "a whole number or short text", category))
        elif not isinstance(name, str) or not 0 < len(name.strip()) <= ID_LIMIT:
            problems.append(wrong_value(place, "name", "a short text", category))
        elif names.setdefault(key, name.strip()) != name.strip():
            both = listed((names[key], name))
            problems.append(f"category id {key} has two names, {both}; the first is used")
        else:
            parents[key] = str(category.get("supercategory", ""))
    used = {id_of(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    above = {parents.get(key) for key in names}
    # Roboflow lists the project as category 0, the parent of all others.
    root = next((key for key, name in names.items() if key not in used and name in above), None)
    return Categories(names, root, tuple(problems))
