"""A model folder goes on as one with the conventions of several laboratories.

    python -m spherodetect.training.laboratories collect RUN --records PATTERN... --out FILE.npz
    python -m spherodetect.training.laboratories prior --before FILE.npz --now FILE.npz
    python -m spherodetect.training.laboratories export RUN --collected FILE.npz... --keep MODEL \\
        --out FOLDER
    python -m spherodetect.training.laboratories again MODEL --out FOLDER

RUN is a run or a model folder. `collect` runs its detector over records that it held out, see
survey.py. `prior` prints what brings the log odds of a tuned run to the scale of the model from
which it went on, see prior.py; the files are what both found in the same records. `export` fits the
conventions of the laboratories on collected files. It takes the second look, the thresholds, and
the row and rates of Chula's convention, from the model folder `--keep`: the detector is that
model's own or was tuned from it, and it saw all of Chula, so that nothing new can be measured
there. `again` writes a model folder with the graph of this version and the same networks,
conventions and rates; with `--recut FILE` Chula's convention and the model get another cut and its
rates, see recut.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import UNSEEN
from spherodetect.detect.model_folder import BUNDLED, BUNDLED_NAME, read_card
from spherodetect.errors import SpherodetectError
from spherodetect.graph.conventions import FEATURES
from spherodetect.graph.detector import Detector
from spherodetect.training.conventions import (
    CUT,
    JudgedCells,
    Row,
    assemble,
    figures,
    fit_row,
    left_out,
    look_threshold,
    pooled_row,
)
from spherodetect.training.export import CANVAS, export_tuned, restore
from spherodetect.training.kept import export_kept, kept_detector, kept_second_look
from spherodetect.training.prior import prior_shift
from spherodetect.training.recut import Recut
from spherodetect.training.reference import CONVENTIONS
from spherodetect.training.survey import read_survey, survey

#: Data sets without spherocytes, and the convention whose stain they have.
HEALTHY = {"pbc": "dataset-a"}
#: The medians of fewer countable cells say little of how a field looks.
_CELLS_OF_A_LOOK = 4
#: Healthy photographs in a block, in the order of their names: nobody knows whose they are.
_HEALTHY_BLOCK = 20
#: What judges a film of unknown origin: the evidence relative to the field, and no network, because
#: the networks' log odds do not travel between laboratories.
TRAVELS = FEATURES[1:]
#: The thresholds that a tuned run does not share with its start.
_PRIOR = ("spherocyte_prior", "other_prior")


@dataclass(frozen=True, eq=False)
class Collected:
    """What `collect` wrote of one or several detectors.

    Attributes:
        cells, labels, fields: columns of arrays; `field` and `label` count through all files.
    """

    cells: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    fields: Mapping[str, np.ndarray]

    @classmethod
    def load(cls, files: Sequence[Path]) -> Collected:
        """The files of several folds, one after the other; a field that came before is left out of
        the later ones' looks and healthy cells by `first`."""
        columns: dict[str, list[np.ndarray]] = defaultdict(list)
        n_fields = n_labels = 0
        for file in files:
            arrays = read_survey(file)
            for name, values in arrays.items():
                if name.endswith("_field"):
                    values = values + n_fields
                if name == "cells_label":
                    values = np.where(values >= 0, values + n_labels, -1)
                columns[name].append(values)
            n_fields += len(arrays["fields_name"])
            n_labels += len(arrays["labels_field"])
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        groups: dict[str, dict[str, np.ndarray]] = {"cells": {}, "labels": {}, "fields": {}}
        for name, values in joined.items():
            group, _, key = name.partition("_")
            groups[group][key] = values
        data_set = [_without_fold(str(name)) for name in groups["fields"]["data_set"]]
        groups["fields"]["data_set"] = np.array(data_set, object)
        return cls(**groups)

    @property
    def first(self) -> np.ndarray:
        """(n,) bool, the fields that no earlier file held."""
        keys = [
            f"{d}/{n}" for d, n in zip(self.fields["data_set"], self.fields["name"], strict=True)
        ]
        return np.isin(np.arange(len(keys)), np.unique(keys, return_index=True)[1])

    def judged(self) -> JudgedCells:
        """The labelled red cells of the conventions' data sets that were found."""
        label = self.cells["label"]
        kind = np.where(label >= 0, self.labels["class_id"][np.maximum(label, 0)], -1)
        field = self.cells["field"]
        data_set = self.fields["data_set"][field]
        chosen = np.isin(kind, (1, 2)) & np.isin(data_set, list(CONVENTIONS))
        block = self.fields["block"][field[chosen]].astype(object)
        features = np.concatenate([self.cells["log_odds"][:, None], self.cells["numbers"]], axis=1)
        return JudgedCells(
            features=features[chosen],
            spherocyte=kind[chosen] == 2,
            countable=self.cells["countable"][chosen].astype(bool),
            laboratory=np.array([CONVENTIONS[d] for d in data_set[chosen]], object),
            fold=block,
            block=block,
            name=self.labels["name"][label[chosen]].astype(object),
            field=self.fields["name"][field[chosen]].astype(object),
        )

    def healthy(self, row: Row, convention: str) -> list[dict[str, Any]]:
        """model.json's counts of healthy blood of a convention's stain, a block of photographs
        each."""
        blocks = []
        features = np.concatenate([self.cells["log_odds"][:, None], self.cells["numbers"]], axis=1)
        field, countable = self.cells["field"], self.cells["countable"].astype(bool)
        of_stain = np.isin(
            self.fields["data_set"], [name for name, c in HEALTHY.items() if c == convention]
        )
        chosen = np.flatnonzero(of_stain & self.first)
        chosen = chosen[np.argsort(self.fields["name"][chosen].astype(str), kind="stable")]
        for start in range(0, len(chosen), _HEALTHY_BLOCK):
            here = countable & np.isin(field, chosen[start : start + _HEALTHY_BLOCK])
            called = int((row.p(features[here]) >= row.cut).sum())
            blocks.append(
                _block(f"{convention} healthy {start + 1}", 0, 0, int(here.sum()), called)
            )
        return blocks

    def looks(self) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
        """Data set to its convention, its fields' descriptors (n, D) and their blocks (n,)."""
        whose = CONVENTIONS | HEALTHY
        found = {}
        countable = np.bincount(
            self.cells["field"][self.cells["countable"].astype(bool)],
            minlength=len(self.fields["name"]),
        )
        enough = countable >= _CELLS_OF_A_LOOK
        for name in sorted(set(self.fields["data_set"]) & set(whose)):
            here = (self.fields["data_set"] == name) & self.first & enough
            found[name] = whose[name], self.fields["look"][here], self.fields["block"][here]
        return found


