"""Reviews from a results folder and back: pages, answers, scores, and what can go wrong."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect import cli
from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.review import Drawn, apply_review, draw_review, write_lab_rates
from spherodetect.pipeline.review_record import ReviewRecord
from spherodetect.pipeline.run import score_patients
from spherodetect.score.review import review_order

ROWS, COLUMNS, PITCH = 16, 10, 40


class Grid:
    """A detector of drawn grids of cells: dark ones are spherocytes, and p says so with errors."""

    name = "grid"

    def __init__(self, *, identity: str = "grid 1", skip: int = 0) -> None:
        self.identity, self.skip = identity, skip

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        rows, columns = image.shape[0] // PITCH, image.shape[1] // PITCH
        y, x = (np.mgrid[:rows, :columns].reshape(2, -1) + 0.5) * PITCH
        y, x = y[self.skip :], x[self.skip :]
        dark = np.array([image[int(b), int(a), 1] < 120 for a, b in zip(x, y, strict=True)])
        box = np.stack([y - 14, x - 14, y + 14, x + 14], axis=1)
        disk = np.hypot(*np.mgrid[-13.5:14, -13.5:14]) < 14
        cells = Cells.from_labels(box, 1 + dark, [disk] * len(box), image_size_hw=image.shape[:2])
        noise = np.random.default_rng(int(image[0, 0, 0])).normal(size=len(box))
        p = 1 / (1 + np.exp(-(4 * dark - 2 + noise)))
        return replace(cells, p_spherocyte=p.astype(np.float32), rbc_diameter_px=28.0)


GRID = Grid()


def draw_field(path: Path, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((ROWS * PITCH, COLUMNS * PITCH, 3), 225, np.uint8)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = np.hypot(y % PITCH - PITCH / 2, x % PITCH - PITCH / 2) < 14
    cell = (y // PITCH) * COLUMNS + x // PITCH
    dark = (rng.random(ROWS * COLUMNS) < share)[cell]
    image[inside & dark], image[inside & ~dark] = (120, 70, 120), (200, 150, 180)
    image[0, 0] = seed
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="session")
def scored_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    for patient, n_fields, share in (("p1", 3, 0.2), ("p2", 2, 0.1)):
        for k in range(n_fields):
            draw_field(folder / "smears" / patient / f"{k}.png", 20 * n_fields + k, share)
    scored = score_patients(folder / "smears", model=GRID, out=folder / "results")
    assert [s.n_countable for s in scored.scores] == [480, 320]
    return folder


@pytest.fixture
def results(scored_once, tmp_path):
    """Results of two patients: p1 of 3 fields at 20 %, p2 of 2 fields at 10 %."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results"


def drawn(results, folder="pages", **options):
    result = draw_review(results, results.parent / folder, model=GRID, **options)
    return {one.patient_id: one for one in result.drawn}


def rows_of(table):
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def is_dark(results, field_id, x, y):
    image = np.asarray(Image.open(results.parent / "smears" / field_id))
    return image[int(float(y)), int(float(x)), 1] < 120


def fill(results, one, name="filled.csv", *, reviewer="AB", change=None, **style):
    """A filled table, in which the drawn truth answers."""
    rows = rows_of(one.table)
    for row in rows:
        dark = is_dark(results, row["field_id"], row["x_px"], row["y_px"])
        row |= {"answer": "spherocyte" if dark else "other", "reviewer": reviewer}
    if change:
        rows = change(rows) or rows
    path = results.parent / name
    with path.open("w", encoding=style.pop("encoding", "utf-8"), newline="") as file:
        writer = csv.DictWriter(file, list(rows_of(one.table)[0]), **style)
        writer.writeheader()
        writer.writerows(rows)
    return path


def page_data(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text)[1])


