"""What the commands share: exit codes, arguments, and the end of a command."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from spherodetect.console import say
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DONE, LINT_ERROR, UNUSABLE, LEFT_OUT = 0, 1, 2, 3


def add(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command; `run` takes its arguments and returns an exit code."""
    added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    added.set_defaults(run=run)
    return added


def add_out(
    parser: argparse.ArgumentParser,
    metavar: str,
    text: str,
    default: Path | None = None,
    *,
    kind: Callable[[str], str | Path] = Path,
) -> None:
    parser.add_argument(
        "--out", metavar=metavar, type=kind, required=default is None, default=default, help=text
    )


def add_classes(parser: argparse.ArgumentParser) -> None:
    text = "names of the labels to classes: YAML lines `name: class` or CSV `name,class`"
    parser.add_argument("--classes", metavar="FILE", type=Path, help=text)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="MODEL", type=Path, help="a model folder; default: the bundled model"
    )
    parser.add_argument(
        "--um-per-px", metavar="F", type=positive, help="pixel size in µm; else scale bar or cells"
    )
    text = (
        "length of the burnt-in scale bar in µm; without it the number is read, if [ocr] is "
        "installed and certain"
    )
    parser.add_argument("--scale-bar-um", metavar="F", type=positive, help=text)
    text = "the laboratory's convention of a spherocyte; else that of films that look alike"
    parser.add_argument("--convention", metavar="NAME", help=text)


def place(text: str) -> str | Path:
    """Return an address in cloud storage as it is, and any other text as a path."""
    return text if text.startswith(("s3://", "gs://")) else Path(text)


def positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {quoted(text)}")


def whole(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {quoted(text)}")


def port(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (value := int(text)) < 2**16:
            return value
    raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {quoted(text)}")


def size_hw(text: str) -> tuple[int, int]:
    """Return height and width in pixels of a text like 1800x2400."""
    with contextlib.suppress(ValueError):
        height, width = (int(side) for side in text.lower().split("x"))
        if min(height, width) > 0:
            return height, width
    raise argparse.ArgumentTypeError(
        f"expected height and width in pixels, such as 1800x2400, got {quoted(text)}"
    )


def classes_of(args: argparse.Namespace) -> dict[str, str]:
    """Return the classes of `--classes`, by name of the label."""
    from spherodetect.vocabulary import read_classes

    return read_classes(args.classes) if args.classes else {}


def left_out(problems: Iterable[str]) -> int:
    code = DONE
    for problem in problems:
        say(problem)
        code = LEFT_OUT
    return code


def require_model_garden(command: str) -> None:
    if importlib.util.find_spec("official") is None:
        raise SpherodetectError(
            f"{command} needs TensorFlow Model Garden; pip install 'spherodetect[train]'"
        )
