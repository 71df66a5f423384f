"""The documentation: the site builds, has every public name and column, and fetches nothing.

Also tests the figures and CITATION.cff.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml
from PIL import Image

import spherodetect
from spherodetect.labels.check.lint import CODES
from spherodetect.report import tables
from spherodetect.score.counts import RESEARCH_USE, STATUSES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
pytest.importorskip("mkdocstrings", reason="the extra [docs] is not installed")


def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(root: Path, site: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def words(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_every_page_builds_and_says_research_use_only(site):
    pages = [p for p in site.rglob("*.html") if p.name != "404.html"]
    assert len(pages) >= 20
    assert not [p.name for p in pages if RESEARCH_USE not in words(p)]


def test_every_public_name_of_the_package_is_on_its_page(site):
    shown = hooks().shown_names(site / "objects.inv")
    names = (getattr(spherodetect, name) for name in spherodetect.__all__)
    assert {f"{value.__module__}.{value.__qualname__}" for value in names} <= shown
    listed = words(site / "api" / "index.html")
    assert not [name for name in spherodetect.__all__ if name not in listed]


def test_a_public_name_without_a_docstring_is_found(tmp_path):
    import griffe

    code = [
        '"""A package."""',
        "def plain(): ...",
        "class Documented:",
        '    """A class."""',
        "    def method(self): ...",
        "    _private = 1",
    ]
    folder = tmp_path / "example"
    folder.mkdir()
    (folder / "__init__.py").write_text("\n".join(code) + "\n")
    package = griffe.load("example", search_paths=[str(tmp_path)], allow_inspection=False)
    hook = hooks()
    hook.PUBLIC = ()
    assert dict(hook.public_names(package)) == {
        "example.plain": False,
        "example.Documented": True,
        "example.Documented.method": False,
    }


@pytest.mark.slow
def test_a_broken_link_or_a_lost_name_fails_the_build(tmp_path):
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "experiments", "tfrecords", "serving", "notebooks", "src"):
        # tfrecords/records holds shards; src/spherodetect/records is a package.
        left_out = ("__pycache__", *(["records"] if name == "tfrecords" else []))
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns(*left_out))
    page, api = tmp_path / "docs" / "hs-score.md", tmp_path / "docs" / "api" / "quality.md"
    page.write_text(
        page.read_text().replace("(model-card.md", "(modelcard.md") + "\n[lost](nowhere.md)\n"
    )
    api.write_text("# Quality\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert "spherodetect.quality.field.assess: a public name that no page shows" in done.stderr


def test_the_site_fetches_nothing(site):
    fetched = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//""")
    assert not [
        p.name for p in site.rglob("*.html") if fetched.search(p.read_text(encoding="utf-8"))
    ]
    assert not [
        p.name
        for p in site.rglob("*.css")
        if re.search(r"url\(['\"]?(?:https?:)?//", p.read_text())
    ]


@pytest.mark.browser
def test_the_search_works_on_pages_that_are_opened_as_files(site):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    found = []
    for query in ("sphericity", "limit of blank"):
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        address = f"{(site / 'index.html').as_uri()}?q={quote(query)}"
        done = subprocess.run(
            [*command, "--virtual-time-budget=20000", address],
            capture_output=True,
            text=True,
            timeout=300,
        )
        links = re.findall(r'<a href="([^"?#]+)[^>]*md-search-result__link', done.stdout)
        found.append(set(links))
    nothing, pages = found
    assert not nothing and any(page.endswith("hs-score.html") for page in pages), found


def test_the_notebooks_are_pages_and_files(site):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        page = words(site / "notebooks" / f"{path.stem}.html")
        title = json.loads(path.read_text())["cells"][0]["source"][0].lstrip("# ").strip()
        assert title in page and "import os" in page
        assert (site / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_formats_name_every_column_and_command(site):
    page = words(site / "formats.html")
    columns = {
        **tables.PATIENT_COLUMNS,
        **tables.CELL_COLUMNS,
        **tables.QUALITY_COLUMNS,
        **tables.COUNT_COLUMNS,
    }
    assert not [name for name in (*columns, *tables.OBJECT_COLUMNS, *STATUSES) if name not in page]
    assert "spherodetect score --out DIR" in page


def test_the_trap_page_has_every_finding_of_lint(site):
    page = words(site / "label-traps.html")
    assert not [code for code in CODES if code not in page]


def test_the_worked_example_is_computed(site):
    page, facts = " ".join(words(site / "hs-score.html").split()), hooks().worked_example()
    assert "{{" not in page
    assert f"{facts['called']} of {facts['n']}" in page
    assert f"the HS score is {facts['score']} %" in page
    assert float(facts["corrected"]) == pytest.approx(float(facts["score"]) / 100, abs=0.0006)
    assert float(facts["low"]) < float(facts["score"]) < float(facts["high"])


def test_no_page_calls_anybody_positive(site):
    for page in site.rglob("*.html"):
        assert not re.search(
            r"\bHS[- ]positive\b|\bdiagnosed with\b", words(page), re.IGNORECASE
        ), page.name


def test_the_citation_says_what_the_package_says():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    required = {"cff-version", "message", "title", "authors"}
    assert required <= set(said)
    assert (said["cff-version"], said["type"], said["license"]) == (
        "1.2.0",
        "software",
        "Apache-2.0",
    )
    assert said["version"] == spherodetect.__version__
    assert said["authors"] == [{"name": "The spherodetect developers"}]


def test_the_pictures_are_there_and_of_a_size_to_be_read():
    names = ["overview.png", "traps.png", "repair.png", "report.png", "review.png"]
    shown = re.findall(r"figures/(app-[a-z]+\.png)", (DOCS / "app.md").read_text())
    assert len(shown) == 4
    for name in [*names, *shown]:
        with Image.open(DOCS / "figures" / name) as picture:
            assert picture.width >= 900
            assert not picture.info.get("Software")
        assert (DOCS / "figures" / name).stat().st_size < 1_000_000
    assert "docs/figures.py" in (ROOT / "Makefile").read_text()
    assert "docs/figures/overview.png" in (ROOT / "README.md").read_text()


def test_the_score_of_the_first_figure_is_drawn_with_its_interval():
    pytest.importorskip("matplotlib")
    figures = runpy.run_path(str(DOCS / "figures.py"))
    figures["use_style"]()
    score = spherodetect.score_counts([9, 12, 10] * 4, [90] * 12)
    axis = figures["_panels"](2)[1][0]
    figures["_score"](axis, score)
    texts = [text.get_text() for text in axis.texts]
    assert "11.5 %" in texts and "95 % interval 9.5 to 13.7 %" in texts
    widths = [np.ptp(line.get_xdata()) for line in axis.lines if line.get_linewidth() == 4]
    # The scale ends at 25 %.
    assert widths == [pytest.approx(100 * (score.hs_score_high - score.hs_score_low) / 25)]


def test_the_same_field_gives_the_same_picture(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "import runpy, sys; from pathlib import Path;"
        f"figures = runpy.run_path({str(DOCS / 'figures.py')!r});"
        "figures['use_style'](); [figures['traps'](Path(p)) for p in sys.argv[1:]]"
    )
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, timeout=120)
    assert paths[0].read_bytes() == paths[1].read_bytes()
