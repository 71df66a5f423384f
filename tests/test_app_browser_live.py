"""`spherodetect app` with its server, in a browser, on drawn smears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app_server import TOKEN, AppServer, as_reviewer, draw_project, proxy

pytestmark = pytest.mark.browser
pytest.importorskip("fastapi", reason="the extra [app] is not installed")

SCREENS = ("patients", "scale", "segment", "labels", "field", "cards", "review", "train",
           "embedding", "statistics")  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """A project of two patients with two fields each, their outlines found by watershed."""
    folder = draw_project(tmp_path_factory.mktemp("smears"), patients=2, fields=2, cells=110)
    started = AppServer(folder).start()
    body = {"method": "watershed", "params": {}, "fields": "all", "reviewer": "tests"}
    started.run("segment/runs", body)
    yield started
    started.kill()


@pytest.fixture(scope="module")
def examined(server: AppServer) -> AppServer:
    """The same project after the model found the cells of the second patient."""
    fields = [one["id"] for one in server.call("fields?patient=p2")["fields"]]
    body = {"method": "model", "params": {}, "fields": fields, "reviewer": "tests"}
    server.run("segment/runs", body)
    return server


def person(browser: Any, server: AppServer, name: str = "anna", **options: Any) -> Any:
    """A browser of one person, logged in."""
    context = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | options))
    context.set_default_timeout(30000)
    context.add_init_script(as_reviewer(name))
    context.errors = []
    context.on("weberror", lambda error: context.errors.append(str(error.error)))
    page = context.new_page()
    page.goto(server.start_url)
    page.wait_for_selector("nav a")
    return context


@pytest.fixture
def anna(browser: Any, server: AppServer) -> Iterator[Any]:
    context = person(browser, server)
    yield context
    context.close()
    assert context.errors == []


def go(page: Any, url: str, screen: str, *, anew: bool = True) -> Any:
    """Show a screen, by default in a page that is loaded anew."""
    page.goto(f"{url}#/{screen}")
    if anew:
        page.reload()
    name = screen.partition("/")[0].partition("?")[0]
    page.wait_for_selector(f"main[data-screen={name}] > *")
    return page


def saved(page: Any) -> None:
    page.locator("#saved:not(.open)").wait_for()


def field_ids(server: AppServer) -> list[int]:
    return [field["id"] for field in server.call("fields")["fields"]]


def test_every_keyed_cell_is_shown_stored_and_there_after_a_reload(anna, server):
    page = anna.pages[0]
    stored = {}
    for field in field_ids(server):
        go(page, server.url, f"field/{field}")
        page.locator(".counts", has_text="0 labelled").wait_for()
        page.wait_for_selector(".drawing:focus")
        n = len(server.objects(field))
        for at in range(n):
            page.keyboard.press("Tab")
            page.keyboard.press("12"[at % 2])
        shown = page.locator(".counts").inner_text()
        assert shown == f"{n} cells, {n} labelled."
        saved(page)
        stored[field] = server.labels(field)
        assert sum(label == 1 for label in stored[field].values()) == (n + 1) // 2
        page.reload()
        page.locator(".counts", has_text=shown).wait_for()
    assert sum(len(one) for one in stored.values()) >= 300
    assert {field: server.labels(field) for field in stored} == stored


def test_nothing_is_lost_or_doubled_when_the_server_is_killed(browser, tmp_path):
    server = AppServer(draw_project(tmp_path / "p", patients=1, fields=1, cells=40)).start()
    body = {"method": "watershed", "params": {}, "fields": "all", "reviewer": "tests"}
    server.run("segment/runs", body)
    (field,) = field_ids(server)
    ids = [one["id"] for one in server.objects(field)][:12]
    context = person(browser, server)
    page = go(context.pages[0], server.url, "cards?mode=class&label=0&by=human")
    page.wait_for_selector(".card")
    try:
        for at in range(12):
            if at == 4:
                saved(page)
                server.kill()
            page.locator(f".card[data-at='{at}']").click()
            page.keyboard.press("2")
        assert page.locator("#saved").inner_text() == "8 not saved"
        server.start()
        saved(page)
        labels = server.labels(field)
        assert sum(label == 2 for label in labels.values()) == 12
        history = [server.call(f"objects/{one}")["history"] for one in ids]
        assert max(len(one) for one in history) == 1
    finally:
        context.close()
        server.kill()


def test_fifty_undos_over_screens_and_a_reload(anna, server):
    field = field_ids(server)[1]
    before = server.labels(field)
    touched = next(iter(before))
    page = go(anna.pages[0], server.url, f"field/{field}?object={touched}")
    page.locator(".cell h2", has_text=f"Cell {touched}").wait_for()
    for at in range(50):
        page.keyboard.press("12"[at % 2])
    saved(page)
    for screen, n in (("cards", 20), ("statistics", 20), (f"field/{field}", 10)):
        go(page, server.url, screen)
        for _ in range(n):
            page.keyboard.press("Control+z")
        saved(page)
    assert server.labels(field) == before
    history = server.call(f"objects/{touched}")["history"]
    assert sum(one["kind"] == "label" for one in history) >= 50, "the log keeps all"


def test_two_reviewers_see_each_other(browser, server):
    field = field_ids(server)[2]
    anna, ben = person(browser, server, "anna"), person(browser, server, "ben")
    cell = server.objects(field)[0]["id"]
    pages = [go(one.pages[0], server.url, f"field/{field}?object={cell}") for one in (anna, ben)]
    try:
        for page, key in zip(pages, "12", strict=True):
            page.locator(".cell h2", has_text=f"Cell {cell}").wait_for()
            page.keyboard.press(key)
            saved(page)
        pages[0].locator(".cell dl", has_text="ben").wait_for()
        (record,) = [one for one in server.objects(field) if one["id"] == cell]
        assert record["labels"] == {"anna": 1, "ben": 2}
    finally:
        anna.close()
        ben.close()


def test_the_blind_page_tells_nothing_and_its_sample_stays(anna, examined):
    examined.call("reviews", "POST", {"patient": "p2", "cells": 50, "seed": 1, "reviewer": "anna"})
    (review,) = examined.call("reviews")["reviews"]
    told: list[str] = []
    pictures: list[bytes] = []

    def listen(response: Any) -> None:
        if "/api/" not in response.url or response.status != 200:
            return
        if "/crops" in response.url:
            pictures.append(response.body())
        elif "label-sets" not in response.url and "/session" not in response.url:
            told.append(f"{response.url} {response.text()}")

    page = anna.new_page()
    page.on("response", listen)
    for _ in range(2):
        go(page, examined.url, f"review/{review['id']}?page=1")
        page.wait_for_selector(".cell-tile canvas")
        field = field_ids(examined)[2]
        some = [{"object": one["id"], "label": 2} for one in examined.objects(field)[:5]]
        step = {
            "key": f"key-{len(told):08d}",
            "kind": "label",
            "source": "cards",
            "seen": "open",
            "items": some,
        }
        examined.call("steps", "POST", {"reviewer": "ben", "steps": [step]})
        body = {
            "method": "watershed",
            "params": {"least_area_px": 30},
            "fields": "all",
            "reviewer": "ben",
        }
        examined.run("segment/runs", body)
    page.wait_for_timeout(1500)
    assert len(set(pictures)) == 1, "the same cells in the same order"
    for text in [*told, page.content()]:
        for word in ("p_spherocyte", "doubt", "stratum", '"model"', '"label":', "probab"):
            # A job names the field that it is at as its label.
            if word != '"label":' or "/api/jobs" not in text:
                assert word not in text, (word, text[:2000])


def test_a_review_is_answered_by_keys_and_changes_the_interval(anna, examined):
    examined.call("reviews", "POST", {"patient": "p2", "cells": 50, "seed": 3, "reviewer": "anna"})
    (review,) = examined.call("reviews")["reviews"]
    page = go(anna.pages[0], examined.url, f"review/{review['id']}")
    for number in range(review["n_pages"]):
        page.locator(".review-top", has_text=f"Page {number + 1} of").wait_for()
        for key in "sxu":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
    saved(page)
    page.locator("h1", has_text="Review").wait_for()
    again = page.locator("button", has_text="Ask again")
    if again.count():
        again.click()
    page.wait_for_selector(".interval.new")
    (answered,) = [
        one
        for one in examined.call("reviews?reviewer=anna")["reviews"]
        if one["id"] == review["id"]
    ]
    assert answered["done"]


def test_the_scale_screen_measures_a_drawn_bar(browser, tmp_path):
    folder = tmp_path / "bars" / "p1"
    folder.mkdir(parents=True)
    image = np.full((480, 640, 3), 228, np.uint8)
    image[440:444, 400:580] = (20, 20, 20)
    Image.fromarray(image).save(folder / "bar.png")
    server = AppServer(folder.parent).start()
    context = person(browser, server)
    page = go(context.pages[0], server.url, "scale")
    try:
        page.wait_for_selector(".lens")
        for end, (x, y) in enumerate(((400, 442), (580, 442))):
            for axis, value in (("x", x), ("y", y)):
                name = f"{('First', 'Second')[end]} end, {axis}"
                page.get_by_label(name).fill(str(value))
        page.locator("#length").fill("0")
        page.locator("button", has_text="Store the scale").click()
        page.locator(".message.problem").wait_for()
        page.locator("#length").fill("20")
        page.locator("button", has_text="Store the scale").click()
        page.locator(".box.good").wait_for()
        scale = server.call(f"fields/{field_ids(server)[0]}/scale")
        assert abs(20 / scale["um_per_px"] - 180) <= 1
        assert scale["confirmed"] and scale["source"] == "measured"
    finally:
        context.close()
        server.kill()


def test_it_works_behind_a_proxy_with_a_base_path_and_without_websockets(browser, server):
    with proxy(server.port, prefix="/user/anna/proxy/8765/") as url:
        context = browser.new_context()
        context.set_default_timeout(30000)
        context.add_init_script(as_reviewer("anna"))
        outside: list[str] = []
        context.on("request", lambda r: None if r.url.startswith(url) else outside.append(r.url))
        page = context.new_page()
        page.goto(f"{url}?token={TOKEN}#/field")
        page.locator(".counts", has_text="labelled").wait_for()
        page.locator(".drawing").click()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("2")
        saved(page)
        page.locator(".cell dl", has_text="spherocyte (anna)").wait_for()
        for screen in SCREENS:
            go(page, url, screen, anew=False)
        assert outside == []
        context.close()


def test_cancel_stops_a_run_and_what_was_finished_stays(browser, tmp_path):
    server = AppServer(draw_project(tmp_path / "many", patients=1, fields=12, cells=60)).start()
    context = person(browser, server)
    page = go(context.pages[0], server.url, "segment")
    try:
        page.locator(".panel button.main", has_text="Run").click()
        page.locator(".job span", has_text="of 12").wait_for()
        page.locator(".job button").click()
        page.locator(".message", has_text="cancelled").wait_for()
        done = [field["method"] for field in server.call("fields")["fields"]]
        assert None in done
        counted = sum(one is not None for one in done)
        assert sum(bool(server.objects(field)) for field in field_ids(server)) == counted
    finally:
        context.close()
        server.kill()


#: Texts of less than 12 pixels.
SMALL = """() => [...document.body.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12)
    .map(e => e.textContent.slice(0, 40))"""


@pytest.mark.parametrize("width", [390, 1400])
def test_every_screen_fits_the_window_and_can_be_read(browser, server, width):
    context = person(browser, server, viewport={"width": width, "height": 844})
    page = context.pages[0]
    for screen in SCREENS:
        go(page, server.url, screen, anew=False)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{screen} is {wide} pixels wide"
        assert page.evaluate(SMALL) == [], screen
    context.close()
    assert context.errors == []


def test_axe_finds_no_barrier_on_any_screen(browser, server):
    root = Path(__file__).resolve().parents[1]
    file = root / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip(f"no axe-core at {file}: make test-browser fetches it where npm is installed")
    context = person(browser, server, bypass_csp=True)
    page = context.pages[0]
    page.evaluate(file.read_text(encoding="utf-8"))
    found = []
    for screen in SCREENS:
        go(page, server.url, screen, anew=False)
        result = page.evaluate("axe.run()")
        found += [
            (screen, one["id"], [node["target"] for node in one["nodes"]][:3])
            for one in result["violations"]
        ]
    context.close()
    assert found == []


def hardware(path: Path, seed: int) -> None:
    """Draw washers, which are rings, and nuts, which are hexagons with a hole."""
    from PIL import ImageDraw

    image = Image.new("RGB", (640, 480), (232, 232, 228))
    draw = ImageDraw.Draw(image)
    for at in range(12):
        x, y = 80 + 150 * (at % 4), 90 + 150 * (at // 4)
        if (at + seed) % 3:
            draw.ellipse((x - 40, y - 40, x + 40, y + 40), (90, 92, 96))
        else:
            draw.regular_polygon((x, y, 40), 6, fill=(70, 66, 60))
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), (232, 232, 228))
    image.save(path)


@pytest.mark.slow
def test_an_own_domain_from_an_empty_folder_to_an_export_that_comes_back(browser, tmp_path):
    project = tmp_path / "hardware"
    project.mkdir()
    pictures = [tmp_path / f"{seed}.png" for seed in range(2)]
    for seed, path in enumerate(pictures):
        hardware(path, seed)
    server = AppServer(project).start()
    context = person(browser, server, accept_downloads=True)
    page = context.pages[0]
    try:
        page.locator("#photographs").set_input_files(pictures)
        page.locator("#patient-name").fill("box 1")
        page.locator("dialog button.main").click()
        page.locator(".message", has_text="2 photographs added").wait_for()
        go(page, server.url, "labels")
        page.get_by_label("Name of a set").fill("hardware")
        page.locator("button", has_text="New set").click()
        page.locator("#set option:checked", has_text="hardware").wait_for(state="attached")
        for name in ("washer", "nut"):
            page.locator("#new-name").fill(name)
            page.locator("form button.main").click()
            page.get_by_label(f"Name of {name}").wait_for()
        go(page, server.url, "segment")
        page.locator(".panel button.main", has_text="Run").click()
        page.locator(".message", has_text="outlines on 2 fields").wait_for()
        go(page, server.url, "cards?mode=class&label=0&by=human")
        page.wait_for_selector(".card")
        page.keyboard.press("Control+a")
        page.keyboard.press("1")
        page.locator(".card").nth(1).click()
        page.keyboard.press("2")
        saved(page)
        go(page, server.url, "statistics")
        page.locator("td b").first.wait_for()
        with page.expect_download() as waiting:
            page.locator("button[data-file='coco.json']").click()
        file = tmp_path / "export.json"
        waiting.value.save_as(file)
        before = names_of(server)
        assert sorted(set(before)) == ["nut", "washer"] and before.count("nut") == 1
    finally:
        context.close()
        server.kill()
    other = AppServer(draw_copy(project, tmp_path / "other")).start()
    context = person(browser, other)
    page = go(context.pages[0], other.url, "statistics")
    try:
        page.get_by_label("COCO file").set_input_files(file)
        page.locator("[role=status]", has_text="labels:").wait_for()
        assert names_of(other) == before
    finally:
        context.close()
        other.kill()


def names_of(server: AppServer) -> list[str]:
    """The names of the labels of all objects, from the upper left to the lower right."""
    sets = server.call("label-sets")["sets"]
    names = {label["id"]: label["name"] for one in sets for label in one["labels"]}
    found = []
    for field in field_ids(server):
        objects = sorted(server.objects(field), key=lambda one: one["box_yxyx"][:2])
        found += [names[one["label"]] for one in objects if one["label"] is not None]
    return found


def draw_copy(project: Path, folder: Path) -> Path:
    """A project with the same photographs and nothing else."""
    for path in sorted(project.rglob("*.png")):
        if ".spherodetect" in path.parts:
            continue
        target = folder / path.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder
