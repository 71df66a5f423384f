"""The command line: parse, call one function, print its result.

Exit codes: 0 done; 1 lint found an error; 2 usage or unusable input; 3 done, but something was left
out (and named); 130 interrupted. Results go to stdout; progress, and errors of one line each that
is never wrapped, go to stderr.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from spherodetect import __version__
from spherodetect.cli.interruption import interruptible
from spherodetect.cli.labels import add_label_commands
from spherodetect.cli.models import add_model_commands
from spherodetect.cli.options import UNUSABLE
from spherodetect.cli.scores import add_score_commands
from spherodetect.cli.streams import unheard_streams
from spherodetect.console import LogLines, say
from spherodetect.detect.threads import state_threads
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted, system_reason

#: Commands that use a model folder, and neither Keras nor Model Garden.
_OF_A_MODEL = {"demo", "detect", "evaluate", "review", "score"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a usage error raises SystemExit with code 2."""
    with unheard_streams():
        # Without arguments, the process is this command's own.
        return interruptible(lambda: _run(argv), until_exit=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    if argv is None and args.command in _OF_A_MODEL:
        _without_keras()
        state_threads()
    _quiet_tensorflow()
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[LogLines()])
    try:
        if isinstance(getattr(args, "out", None), Path):
            _require_writable(args.out)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SpherodetectError as error:
        say(str(error))
    except Exception as error:
        reason = system_reason(error)
        if not reason:
            raise
        say(f"{quoted(getattr(error, 'filename', None) or args.command)}: {reason}")
    return UNUSABLE


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = argparse.ArgumentParser(
        prog="spherodetect",
        description="Counts spherocytes on blood smears. For Research Use Only. "
        "Not for use in diagnostic procedures.",
        epilog="exit codes: 0 done; 1 lint found an error; 2 usage or unusable input; "
        "3 done, with something left out",
    )
    made.add_argument("--version", action="version", version=f"spherodetect {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_label_commands(commands)
    add_model_commands(commands)
    add_score_commands(commands)
    return made


def _require_writable(out: Path) -> None:
    """Raise if a folder for results cannot be written, before the work begins. Nothing is made."""
    if out.exists() and not out.is_dir():
        raise SpherodetectError(
            f"{quoted(out)}: expected a folder to write to, got a file; name another folder"
        )
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise SpherodetectError(
            f"{quoted(out)}: cannot be written, {quoted(existing)} is a file; name another folder"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SpherodetectError(
            f"{quoted(out)}: cannot be written, {quoted(existing)} has no write permission; "
            "name another folder"
        )


def _without_keras() -> None:
    """Let TensorFlow start without Keras 3, which it imports if it is there.

    That would take 3 s and 180 MB, as long as the rest of TensorFlow.
    """
    # TensorFlow goes on if the import fails.
    sys.modules.setdefault("keras", None)  # type: ignore[arg-type]


def _quiet_tensorflow() -> None:
    """Hide messages of TensorFlow and Keras that no user can act on; call it before the import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"tf_keras(\.|$)")