def _without_fold(name: str) -> str:
    return name[:-2] if name[-2:] in ("_b", "_c") else name


def _block(name: str, spherocytes: int, hits: int, others: int, called: int) -> dict[str, Any]:
    return {
        "name": name,
        "true_spherocytes": spherocytes,
        "called_of_true": hits,
        "true_others": others,
        "called_of_others": called,
        "fine_classes": {},
    }


def rates(cells: JudgedCells, called: np.ndarray) -> list[dict[str, Any]]:
    """model.json's counts of each block, countable cells only."""
    blocks = []
    for block in sorted(set(cells.block)):
        here = (cells.block == block) & cells.countable
        truth, positive = cells.spherocyte[here], called[here]
        blocks.append(
            _block(
                str(block),
                int(truth.sum()),
                int(positive[truth].sum()),
                int((~truth).sum()),
                int(positive[~truth].sum()),
            )
        )
    return blocks


def conventions_of(collected: Collected, keep: Path) -> tuple[Any, dict[str, Any]]:
    """The conventions of the graph, and what model.json says of them: rates, healthy blocks,
    figures.

    Args:
        collected: held-out cells.
        keep: the model folder whose convention for Chula is kept.
    """
    cells = collected.judged()
    card = read_card(keep)
    kept = Row(
        np.array([card.thresholds.slope, *[0.0] * (len(FEATURES) - 1)]),
        float(card.thresholds.intercept),
        float(card.thresholds.p_spherocyte),
    )
    rows = {"chula": kept}
    told_rates: dict[str, list[Mapping[str, Any]]] = {"chula": list(card.rates.blocks)}
    told_figures: dict[str, Any] = {"chula": dict(card.held_out_figures)}
    for name in sorted(set(cells.laboratory) - {"chula"}):
        own = cells[cells.laboratory == name]
        p = left_out(own)
        rows[name] = fit_row(own.features, own.spherocyte)
        told_rates[name] = list(rates(own, p >= CUT))
        told_figures[name] = figures(p, own.spherocyte)
    unseen = pooled_row(cells, used=TRAVELS)
    strange: list[Mapping[str, Any]] = []
    p = np.zeros(len(cells))
    for name in sorted(set(cells.laboratory)):
        own = cells.laboratory == name
        row = pooled_row(cells[~own], used=TRAVELS)
        p[own] = row.p(cells.features[own])
        strange += rates(cells[own], p[own] >= CUT)
        told_figures[f"{UNSEEN}: {name} left out"] = figures(p[own], cells[own].spherocyte)
    told_rates[UNSEEN] = strange
    looks = collected.looks()
    threshold = look_threshold(
        [look for _, look, _ in looks.values()], [block for _, _, block in looks.values()]
    )
    conventions = assemble(
        rows, unseen, [(name, look) for name, look, _ in looks.values()], threshold=threshold
    )
    healthy = {
        name: collected.healthy(rows[name], name)
        for name in sorted(set(HEALTHY.values()) & set(rows))
    }
    told = {"rates": told_rates, "healthy": healthy, "figures": told_figures}
    return conventions, conventions.as_json() | told


