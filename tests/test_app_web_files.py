"""The files of the app's page: modules that fit together, nothing from elsewhere, text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[1] / "src" / "spherodetect" / "app" / "web"
MODULES = sorted((WEB / "js").rglob("*.js"))
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)"', re.MULTILINE)
#: Names an XML vocabulary; nothing is fetched from it.
SVG = "http://www.w3.org/2000/svg"


def imports(path: Path) -> list[tuple[Path, str]]:
    """The module and the name of each import."""
    found = IMPORT.findall(path.read_text(encoding="utf-8"))
    return [
        ((path.parent / source).resolve(), name.strip())
        for names, source in found
        for name in names.split(",")
        if name.strip()
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_what_a_module_imports_is_exported(path):
    for module, name in imports(path):
        assert module.is_file(), f"{path.name} imports {module.name}, which is not there"
        assert name in EXPORT.findall(module.read_text(encoding="utf-8")), f"{module.name}: {name}"


def test_nothing_is_exported_in_vain():
    used = {(module, name) for path in MODULES for module, name in imports(path)}
    # `open` of a screen is taken by main.js at run time.
    unused = [
        f"{path.name}: {name}"
        for path in MODULES
        for name in EXPORT.findall(path.read_text(encoding="utf-8"))
        if (path.resolve(), name) not in used and name != "open"
    ]
    assert unused == []


def test_no_file_names_another_place():
    for path in [p for p in WEB.rglob("*") if p.is_file()]:
        text = path.read_text(encoding="utf-8").replace(SVG, "")
        assert not re.search(r"https?://|[\"'(]//|url\(", text), path.name


def test_modules_write_no_markup_and_run_no_text():
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
    for path in MODULES:
        assert not forbidden.search(path.read_text(encoding="utf-8")), path.name


def test_the_page_has_relative_addresses_and_no_inline_code():
    addresses, inline = [], []

    class Page(HTMLParser):
        def handle_starttag(self, tag, attributes):
            given = dict(attributes)
            addresses.extend(given[name] for name in ("src", "href") if name in given)
            inline.extend(name for name in given if name == "style" or name.startswith("on"))
            if tag == "style" or (tag == "script" and "src" not in given):
                inline.append(tag)

    Page().feed((WEB / "index.html").read_text(encoding="utf-8"))
    files = [address for address in addresses if not address.startswith("#")]
    assert files
    assert all((WEB / address.removeprefix("web/")).is_file() for address in files)
    assert inline == []
