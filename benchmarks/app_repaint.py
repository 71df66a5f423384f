"""From a click or a key to the repainted cell on the screen Field of `spherodetect app`.

    python -m benchmarks.app_repaint

There is no peer. A real browser works on the real server through a proxy that holds back every
answer by 100 ms. The time runs from the browser's own time stamp of the event to the end of the
frame that shows the change; that the pixels of the cell changed is asserted. Expected: the 95th
percentile below 100 ms with 151 and with 7,550 outlines.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from app_server import FLAGS, TOKEN, AppServer, as_reviewer, proxy  # noqa: E402

#: Times every press of the mouse and of a key until the frame after it is done.
WATCH = """() => { window.times = {pointerup: [], keydown: []}; window.same = 0;
    const canvas = document.querySelector('.drawing'), context = canvas.getContext('2d');
    const read = () => context.getImageData(0, 0, canvas.width, canvas.height).data.slice();
    let before = read();
    for (const kind of ['pointerup', 'keydown']) canvas.addEventListener(kind, event => {
        const from = event.timeStamp;
        requestAnimationFrame(() => { const channel = new MessageChannel();
            channel.port1.onmessage = () => {
                window.times[kind].push(performance.now() - from);
                const now = read();
                if (now.every((value, i) => value === before[i])) window.same += 1;
                before = now; window.done = (window.done || 0) + 1; };
            channel.port2.postMessage(0); });
    }); }"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outlines", type=int, nargs="+", default=[151, 7550])
    parser.add_argument("--presses", type=int, default=60, help="clicks, and as many keys")
    parser.add_argument("--delay", type=float, default=0.1, help="of every answer, in seconds")
    options = parser.parse_args(argv)
    for outlines in options.outlines:
        times = measure(outlines, presses=options.presses, delay_s=options.delay)
        for kind, values in times.items():
            middle, high = np.percentile(values, [50, 95])
            print(
                f"{outlines:,} outlines, {kind}: median {middle:.0f} ms, p95 {high:.0f} ms, "
                f"n {len(values)}"
            )


def measure(outlines: int, *, presses: int, delay_s: float) -> dict[str, list[float]]:
    """Milliseconds of every click and key on a field with so many discs."""
    columns = math.ceil(math.sqrt(outlines * 4 / 3))
    size = (40 * columns, 40 * math.ceil(outlines / columns))
    places = [(40 * (i % columns) + 20, 40 * (i // columns) + 20) for i in range(outlines)]
    with tempfile.TemporaryDirectory() as folder:
        server = AppServer(project(Path(folder), places, size)).start()
        try:
            take_in(server, coco(places, size))
            with proxy(server.port, delay_s=delay_s) as url, sync_playwright() as started:
                browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
                page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
                page.add_init_script(as_reviewer("anna"))
                page.goto(f"{url}?token={TOKEN}#/field")
                page.locator(".counts", has_text=f"{outlines:,} cells").wait_for(timeout=120000)
                page.wait_for_timeout(2000)
                times = press_all(page, places, size, presses)
                browser.close()
        finally:
            server.kill()
    return times


def press_all(
    page: Any, places: list, size: tuple[int, int], presses: int
) -> dict[str, list[float]]:
    """Click cells and key their labels, one after the other."""
    page.evaluate(WATCH)
    box = page.locator(".drawing").bounding_box()
    scale = min(box["width"] / size[0], box["height"] / size[1])
    left = box["x"] + (box["width"] - size[0] * scale) / 2
    top = box["y"] + (box["height"] - size[1] * scale) / 2
    chosen = np.linspace(0, len(places) - 1, presses).astype(int)
    for done, index in enumerate(chosen):
        x, y = places[index]
        page.mouse.click(left + x * scale, top + y * scale)
        wait(page, 2 * done + 1)
        page.keyboard.press("23"[done % 2])  # the outlines have the label of key 1
        wait(page, 2 * done + 2)
    assert page.evaluate("window.same") == 0, "every press changes the picture"
    times = page.evaluate("window.times")
    return {"click": times["pointerup"], "key": times["keydown"]}


def wait(page: Any, n: int) -> None:
    while page.evaluate("window.done || 0") < n:
        page.wait_for_timeout(5)


def project(folder: Path, places: list, size: tuple[int, int]) -> Path:
    """A folder with one photograph of discs."""
    (folder / "p1").mkdir(parents=True)
    y, x = np.mgrid[:40, :40] - 19.5
    disc = np.where(np.hypot(y, x) < 14, 120, 225).astype(np.uint8)
    image = np.full((size[1], size[0]), 225, np.uint8)
    for cx, cy in places:
        image[cy - 20 : cy + 20, cx - 20 : cx + 20] = disc
    Image.fromarray(np.stack([image] * 3, axis=-1)).save(folder / "p1" / "field.png")
    return folder


def coco(places: list, size: tuple[int, int]) -> bytes:
    """The discs as a COCO file."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = 14 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    annotations = [
        {
            "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 616,
            "bbox": [x - 14, y - 14, 28, 28],
            "segmentation": [np.round(circle + np.array([x, y]), 2).ravel().tolist()],
        }
        for number, (x, y) in enumerate(places, 1)
    ]  # fmt: skip
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "p1/field.png", "width": size[0], "height": size[1]}],
            "categories": [{"id": 1, "name": "rbc"}],
            "annotations": annotations,
        }
    ).encode()


def take_in(server: AppServer, data: bytes) -> None:
    """Import the outlines."""
    request = urllib.request.Request(
        f"{server.url}api/imports/coco?reviewer=import",
        method="POST",
        data=data,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        print(json.load(answer), file=sys.stderr)


if __name__ == "__main__":
    main()