def saved_json(results, one, name="saved.json", **changes):
    """What the page saves once the drawn truth has answered."""
    data = page_data(one.page)
    places = {(r["field_id"], int(r["cell_id"])): r for r in rows_of(one.table)}
    answers = []
    for field_id, cell_id in data["cells"]:
        row = places[field_id, cell_id]
        dark = is_dark(results, field_id, row["x_px"], row["y_px"])
        answer = "spherocyte" if dark else "other"
        answers.append({"field_id": field_id, "cell_id": cell_id, "answer": answer})
    saved = {
        "spherodetect_review": 1,
        "patient_id": data["patient_id"],
        "draw": data["draw"],
        "seed": data["seed"],
        "reviewer": "CD",
        "answers": answers,
    } | changes
    path = results.parent / name
    path.write_text(json.dumps(saved), encoding="utf-8")
    return path


def applied(results, *files):
    result = apply_review(results, files, model=GRID)
    return {score.patient_id: score for score in result.scores}, result.problems


def patients_csv(results):
    return {row["patient_id"]: row for row in rows_of(results / "patients.csv")}


# --- The pages. ----------------------------------------------------------------------------------


def test_page_and_table_show_the_same_cells(results):
    pages = drawn(results, cells=60)
    for patient_id, one in pages.items():
        assert (one.first, one.n) == (1, 60)
        rows = rows_of(one.table)
        assert list(rows[0]) == [
            "patient_id", "field_id", "cell_id", "x_px", "y_px", "answer", "reviewer",
        ]  # fmt: skip
        assert {row["patient_id"] for row in rows} == {patient_id}
        assert {row["answer"] + row["reviewer"] for row in rows} == {""}
        shown = [[row["field_id"], int(row["cell_id"])] for row in rows]
        assert page_data(one.page)["cells"] == shown
        assert one.page.read_text().count("data:image/jpeg") == 60


def test_the_page_is_blind_and_shuffled_inside_batches(results):
    one = drawn(results, cells=75, patients=["p1"])["p1"]
    text, data = one.page.read_text(encoding="utf-8"), page_data(one.page)
    record = ReviewRecord.open(results, "p1")
    keys = [f"{field_id}#{cell_id}" for field_id, cell_id in data["cells"]]
    order = [record.draw.ids[i] for i in review_order(record.draw.p, record.draw.ids, 1)]
    assert record.draw.order == order
    assert set(keys[:50]) == set(order[:50]) and set(keys[50:]) == set(order[50:75])
    assert keys[:50] != order[:50]
    assert set(data) == {
        "patient_id", "draw", "seed", "first", "file", "answers", "cells",
    }  # fmt: skip
    for cell in record.draw.cells:
        assert f"{cell.p:.4f}"[1:] not in text
    assert not re.search(r"p_spherocyte|strat|confidence|class_name", text)


def test_the_page_needs_nothing_from_outside(results):
    text = drawn(results, cells=50, patients=["p1"])["p1"].page.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "://" not in text


def test_a_second_draw_goes_on_where_the_first_ended(results):
    first = drawn(results, cells=50, patients=["p1"])["p1"]
    second = drawn(results, "more", cells=30, patients=["p1"])["p1"]
    assert (second.first, second.n) == (51, 30)
    keys = [
        [f"{r['field_id']}#{r['cell_id']}" for r in rows_of(one.table)] for one in (first, second)
    ]
    order = ReviewRecord.open(results, "p1").draw.order
    assert set(keys[0]) == set(order[:50]) and set(keys[1]) == set(order[50:80])


def test_the_seed_decides_the_cells(results):
    tables = []
    for seed in (1, 2):
        (results / "reviews" / "p1.jsonl").unlink(missing_ok=True)
        one = drawn(results, f"seed {seed}", seed=seed, cells=50, patients=["p1"])["p1"]
        tables.append(one.table.read_text())
    assert tables[0] != tables[1]
    again = draw_review(results, results.parent / "x", seed=1, patients=["p1"], model=GRID)
    assert "seed 2" in again.problems[0] and not again.drawn


def test_few_cells_are_all_drawn(tmp_path):
    draw_field(tmp_path / "smears" / "small" / "1.png", 3, 0.3)
    results = tmp_path / "results"
    score_patients(tmp_path / "smears", model=GRID, out=results)
    one = drawn(results, cells=200)["small"]
    assert one.n == 160
    again = draw_review(results, tmp_path / "again", model=GRID)
    assert not again.drawn and "160" in again.complete[0]


