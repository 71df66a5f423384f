"""The page of `spherodetect app` in a browser, with a stand-in of the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app_server import as_reviewer
from app_stub import LABELS, URL, StubApp, disc, object_of

pytestmark = pytest.mark.browser

#: Cells in a row, and a large outline around the first two.
ROW = [object_of(i, disc(60 + 80 * i, 100, 20), doubt=0.1 * i) for i in range(1, 5)]
AROUND = object_of(9, disc(180, 100, 75), area_px=17000.0, doubt=0.0)


@pytest.fixture
def stub() -> StubApp:
    return StubApp([dict(one) for one in [*ROW, AROUND]])


@pytest.fixture
def context(browser: Any, stub: StubApp) -> Iterator[Any]:
    opened = browser.new_context(viewport={"width": 1000, "height": 700})
    opened.set_default_timeout(20000)
    opened.add_init_script(as_reviewer("anna"))
    errors: list[str] = []
    opened.on("weberror", lambda error: errors.append(str(error.error)))
    stub.serve(opened)
    yield opened
    opened.close()
    assert errors == []


def show(context: Any, screen: str) -> Any:
    """A page that shows a screen."""
    page = context.new_page()
    page.goto(f"{URL}#/{screen}")
    page.wait_for_selector(f"main[data-screen={screen.partition('/')[0]}] > *")
    if screen.startswith("field"):
        page.wait_for_selector(".drawing:focus")
    return page


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the photograph lies on the screen: the whole field is shown."""
    box = page.locator(".drawing").bounding_box()
    scale = min(box["width"] / 640, box["height"] / 480)
    left = box["x"] + (box["width"] - 640 * scale) / 2
    top = box["y"] + (box["height"] - 480 * scale) / 2
    return left + x * scale, top + y * scale


def labels(stub: StubApp) -> dict[int, int | None]:
    return {number: one["label"] for number, one in stub.objects.items()}


def saved(page: Any) -> None:
    page.locator("#saved:not(.open)").wait_for()


def test_the_smallest_of_nested_outlines_gets_the_label(context, stub):
    page = show(context, "field/1")
    page.mouse.click(*place(page, 140, 100))
    page.keyboard.press("2")
    saved(page)
    assert labels(stub) == {1: 2, 2: None, 3: None, 4: None, 9: None}
    page.keyboard.press("w")
    saved(page)
    assert labels(stub)[9] == 6, "the enclosing outline is offered as wrong"


def test_letters_in_a_text_field_change_nothing(context, stub):
    page = show(context, "field/1")
    page.mouse.click(*place(page, 140, 100))
    page.locator("header button", has_text="anna").click()
    page.locator("#reviewer").press_sequentially("1x0")
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    assert stub.steps == []
    assert page.locator(".cell h2").inner_text() == "Cell 1"


def test_what_is_done_offline_is_kept_over_a_reload_and_stored_once(context, stub):
    page = show(context, "field/1")
    stub.online = False
    page.mouse.click(*place(page, 140, 100))
    for key in "12x":
        page.keyboard.press(key)
    assert page.locator("#saved").inner_text() == "3 not saved"
    # The page itself comes from the server: it is reloaded once that is there again.
    stub.online = True
    page.reload()
    saved(page)
    assert [step["items"][0]["label"] for step in stub.steps] == [1, 2, 6]
    assert page.evaluate("Object.keys(localStorage).filter(k => k.includes('outbox')).length") == 0


def test_steps_of_two_reviewers_keep_their_names(context, stub):
    stub.online = False
    page = show_offline(context, stub)
    page.keyboard.press("1")
    page.evaluate("import('./web/js/app.js').then(m => m.app.setReviewer('ben'))")
    page.keyboard.press("2")
    stub.online = True
    saved(page)
    assert [step["reviewer"] for step in stub.steps] == ["anna", "ben"]


def show_offline(context: Any, stub: StubApp) -> Any:
    """A page with a chosen cell, whose server went away."""
    stub.online = True
    page = show(context, "field/1")
    page.mouse.click(*place(page, 140, 100))
    stub.online = False
    return page


def test_undo_and_redo_reach_over_screens_and_reloads(context, stub):
    page = show(context, "field/1")
    for x in (140, 220, 300):
        page.mouse.click(*place(page, x, 100))
        page.keyboard.press("2")
    saved(page)
    page.reload()
    page.wait_for_selector(".cell h2")
    page.goto(f"{URL}#/labels")
    page.wait_for_selector("main[data-screen=labels] table")
    for _ in range(2):
        page.keyboard.press("Control+z")
    saved(page)
    assert labels(stub) == {1: 2, 2: None, 3: None, 4: None, 9: None}
    page.keyboard.press("Control+Shift+z")
    saved(page)
    assert labels(stub)[2] == 2
    assert [step["kind"] for step in stub.steps] == ["label"] * 3 + ["undo"] * 2 + ["redo"]


def test_undo_is_shown_before_the_server_answers(context, stub):
    page = show_offline(context, stub)
    for key in ("2", "1", "Control+z"):
        page.keyboard.press(key)
    assert "spherocyte" in page.locator(".cell dl").inner_text()
    page.keyboard.press("Control+Shift+z")
    assert "rbc" in page.locator(".cell dl").inner_text()
    stub.online = True
    saved(page)
    assert labels(stub)[1] == 1


#: Keeps what is drawn and the greatest area that is cleared from now on.
WATCH = """() => { const c = document.querySelector('.drawing');
    const p = CanvasRenderingContext2D.prototype, clear = p.clearRect;
    window.before = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    window.cleared = 0;
    p.clearRect = function (x, y, w, h) {
        window.cleared = Math.max(window.cleared, w * h); clear.call(this, x, y, w, h); }; }"""
