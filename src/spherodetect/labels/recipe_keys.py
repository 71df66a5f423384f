"""Checked values of a YAML mapping.

Unknown keys and wrong types are errors, so that a typing mistake never becomes a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from spherodetect.errors import BadLabelsError
from spherodetect.safety import quoted

_TEXT_LIMIT = 200


class Keys:
    """Takes values out of a mapping; `finish` refuses the keys that were not taken.

    Every method takes one key, and raises BadLabelsError if its value is invalid.
    """

    def __init__(self, path: Path, data: Mapping[Any, Any], prefix: str = "") -> None:
        self.path, self.data, self.prefix, self.known = path, data, prefix, set[str]()

    def refuse(self, key: str, expected: str, got: object) -> NoReturn:
        raise BadLabelsError(
            f"{quoted(self.path)}: {self.prefix}{key}: expected {expected}, "
            f"got {quoted(str(got))}; mend it there (tfrecords/README.md explains the keys)"
        )

    def finish(self) -> None:
        for key in self.data:
            if key not in self.known:
                self.refuse("unknown key", f"one of {', '.join(sorted(self.known))}", key)

    def inner(self, key: str) -> Keys:
        """The keys of a mapping within this one."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            self.refuse(key, "keys and values", value)
        return Keys(self.path, value, prefix=f"{key}: ")

    def text(self, key: str, default: str | None, *, pattern: str = r"[^\x00]*") -> str:
        value = self._take(key, default)
        is_text = isinstance(value, str) and len(value) <= _TEXT_LIMIT
        if not is_text or not re.fullmatch(pattern, value):
            expected = "a short text" if default is not None else f"a text like {pattern}"
            self.refuse(key, expected, value)
        return str(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self._take(key, default)
        if value not in choices and (default is None or value != default):
            self.refuse(key, f"one of {', '.join(choices)}", value)
        return str(value)

    def inner_path(self, key: str) -> str:
        value = self.text(key, "")
        if Path(value).is_absolute() or ".." in Path(value).parts or "\\" in value:
            self.refuse(key, "a path inside root", value)
        return value

    def mapping(self, key: str) -> Mapping[str, str]:
        value = self._take(key, {})
        if not isinstance(value, dict) or not all(map(_is_name, [*value, *value.values()])):
            self.refuse(key, "names with a name each", value)
        return {str(k): str(v) for k, v in value.items()}

    def names(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(map(_is_name, value)):
            self.refuse(key, "a list of names", value)
        return tuple(str(v) for v in value)

    def pattern(self, key: str, *, group: str) -> re.Pattern[str] | None:
        if not (value := self.text(key, "")):
            return None
        try:
            pattern = re.compile(value)
        except re.error as error:
            self.refuse(key, f"a regular expression ({error})", value)
        if group not in pattern.groupindex:
            self.refuse(key, f"a pattern with a group (?P<{group}>...)", value)
        return pattern

    def size(self, key: str) -> tuple[int, int] | None:
        if (value := self._take(key)) is None:
            return None
        if not _is_pair(value) or min(value) < 1:
            self.refuse(key, "[height, width] in pixels", value)
        return value[0], value[1]

    def number(self, key: str, *, low: float, high: float = float("inf")) -> float | None:
        if (value := self._take(key)) is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
            below = f" and below {high:g}" if high < float("inf") else ""
            self.refuse(key, f"a number above {low:g}{below}", value)
        return float(value)

    def runs(self, key: str) -> tuple[tuple[int, int], ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(_is_pair(v) and v[0] <= v[1] for v in value):
            self.refuse(key, "a list of [first, last] file numbers", value)
        return tuple((v[0], v[1]) for v in value)

    def _take(self, key: str, default: Any = None) -> Any:
        self.known.add(key)
        value = self.data.get(key)
        return default if value is None else value


def _is_name(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return 0 < len(str(value)) <= _TEXT_LIMIT


def _is_pair(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(type(v) is int and v >= 0 for v in value)