@pytest.mark.parametrize(
    ("options", "match"), [({"patients": ["p9"]}, "p9"), ({"seed": 1, "model": None}, "detector")]
)
def test_what_cannot_be_drawn_is_refused(results, options, match):
    with pytest.raises(SpherodetectError, match=match):
        draw_review(results, results.parent / "x", **({"model": GRID} | options))


def test_fewer_cells_than_a_first_batch_are_refused(results):
    result = draw_review(results, results.parent / "x", cells=20, patients=["p1"], model=GRID)
    assert "50" in result.problems[0] and not result.drawn


def test_a_page_is_never_overwritten(results):
    page = drawn(results, cells=50, patients=["p1"])["p1"].page
    before = page.read_bytes()
    with pytest.raises(SpherodetectError, match=r"review\.html"):
        drawn(results, cells=50, patients=["p1"])
    assert page.read_bytes() == before


def test_results_of_something_else_are_refused(tmp_path):
    with pytest.raises(SpherodetectError, match="score"):
        draw_review(tmp_path, tmp_path / "x", model=GRID)


def test_a_hostile_name_stays_text(tmp_path):
    name = "<img src=x onerror=alert(1)>&'"
    draw_field(tmp_path / "smears" / name / "</script>.png" / "1.png", 3, 0.3)
    results = tmp_path / "results"
    score_patients(tmp_path / "smears", model=GRID, out=results)
    (one,) = drawn(results, cells=50).values()
    assert one.page.parent.parent == results.parent / "pages"
    text = one.page.read_text(encoding="utf-8")
    assert "<img src=x" not in text and text.count("</script>") == 2
    assert page_data(one.page)["patient_id"] == name
    score, problems = applied(results, saved_json(results, one))
    assert score[name].basis == "reviewed" and not problems


# --- Answers. ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_answers_become_the_score(results, kind):
    one = drawn(results, cells=100, patients=["p1"])["p1"]
    before = patients_csv(results)
    scores, problems = applied(results, (fill if kind == "csv" else saved_json)(results, one))
    score = scores["p1"]
    assert not problems
    assert (score.basis, score.n_reviewed, score.status) == ("reviewed", 100, "low_confidence")
    truth = 100 * np.mean(
        [is_dark(results, f"p1/{k}.png", PITCH * (c + 0.5), PITCH * (r + 0.5))
         for k in range(3) for r in range(ROWS) for c in range(COLUMNS)]
    )  # fmt: skip
    assert score.hs_score_low < truth < score.hs_score_high
    assert score.hs_score == pytest.approx(truth, abs=4)
    after = patients_csv(results)
    assert after["p2"] == before["p2"]
    for name in ("model_score", "model_score_low", "model_score_high"):
        assert after["p1"][name] == before["p1"][name.replace("model", "hs")]
    assert (after["p1"]["basis"], after["p1"]["n_reviewed"]) == ("reviewed", "100")
    report = (results / "reports" / "p1.html").read_text(encoding="utf-8")
    assert ("AB" if kind == "csv" else "CD") in report and "Cells reviewed" in report
    assert "100 reviewed" in (results / "index.html").read_text(encoding="utf-8")
    observation = json.loads((results / "fhir" / "p1.json").read_text())
    assert "100 cells" in observation["method"]["text"]


def test_scoring_again_keeps_the_review(results):
    one = drawn(results, cells=100, patients=["p1"])["p1"]
    scores, _ = applied(results, fill(results, one))
    again = score_patients(results.parent / "smears", model=GRID, out=results)
    assert again.scores[0] == scores["p1"] and not again.problems


@pytest.mark.parametrize(
    "style",
    [
        {"encoding": "utf-8-sig", "delimiter": ";"},
        {"encoding": "utf-16", "delimiter": "\t"},
        {"lineterminator": "\r\n", "quoting": csv.QUOTE_ALL},
    ],
)
def test_tables_as_excel_writes_them(results, style):
    def change(rows):
        for number, row in enumerate(rows):
            row["x_px"] = row["x_px"].replace(".", ",") if style.get("delimiter") else row["x_px"]
            row["reviewer"] = "Zoë" if number == 0 else ""
            row["answer"] = row["answer"].upper() if number % 2 else row["answer"][0]

    one = drawn(results, cells=50, patients=["p1"])["p1"]
    scores, problems = applied(results, fill(results, one, change=change, **style))
    assert scores["p1"].n_reviewed == 50 and not problems
    assert "Zoë" in (results / "reports" / "p1.html").read_text(encoding="utf-8")


