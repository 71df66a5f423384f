"""The review page in a browser: keys, clicks, what is kept, and what is saved."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.report.review_page import PageCell, write_review_page, write_review_table


def cells(n=75):
    rng = np.random.default_rng(1)
    return [
        PageCell(f"p/{k % 3}.png", k, 10.0 + k, 20.5, Image.fromarray(
            rng.integers(0, 255, (24, 24, 3), np.uint8)
        ))
        for k in range(1, n + 1)
    ]  # fmt: skip


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "p 1" / "review.html"
    write_review_page(path, cells(), patient_id="p 1", draw="ab12", seed=7, first=51)
    return path


def test_the_same_cells_give_the_same_bytes(page):
    before = page.read_bytes()
    write_review_page(page, cells(), patient_id="p 1", draw="ab12", seed=7, first=51)
    assert page.read_bytes() == before
    assert b"cells, 51 to 125" in before


def test_the_table_begins_no_formula(tmp_path):
    write_review_table(tmp_path / "review.csv", cells(2), patient_id="=1+1")
    with (tmp_path / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["patient_id"] == "'=1+1"
    assert (rows[1]["field_id"], rows[1]["cell_id"], rows[1]["x_px"], rows[1]["y_px"]) == (
        "p/2.png", "2", "12.0", "20.5",
    )  # fmt: skip


@pytest.mark.browser
def test_keys_answer_and_the_browser_keeps_them(browser, page):
    view = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    errors = []
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("console", lambda message: errors.append(message.text))
    view.goto(page.as_uri())
    for key in ("s", "O", "x", "u", "ArrowLeft", "Backspace"):
        view.keyboard.press(key)
    tiles = view.locator(".cell")
    given = [tiles.nth(k).get_attribute("data-answer") for k in range(5)]
    assert given == ["spherocyte", "other", "excluded", None, None]
    assert view.locator("[aria-current]").get_attribute("data-cell") == "3"
    view.reload()
    assert view.locator("[data-answer].cell").count() == 3
    view.keyboard.press("n")
    assert tiles.nth(30).is_visible() and not tiles.nth(0).is_visible()
    tiles.nth(33).click()
    view.click(".answers [data-answer=unsure]")
    assert tiles.nth(33).get_attribute("data-answer") == "unsure"
    assert not errors


@pytest.mark.browser
def test_answers_are_saved_under_a_name(browser, page):
    view = browser.new_context(accept_downloads=True).new_page()
    view.goto(page.as_uri())
    for key in "soxu":
        view.keyboard.press(key)
    view.click("#save")
    assert view.evaluate("document.activeElement.id") == "reviewer"
    view.keyboard.type("so Zoë/1")  # letters in the name are no answers
    assert view.locator("[data-answer].cell").count() == 4
    with view.expect_download() as waiting:
        view.click("#save")
    saved = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert waiting.value.suggested_filename.endswith("so_Zoë_1.json")
    assert (saved["patient_id"], saved["draw"], saved["seed"]) == ("p 1", "ab12", 7)
    assert saved["reviewer"] == "so Zoë/1"
    assert saved["answers"][1] == {"field_id": "p/2.png", "cell_id": 2, "answer": "other"}
    assert len(saved["answers"]) == 4


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(browser, page, width):
    view = browser.new_context(viewport={"width": width, "height": 844}).new_page()
    view.goto(page.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    bar = view.locator(".bar").bounding_box()
    last = view.locator(".cell:visible").last
    last.focus()
    last.scroll_into_view_if_needed()
    assert bar["height"] < 844 / 3
