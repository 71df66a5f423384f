"""Reads and checks a model folder: model.json, its version and its files."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from spherodetect.errors import BadModelError
from spherodetect.safety import quoted, read_json

BUNDLED = Path(__file__).parents[1] / "models" / "bundled"


#: The layout of model folders that this version reads.
MODEL_FORMAT = 2


_NEEDED = ("format", "name", "class_names", "rbc_px", "thresholds", "rates", "checksums")


def read_card(folder: Path) -> Mapping[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        raise BadModelError(
            f"{quoted(folder)}: expected a model folder with model.json, got none; see `spherodetect export`"
        )
    card = read_json(path, max_bytes=20_000_000, error=BadModelError)
    missing = [key for key in _NEEDED if not isinstance(card, dict) or key not in card]
    if missing:
        raise BadModelError(
            f"{quoted(path)}: expected {', '.join(_NEEDED)}, got none of {', '.join(missing)}; export it again"
        )
    if card["format"] != MODEL_FORMAT:
        got = quoted(card["format"])
        raise BadModelError(
            f"{quoted(path)}: expected model format {MODEL_FORMAT}, got {got}; export it with this version"
        )
    for key, kind in (
        ("class_names", list),
        ("checksums", dict),
        ("thresholds", dict),
        ("rates", dict),
    ):
        if not isinstance(card[key], kind):
            raise BadModelError(
                f"{quoted(path)}: expected {key} to be a {kind.__name__}, got {quoted(card[key])}"
            )
    return card


def taught_splits(provenance: Mapping[str, Any]) -> dict[str, set[str]]:
    """The splits of each data set that a run's own training records take in, as far as its
    provenance tells."""
    patterns = record_patterns(provenance, "train_data")
    return {
        name: {
            split
            for split in manifest.get("splits", {})
            if any(names_split(p, name, split) for p in patterns)
        }
        for name, manifest in (provenance.get("data") or {}).items()
    }


def record_patterns(provenance: Mapping[str, Any], key: str) -> list[str]:
    """The patterns of a data config: one, several, or one a data set; model.json has them as the
    run used them."""
    task = (provenance.get("params") or {}).get("task") or {}
    paths = (task.get(key) or {}).get("input_path") or []
    if isinstance(paths, Mapping):
        paths = list(paths.values())
    return [str(path) for path in ([paths] if isinstance(paths, str) else paths)]


def names_split(pattern: str, name: str, split: str) -> bool:
    """Whether a pattern of records takes in a split of a data set."""
    return fnmatch(f"{name}-{split}-00000-of-00001.tfrecord", PurePosixPath(pattern).name)
