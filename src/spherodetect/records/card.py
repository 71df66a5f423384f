"""The data set card: a description of a folder of records, from its manifest and recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spherodetect.labels.recipe import Recipe
from spherodetect.safety import atomic_write

_FREE_TEXT = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"})


def write_card(manifest: Mapping[str, Any], recipe: Recipe, path: str | Path) -> Path:
    """Write the card of a finished data set as Markdown and return its path.

    Patients are counted but not named.

    Args:
        manifest: the content of manifest.json.
        recipe: the data set's recipe.
        path: the card.

    Raises:
        SpherodetectError: path cannot be written.
    """
    with atomic_write(path, text=True) as file:
        file.write("\n".join(_lines(manifest, recipe)) + "\n")
    return Path(path)


def _lines(manifest: Mapping[str, Any], recipe: Recipe) -> Iterable[str]:
    splits, labels = manifest["splits"], manifest["annotations"]
    yield f"# Data set {_text(manifest['name'])}"
    yield ""
    yield f"- Origin: {_text(recipe.origin or 'not stated')}"
    yield f"- Stain: {_text(recipe.stain or 'not stated')}"
    yield f"- Licence: {_text(recipe.licence or 'not stated')}"
    yield f"- Pixel size: {f'{recipe.um_per_px:g} µm' if recipe.um_per_px else 'not stated'}"
    leaks = " (it leaks, and was forced)" if manifest["forced"] else ""
    yield f"- Split by: {_text(recipe.split.by)}{leaks}"
    yield ""
    classes = [
        *recipe.class_names,
        *sorted({c for s in splits.values() for c in s["classes"]} - {*recipe.class_names}),
    ]
    yield from _table(
        ["split", "images", "photographs", "patients", *classes],
        (
            [
                name,
                s["images"],
                s["sources"],
                len(s["patients"]) or "unknown",
                *(s["classes"].get(c, 0) for c in classes),
            ]
            for name, s in splits.items()
        ),
    )
    yield ""
    yield f"## What became of the {labels['read']:,} labels"
    yield ""
    yield f"{labels['written']:,} were written, {labels['clipped']:,} of them clipped to the image."
    if manifest["unlabelled_cells"]:
        n_cells = f"{manifest['unlabelled_cells']:,}"
        yield f"{n_cells} cells that carry no label were added as cells of unknown class."
    counts = [("repaired", labels["repaired"]), ("dropped", labels["dropped"])]
    rows = [[fate, reason, n] for fate, reasons in counts for reason, n in reasons.items()]
    if rows:
        yield ""
        yield from _table(["fate", "reason", "labels"], rows)
    yield ""
    yield "manifest.json lists every dropped label, every finding and the checksum of every shard."


def _table(head: list[str], rows: Iterable[list[Any]]) -> Iterable[str]:
    yield _row(head)
    yield f"|{' --- |' * len(head)}"
    yield from map(_row, rows)


def _row(values: Iterable[object]) -> str:
    return f"| {' | '.join(map(_text, values))} |"


def _text(value: object) -> str:
    """Text on one line, with the special characters of Markdown and HTML escaped."""
    shown = f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown).translate(
        _FREE_TEXT
    )
