"""Every page in a browser: readable at 390 and 1400 px, clean by axe and by the HTML validator."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reporting import a_field, a_score
from spherodetect.report.fhir import FhirContext
from spherodetect.report.index import write_index
from spherodetect.report.patient import write_patient_report
from spherodetect.report.review_page import write_review_page
from test_evaluation_page import page_of, row
from test_report_review_page import cells

pytestmark = pytest.mark.browser

TOOLS = Path(__file__).resolve().parents[1] / "build" / "axe" / "node_modules"
PAGES = ("index", "patient", "review", "evaluation")
CONTEXT = FhirContext("2026-11-28", "2026-11-30T09:00:00+01:00", made_by="Laboratory 1")
#: Texts that are shown with less than 12 pixels, also within scaled drawings.
SMALL = """() => [...document.body.querySelectorAll('*')]
    .filter(e => !['SCRIPT', 'STYLE', 'TITLE'].includes(e.tagName) && e.getClientRects().length)
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .filter(e => {
        const m = e.ownerSVGElement ? e.getScreenCTM() : {a: 1, b: 0};
        return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(m.a, m.b) < 11.9;
    })
    .map(e => e.textContent.trim().slice(0, 40))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in PAGES}
    p = (0.9, 0.8, 0.7, 0.3, 0.2, 0.1) * 20
    fields = [a_field(folder, f"p/{k}.png", p=p) for k in range(2)]
    rejected = a_field(folder, "p/a long name of a field, not to be cut.png", reason="too dense")
    write_patient_report(
        paths["patient"],
        a_score(),
        [*fields, rejected],
        provenance={"model": "small", "sha256 of the graph": "0" * 64},
        unread={"p/9.png": "damaged"},
        notes=["A note."],
        context=CONTEXT,
    )
    scores = [a_score(patient_id=f"patient {k}", n_spherocytes=100 + 20 * k) for k in range(6)]
    rows = [(score, "reports/p.html") for score in scores]
    write_index(paths["index"], rows, problems=["'x.png': damaged"], context=CONTEXT)
    write_review_page(paths["review"], cells(), patient_id="p 1", draw="ab12", seed=7, first=51)
    calls = [("spherocyte", "spherocyte"), ("rbc", "rbc"), ("rbc", "spherocyte")] * 20
    page_of([row(f"p{k}", *call) for k in range(3) for call in calls], folder)
    return paths


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window_and_can_be_read(browser, pages, name, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(pages[name].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SMALL) == []
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_barrier(browser, pages, name):
    file = TOOLS / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip(f"no axe-core at {file}: make test-browser fetches it where npm is installed")
    context = browser.new_context(viewport={"width": 1400, "height": 844}, bypass_csp=True)
    page = context.new_page()
    page.goto(pages[name].as_uri())
    page.evaluate(file.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    context.close()
    assert [(one["id"], [n["target"] for n in one["nodes"]][:3]) for one in found] == []


def test_the_validator_finds_no_error(pages):
    jar = TOOLS / "vnu-jar" / "build" / "dist" / "vnu.jar"
    if not jar.is_file() or not shutil.which("java"):
        pytest.skip(f"no java or no {jar}: make test-browser fetches it where npm is installed")
    command = ["java", "-jar", str(jar), "--format", "json", "--exit-zero-always"]
    done = subprocess.run(
        [*command, *map(str, pages.values())], capture_output=True, check=True, timeout=120
    )
    messages: list[dict[str, Any]] = json.loads(done.stderr)["messages"]
    assert [(m["url"], m["message"]) for m in messages if m["type"] == "error"] == []
