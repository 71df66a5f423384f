"""Where the weights of a model come from, as model.json states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """The provenance of a training run; every part may be missing.

    Attributes:
        content: as the run wrote it.
    """

    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def experiment(self) -> str:
        """The name of the experiment."""
        return str(self.content.get("experiment", "unknown"))

    @property
    def data(self) -> Mapping[str, Mapping[str, Any]]:
        """Data set to the manifest of its records."""
        return _mapping(self.content.get("data"))

    @property
    def initial(self) -> Provenance | None:
        """Provenance of the initial checkpoint; None if training began with random weights."""
        initial = _mapping(self.content.get("initial"))
        return Provenance(initial) if initial else None

    @property
    def second_look(self) -> tuple[Provenance, ...]:
        """The records that trained the second look, one provenance a fold."""
        return tuple(Provenance(_mapping(one)) for one in self.content.get("second_look") or ())

    def record_patterns(self, key: str) -> list[str]:
        """The file patterns of a data config, such as `train_data`.

        The config has one pattern, a list of them, or one of both for each data set.
        """
        task = _mapping(_mapping(self.content.get("params")).get("task"))
        paths = _mapping(task.get(key)).get("input_path") or []
        parts = list(paths.values()) if isinstance(paths, Mapping) else [paths]
        return [str(p) for part in parts for p in ([part] if isinstance(part, str) else part)]

    @property
    def left_out(self) -> frozenset[str]:
        """The patients whose fields this run did not read, although its patterns match them."""
        task = _mapping(_mapping(self.content.get("params")).get("task"))
        names = _mapping(task.get("train_data")).get("without_patients") or ()
        return frozenset(str(name) for name in names)

    def training_splits(self) -> dict[str, set[str]]:
        """Data set to its splits that are among the training records of this run."""
        patterns = self.record_patterns("train_data")
        return {
            name: {
                split
                for split in manifest.get("splits", {})
                if any(matches_split(pattern, name, split) for pattern in patterns)
            }
            for name, manifest in self.data.items()
        }


def matches_split(pattern: str, name: str, split: str) -> bool:
    """Whether a file pattern matches the records of a data set's split."""
    return fnmatch(f"{name}-{split}-00000-of-00001.tfrecord", PurePosixPath(pattern).name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
