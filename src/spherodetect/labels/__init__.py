"""Labels: readers of exports, recipes, lint, splits and instance masks.

    recipe = load_recipe("tfrecords/chula.yaml")
    labels = read_labels(recipe)
    groups = near_duplicates({f.file: f.path for f in labels.fields if f.path})
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)

`check.lint.lint` lists the problems of an export, `repair.masks.find_instances` turns a field's
labels into instance masks, and `to_coco` writes labels for other tools.
"""

from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.coco_writer import to_coco
from spherodetect.labels.readers.ledger import LabelSet, Unread
from spherodetect.labels.recipe import Meaning, Recipe, SplitRule, load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.labels.splits import assign_splits, leaks, spare_copies

__all__ = [
    "Annotation",
    "Finding",
    "LabelSet",
    "LabelledField",
    "Meaning",
    "Recipe",
    "SplitRule",
    "Unread",
    "assign_splits",
    "leaks",
    "load_recipe",
    "near_duplicates",
    "read_labels",
    "spare_copies",
    "to_coco",
]