#: The box of the pixels that changed, in pixels of the photograph.
CHANGED = """() => { const c = document.querySelector('.drawing'), box = [1e9, 1e9, -1e9, -1e9];
    const now = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const scale = Math.min(c.width / 640, c.height / 480);
    for (let i = 0; i < now.length; i += 1) {
        if (now[i] === window.before[i]) continue;
        const x = ((i >> 2) % c.width - (c.width - 640 * scale) / 2) / scale;
        const y = (Math.floor((i >> 2) / c.width) - (c.height - 480 * scale) / 2) / scale;
        box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
        box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
    }
    return [box, window.cleared / (c.width * c.height)]; }"""


def test_a_change_draws_the_box_of_its_cell_alone(context, stub):
    page = show(context, "field/1")
    page.mouse.click(*place(page, 300, 100))
    page.evaluate(WATCH)
    page.keyboard.press("2")
    (xmin, ymin, xmax, ymax), cleared = page.evaluate(CHANGED)
    assert 260 < xmin < xmax < 340 and 60 < ymin < ymax < 140
    assert cleared < 0.1, "part of the canvas that is drawn again"


def test_the_keyboard_alone_chooses_labels_and_draws(context, stub):
    page = show(context, "field/1")
    page.keyboard.press("Tab")
    assert page.locator(".cell h2").inner_text() == "Cell 4", "the most doubtful first"
    page.keyboard.press("2")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("1")
    saved(page)
    assert labels(stub) == {1: None, 2: 1, 3: None, 4: 2, 9: None}
    page.keyboard.press("d")
    for key in (
        "Enter",
        "ArrowRight",
        "ArrowRight",
        "Enter",
        "ArrowDown",
        "ArrowDown",
        "Enter",
        "Shift+Enter",
    ):
        page.keyboard.press(key)
    saved(page)
    assert stub.steps[-1]["kind"] == "draw"
    assert len(stub.steps[-1]["polygon_xy"]) == 6
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('.panel').contains(document.activeElement)")


def test_a_cut_names_the_outline_that_it_crosses(context, stub):
    page = show(context, "field/1")
    page.keyboard.press("c")
    page.mouse.move(*place(page, 270, 90))
    page.mouse.down()
    page.mouse.move(*place(page, 330, 95), steps=4)
    page.mouse.up()
    saved(page)
    assert stub.steps[-1]["kind"] == "cut"
    assert stub.steps[-1]["object"] == 3


def test_space_hides_the_outlines_while_it_is_held(context, stub):
    page = show(context, "field/1")
    painted = """() => { const c = document.querySelector('.drawing');
        return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v); }"""
    assert page.evaluate(painted)
    page.keyboard.down(" ")
    assert not page.evaluate(painted)
    page.keyboard.up(" ")
    assert page.evaluate(painted)


def test_thousands_of_cards_are_few_elements(context, stub):
    for number in range(100, 5100):
        stub.objects[number] = object_of(number, disc(100, 100, 20))
    page = show(context, "cards")
    page.wait_for_selector(".card")
    assert page.locator(".card").count() < 100
    page.locator(".tiles").evaluate("e => { e.scrollTop = e.scrollHeight; }")
    page.locator(".card[data-at='4990']").wait_for()
    assert page.locator(".card").count() < 100


def test_a_key_labels_the_card_under_the_pointer_or_the_selection(context, stub):
    page = show(context, "cards")
    page.wait_for_selector(".card")
    page.locator(".card").nth(2).hover()
    page.keyboard.press("2")
    saved(page)
    assert labels(stub)[3] == 2
    page.locator(".card").nth(0).click()
    page.locator(".card").nth(1).click(modifiers=["Shift"])
    page.keyboard.press("1")
    saved(page)
    assert labels(stub) == {1: 1, 2: 1, 3: 2, 4: None, 9: None}
    assert len(stub.steps) == 2, "one step for the selection: one undo"


def test_cards_are_dragged_onto_a_label(context, stub):
    page = show(context, "cards")
    page.locator(".card").nth(3).drag_to(page.locator("button.label", has_text="spherocyte"))
    saved(page)
    assert labels(stub)[4] == 2


def test_marks_and_lines_tell_labels_apart_without_colour(context, stub):
    page = show(context, "labels")
    looks = page.evaluate("""async () => { const m = await import('./web/js/palette.js');
        const labels = Array.from({length: 9}, (_, i) => ({id: i, colour: '#000000'}));
        return [...m.looksOf(labels).values()].map(l => [l.mark, JSON.stringify(l.line)]); }""")
    assert len({mark for mark, _ in looks}) == 9
    assert len({line for _, line in looks[:6]}) == 6


def test_a_name_of_markup_stays_text(context, stub, monkeypatch):
    monkeypatch.setitem(LABELS[0], "name", "<img src=x onerror=alert(1)>")
    page = show(context, "field/1")
    assert page.locator("button.label .word").first.inner_text() == LABELS[0]["name"]
    assert page.locator("button.label img").count() == 0


def test_no_request_leaves_the_page_s_own_folder(context, stub):
    left = []
    context.on(
        "request",
        lambda request: left.append(request.url) if not request.url.startswith(URL) else None,
    )
    for screen in ("field/1", "cards", "labels"):
        show(context, screen)
    assert left == []


def test_question_mark_lists_the_keys(context, stub):
    page = show(context, "field/1")
    page.keyboard.press("?")
    text = page.locator("dialog.help").inner_text()
    assert "spherocyte" in text and "next doubtful cell" in text and "undo" in text
    page.keyboard.press("Escape")
    assert page.locator("dialog.help").is_hidden()
