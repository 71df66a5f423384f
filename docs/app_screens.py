"""Draws the pictures of the app's screens from drawn smears: `make figures`. Needs chromium.

A folder of drawn smears is served by `spherodetect app`, a person labels some cells, and the
screens are photographed. The pictures have few colours, which keeps them small.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from app_server import FLAGS, AppServer, as_reviewer, draw_project  # noqa: E402
from spherodetect.app.store.labels import BLOOD_SMEAR  # noqa: E402

FIGURES = Path(__file__).parent / "figures"
CHROMIUM = "/usr/bin/chromium"
VIEW = {"width": 1200, "height": 760}


def main() -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        smears = draw_project(Path(folder) / "smears", patients=2, fields=2, cells=70)
        server = AppServer(smears).start()
        try:
            body = {"method": "model", "params": {}, "fields": "all", "reviewer": "anna"}
            server.run("segment/runs", body)
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                context = browser.new_context(viewport=VIEW)
                context.add_init_script(as_reviewer("anna"))
                photograph(context.new_page(), server)
                browser.close()
        finally:
            server.kill()


def photograph(page: Page, server: AppServer) -> None:
    """Label some cells and write the picture of each screen."""
    page.goto(server.start_url)
    page.goto(f"{server.url}#/field")
    page.locator(".drawing").focus()
    for key in "2112":
        page.keyboard.press("Tab")
        page.keyboard.press(key)
    page.keyboard.press("Tab")
    save(page, "app-field.png")
    show(page, server, "cards")
    save(page, "app-cards.png")
    body = {"patient": "p1", "cells": 60, "seed": 1, "reviewer": "anna"}
    review = server.call("reviews", "POST", body)["review"]
    show(page, server, f"review/{review['id']}")
    for key in "osox":
        page.keyboard.press(key)
    save(page, "app-review.png")
    show(page, server, "patients")
    save(page, "app-patients.png", height=330)


def show(page: Page, server: AppServer, screen: str) -> None:
    page.goto(f"{server.url}#/{screen}")
    page.wait_for_selector(f"main[data-screen={screen.partition('/')[0]}] > *")


def save(page: Page, name: str, *, height: int = VIEW["height"]) -> None:
    """Photograph the upper part of the window once nothing is under way."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot = shot.crop((0, 0, shot.width, height))
    # The small marks of the labels keep their colours.
    colours = Image.new("RGB", (shot.width, shot.height + 20 * len(BLOOD_SMEAR)))
    colours.paste(shot)
    for k, (_, colour, *_rest) in enumerate(BLOOD_SMEAR):
        colours.paste(colour, (0, shot.height + 20 * k, shot.width, shot.height + 20 * k + 20))
    few = shot.quantize(palette=colours.quantize(96), dither=Image.Dither.NONE)
    few.save(FIGURES / name, optimize=True)


if __name__ == "__main__":
    main()
