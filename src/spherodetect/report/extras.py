"""`Extras`, the outputs of a run that are written on request only.

Each needs a package or a program that spherodetect itself does not need. `Extras.check` says which
one is missing before a run begins.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from spherodetect.errors import SpherodetectError
from spherodetect.report.pdf import BROWSER_VARIABLE, find_browser


@dataclass(frozen=True)
class Extras:
    """Outputs on request.

    Attributes:
        excel: results.xlsx, the tables of patients, cells by class, and quality as one workbook.
        pdf: the page of each patient as PDF.
        hemadetect_names: overlays, masks and the table of objects have the names that HemaDetect
            gives them.
        textures: features.csv and features.parquet, the features of shape, intensity and texture
            that RedTell measures.
    """

    excel: bool = False
    pdf: bool = False
    hemadetect_names: bool = False
    textures: bool = False

    def check(self) -> None:
        """Raise SpherodetectError if what an output needs is missing."""
        if self.excel and importlib.util.find_spec("openpyxl") is None:
            raise SpherodetectError(
                "--excel: expected the package openpyxl, got none; "
                "pip install 'spherodetect[excel]', or open the CSV files"
            )
        if self.pdf and find_browser() is None:
            raise SpherodetectError(
                "--pdf: expected Chromium, Chrome or Edge, got none; install one (on Debian: "
                f"apt-get install chromium), name it in {BROWSER_VARIABLE}, or print the page from "
                "any browser"
            )


__all__ = ["Extras"]