def test_an_incomplete_batch_does_not_count(results):
    def change(rows):
        for row in rows[-3:]:
            row["answer"] = ""

    one = drawn(results, cells=100, patients=["p1"])["p1"]
    partly = fill(results, one, "partly.csv", change=change)
    scores, problems = applied(results, partly)
    assert scores["p1"].n_reviewed == 75
    assert len(problems) == 1 and "3 of the 25" in problems[0] and "first 75" in problems[0]
    scores, problems = applied(results, fill(results, one, "all.csv"))
    assert scores["p1"].n_reviewed == 100 and not problems


def test_an_incomplete_first_batch_leaves_the_model_s_score(results):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    scores, problems = applied(results, fill(results, one, change=lambda rows: rows[1:]))
    assert scores["p1"].basis == "model" and "1 of the 50" in problems[0]


def test_a_file_applied_twice_changes_nothing(results):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    path = fill(results, one)
    scores, _ = applied(results, path)
    record = (results / "reviews" / "p1.jsonl").read_bytes()
    again, problems = applied(results, path, path)
    assert again == scores and not problems
    assert (results / "reviews" / "p1.jsonl").read_bytes() == record


def test_two_reviewers_are_compared(results):
    def differs(rows):
        for row in rows[:6]:
            row["answer"] = "other" if row["answer"] == "spherocyte" else "spherocyte"

    one = drawn(results, cells=100, patients=["p1"])["p1"]
    alone, _ = applied(results, fill(results, one, "ab.csv"))
    second = fill(results, one, "cd.csv", reviewer="CD", change=differs)
    both, problems = applied(results, second)
    assert not problems and both["p1"].n_reviewed == 100
    assert both["p1"].hs_score_high > alone["p1"].hs_score_high
    report = (results / "reports" / "p1.html").read_text(encoding="utf-8")
    assert "AB and CD" in report and "kappa" in report and "6 of 100" in report


def test_unsure_and_excluded_answers_are_reported(results):
    def change(rows):
        for row in rows[:5]:
            row["answer"] = "unsure"
        for row in rows[5:9]:
            row["answer"] = "excluded"

    one = drawn(results, cells=60, patients=["p1"])["p1"]
    scores, _ = applied(results, fill(results, one, change=change))
    assert scores["p1"].n_reviewed == 60
    report = (results / "reports" / "p1.html").read_text(encoding="utf-8")
    assert "5 unsure" in report and "4 not a single whole red cell" in report


def _set(row_number, **changes):
    def change(rows):
        rows[row_number] |= changes

    return change


def _duplicate(answer):
    def change(rows):
        return [*rows, rows[0] | {"answer": answer or rows[0]["answer"]}]

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set(4, cell_id="999"), "not in this run"),
        (_set(4, field_id="p1/other.png"), "not in this run"),
        (_set(4, answer="maybe"), "maybe"),
        (_set(4, x_px="3.0"), "changed"),
        (_set(4, patient_id="p7"), "p7"),
        (_duplicate("unsure"), "unsure"),
        (lambda rows: [row | {"reviewer": ""} for row in rows], "reviewer"),
        (lambda rows: [row | {"answer": ""} for row in rows], "answer"),
    ],
)
def test_answers_that_cannot_be_are_one_sentence(results, change, match):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    path = fill(results, one, change=change)
    before = path.read_bytes()
    try:
        scores, problems = applied(results, path)
    except SpherodetectError as error:
        problems = [str(error)]
    else:
        assert scores["p1"].basis == "model"
    assert match in problems[0] and path.name in problems[0] and "\n" not in problems[0]
    assert path.read_bytes() == before
    assert patients_csv(results)["p1"]["basis"] == "model"


def test_the_same_line_twice_is_one_answer(results):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    scores, problems = applied(results, fill(results, one, change=_duplicate("")))
    assert scores["p1"].n_reviewed == 50 and not problems


