"""The commands on photographs: detect, score, review, demo."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spherodetect.cli.options import (
    DONE,
    add,
    add_classes,
    add_model_options,
    add_out,
    classes_of,
    left_out,
    positive,
    whole,
)
from spherodetect.console import counted, print_patients, progress_of, shown
from spherodetect.errors import SpherodetectError

if TYPE_CHECKING:
    from spherodetect.cli.options import Commands
    from spherodetect.report.results import Result


def add_score_commands(commands: Commands) -> None:
    one = add(commands, "detect", _detect, "find and measure the cells of images")
    one.add_argument("paths", metavar="IMAGE_OR_FOLDER", type=Path, nargs="+")
    add_out(one, "DIR", "folder for the results")
    add_model_options(one)

    one = add(commands, "score", _score, "score patients")
    text = (
        "a folder of patients' folders, images, a manifest.csv, COCO labels or results, or a table "
        "of cells"
    )
    one.add_argument("paths", metavar="PATH", type=Path, nargs="+", help=text)
    add_out(one, "DIR", "folder for the results")
    add_model_options(one)
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

    add_classes(one)

    text = "let a person name a sample of a patient's cells: draw it, apply the answers, make rates"
    one = add(commands, "review", _review, text)
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
    size.add_argument("--cells", metavar="N", type=whole, help="cells a page; default: 100")
    text = "instead, go on until the interval of the cells is so many points wide"
    size.add_argument("--width", metavar="POINTS", type=positive, help=text)
    one.add_argument("--seed", metavar="S", type=int, help="of the draw; default: 1")

    one = add(commands, "demo", _demo, "score three synthetic patients, and review one")
    add_out(
        one,
        "DIR",
        "folder for the results; default: spherodetect-demo",
        default=Path("spherodetect-demo"),
    )


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
            classes=classes_of(args),
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
    return left_out(result.problems)


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
    return left_out(result.problems)
