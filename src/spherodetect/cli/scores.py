"""The commands on photographs: detect, score, review, app, demo."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial
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
    place,
    port,
    positive,
    whole,
)
from spherodetect.console import counted, print_patients, progress_of, shown
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.cli.options import Commands
    from spherodetect.report.results import Result


def add_score_commands(commands: Commands) -> None:
    one = add(commands, "detect", _detect, "find and measure the cells of images")
    one.add_argument("paths", metavar="IMAGE_OR_FOLDER", type=Path, nargs="+")
    add_out(one, "DIR", "folder for the results")
    add_model_options(one)
    _add_names(one)

    one = add(commands, "score", _score, "score patients")
    text = (
        "a folder of patients' folders, images, a manifest.csv, COCO labels or results, or a table "
        "of cells; or an address s3://BUCKET/KEY or gs://BUCKET/KEY"
    )
    one.add_argument("paths", metavar="PATH", type=place, nargs="+", help=text)
    add_out(one, "DIR", "folder or address for the results", kind=place)
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
        help="replace patient ids and paths; DIR_pseudonym_key.csv, beside DIR, is the key",
    )

    text = (
        "examine the fields side by side on a Ray cluster: HOST:PORT, auto, or local to start one "
        "on this machine; the files are the same"
    )
    one.add_argument("--ray", metavar="ADDRESS", help=text)
    text = "workers of the cluster; default: as many as it has cores for"
    one.add_argument("--workers", metavar="N", type=whole, help=text)
    text = "cores of each worker; default: 1"
    one.add_argument("--cores", metavar="N", type=whole, help=text)
    text = "also write batch.html and summary.json: progress, drift, and the patients who differ"
    one.add_argument("--batch", action="store_true", help=text)
    add_classes(one)
    _add_names(one)
    text = "also write features.parquet: RedTell's features of shape, intensity and texture"
    one.add_argument("--textures", action="store_true", help=text)
    text = "also write results.xlsx: patients, cells by class, quality; needs the extra [excel]"
    one.add_argument("--excel", action="store_true", help=text)
    text = "also write the page of each patient as PDF; needs Chromium, Chrome or Edge"
    one.add_argument("--pdf", action="store_true", help=text)
    text = (
        "when the blood was taken, for pages and FHIR: a date, or a time as "
        "2026-11-30T09:00:00+01:00"
    )
    one.add_argument("--effective", metavar="TIME", default="", help=text)
    text = "when the result was issued, for pages and FHIR: a time with its zone"
    one.add_argument("--issued", metavar="TIME", default="", help=text)
    text = "who made the results, for pages and FHIR"
    one.add_argument("--made-by", metavar="NAME", default="", help=text)
    text = "system of the patient ids, for FHIR: the URI of the hospital's numbers"
    one.add_argument("--patient-system", metavar="URI", default="", help=text)

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

    text = "review, label, train and correct in the browser; REST on the same port"
    one = add(commands, "app", _app, text)
    text = "the project: photographs, or results of score; made if there is none; default: ."
    one.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path(), help=text)
    text = "default: 8765; 0 for any free one"
    one.add_argument("--port", metavar="N", type=port, default=None, help=text)
    one.add_argument("--no-browser", action="store_true", help="do not open a browser")
    text = (
        "listen at another address than 127.0.0.1; other machines can then reach the server, so it "
        "needs a token in the variable SPHERODETECT_TOKEN"
    )
    one.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help=text)
    text = "a name by which a proxy calls the server; may be repeated"
    one.add_argument("--allow-host", metavar="NAME", dest="hosts", action="append", help=text)
    text = "a model folder; default: the bundled model"
    one.add_argument("--model", metavar="MODEL", type=Path, help=text)
    one.add_argument("--preload", action="store_true", help="load the model at the start")
    text = "copy what people did to FILE, and end"
    one.add_argument("--backup", metavar="FILE", type=Path, help=text)
    one.add_argument("--reload-web", action="store_true", help=argparse.SUPPRESS)

    one = add(commands, "demo", _demo, "score three synthetic patients, and review one")
    add_out(
        one,
        "DIR",
        "folder for the results; default: spherodetect-demo",
        default=Path("spherodetect-demo"),
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    text = "name overlays, masks and the table of objects as HemaDetect does"
    parser.add_argument("--hemadetect-names", action="store_true", help=text)


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
            hemadetect_names=args.hemadetect_names,
            progress=progress,
        )
    return _finish(result)


def _score(args: argparse.Namespace) -> int:
    from spherodetect.pipeline.run import score_patients
    from spherodetect.report.extras import Extras
    from spherodetect.report.fhir import FhirContext

    fhir = FhirContext(args.effective, args.issued, args.patient_system, args.made_by)
    scoring: Callable[..., Result] = score_patients
    is_away = any(isinstance(one, str) for one in (*args.paths, args.out))
    if args.ray or is_away:
        from spherodetect.cohort import score_cohort

        scoring = partial(score_cohort, ray=args.ray, workers=args.workers, cores=args.cores or 1)
    if (args.workers or args.cores) and not args.ray:
        raise SpherodetectError("score: expected --workers and --cores with --ray only")
    with progress_of("scoring") as progress:
        result = scoring(
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
            fhir=fhir,
            extras=Extras(args.excel, args.pdf, args.hemadetect_names, args.textures),
            batch=args.batch,
            progress=progress,
        )
    if isinstance(args.out, str):
        print(f"results: {shown(args.out)}")
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


def _app(args: argparse.Namespace) -> int:
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")):
        raise SpherodetectError("app needs FastAPI and uvicorn; pip install 'spherodetect[app]'")
    from spherodetect.app.serve import DEFAULT_PORT, make_server, serve
    from spherodetect.app.store.database import FILE, Database

    if args.backup:
        if not (args.folder / FILE).is_file():
            raise SpherodetectError(
                f"{quoted(args.folder)}: expected a project with {FILE}, got none; name its folder"
            )
        print(f"copy: {shown(Database(args.folder).backup(args.backup))}")
        return DONE
    server = make_server(
        args.folder,
        host=args.host,
        port=DEFAULT_PORT if args.port is None else args.port,
        hosts=args.hosts or (),
        model=args.model,
        preload=args.preload,
        reload_web=args.reload_web,
    )

    def told(url: str) -> None:
        print(f"open {url}", flush=True)
        print("Ctrl+C ends the server; everything is stored already.", flush=True)

    serve(server, told=told, browser=not args.no_browser)
    return DONE


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
    if result.key:
        print(f"key of the pseudonyms, keep it apart: {shown(result.key)}")
    return left_out(result.problems)
