"""The commands on models: train, evaluate, export."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherodetect.cli.options import DONE, add, add_out, positive, require_model_garden
from spherodetect.cli.streams import libraries_log_to
from spherodetect.console import progress_of, shown
from spherodetect.errors import SpherodetectError

if TYPE_CHECKING:
    from spherodetect.cli.options import Commands

_HARDWARE = ("cpu", "gpu", "tpu")


def add_model_commands(commands: Commands) -> None:
    one = add(commands, "train", _train, "train an experiment")
    one.add_argument("experiment", metavar="EXPERIMENT.yaml", type=Path)
    one.add_argument(
        "--run",
        dest="out",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of this execution",
    )
    text = "go on from the weights of a model folder, or of the bundled model: bundled"
    one.add_argument("--from", metavar="MODEL", dest="start", help=text)
    text = (
        "train once on all patients, and once without each of them; export then measures the error "
        "rates. They need two or more patients with at least 10 labelled spherocytes each"
    )
    one.add_argument("--folds", choices=("patient",), help=text)
    one.add_argument("--hardware", choices=_HARDWARE, default="cpu", help="default: cpu")
    one.add_argument(
        "--set",
        metavar="key=value",
        dest="overrides",
        action="append",
        default=[],
        help="may be repeated",
    )
    one.add_argument("--resume", action="store_true", help="go on from the last checkpoint")

    one = add(commands, "evaluate", _evaluate, "measure a model on labelled fields")
    text = "a model folder, or bundled for the bundled model"
    one.add_argument("model", metavar="MODEL", type=Path, help=text)
    one.add_argument("--data", metavar="RECIPE_OR_RECORDS", type=Path, required=True)
    one.add_argument("--split", default="val", help="default: val")
    add_out(one, "DIR", "folder for the figures and the page")
    one.add_argument(
        "--force", action="store_true", help="measure even if the model was trained on these fields"
    )
    text = "also try blur, tint, scale and JPEG, each on N of the fields; default without N: 12"
    one.add_argument(
        "--robustness", metavar="N", type=int, nargs="?", const=12, default=0, help=text
    )

    one = add(commands, "export", _export, "make a model folder from a run")
    one.add_argument("source", metavar="RUN", type=Path)
    add_out(one, "MODEL", "the model folder")
    text = (
        "a run of the same experiment that held out other fields; may be repeated. A run of "
        "train --folds needs none. Without two or more held-out groups (patients, or runs of "
        "fields) with at least 10 labelled spherocytes each, scores have the status uncalibrated"
    )
    one.add_argument(
        "--fold", metavar="RUN", dest="folds", type=Path, action="append", default=[], help=text
    )
    text = (
        "image size and pixel size in µm of serving_static, the signature of fixed shapes; "
        "default: 480x640@0.193"
    )
    one.add_argument("--static", metavar="HxW@F", help=text)
    text = "RUN is a Mask R-CNN that Model Garden trained: names of its classes from id 1"
    one.add_argument("--classes", metavar="A,B,...", help=text)
    one.add_argument(
        "--rbc-px", metavar="F", type=positive, help="of it: diameter of a red cell in what it sees"
    )
    text = "of it: name in Model Garden; default: maskrcnn_mobilenet_coco"
    one.add_argument("--experiment", metavar="NAME", default="maskrcnn_mobilenet_coco", help=text)


def _train(args: argparse.Namespace) -> int:
    require_model_garden(args.command)
    logging.getLogger("spherodetect").setLevel(logging.INFO)
    from spherodetect.training.api import train

    # The training tells the time left itself: it knows what validations and graphs take.
    with libraries_log_to(args.out / "log.txt"), progress_of("training", clock=False) as progress:
        trained = train(
            args.experiment,
            args.out,
            start=args.start,
            folds=args.folds,
            hardware=args.hardware,
            overrides=args.overrides,
            resume=args.resume,
            progress=progress,
        )
    print(f"{'trainings' if args.folds else 'checkpoint'}: {shown(trained)}")
    return DONE


def _evaluate(args: argparse.Namespace) -> int:
    from spherodetect.evaluation.run import evaluate

    options = {"split": args.split, "force": args.force, "robustness": max(0, args.robustness)}
    with progress_of("measuring") as progress:
        result = evaluate(args.model, args.data, **options, out=args.out, progress=progress)
    print("\n".join(map(shown, str(result).splitlines())))
    print(f"page: {shown(args.out / 'evaluation.html')}")
    return DONE


def _export(args: argparse.Namespace) -> int:
    require_model_garden(args.command)
    if bool(args.classes) != bool(args.rbc_px):
        raise SpherodetectError(
            "export: expected both --classes and --rbc-px for a model of Model Garden, got one"
        )
    if args.classes:
        from spherodetect.graph.canvas import Canvas
        from spherodetect.training.stock import wrap

        options: dict[str, Any] = {"canvas": Canvas.parse(args.static)} if args.static else {}
        names = [name.strip() for name in args.classes.split(",")]
        options |= {"class_names": names, "rbc_px": args.rbc_px, "experiment": args.experiment}
        model = wrap(args.source, args.out, **options)
    else:
        from spherodetect.training.api import export

        with progress_of("looking at held-out fields") as progress:
            model = export(
                args.source, args.out, folds=args.folds, static=args.static, progress=progress
            )
    print(f"model: {shown(model)}")
    return DONE
