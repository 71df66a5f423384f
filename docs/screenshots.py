"""Takes the pictures of report.png and review.png: python docs/screenshots.py [CHROMIUM].

A drawn patient of twelve fields is scored with the bundled model, and a review is drawn; a headless
Chromium takes a picture of each page. No real image is shown.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import spherodetect
from spherodetect.pipeline.review import draw_review
from spherodetect.synthetic import SmearStyle

FIGURES = Path(__file__).parent / "figures"
UM_PER_PX = 0.193
#: Width and height of the page in pixels.
REPORT_SIZE, REVIEW_SIZE = (1000, 1250), (1000, 900)


def main(chromium: str = "chromium") -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        smears, results = Path(folder, "smears"), Path(folder, "results")
        (smears / "patient_A").mkdir(parents=True)
        drawn = spherodetect.draw_patient(
            6, spherocyte_fraction=0.18, n_fields=12, style=SmearStyle(), patient_id="patient_A"
        )
        for number, field in enumerate(drawn, 1):
            Image.fromarray(field.image).save(smears / "patient_A" / f"field_{number:02d}.png")
        spherodetect.score_patients(smears, out=results, um_per_px=UM_PER_PX)
        review = draw_review(results, Path(folder, "review"), cells=100).drawn[0]
        take(chromium, results / "reports" / "patient_A.html", FIGURES / "report.png", REPORT_SIZE)
        take(chromium, review.page, FIGURES / "review.png", REVIEW_SIZE)


def take(chromium: str, page: Path, picture: Path, size: tuple[int, int]) -> None:
    """Save what a browser shows of a page."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    window = f"--window-size={size[0]},{size[1]}"
    command = [chromium, *options, window, f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with Image.open(picture) as image:
        smaller = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    smaller.save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
