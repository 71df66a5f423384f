"""Label sets: the names that a project gives its objects, with colour, key and meaning.

A label has an id for life, so a new name changes no event. It can be deleted only while no event
names it. One set is active; objects keep their labels of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from spherodetect.app.errors import Conflict, NotThere
from spherodetect.app.store.database import Database
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted
from spherodetect.vocabulary import canonical_name

MEANINGS = ("class", "unknown", "ignore")
#: The set of a new project: name, colour, key, meaning. The colours are those of the reports.
BLOOD_SMEAR = (
    ("rbc", "#282828", "1", "class"),
    ("spherocyte", "#0048ba", "2", "class"),
    ("wbc", "#00714f", "3", "class"),
    ("platelet", "#a84300", "4", "class"),
    ("unsure", "#7a5c00", "u", "unknown"),
    ("not a cell", "#5b6673", "x", "ignore"),
)
_MAX_NAME = 60
_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Label:
    """One label of a set; see the module."""

    id: int
    set_id: int
    name: str
    colour: str
    key: str | None
    meaning: str
    position: int


def make_first_set(base: Database) -> None:
    """Give a new project its first set."""
    with base.writing():
        if base.number("SELECT count(*) FROM label_set"):
            return
        made = add_set(base, "blood smear")
        for name, colour, key, meaning in BLOOD_SMEAR:
            add_label(base, made, name=name, colour=colour, key=key, meaning=meaning)
        activate(base, made)


def active_set(base: Database) -> int:
    """The id of the active set."""
    return base.number("SELECT value FROM meta WHERE key = 'active_set'")


def activate(base: Database, set_id: int) -> None:
    with base.writing():
        require_set(base, set_id)
        base.execute("INSERT OR REPLACE INTO meta VALUES ('active_set', ?)", (str(set_id),))
        base.changed("labels")


def all_sets(base: Database) -> dict[int, str]:
    """Id to name of every set."""
    return {row["id"]: row["name"] for row in base.rows("SELECT * FROM label_set ORDER BY id")}


def add_set(base: Database, name: str) -> int:
    """Make a set without labels; its id."""
    name = checked_name(name)
    with base.writing():
        if name in all_sets(base).values():
            raise Conflict(f"{quoted(name)}: a label set has this name already; choose another")
        added = base.insert("label_set", name=name)
        base.changed("labels")
        return added


def rename_set(base: Database, set_id: int, name: str) -> None:
    name = checked_name(name)
    with base.writing():
        require_set(base, set_id)
        if any(n == name and k != set_id for k, n in all_sets(base).items()):
            raise Conflict(f"{quoted(name)}: a label set has this name already; choose another")
        base.execute("UPDATE label_set SET name = ? WHERE id = ?", (name, set_id))
        base.changed("labels")


def delete_set(base: Database, set_id: int) -> None:
    """Delete a set of which no label was ever used."""
    with base.writing():
        name = require_set(base, set_id)
        used = base.number("SELECT count(*) FROM label_event WHERE set_id = ?", (set_id,))
        trained = base.number("SELECT count(*) FROM classifier WHERE set_id = ?", (set_id,))
        if active_set(base) == set_id:
            raise Conflict(f"{quoted(name)}: this label set is active; activate another one first")
        if used or trained:
            raise Conflict(
                f"{quoted(name)}: {used} events and {trained} classifiers name this label set, so "
                "it is kept; rename it instead"
            )
        base.execute("DELETE FROM label WHERE set_id = ?", (set_id,))
        base.execute("DELETE FROM label_set WHERE id = ?", (set_id,))
        base.changed("labels")


def labels_of(base: Database, set_id: int) -> list[Label]:
    """The labels of a set, in their order."""
    rows = base.rows("SELECT * FROM label WHERE set_id = ? ORDER BY position, id", (set_id,))
    return [_label(row) for row in rows]


def one_label(base: Database, label_id: int) -> Label:
    """A label by its id.

    Raises:
        NotThere: there is none.
    """
    row = base.row("SELECT * FROM label WHERE id = ?", (label_id,))
    if row is None:
        raise NotThere(f"label {label_id}: expected a label of this project, got none of this id")
    return _label(row)


def n_events(base: Database, set_id: int) -> dict[int, int]:
    """Label id to the number of events that name it, undone ones included."""
    rows = base.rows(
        "SELECT label_id, count(*) AS n FROM label_event WHERE set_id = ? AND label_id NOT NULL "
        "GROUP BY label_id",
        (set_id,),
    )
    return {row["label_id"]: row["n"] for row in rows}


def add_label(
    base: Database, set_id: int, *, name: str, colour: str, key: str | None, meaning: str
) -> int:
    """Add a label to a set; its id."""
    values = _checked({"name": name, "colour": colour, "key": key, "meaning": meaning})
    with base.writing():
        require_set(base, set_id)
        _require_free(base, set_id, values)
        position = base.number("SELECT max(position) FROM label WHERE set_id = ?", (set_id,)) + 1
        added = base.insert("label", set_id=set_id, position=position, **values)
        base.changed("labels")
        return added


def change_label(base: Database, label_id: int, changes: dict[str, Any]) -> None:
    """Change name, colour, key, meaning or position of a label."""
    values = _checked(changes)
    with base.writing():
        label = one_label(base, label_id)
        _require_free(base, label.set_id, values, but=label_id)
        for column, value in values.items():
            base.execute(f"UPDATE label SET {column} = ? WHERE id = ?", (value, label_id))
        base.changed("labels")


def delete_label(base: Database, label_id: int) -> None:
    """Delete a label that no event names, and what classifiers predicted of it."""
    with base.writing():
        label = one_label(base, label_id)
        used = base.number("SELECT count(*) FROM label_event WHERE label_id = ?", (label_id,))
        if used:
            raise Conflict(
                f"{quoted(label.name)}: {used} events name this label, undone ones included, so it "
                "is kept; rename it instead"
            )
        fields = base.rows(
            "SELECT DISTINCT o.field_id FROM prediction p JOIN object o ON o.id = p.object_id "
            "WHERE p.label_id = ?",
            (label_id,),
        )
        base.execute("DELETE FROM prediction WHERE label_id = ?", (label_id,))
        base.execute("DELETE FROM label WHERE id = ?", (label_id,))
        for row in fields:
            base.changed("field", row["field_id"])
        base.changed("labels")


def label_named(labels: list[Label], name: str) -> Label | None:
    """The label whose name means the same class as a name, or None."""
    for meaning in (str.casefold, canonical_name):
        wanted = meaning(name)
        for label in labels:
            if wanted is not None and meaning(label.name) == wanted:
                return label
    return None


def checked_name(name: str) -> str:
    """A name without spaces at its ends.

    Raises:
        SpherodetectError: it is empty, too long, or has invisible characters.
    """
    shown = " ".join(name.split())
    if not shown or len(shown) > _MAX_NAME or not shown.isprintable():
        raise SpherodetectError(
            f"expected a name of 1 to {_MAX_NAME} visible characters, got {quoted(name)}"
        )
    return shown


def require_set(base: Database, set_id: int) -> str:
    """The name of a set.

    Raises:
        NotThere: there is none of this id.
    """
    name = all_sets(base).get(set_id)
    if name is None:
        raise NotThere(f"label set {set_id}: expected a set of this project, got none of this id")
    return name


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    checked = dict(values)
    if "name" in values:
        checked["name"] = checked_name(values["name"])
    if "colour" in values:
        checked["colour"] = str(values["colour"]).lower()
        if not _COLOUR.fullmatch(checked["colour"]):
            raise SpherodetectError(
                f"expected a colour as #rrggbb, got {quoted(values['colour'], max_chars=40)}"
            )
    key = values.get("key")
    if key is not None:
        checked["key"] = str(key).casefold()
        if len(checked["key"]) != 1 or not checked["key"].isalnum():
            raise SpherodetectError(
                f"expected a key of one letter or digit, got {quoted(key, max_chars=40)}"
            )
    if values.get("meaning", MEANINGS[0]) not in MEANINGS:
        raise SpherodetectError(
            f"expected a meaning of {', '.join(MEANINGS)}, got "
            f"{quoted(values['meaning'], max_chars=40)}"
        )
    return checked


def _require_free(
    base: Database, set_id: int, values: dict[str, Any], *, but: int | None = None
) -> None:
    for other in labels_of(base, set_id):
        if other.id == but:
            continue
        if values.get("name", "").casefold() == other.name.casefold():
            raise Conflict(f"{quoted(other.name)}: the set has this label already")
        if values.get("key") is not None and values["key"] == other.key:
            raise Conflict(f"key {quoted(other.key)}: the label {quoted(other.name)} has it")


def _label(row: Any) -> Label:
    columns = ("id", "set_id", "name", "colour", "key", "meaning", "position")
    return Label(*(row[name] for name in columns))


__all__ = [
    "BLOOD_SMEAR",
    "MEANINGS",
    "Label",
    "activate",
    "active_set",
    "add_label",
    "add_set",
    "all_sets",
    "change_label",
    "checked_name",
    "delete_label",
    "delete_set",
    "label_named",
    "labels_of",
    "make_first_set",
    "n_events",
    "one_label",
    "rename_set",
    "require_set",
]
