"""The command line: parse, call one function, print its result.

Exit codes: 0 done; 1 lint found an error; 2 usage or unusable input; 3 done, but something was left
out (and named); 130 interrupted. Results go to stdout; progress, and errors of one line each that
is never wrapped, go to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.util
import io
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spherodetect import __version__
from spherodetect.console import (
    counted,
    print_findings,
    print_patients,
    print_splits,
    progress_of,
    say,
    shown,
)
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.report.results import Result

DONE, LINT_ERROR, UNUSABLE, LEFT_OUT, INTERRUPTED = 0, 1, 2, 3, 130
_HARDWARE = ("cpu", "gpu", "tpu")
#: Reasons for which a label is left out without a loss: another label says the same.
_SPARE = frozenset({"augmented-copy", "second-point-of-a-cell"})
_MOST_LINES = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a usage error raises SystemExit with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not end the run.
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    _quiet_tensorflow()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        if hasattr(args, "out"):
            _require_writable(args.out)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SpherodetectError as error:
        say(str(error))
        return UNUSABLE
    except BrokenPipeError:
        # The reader of the output has left. Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        next_step = "; free some space, or name another folder" if is_full else ""
        say(f"{quoted(error.filename or args.command)}: {error.strerror or error}{next_step}")
        return UNUSABLE
    except KeyboardInterrupt:
        say("interrupted; the results are not complete")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spherodetect",
        description="Counts spherocytes on blood smears. For Research Use Only. "
        "Not for use in diagnostic procedures.",
        epilog="exit codes: 0 done; 1 lint found an error; 2 usage or unusable input; "
        "3 done, with something left out",
    )
    parser.add_argument("--version", action="version", version=f"spherodetect {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run)
        return added

    def out(
        added: argparse.ArgumentParser, metavar: str, text: str, default: Path | None = None
    ) -> None:
        added.add_argument(
            "--out",
            metavar=metavar,
            type=Path,
            required=default is None,
            default=default,
            help=text,
        )

    one = command("lint", _lint, "say what is wrong with labels")
    one.add_argument(
        "source", metavar="SOURCE", type=Path, help="an export folder or zip, or a recipe"
    )
    one.add_argument("--json", metavar="FILE", type=Path, help="also write the findings there")
    _add_classes(one)

    one = command(
        "roboflow",
        _roboflow,
        "download a version of a Roboflow project; the key is in ROBOFLOW_API_KEY",
    )
    one.add_argument("spec", metavar="WORKSPACE/PROJECT/VERSION")
    out(one, "DIR", "an empty or new folder for the export")

    one = command(
        "tfrecords", _tfrecords, "write a data set as TFRecords, with an account of every label"
    )
    one.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    one.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="where the data set lies, if not where the recipe says",
    )
    out(one, "DIR", "folder for the shards and manifest.json")
    one.add_argument("--force", action="store_true", help="write even if the split leaks")
    one.add_argument(
        "--full-masks",
        action="store_true",
        help="also write the form that the stock Mask R-CNN reads",
    )
    one.add_argument("--card", action="store_true", help="also write DATA_CARD.md")

    one = command("train", _train, "train an experiment")
    one.add_argument("experiment", metavar="EXPERIMENT.yaml", type=Path)
    one.add_argument(
        "--run",
        dest="out",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder of this execution",
    )
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

    one = command("evaluate", _evaluate, "measure a model on labelled fields")
    one.add_argument("model", metavar="MODEL", type=Path, help="a model folder")
    one.add_argument("--data", metavar="RECIPE_OR_RECORDS", type=Path, required=True)
    one.add_argument("--split", default="val", help="default: val")
    out(one, "DIR", "folder for the figures and the page")
    one.add_argument(
        "--force", action="store_true", help="measure even if the model was trained on these fields"
    )
    text = "also try blur, tint, scale and JPEG, each on N of the fields; default without N: 12"
    one.add_argument(
        "--robustness", metavar="N", type=int, nargs="?", const=12, default=0, help=text
    )

    one = command("export", _export, "make a model folder from a run")
    one.add_argument("source", metavar="RUN", type=Path)
    out(one, "MODEL", "the model folder")
    text = "a run of the same experiment that held out other fields; may be repeated"
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
        "--rbc-px",
        metavar="F",
        type=_positive,
        help="of it: diameter of a red cell in what it sees",
    )
    text = "of it: name in Model Garden; default: maskrcnn_mobilenet_coco"
    one.add_argument("--experiment", metavar="NAME", default="maskrcnn_mobilenet_coco", help=text)

    one = command("detect", _detect, "find and measure the cells of images")
    one.add_argument("paths", metavar="IMAGE_OR_FOLDER", type=Path, nargs="+")
    out(one, "DIR", "folder for the results")
    _add_model_options(one)

    one = command("score", _score, "score patients")
    text = (
        "a folder of patients' folders, images, a manifest.csv, COCO labels or results, or a table "
        "of cells"
    )
    one.add_argument("paths", metavar="PATH", type=Path, nargs="+", help=text)
    out(one, "DIR", "folder for the results")
    _add_model_options(one)
    one.add_argument(
        "--patient-regex", metavar="R", help="a pattern that finds the patient in a field's path"
    )
    one.add_argument(
        "--grade-scheme",
        metavar="S",
        default="icsh2015",
        help="a name or a file; default: icsh2015",
    )
    text = "a laboratory's own rates, from review --rates, in place of the model's"
    one.add_argument("--rates", metavar="LAB.json", type=Path, help=text)
    one.add_argument(
        "--pseudonymise",
        action="store_true",
        help="replace patient ids and paths; the key file apart",
    )

    _add_classes(one)

    text = "let a person name a sample of a patient's cells: draw it, apply the answers, make rates"
    one = command("review", _review, text)
    one.add_argument("results", metavar="RESULTS", type=Path, help="what score wrote")
    what = one.add_mutually_exclusive_group(required=True)
    what.add_argument("--draw", metavar="DIR", type=Path, help="write the pages to review there")
    text = "take in answers, and write the tables and pages of RESULTS again"
    what.add_argument("--apply", metavar="FILE", type=Path, nargs="+", help=text)
    text = "write this laboratory's rates from its reviewed patients, for score --rates"
    what.add_argument("--rates", metavar="LAB.json", type=Path, help=text)
    text = "a patient to draw; may be repeated; default: all"
    one.add_argument("--patient", metavar="P", dest="patients", action="append", help=text)
    size = one.add_mutually_exclusive_group()
    size.add_argument("--cells", metavar="N", type=_whole, help="cells a page; default: 100")
    text = "instead, go on until the interval of the cells is so many points wide"
    size.add_argument("--width", metavar="POINTS", type=_positive, help=text)
    one.add_argument("--seed", metavar="S", type=int, help="of the draw; default: 1")

    one = command("demo", _demo, "score three synthetic patients, and review one")
    out(
        one,
        "DIR",
        "folder for the results; default: spherodetect-demo",
        default=Path("spherodetect-demo"),
    )
    return parser


def _add_classes(parser: argparse.ArgumentParser) -> None:
    text = "names of the labels to classes: YAML lines `name: class` or CSV `name,class`"
    parser.add_argument("--classes", metavar="FILE", type=Path, help=text)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="MODEL", type=Path, help="a model folder; default: the bundled model"
    )
    parser.add_argument(
        "--um-per-px", metavar="F", type=_positive, help="pixel size in µm; else scale bar or cells"
    )
    text = (
        "length of the burnt-in scale bar in µm; without it the number is read, if [ocr] is "
        "installed and certain"
    )
    parser.add_argument("--scale-bar-um", metavar="F", type=_positive, help=text)
    text = "the laboratory's convention of a spherocyte; else that of films that look alike"
    parser.add_argument("--convention", metavar="NAME", help=text)


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {quoted(text)}")


def _whole(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {quoted(text)}")


def _lint(args: argparse.Namespace) -> int:
    from spherodetect.labels.check.lint import findings_json, lint
    from spherodetect.safety import write_json

    with progress_of("looking at images") as progress:
        findings = lint(
            args.source, workers=os.cpu_count() or 1, progress=progress, classes=_classes(args)
        )
    if args.json:
        write_json(findings_json(findings), args.json)
    print_findings(findings)
    return LINT_ERROR if any(finding.severity == "error" for finding in findings) else DONE


def _classes(args: argparse.Namespace) -> dict[str, str]:
    from spherodetect.vocabulary import read_classes

    return read_classes(args.classes) if args.classes else {}


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
    from spherodetect.labels.recipe import load_recipe
    from spherodetect.records.card import write_card
    from spherodetect.records.tfrecords import build

    recipe = load_recipe(args.recipe, root=args.root)
    with progress_of("writing fields") as progress:
        manifest = build(
            recipe,
            args.out,
            force=args.force,
            full_masks=args.full_masks,
            workers=os.cpu_count() or 1,
            progress=progress,
        )
    if args.card:
        write_card(manifest, recipe, args.out / "DATA_CARD.md")
    print_splits(manifest)
    print(f"manifest: {shown(args.out / 'manifest.json')}")
    return _left_out([*manifest["problems"], *_lost_labels(manifest)])


def _lost_labels(manifest: dict[str, Any]) -> list[str]:
    lost = Counter(
        (i["file"], i["reason"]) for i in manifest["dropped_items"] if i["reason"] not in _SPARE
    )
    lines = [
        f"{quoted(file)}: {counted(n, 'label')} left out: {reason}"
        for (file, reason), n in lost.items()
    ]
    more = len(lines) - _MOST_LINES
    return (
        lines
        if more <= 0
        else [*lines[:_MOST_LINES], f"{counted(more, 'file')} more; manifest.json names them all"]
    )


def _train(args: argparse.Namespace) -> int:
    _require_model_garden(args.command)
    logging.getLogger("spherodetect").setLevel(logging.INFO)
    from spherodetect.training.run import train

    options = {"hardware": args.hardware, "overrides": args.overrides, "resume": args.resume}
    with progress_of("training") as progress:
        checkpoint = train(args.experiment, args.out, **options, progress=progress)
    print(f"checkpoint: {shown(checkpoint)}")
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
    _require_model_garden(args.command)
    if bool(args.classes) != bool(args.rbc_px):
        raise SpherodetectError(
            "export: expected both --classes and --rbc-px for a model of Model Garden, got one"
        )
    options: dict[str, Any] = {}
    if args.static:
        from spherodetect.graph.detector import Canvas

        options["canvas"] = Canvas.parse(args.static)
    if args.classes:
        from spherodetect.training.stock import wrap

        names = [name.strip() for name in args.classes.split(",")]
        options |= {"class_names": names, "rbc_px": args.rbc_px, "experiment": args.experiment}
        model = wrap(args.source, args.out, **options)
    else:
        from spherodetect.training.export import export

        with progress_of("looking at held-out fields") as progress:
            model = export(args.source, args.out, folds=args.folds, progress=progress, **options)
    print(f"model: {shown(model)}")
    return DONE


def _detect(args: argparse.Namespace) -> int:
    from spherodetect.pipeline.run import detect_images

    with progress_of("detecting") as progress:
        result = detect_images(
            args.paths,
            args.out,
            model=args.model,
            um_per_px=args.um_per_px,
            scale_bar_um=args.scale_bar_um,
            convention=args.convention,
            progress=progress,
        )
    return _finish(result)


def _score(args: argparse.Namespace) -> int:
    from spherodetect.pipeline.run import score_patients

    with progress_of("scoring") as progress:
        result = score_patients(
            args.paths,
            out=args.out,
            model=args.model,
            um_per_px=args.um_per_px,
            scale_bar_um=args.scale_bar_um,
            patient_regex=args.patient_regex,
            grade_scheme=args.grade_scheme,
            rates=args.rates,
            pseudonymise=args.pseudonymise,
            classes=_classes(args),
            convention=args.convention,
            progress=progress,
        )
    return _finish(result)


def _review(args: argparse.Namespace) -> int:
    from spherodetect.pipeline.review import apply_review, draw_review, write_lab_rates

    chosen = args.patients, args.cells, args.width, args.seed
    if not args.draw and any(value is not None for value in chosen):
        raise SpherodetectError(
            "review: expected --patient, --cells, --width and --seed with --draw only"
        )
    if args.apply:
        with progress_of("scoring") as progress:
            return _finish(apply_review(args.results, args.apply, progress=progress))
    if args.rates:
        n = write_lab_rates(args.results, args.rates)
        print(f"rates of {counted(n, 'reviewed patient')}: {shown(args.rates)}")
        return DONE
    options = {"cells": args.cells, "width": args.width, "seed": args.seed}
    with progress_of("drawing") as progress:
        result = draw_review(
            args.results, args.draw, patients=args.patients or (), **options, progress=progress
        )
    for one in result.drawn:
        print(f"{shown(one.patient_id)}: {counted(one.n, 'cell')} on {shown(one.page)}")
    for line in result.complete:
        print(shown(line))
    return _left_out(result.problems)


def _demo(args: argparse.Namespace) -> int:
    from spherodetect.pipeline.demo import demo

    def by_model(result: Result, patient_id: str, n_cells: int) -> None:
        print("By the model alone:")
        print_patients(result.scores)
        print(
            f"Now {n_cells} cells of {patient_id} are reviewed. The drawn truth answers in place "
            "of a person."
        )

    with progress_of("scoring") as progress:
        result = demo(args.out, progress=progress, by_model=by_model)
    return _finish(result)


def _finish(result: Result) -> int:
    """Print the result of detect, score or demo, and the paths of its files."""
    from spherodetect.score.counts import RESEARCH_USE

    if result.scores:
        print_patients(result.scores)
    else:
        print(RESEARCH_USE)
    for name, path in result.tables.items():
        print(f"{name}: {shown(path)}")
    if result.report:
        print(f"report: {shown(result.report)}")
    return _left_out(result.problems)


def _left_out(problems: Sequence[str]) -> int:
    for problem in problems:
        say(problem)
    return LEFT_OUT if problems else DONE


def _require_writable(out: Path) -> None:
    """Raise if a folder for results cannot be written, before the work begins. Nothing is made."""
    if out.exists() and not out.is_dir():
        raise SpherodetectError(
            f"{quoted(out)}: expected a folder to write to, got a file; name another folder"
        )
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise SpherodetectError(
            f"{quoted(out)}: cannot be written, {quoted(existing)} has no write permission; "
            "name another folder"
        )


def _require_model_garden(command: str) -> None:
    if importlib.util.find_spec("official") is None:
        raise SpherodetectError(
            f"{command} needs TensorFlow Model Garden; pip install 'spherodetect[train]'"
        )


def _quiet_tensorflow() -> None:
    """Hide TensorFlow's messages about processors and missing GPUs; call it before the import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
