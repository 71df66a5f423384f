"""Objects of the whole project in one light table: cards by class or doubt, and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from spherodetect.app.store.database import Database
from spherodetect.app.store.labels import active_set
from spherodetect.app.views import Names, model_doubt
from spherodetect.fields.names import natural_key

HUMAN, MODEL, CLASSIFIER, SHOWN = "human", "model", "classifier", "shown"


@dataclass(frozen=True)
class Seen:
    """A visible object with what people, the model and the own classifier call it.

    Attributes:
        id, field_id, patient, field_name: of the object.
        human, model, classifier: labels of the active set, or None.
        doubt: 0 to 1, or None where nothing was predicted.
        diameter_px, area_px: of the outline; the diameter is None where it was not measured.
        um_per_px: of the field, or None.
        blind: whether the human label comes from a blind page.
    """

    id: int
    field_id: int
    patient: str
    field_name: str
    human: int | None
    model: int | None
    classifier: int | None
    doubt: float | None
    diameter_px: float | None
    area_px: float
    um_per_px: float | None
    blind: bool

    @property
    def shown(self) -> int | None:
        """The label that people see: a person's, else the classifier's, else the model's."""
        if self.human is not None:
            return self.human
        return self.classifier if self.classifier is not None else self.model

    def by(self, source: str) -> int | None:
        """The label by HUMAN, MODEL, CLASSIFIER or SHOWN."""
        value: int | None = getattr(self, source)
        return value


def seen_objects(
    base: Database, *, field_id: int | None = None, patient: str | None = None
) -> list[Seen]:
    """The visible objects of fields that are there, in order of fields and ids."""
    set_id = active_set(base)
    where, values = "", [set_id, set_id]
    if field_id is not None:
        where, values = " AND o.field_id = ?", [*values, field_id]
    rows = base.rows(
        "SELECT o.id, o.field_id, f.patient, f.name, f.um_per_px, t.area_px, t.class_name, "
        "t.p_spherocyte, json_extract(t.measurements, '$.diameter_px') AS diameter_px, "
        "c.label_id AS human, s.seen, p.label_id AS guess, p.doubt FROM object o "
        "JOIN field f ON f.id = o.field_id JOIN outline t ON t.id = o.outline_id "
        "LEFT JOIN current_label c ON c.object_id = o.id AND c.set_id = ? "
        "LEFT JOIN step s ON s.id = c.step_id "
        "LEFT JOIN prediction p ON p.object_id = o.id AND p.set_id = ? "
        f"WHERE o.visible = 1 AND f.present = 1{where}",
        values,
    )
    names = Names.of(base, {row["class_name"] for row in rows if row["class_name"]})
    found = [
        Seen(
            row["id"],
            row["field_id"],
            row["patient"],
            row["name"],
            row["human"],
            names.label_of[row["class_name"]] if row["class_name"] else None,
            row["guess"],
            row["doubt"]
            if row["doubt"] is not None
            else model_doubt(row["class_name"], row["p_spherocyte"]),
            row["diameter_px"],
            row["area_px"],
            row["um_per_px"],
            row["seen"] == "blind",
        )
        for row in rows
        if patient is None or row["patient"] == patient
    ]
    keys = {one.field_id: (natural_key(one.patient), natural_key(one.field_name)) for one in found}
    return sorted(found, key=lambda one: (keys[one.field_id], one.id))


def of_class(objects: Sequence[Seen], label: int | None, source: str) -> list[int]:
    """The ids of objects with a label, or without one for None."""
    return [one.id for one in objects if one.by(source) == label]


def by_doubt(objects: Sequence[Seen], n: int, seed: int) -> list[int]:
    """Unlabelled objects: half of them the most doubtful, half drawn at random, mixed.

    The doubtful ones alone would show a person only the border between the classes.
    """

    def chance(one: Seen) -> bytes:
        return blake2b(f"{seed}|{one.id}".encode()).digest()

    left = [one for one in objects if one.human is None]
    doubtful = sorted(
        (one for one in left if one.doubt), key=lambda one: (-(one.doubt or 0), one.id)
    )[: n // 2]
    taken = {one.id for one in doubtful}
    others = sorted((one for one in left if one.id not in taken), key=chance)
    chosen = [*doubtful, *others[: n - len(doubtful)]]
    return [one.id for one in sorted(chosen, key=chance)]


def statistics(objects: Sequence[Seen], labels: dict[int, str], by: str) -> dict[str, Any]:
    """Count, share and size by label, field or patient.

    Sizes are in µm where every field has a pixel size, else in pixels. Percentages are of all
    objects of the table.
    """
    metric = bool(objects) and all(one.um_per_px for one in objects)
    if by == "label":
        groups: dict[Any, list[Seen]] = {label: [] for label in labels}
        for one in objects:
            groups.setdefault(one.shown, []).append(one)
        rows = [
            {"name": labels.get(k, "no label"), "label": k, **_figures(own, objects, metric)}
            for k, own in groups.items()
            if own or k in labels
        ]
    else:
        named: dict[str, list[Seen]] = {}
        for one in objects:
            named.setdefault(one.field_name if by == "field" else one.patient, []).append(one)
        rows = [
            {"name": name, "counts": _counts(own), **_figures(own, objects, metric)}
            for name, own in named.items()
        ]
    return {"by": by, "unit": "µm" if metric else "px", "rows": rows}


def _figures(own: Sequence[Seen], objects: Sequence[Seen], metric: bool) -> dict[str, Any]:
    def size(one: Seen) -> float:
        return float(one.um_per_px or 1.0) if metric else 1.0

    diameters = np.array([one.diameter_px * size(one) for one in own if one.diameter_px])
    areas = np.array([one.area_px * size(one) ** 2 for one in own])
    return {
        "n": len(own),
        "percent": round(100 * len(own) / len(objects), 2) if objects else None,
        "n_human": sum(one.human is not None for one in own),
        "diameter_mean": _rounded(diameters, np.mean),
        "diameter_sd": _rounded(diameters, np.std) if len(diameters) > 1 else None,
        "diameter_median": _rounded(diameters, np.median),
        "area_mean": _rounded(areas, np.mean),
    }


def _rounded(values: np.ndarray, figure: Any) -> float | None:
    return round(float(figure(values)), 3) if len(values) else None


def _counts(own: Sequence[Seen]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in own:
        name = "none" if one.shown is None else str(one.shown)
        counts[name] = counts.get(name, 0) + 1
    return counts


__all__ = [
    "CLASSIFIER",
    "HUMAN",
    "MODEL",
    "SHOWN",
    "Seen",
    "by_doubt",
    "of_class",
    "seen_objects",
    "statistics",
]
