"""The small classifier: trained on a few labelled objects by their measurements.

StandardScaler and LogisticRegression of scikit-learn, stored as JSON, never as a pickle. The
figures are of patients that no training saw, or of fields where there are fewer than three labelled
patients. These validation groups are chosen once and frozen, so one classifier can be compared with
the next. Objects that people named in a blind review do not train unless that is asked for: a
review would no longer be independent of the classifier.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from spherodetect.app.errors import Conflict
from spherodetect.app.jobs import Job, Work
from spherodetect.app.predictions import FEATURES, features_of, predict_all, predicted
from spherodetect.app.store.database import Database, now
from spherodetect.app.store.labels import Label, active_set, label_named, labels_of

PATIENT, FIELD = "patient", "field"
#: Fewer labelled patients cannot give figures for a patient that was never seen.
MIN_GROUPS = 3
#: Every such group is for validation.
_ONE_IN = 4
_LEAST_EXAMPLES = 2
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled objects: ids, groups of both kinds, label ids and (N, 8) features with NaN."""

    ids: np.ndarray
    patients: np.ndarray
    fields: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    reviewed: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Examples:
        return Examples(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def groups(self, kind: str) -> np.ndarray:
        return self.patients if kind == PATIENT else self.fields


@dataclass(frozen=True)
class Split:
    """Which groups train and which validate.

    Attributes:
        kind: PATIENT or FIELD.
        train, validation: names of groups with labelled objects.
        warning: what the figures cannot tell, or empty.
    """

    kind: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    warning: str


def examples(base: Database, *, include_reviewed: bool = False) -> Examples:
    """The labelled visible objects of the active set whose label is a class."""
    labels = labels_of(base, active_set(base))
    classes = {label.id for label in labels if label.meaning == "class"}
    said = _reviewed(base, labels)
    rows = base.rows(
        "SELECT o.id, f.patient, f.name, c.label_id, t.measurements FROM object o "
        "JOIN field f ON f.id = o.field_id JOIN outline t ON t.id = o.outline_id "
        "LEFT JOIN current_label c ON c.object_id = o.id AND c.set_id = ? "
        "WHERE o.visible = 1 AND f.present = 1 ORDER BY o.id",
        (active_set(base),),
    )
    found = []
    for row in rows:
        label = row["label_id"] if row["label_id"] is not None else said.get(row["id"])
        is_reviewed = row["id"] in said
        if label in classes and (include_reviewed or not is_reviewed):
            found.append((row["id"], row["patient"], row["name"], label, row, is_reviewed))
    return Examples(
        np.array([one[0] for one in found], int),
        np.array([one[1] for one in found], object),
        np.array([one[2] for one in found], object),
        np.array([one[3] for one in found], int),
        features_of([json.loads(one[4]["measurements"]) for one in found]),
        np.array([one[5] for one in found], bool),
    )


def split_of(base: Database, labelled: Examples, *, freeze: bool = False) -> Split:
    """The split of the labelled groups; with freeze, those that are new are assigned for good."""
    patients = sorted(set(labelled.patients.tolist()))
    kind = PATIENT if len(patients) >= MIN_GROUPS else FIELD
    names = sorted(set(labelled.groups(kind).tolist()))
    warning = ""
    if kind == FIELD:
        n = len(patients)
        warning = (
            f"too few patients: {n} with labels, expected {MIN_GROUPS}; the figures are of fields "
            "that were held out, and say nothing of another patient"
        )
    if len(names) < MIN_GROUPS:
        warning = (
            f"too few fields: {len(names)} with labels, expected {MIN_GROUPS}; label objects in "
            "more fields, so that some can be held out"
        )
        return Split(kind, tuple(names), (), warning)
    held_out = _assigned(base, kind, names, freeze=freeze)
    return Split(
        kind,
        tuple(name for name in names if name not in held_out),
        tuple(name for name in names if name in held_out),
        warning,
    )


def why_not_ready(training: Examples) -> str:
    """Why there is too little to train on, or empty."""
    counts = np.unique(training.labels, return_counts=True)[1]
    if (counts >= _LEAST_EXAMPLES).sum() >= 2:
        return ""
    return (
        f"expected at least {_LEAST_EXAMPLES} labelled objects of two classes in the groups that "
        "train, got fewer; label some more"
    )


def train(base: Database, reviewer: str, *, include_reviewed: bool) -> Work:
    """A job that trains a classifier, judges it, stores it, and applies it to all objects."""

    def work(job: Job) -> Generator[None]:
        job.progress(0, 2, "training")
        labelled = examples(base, include_reviewed=include_reviewed)
        split = split_of(base, labelled, freeze=True)
        groups = labelled.groups(split.kind)
        training = labelled[np.isin(groups, split.train)]
        if why := why_not_ready(training):
            raise Conflict(why)
        validation = labelled[np.isin(groups, split.validation)]
        model = _fitted(training)
        own = judged(model, validation)
        before = _previous(base, split.kind, validation)
        document = model | {
            "groups": split.kind,
            "train_groups": list(split.train),
            "validation_groups": list(split.validation),
            "include_reviewed": include_reviewed,
        }
        figures = {
            "n_train": len(training.ids),
            "n_validation": len(validation.ids),
            "warning": split.warning,
            "figures": own,
            "previous": before,
        }
        with base.writing():
            added = base.insert(
                "classifier",
                set_id=active_set(base),
                at=now(),
                reviewer=reviewer,
                model=json.dumps(document),
                figures=json.dumps(figures),
            )
        yield
        job.progress(1, 2, "applying")
        yield from predict_all(base, added, model)
        job.progress(2, 2)
        job.result = {"classifier": classifier_view(base, added)}

    return work


def judged(model: Mapping[str, Any], validation: Examples) -> dict[str, Any] | None:
    """The figures of a model on examples that it never saw, or None without any.

    Examples of a label that the model does not know count as errors.
    """
    from sklearn.metrics import average_precision_score

    if not len(validation.ids):
        return None
    labels = [int(k) for k in model["labels"]]
    names = [*labels, *sorted(set(validation.labels.tolist()) - set(labels))]
    p = predicted(model, validation.features)
    called = np.array(labels)[p.argmax(axis=1)]
    confusion = [
        [int(((validation.labels == a) & (called == b)).sum()) for b in names] for a in names
    ]
    rows = []
    for k, label in enumerate(names):
        true = validation.labels == label
        n, n_called, hit = int(true.sum()), int((called == label).sum()), confusion[k][k]
        known = label in labels and n > 0
        rows.append(
            {
                "label": label,
                "n": n,
                "precision": hit / n_called if n_called else None,
                "recall": hit / n if n else None,
                "average_precision": float(average_precision_score(true, p[:, k]))
                if known
                else None,
            }
        )
    recalls = [row["recall"] for row in rows if row["recall"] is not None]
    return {
        "n": len(validation.ids),
        "labels": names,
        "accuracy": float((called == validation.labels).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "confusion": confusion,
        "per_label": rows,
    }


def classifier_view(base: Database, classifier_id: int) -> dict[str, Any]:
    """A stored classifier with its figures."""
    row = base.row("SELECT * FROM classifier WHERE id = ?", (classifier_id,))
    assert row is not None
    model = json.loads(row["model"])
    names = ("labels", "groups", "train_groups", "validation_groups")
    return {
        "id": row["id"],
        "at": row["at"],
        "reviewer": row["reviewer"],
        **{name: model[name] for name in names},
        **json.loads(row["figures"]),
    }


def newest(base: Database) -> int | None:
    """The id of the newest classifier of the active set."""
    found = base.number("SELECT max(id) FROM classifier WHERE set_id = ?", (active_set(base),))
    return found or None


def _fitted(training: Examples) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    known = np.isfinite(training.features)
    columns = np.where(known.any(axis=0), training.features, 0.0)
    median = np.nanmedian(columns, axis=0)
    values = np.where(np.isfinite(columns), columns, median)
    scaler = StandardScaler().fit(values)
    model = LogisticRegression(max_iter=2000).fit(scaler.transform(values), training.labels)
    coef, intercept = model.coef_, model.intercept_
    if len(coef) == 1:  # two classes: the logit of the second
        coef = np.concatenate([np.zeros_like(coef), coef])
        intercept = np.concatenate([np.zeros(1), intercept])
    return {
        "format": _FORMAT,
        "features": list(FEATURES),
        "labels": model.classes_.tolist(),
        "median": median.tolist(),
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "coef": coef.tolist(),
        "intercept": intercept.tolist(),
    }


def _previous(base: Database, kind: str, validation: Examples) -> dict[str, Any] | None:
    """The last classifier, judged on the same validation examples.

    One that was split by the other kind of group may have trained on some of them.
    """
    last = newest(base)
    if last is None:
        return None
    row = base.row("SELECT model FROM classifier WHERE id = ?", (last,))
    assert row is not None
    model = json.loads(row["model"])
    unseen = not set(model["train_groups"]) & set(validation.groups(kind).tolist())
    if model["groups"] != kind or not unseen:
        return None
    return {"id": last, "figures": judged(model, validation)}


def _assigned(base: Database, kind: str, names: Sequence[str], *, freeze: bool) -> set[str]:
    """The validation groups; a group that was assigned once stays what it is."""
    with base.writing():
        rows = base.rows("SELECT name, validation FROM validation_group WHERE kind = ?", (kind,))
        known = {row["name"]: bool(row["validation"]) for row in rows}
        new = sorted(set(names) - set(known), key=lambda name: blake2b(name.encode()).digest())
        for name in new:
            n_all = sum(one in known for one in names) + 1
            n_held = sum(known.get(one, False) for one in names)
            # The second group of the first three, then every fourth, is held out.
            known[name] = n_held < max(n_all >= 2, n_all // _ONE_IN)
            if freeze:
                base.insert("validation_group", kind=kind, name=name, validation=known[name])
    return {name for name in names if known[name]}


def _reviewed(base: Database, labels: Sequence[Label]) -> dict[int, int | None]:
    """Object id to the label that its answer in a blind review means; None for no class."""
    meant = {"spherocyte": label_named(list(labels), "spherocyte"),
             "other": label_named(list(labels), "rbc")}  # fmt: skip
    rows = base.rows(
        "SELECT object_id, answer FROM label_event WHERE kind = 'answer' "
        "AND step_id NOT IN (SELECT * FROM undone) ORDER BY id"
    )
    found: dict[int, int | None] = {}
    for row in rows:
        label = meant.get(row["answer"])
        found[row["object_id"]] = label.id if label else None
    return found


__all__ = [
    "Examples",
    "Split",
    "classifier_view",
    "examples",
    "judged",
    "newest",
    "split_of",
    "train",
    "why_not_ready",
]
