"""The commands on labels: lint, recipe, roboflow, tfrecords."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherodetect.cli.options import (
    DONE,
    LINT_ERROR,
    add,
    add_classes,
    add_out,
    classes_of,
    left_out,
    size_hw,
)
from spherodetect.console import counted, print_findings, print_splits, progress_of, shown
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.cli.options import Commands

#: Reasons for which a label is left out without a loss: another label says the same.
_SPARE = frozenset({"augmented-copy", "second-point-of-a-cell"})
_MOST_LINES = 20


def add_label_commands(commands: Commands) -> None:
    one = add(commands, "lint", _lint, "say what is wrong with labels")
    one.add_argument(
        "source", metavar="SOURCE", type=Path, help="an export folder or zip, or a recipe"
    )
    one.add_argument("--json", metavar="FILE", type=Path, help="also write the findings there")
    add_classes(one)

    text = "write a recipe for an export, and an experiment beside it"
    one = add(commands, "recipe", _recipe, text)
    one.add_argument("source", metavar="EXPORT", type=Path, help="an export folder or zip")
    # Not `out`, which is a folder.
    one.add_argument(
        "--out", dest="file", metavar="FILE.yaml", type=Path, required=True, help="the recipe"
    )
    text = "a pattern that finds the patient in the path of a photograph"
    one.add_argument("--patient-regex", metavar="R", help=text)
    text = "size of the photographs before the export stretched them, in pixels"
    one.add_argument("--native-size", metavar="HxW", type=size_hw, help=text)
    add_classes(one)

    one = add(
        commands,
        "roboflow",
        _roboflow,
        "download a version of a Roboflow project; the key is in ROBOFLOW_API_KEY",
    )
    one.add_argument("spec", metavar="WORKSPACE/PROJECT/VERSION")
    add_out(one, "DIR", "an empty or new folder for the export")

    one = add(
        commands,
        "tfrecords",
        _tfrecords,
        "write a data set as TFRecords, with an account of every label",
    )
    one.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    one.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="where the data set lies, if not where the recipe says",
    )
    add_out(one, "DIR", "folder for the shards and manifest.json")
    one.add_argument("--force", action="store_true", help="write even if the split leaks")
    one.add_argument(
        "--full-masks",
        action="store_true",
        help="also write the form that the stock Mask R-CNN reads",
    )
    one.add_argument("--card", action="store_true", help="also write DATA_CARD.md")
    add_classes(one)


def _lint(args: argparse.Namespace) -> int:
    from spherodetect.labels.check.lint import findings_json, lint
    from spherodetect.safety import write_json

    with progress_of("looking at images") as progress:
        findings = lint(
            args.source, workers=os.cpu_count() or 1, progress=progress, classes=classes_of(args)
        )
    if args.json:
        write_json(findings_json(findings), args.json)
    print_findings(findings)
    return LINT_ERROR if any(finding.severity == "error" for finding in findings) else DONE


def _recipe(args: argparse.Namespace) -> int:
    from spherodetect.labels.draft import draft_recipe
    from spherodetect.labels.draft_text import write_recipe
    from spherodetect.training.draft import experiment_beside, plan_experiment, write_experiment

    for file in (args.file, experiment_beside(args.file)):
        if file.exists():
            raise SpherodetectError(
                f"{quoted(file)}: expected no such file yet, got one; name another with --out, or "
                "delete it"
            )
    with progress_of("comparing photographs") as progress:
        draft = draft_recipe(
            args.source,
            name=args.file.stem,
            classes=classes_of(args),
            patient_regex=args.patient_regex,
            native_size_hw=args.native_size,
            progress=progress,
        )
    plan = plan_experiment(
        args.file, draft.recipe.name, n_train=draft.n_train, n_patients=draft.n_patients
    )
    print(f"recipe: {shown(write_recipe(draft, plan.recipe))}")
    print(f"experiment: {shown(write_experiment(plan, draft.recipe))} ({plan.time})")
    for note in draft.notes:
        print(f"note: {shown(note)}")
    print("Check both files. Then, from here:")
    for command in plan.commands:
        print(f"    {shown(command)}")
    return left_out(
        f"{quoted(name)}: {counted(draft.n_labels[name], 'label')} of a class that is not known, "
        f"written as unknown; move the name to classes in {quoted(plan.recipe)}"
        for name in draft.unknown_names
    )


def _roboflow(args: argparse.Namespace) -> int:
    from spherodetect.labels.roboflow import download

    with progress_of("downloading") as progress:
        folder = download(
            args.spec,
            args.out,
            progress=lambda done, total: progress(-(-done >> 20), -(-total >> 20), "MB"),
        )
    print(shown(folder))
    return DONE


def _tfrecords(args: argparse.Namespace) -> int:
    from spherodetect.records.tfrecords import tfrecords

    with progress_of("writing fields") as progress:
        manifest = tfrecords(
            args.recipe,
            args.out,
            root=args.root,
            force=args.force,
            full_masks=args.full_masks,
            card=args.card,
            classes=classes_of(args),
            workers=os.cpu_count() or 1,
            progress=progress,
        )
    print_splits(manifest)
    print(f"manifest: {shown(args.out / 'manifest.json')}")
    if args.full_masks:
        print(
            "full-*.tfrecord: cells of unknown class or without a mask are crowds; Model Garden's "
            "stock parser drops them, so that they are background there"
        )
    code = left_out([*manifest["problems"], *_lost_labels(manifest)])
    labels = manifest["annotations"]
    if labels["read"] and not labels["written"]:
        raise SpherodetectError(f"{quoted(args.recipe)}: no label of the data set could be written")
    return code


def _lost_labels(manifest: dict[str, Any]) -> list[str]:
    lost = Counter(
        (i["file"], i["reason"]) for i in manifest["dropped_items"] if i["reason"] not in _SPARE
    )
    why = {(f["file"], f["code"]): f["message"] for f in reversed(manifest["findings"])}
    lines = [
        f"{quoted(file)}: {counted(n, 'label')} left out: {reason}"
        + (f" ({why[file, reason]})" if (file, reason) in why else "")
        for (file, reason), n in lost.items()
    ]
    more = len(lines) - _MOST_LINES
    return (
        lines
        if more <= 0
        else [*lines[:_MOST_LINES], f"{counted(more, 'file')} more; manifest.json names them all"]
    )
