"""A page of this package as PDF, printed by the browser of the machine.

The pages are laid out by style rules that the PDF libraries of Python do not know (grid, `:has`,
boxes in the margins of a page), so that a browser prints them. Chromium, Chrome and Edge print
without a window. The page loads nothing from elsewhere, and the PDF states no time of its own, so
that the same page gives the same bytes with the same browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted

#: Environment variable with the browser's program.
BROWSER_VARIABLE = "SPHERODETECT_BROWSER"
_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "chrome",
    "msedge",
)
_TIMEOUT_S = 180
#: The time at which the PDF was made, and a time of the same length in its place.
_TIME, _NO_TIME = re.compile(rb"\(D:\d{14}[^)]*\)"), b"(D:20000101000000"


def find_browser() -> str | None:
    """Return the program that prints pages: the one of the variable, or the first one found."""
    if stated := os.environ.get(BROWSER_VARIABLE):
        return shutil.which(stated)
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def write_pdf(page: str | Path, path: str | Path) -> None:
    """Print a page.

    Args:
        page: the HTML file.
        path: the PDF file.

    Raises:
        SpherodetectError: there is no browser, it does not print the page, or the file cannot be
            written.
    """
    page, browser = Path(page), find_browser()
    if browser is None:
        raise SpherodetectError(
            f"{quoted(page)}: expected Chromium, Chrome or Edge to print it, got none; name one in "
            f"{BROWSER_VARIABLE}"
        )
    with tempfile.TemporaryDirectory(prefix="spherodetect-pdf-") as folder:
        printed = Path(folder) / "page.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-extensions",
            "--no-first-run",
            f"--user-data-dir={Path(folder) / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
            page.resolve().as_uri(),
        ]
        # Chromium refuses to run as root in its sandbox. The page has no script.
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
            content = printed.read_bytes()
        except (OSError, subprocess.TimeoutExpired) as problem:
            why = "it took too long" if isinstance(problem, subprocess.TimeoutExpired) else ""
            why = why or (f"exit code {done.returncode}" if "done" in locals() else str(problem))
            raise SpherodetectError(
                f"{quoted(page)}: {quoted(browser)} did not print it ({why}); print the page from "
                "any browser"
            ) from problem
    with atomic_write(path) as file:
        file.write(_TIME.sub(_without_time, content))


def _without_time(found: re.Match[bytes]) -> bytes:
    """Return a time of the same length, since the places in a PDF are counted in bytes."""
    return _NO_TIME + found[0][len(_NO_TIME) :]


__all__ = ["BROWSER_VARIABLE", "find_browser", "write_pdf"]