def _is_model(path: Path) -> bool:
    return (path / "model.json").is_file()


def _detector(run: Path, second: Path | None, prior: Mapping[str, float]) -> Detector:
    """The detector of a run or of a model folder, with the second look and the thresholds of
    another model folder."""
    detector = kept_detector(run)[1] if _is_model(run) else restore(run)[1]
    if second is None:
        if any(prior.values()):
            raise SpherodetectError("expected --second MODEL beside a prior, got none; name it")
        return detector
    detector.assign(replace(read_card(second).thresholds, **prior))
    return detector.replace(second=kept_second_look(second))


def _prior(args: argparse.Namespace) -> dict[str, float]:
    """The thresholds that state the prior of a tuned run."""
    return {name: getattr(args, name) for name in _PRIOR}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 an input that cannot be used."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        _run(args)
    except SpherodetectError as error:
        parser.exit(2, f"{error}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m spherodetect.training.laboratories")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("collect", help="held-out cells of a detector, to a file")
    one.add_argument("run", type=Path, help="a run, or a model folder")
    one.add_argument("--records", nargs="+", required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--second", type=Path, help="model of second look and thresholds")
    shift = commands.add_parser("prior", help="the prior that a tuned run needs")
    shift.add_argument("--before", type=Path, required=True, help="cells of the start")
    shift.add_argument("--now", type=Path, required=True, help="cells of the run")
    two = commands.add_parser("export", help="a model folder with conventions")
    two.add_argument("run", type=Path)
    two.add_argument("--collected", nargs="+", type=Path, required=True)
    two.add_argument("--keep", type=Path, required=True)
    two.add_argument("--taught", nargs="*", type=Path, default=(), help="folders of the records")
    two.add_argument("--name", default="bundled")
    two.add_argument("--out", type=Path, required=True)
    three = commands.add_parser("again", help="a model folder with the graph of this version")
    three.add_argument("model", help="a model folder, or bundled")
    three.add_argument("--name", help="of the new model, by default as before")
    three.add_argument("--nms-iou", type=float, help="boxes with a higher IoU are one cell")
    three.add_argument("--confidence", type=float, help="a detection below this is dropped")
    three.add_argument("--recut", type=Path, help="another cut of Chula's convention")
    three.add_argument("--out", type=Path, required=True)
    for command in (one, two):
        for name in _PRIOR:
            command.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0)
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.command == "prior":
        # The log odds of both networks are averaged.
        moved, n_cells = prior_shift(args.before, args.now)
        sys.stdout.write(f"--spherocyte-prior {2 * moved:.3f} (by {n_cells} cells)\n")
        return
    if args.command == "collect":
        survey(_detector(args.run, args.second, _prior(args)), args.records, args.out)
        return
    if args.command == "again":
        changed = {"nms_iou": args.nms_iou, "confidence": args.confidence}
        thresholds = {key: value for key, value in changed.items() if value is not None}
        options: dict[str, Any] = {}
        if args.recut:
            recut = Recut.load(args.recut)
            options["changed"] = lambda card: recut.applied(card, "chula")
        folder = BUNDLED if args.model == BUNDLED_NAME else Path(args.model)
        export_kept(
            folder, args.out, name=args.name, thresholds=thresholds, canvas=CANVAS, **options
        )
        return
    conventions, told = conventions_of(Collected.load(args.collected), args.keep)
    if _is_model(args.run):
        export_kept(
            args.run, args.out, conventions=conventions, told=told, name=args.name, canvas=CANVAS
        )
        return
    export_tuned(
        args.run,
        args.out,
        keep=args.keep,
        conventions=conventions,
        told=told,
        name=args.name,
        prior=_prior(args),
        taught=args.taught,
    )


if __name__ == "__main__":
    raise SystemExit(main())
