"""Downloads one version of a Roboflow project, as COCO, into a folder that the other readers take as it is.

The key comes from the environment variable ROBOFLOW_API_KEY and goes to Roboflow's own client; it is neither stored nor
logged, and no error shows it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.safety import quoted

KEY_VARIABLE = "ROBOFLOW_API_KEY"
_SPEC = re.compile(r"(?P<workspace>[\w-]+)/(?P<project>[\w-]+)/(?P<version>[0-9]+)", re.ASCII)
_KEY_IN_URL = re.compile(r"(?i)(key=)[^&\s'\")]+")


def download(spec: str, out: str | Path) -> Path:
    """Fetch the version that spec names into the folder out, which appears whole or not at all, and return it.

    Args:
        spec: WORKSPACE/PROJECT/VERSION, as in the project's address.
        out: a folder that is empty or absent.

    Raises:
        SpherodetectError: no key, a spec of another form, a folder with files in it, or Roboflow's client is missing.
        BadLabelsError: Roboflow refused, or what came holds no labels.
    """
    out = Path(out)
    found = _SPEC.fullmatch(spec)
    if not found:
        raise SpherodetectError(f"{quoted(spec)}: expected WORKSPACE/PROJECT/VERSION, as in my-lab/smears/3")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise SpherodetectError(f"{KEY_VARIABLE} is not set; put your Roboflow API key into that environment variable")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpherodetectError(f"{quoted(out)}: expected an empty folder to download into; empty it or name another")
    out.parent.mkdir(parents=True, exist_ok=True)
    # The client takes a folder that is there for a finished download, so it gets one that is not, beside the target.
    with tempfile.TemporaryDirectory(prefix=".roboflow-", dir=out.parent) as beside:
        export = Path(beside) / "export"
        problem = _fetch(key, **found.groupdict(), into=export)
        if problem:
            raise BadLabelsError(f"{quoted(spec)}: Roboflow did not deliver it ({problem}); check the name and the key")
        if not any(export.rglob("*.coco.json")):
            raise BadLabelsError(
                f"{quoted(spec)}: expected COCO labels, got none; export the version in Roboflow first"
            )
        shutil.move(export, out) if not out.exists() else export.replace(out)
    return out


def _fetch(key: str, *, workspace: str, project: str, version: str, into: Path) -> str:
    """Let the client download; returns what went wrong, without the key, or nothing."""
    try:
        from roboflow import Roboflow
    except ModuleNotFoundError:
        raise SpherodetectError(
            "downloading from Roboflow needs its client; pip install 'spherodetect[train]'"
        ) from None
    # The client prints download addresses, which carry a key of their own.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            source: Any = Roboflow(api_key=key).workspace(workspace).project(project)
            boxes_only = getattr(source, "type", "") == "object-detection"
            source.version(int(version)).download("coco" if boxes_only else "coco-segmentation", location=str(into))
        except Exception as error:  # its errors have no common ancestor
            text = _KEY_IN_URL.sub(r"\1***", str(error).replace(key, "***"))
            return quoted(text or type(error).__name__)
    return ""