def test_another_answer_by_the_same_reviewer_is_refused(results):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    applied(results, fill(results, one, "first.csv"))
    with pytest.raises(SpherodetectError, match=r"second\.csv.*AB"):
        applied(results, fill(results, one, "second.csv", change=_set(4, answer="unsure")))
    assert patients_csv(results)["p1"]["n_reviewed"] == "50"


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"draw": "0" * 16}, "another seed"), ({"patient_id": "p2"}, "no review"),
     ({"reviewer": " "}, "reviewer"), ({"answers": 3}, "page"),
     ({"spherodetect_review": 9}, "page")],
)  # fmt: skip
def test_saved_answers_of_something_else_are_refused(results, changes, match):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    with pytest.raises(SpherodetectError, match=match):
        applied(results, saved_json(results, one, **changes))


def test_cells_of_another_seed_are_refused(results):
    one = drawn(results, cells=100, patients=["p1"])["p1"]
    path = fill(results, one)
    (results / "reviews" / "p1.jsonl").unlink()
    drawn(results, "again", seed=2, cells=100, patients=["p1"])
    with pytest.raises(SpherodetectError, match="another seed"):
        applied(results, path)


def test_good_answers_are_taken_in_beside_bad_ones(results):
    pages = drawn(results, cells=50)
    bad = fill(results, pages["p1"], "bad.csv", change=_set(0, answer="maybe"))
    scores, problems = applied(results, bad, fill(results, pages["p2"], "good.csv"))
    assert (scores["p1"].basis, scores["p2"].basis) == ("model", "reviewed")
    assert len(problems) == 1 and "bad.csv" in problems[0]


def test_a_table_without_its_header_is_refused(results):
    path = results.parent / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SpherodetectError, match=r"table\.csv.*patient_id"):
        applied(results, path)


def test_the_command_line_draws_and_applies(results, monkeypatch, capsys):
    """The commands of the README; the results were made by a detector that stands in for a model
    folder."""
    run = results / ".spherodetect" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"own_detector": False}))
    monkeypatch.setattr("spherodetect.pipeline.review_draw.as_detector", lambda model: GRID)
    monkeypatch.chdir(results.parent)
    assert cli.main(["review", "results", "--draw", "pages", "--cells", "60"]) == 0
    assert capsys.readouterr().out.count("60 cells on pages") == 2
    one = Drawn("p1", Path("pages/p1/review.html"), Path("pages/p1/review.csv"), 1, 60)
    fill(results, one, "answers.csv")
    assert cli.main(["review", "results", "--apply", "answers.csv"]) == 0
    out = capsys.readouterr().out
    assert "model alone" in out and "results/index.html" in out
    assert patients_csv(results)["p1"]["basis"] == "reviewed"
    assert cli.main(["review", "results", "--apply", "answers.csv", "--cells", "60"]) == 2
    assert cli.main(["review", "results", "--rates", "LAB.json"]) == 2
    assert "3 reviewed" in capsys.readouterr().err


# --- A run that changed. -------------------------------------------------------------------------


def test_a_run_that_changed_does_not_count_the_review(results):
    one = drawn(results, cells=100, patients=["p1"])["p1"]
    applied(results, fill(results, one))
    draw_field(results.parent / "smears" / "p1" / "new.png", 77, 0.2)
    again = score_patients(results.parent / "smears", model=GRID, out=results)
    assert again.scores[0].basis == "model"
    assert "changed" in again.problems[0] and "p1" in again.problems[0]
    # Drawn anew, the answers about the same cells are used, and only the others are shown.
    more = drawn(results, "more", cells=100, patients=["p1"])["p1"]
    assert 0 < more.n < 100
    scores, problems = applied(results, fill(results, more, "more.csv"))
    assert (scores["p1"].basis, scores["p1"].n_reviewed) == ("reviewed", 100)
    assert not problems


