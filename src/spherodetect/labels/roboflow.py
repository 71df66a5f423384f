"""Downloads one version of a Roboflow project as COCO into a folder.

Roboflow's own client (`roboflow`) finds the version and starts its export, at the address that its
settings give (API_URL). The archive is downloaded and unpacked here, because the client neither
notices a broken download nor limits the unpacked size. The API key comes from the environment
variable ROBOFLOW_API_KEY. It is not stored, not logged and not part of any error.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.safety import MAX_ZIP_BYTES, extract_zip, quoted

KEY_VARIABLE = "ROBOFLOW_API_KEY"
_SPEC = re.compile(r"(?P<workspace>[\w-]+)/(?P<project>[\w-]+)/(?P<version>[0-9]{1,9})", re.ASCII)
_KEY_IN_URL = re.compile(r"(?i)(key=)[^&\s'\")]+")
#: A download without new data for so long has failed.
_TIMEOUT_S = 60

Progress = Callable[[int, int], None]


def download(spec: str, out: str | Path, *, progress: Progress = lambda done, total: None) -> Path:
    """Download a version of a project into the folder out and return it.

    The folder appears completely or not at all.

    Args:
        spec: WORKSPACE/PROJECT/VERSION, as in the project's address.
        out: a folder that is empty or absent.
        progress: called with the number of bytes downloaded and the total.

    Raises:
        SpherodetectError: no API key, a spec of another form, a folder with files in it, or
            Roboflow's client is not installed.
        BadLabelsError: Roboflow refused, or the archive is broken, unsafe or holds no labels.
    """
    out = Path(out)
    found = _SPEC.fullmatch(spec)
    if not found:
        raise SpherodetectError(
            f"{quoted(spec)}: expected WORKSPACE/PROJECT/VERSION, as in my-lab/smears/3"
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise SpherodetectError(
            f"{KEY_VARIABLE} is not set; put your Roboflow API key into that environment variable"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpherodetectError(
            f"{quoted(out)}: expected an empty folder to download into; empty it or name another"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".roboflow-", dir=out.parent) as beside:
        archive, export = Path(beside, "export.zip"), Path(beside, "export")
        problem = _fetch(key, **found.groupdict(), into=archive, progress=progress)
        if problem:
            raise BadLabelsError(
                f"{quoted(spec)}: Roboflow did not deliver it ({problem}); "
                "check name, key and network"
            )
        try:
            extract_zip(archive, export, error=BadLabelsError)
        except BadLabelsError as error:
            raise BadLabelsError(str(error).replace(quoted(archive), quoted(spec))) from None
        if not any(export.rglob("*.coco.json")):
            raise BadLabelsError(
                f"{quoted(spec)}: expected COCO labels, got none; "
                "export the version in Roboflow first"
            )
        shutil.move(export, out) if not out.exists() else export.replace(out)
    return out


def _fetch(
    key: str, *, workspace: str, project: str, version: str, into: Path, progress: Progress
) -> str:
    """Write the export's zip; returns the problem, without the key, or an empty text."""
    with _silenced():
        try:
            from roboflow import Roboflow
            from roboflow.adapters import rfapi
        except ModuleNotFoundError:
            raise SpherodetectError(
                "downloading from Roboflow needs its client; pip install 'spherodetect[train]'"
            ) from None
        try:
            found: Any = Roboflow(api_key=key).workspace(workspace).project(project)
            form = (
                "coco" if getattr(found, "type", "") == "object-detection" else "coco-segmentation"
            )
            chosen = found.version(int(version))
            chosen.export(form)  # waits until the export is ready
            link = rfapi.get_version_export(key, *chosen.id.split("/"), form)["export"]["link"]
            _save(link, into, progress)
        except Exception as error:  # the client's errors have no common base class
            return quoted(_KEY_IN_URL.sub(r"\1***", _reason(error).replace(key, "***")))
    return ""


def _save(link: str, into: Path, progress: Progress) -> None:
    """Download a link into a file."""
    # Roboflow's client depends on requests.
    import requests  # type: ignore[import-untyped, unused-ignore]

    with requests.get(link, stream=True, timeout=_TIMEOUT_S) as answer, open(into, "wb") as file:
        if answer.status_code != 200:
            raise OSError(f"its archive answers with {answer.status_code}")
        total, done = int(answer.headers.get("content-length", 0)), 0
        for chunk in answer.iter_content(2**20):
            done += file.write(chunk)
            if done > MAX_ZIP_BYTES:
                raise OSError(f"its archive has more than {MAX_ZIP_BYTES:,} bytes")
            progress(done, max(done, total))
        if total > done and "content-encoding" not in answer.headers:
            raise OSError(f"its archive broke off after {done:,} of {total:,} bytes; try again")


def _reason(error: Exception) -> str:
    """The message of the service or its client.

    The service answers with JSON, in which the message may be nested under error or message.
    """
    text = str(error)
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(text)
        while isinstance(answer, dict):
            answer = answer.get("error") or answer.get("message")
        text = answer if isinstance(answer, str) else text
    if isinstance(error, LookupError | TypeError | AttributeError):
        text = f"an answer that its client cannot read: {type(error).__name__} {text}"
    return text or type(error).__name__


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppress printing and logging: the client and its libraries log addresses with the key."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
