"""A client of a TensorFlow Serving model server over REST; it needs only Python.

The first command prints the cells of each image, the second one the score of a patient:

    python serving/client.py field.jpg other.png --um-per-px 0.193
    python serving/client.py --score patient_01/*.jpg --um-per-px 0.193

Images are JPEG or PNG files and are sent unchanged. Without --um-per-px the scale comes from the
fields' own red cells. The server does not check field quality; check the fields before, as
`spherodetect score` does. For Research Use Only. Not for use in diagnostic procedures.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Names of status_code.
STATUSES = (
    "out_of_domain",
    "field_quality",
    "unseen_stain",
    "uncalibrated",
    "insufficient_cells",
    "at_or_below_limit_of_blank",
    "low_confidence",
    "ok",
)


def detect(url: str, images: Sequence[bytes], um_per_px: float = 0.0) -> list[dict[str, Any]]:
    """The outputs of serving_default, a dict for each image.

    The first num_detections rows are cells.
    """
    rows = [{"image_bytes": encoded(data), "um_per_px": um_per_px} for data in images]
    cells: list[dict[str, Any]] = _post(
        url, {"signature_name": "serving_default", "instances": rows}
    )["predictions"]
    return cells


def score(url: str, images: Sequence[bytes], um_per_px: float = 0.0) -> dict[str, Any]:
    """The outputs of score_patient for the fields of one patient."""
    # The outputs have no batch axis, so the request uses the column format.
    inputs = {
        "image_bytes": [encoded(data) for data in images],
        "um_per_px": [um_per_px] * len(images),
    }
    result: dict[str, Any] = _post(url, {"signature_name": "score_patient", "inputs": inputs})[
        "outputs"
    ]
    return result


def encoded(data: bytes) -> dict[str, str]:
    """Bytes in the JSON of a request."""
    return {"b64": base64.b64encode(data).decode()}


def _post(url: str, request: dict[str, Any]) -> dict[str, Any]:
    message = urllib.request.Request(
        f"{url}:predict", json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(message, timeout=600) as response:
            found: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        raise SystemExit(f"the server answered {error.code}: {reason[:500]}") from None
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Send the request and print a line for each image, or for the patient."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--um-per-px", type=float, default=0.0, metavar="F", help="pixel size; default: 0, unknown"
    )
    parser.add_argument(
        "--score", action="store_true", help="the images are the fields of one patient"
    )
    parser.add_argument(
        "--url", default="http://localhost:8501/v1/models/spherodetect", help="default: %(default)s"
    )
    args = parser.parse_args(argv)
    images = [path.read_bytes() for path in args.images]
    if args.score:
        found = score(args.url, images, args.um_per_px)
        print(
            f"{found['n_spherocytes']} spherocytes of {found['n_countable']} countable cells "
            f"in {len(images)} fields"
        )
        low, high = found["hs_score_low"], found["hs_score_high"]
        interval = "no interval" if math.isnan(low) else f"95 % interval {low:.1f} to {high:.1f}"
        print(f"HS score {found['hs_score']:.1f} % ({interval}), {STATUSES[found['status_code']]}")
    else:
        for path, cells in zip(args.images, detect(args.url, images, args.um_per_px), strict=True):
            n = cells["num_detections"]
            print(
                f"{path}: {n} cells, {sum(cells['countable'][:n])} countable, "
                f"red cells {cells['rbc_diameter_px']:.1f} px wide"
                f"{', truncated' * cells['truncated']}"
            )


if __name__ == "__main__":
    main()