def test_other_probabilities_change_nothing(results, monkeypatch):
    """The draw keeps the probabilities that it was made with."""
    one = drawn(results, cells=100, patients=["p1"])["p1"]
    scores, _ = applied(results, fill(results, one))

    class Other(Grid):
        def detect(self, image, um_per_px=None):
            cells = super().detect(image, um_per_px)
            return replace(cells, p_spherocyte=cells.p_spherocyte / 2)

    again = score_patients(results.parent / "smears", model=Other(identity="2"), out=results)
    assert again.scores[0].basis == "reviewed"
    assert again.scores[0].hs_score == scores["p1"].hs_score


def test_a_record_survives_a_crash_and_a_damaged_line_is_named(results):
    one = drawn(results, cells=50, patients=["p1"])["p1"]
    path = results / "reviews" / "p1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "answers", "rev')
    scores, problems = applied(results, fill(results, one))
    assert scores["p1"].n_reviewed == 50 and not problems
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(SpherodetectError, match=r"p1\.jsonl.*line 1"):
        draw_review(results, results.parent / "x", model=GRID, patients=["p1"])
    again = score_patients(results.parent / "smears", model=GRID, out=results)
    assert again.scores[0].basis == "model" and "p1.jsonl" in again.problems[0]


# --- The width, pseudonyms and rates. -------------------------------------------------------------


def test_a_width_is_reached_by_going_on(results):
    files, looks = [], 0
    while looks < 8:
        result = draw_review(
            results, results.parent / f"w{looks}", width=8, patients=["p1"], model=GRID
        )
        if not result.drawn:
            break
        files.append(fill(results, result.drawn[0], f"w{looks}.csv"))
        applied(results, files[-1])
        looks += 1
    assert "complete" in result.complete[0] and len(files) >= 2
    record = ReviewRecord.open(results, "p1")
    assert record.batches[0] == 50 and record.complete("AB") == record.shown


def test_going_on_by_width_needs_the_answers(results):
    drawn(results, width=10, patients=["p1"])
    again = draw_review(results, results.parent / "x", width=10, patients=["p1"], model=GRID)
    assert "50" in again.problems[0] and not again.drawn


def test_pseudonymised_results_are_reviewed_without_names(tmp_path):
    for k in range(4):
        draw_field(tmp_path / "smears" / "Jane Doe" / f"{k}.png", k, 0.2)
    results = tmp_path / "results"
    score_patients(tmp_path / "smears", model=GRID, out=results, pseudonymise=True)
    one = drawn(results, cells=50)["patient_001"]
    for file in [*results.rglob("*"), *one.page.parent.iterdir()]:
        if file.is_file() and file.name != "pseudonym_key.csv":
            assert b"Jane Doe" not in file.read_bytes(), file
    rows = rows_of(one.table)
    for row in rows:
        row |= {"answer": "other", "reviewer": "AB"}
    path = tmp_path / "filled.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    scores, problems = applied(results, path)
    assert scores["patient_001"].basis == "reviewed" and not problems


@pytest.mark.slow
def test_rates_of_a_laboratory(tmp_path):
    for patient in range(3):
        for k in range(3):
            share = 0.1 + 0.1 * patient
            draw_field(tmp_path / "smears" / f"p{patient}" / f"{k}.png", 10 * patient + k, share)
    results, lab = tmp_path / "results", tmp_path / "our lab.json"
    score_patients(tmp_path / "smears", model=GRID, out=results)
    pages = drawn(results, cells=60)
    files = [fill(results, one, f"{name}.csv") for name, one in pages.items()]
    applied(results, *files[:2])
    with pytest.raises(SpherodetectError, match="3 reviewed"):
        write_lab_rates(results, lab, model=GRID)
    applied(results, files[2])
    assert write_lab_rates(results, lab, model=GRID) == 3
    text = lab.read_text()
    assert "p0" not in text and "AB" not in text

    (one,) = score_patients(tmp_path / "smears" / "p1", model=GRID, rates=lab).scores
    assert "our lab" in one.model and one.basis == "model"
    assert one.hs_score_low < one.hs_score < one.hs_score_high
    # The calibration moves probabilities and classes; the review of the same cells still counts.
    again = score_patients(tmp_path / "smears", model=GRID, out=results, rates=lab)
    assert {score.basis for score in again.scores} == {"reviewed"} and not again.problems
    assert "our lab" in (results / "reports" / "p1.html").read_text()
