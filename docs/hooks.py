"""Hooks of MkDocs: pages from texts of the repository, computed examples, check of public names.

README.md, the notebooks and other texts of the repository become pages, and their links are
adapted, so that no text exists twice. A public name that has no docstring or is on no page gives a
warning. `strict` in mkdocs.yml turns warnings into errors.
"""

from __future__ import annotations

import json
import logging
import re
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

logger = logging.getLogger("mkdocs.hooks")

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "src" / "spherodetect" / "models" / "bundled"
#: Page or file of the site -> its source in the repository.
TEXTS = {
    "index.md": ROOT / "README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "results.md": ROOT / "experiments" / "README.md",
    "recipes.md": ROOT / "tfrecords" / "README.md",
    "serving.md": ROOT / "serving" / "README.md",
    "model-card.md": BUNDLED / "MODEL_CARD.md",
    "LICENSE.txt": ROOT / "LICENSE",
    "CITATION.txt": ROOT / "CITATION.cff",
    "figures/coverage.png": ROOT / "experiments" / "coverage.png",
    "figures/reviewed.png": ROOT / "experiments" / "reviewed.png",
}
#: Notebooks, which become pages of the same names.
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Modules whose names are public. The names of other modules are private.
PUBLIC = (
    "cells", "cells_file", "cohort.score", "corrections", "detect.detector", "detect.identity",
    "detect.model",
    "errors", "evaluation.run", "examined", "fields.field", "fields.find", "fields.image",
    "graph.serving", "labels", "labels.check.lint", "labels.draft", "labels.draft_text",
    "labels.example", "labels.repair.masks",
    "measure", "photograph", "pipeline.examine", "pipeline.patient", "pipeline.review",
    "pipeline.run", "pipeline.store", "quality", "records.builder", "records.tfrecords",
    "records.view",
    "report.crops", "report.fhir", "report.index", "report.interop", "report.overlays",
    "report.patient", "report.results", "report.status_text", "report.tables",
    "scale.file_metadata", "scale.find", "score.blank", "score.counts", "score.grades",
    "score.lab_rates", "score.patient_review", "score.rates", "score.readers", "score.review",
    "score.review_draw", "score.review_plan", "score.stratified", "segment", "synthetic",
    "training.api", "training.curves", "training.experiment", "training.export", "training.run",
    "training.stock",
)  # fmt: skip
_DOCTEST = re.compile(r"^>>>.*\n(?:(?!\s*$).*\n?)*", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


class Doctests(griffe.Extension):
    """Turns the examples of docstrings into code blocks, without the comments for doctest."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(_fenced, f"{obj.docstring.value}\n").rstrip()


def _fenced(example: re.Match[str]) -> str:
    lines = re.sub(r"\s*# doctest:.*", "", example[0]).rstrip()
    return f"```pycon\n{lines}\n```\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the repository's own texts to the pages."""
    for uri, path in TEXTS.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in NOTEBOOKS:
        page = notebook_page(json.loads(path.read_text(encoding="utf-8")), path.name)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        files.append(
            File.generated(config, f"notebooks/{path.name}", content=path.read_text("utf-8"))
        )
    return files


def notebook_page(notebook: Mapping[str, Any], name: str) -> str:
    """A notebook as Markdown: its texts, and its code as blocks; the address of its file."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    title, *rest = parts
    return "\n\n".join([title, f"[The notebook as a file]({name}){{ download }}", *rest]) + "\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with its links adapted, and computed values in place of `{{ name }}`."""
    source = TEXTS.get(page.file.src_uri)
    if source:
        return _LINK.sub(lambda link: _address(source.parent / link[1]), markdown)
    facts = {**worked_example(), **interfaces()} if "{{" in markdown else {}
    return re.sub(r"\{\{ ?(\w+) ?\}\}", lambda name: facts[name[1]], markdown)


def _address(path: Path) -> str:
    """The address on the site of a file of the repository."""
    path = path.resolve()
    uris = {source.resolve(): uri for uri, source in TEXTS.items()}
    docs = ROOT / "docs"
    base = docs if path.is_relative_to(docs) else ROOT
    return uris.get(path) or path.relative_to(base).as_posix()


def worked_example() -> dict[str, str]:
    """The figures of the example in hs-score.md, computed with the bundled model's error rates."""
    from spherodetect.score.blank import limit_of_blank
    from spherodetect.score.counts import more_fields_needed, score_counts
    from spherodetect.score.rates import ClassifierRates

    rates = ClassifierRates.from_model_json(json.loads((BUNDLED / "model.json").read_text()))
    spherocytes, countable = [12, 15, 9, 14, 11, 13, 10, 16, 12, 11, 14, 13], [95] * 12
    by_model = score_counts(spherocytes, countable, model=rates, patient_id="by the model")
    by_hand = score_counts(spherocytes, countable, patient_id="by hand")
    sensitivity, specificity = rates.table[:, 0].mean(), rates.table[:, 1].mean()
    share = sum(spherocytes) / sum(countable)
    more = more_fields_needed(spherocytes, countable, model=rates)
    return {
        "counts": ", ".join(map(str, spherocytes)),
        "countable": str(countable[0]),
        "n": f"{by_model.n_countable:,}",
        "called": str(by_model.n_spherocytes),
        "share": f"{share:.4f}",
        "raw": f"{by_model.raw_percent:.1f}",
        "se": f"{sensitivity:.4f}",
        "sp": f"{specificity:.4f}",
        "corrected": f"{(share + specificity - 1) / (sensitivity + specificity - 1):.4f}",
        "score": f"{by_model.hs_score:.1f}",
        "low": f"{by_model.hs_score_low:.1f}",
        "high": f"{by_model.hs_score_high:.1f}",
        "status": by_model.status,
        "printed": _wrapped(str(by_model), str(by_hand)),
        "hand_low": f"{by_hand.hs_score_low:.1f}",
        "hand_high": f"{by_hand.hs_score_high:.1f}",
        "blank": f"{limit_of_blank(by_model.n_countable, model=rates):.1f}",
        "more": "no number of further fields" if more is None else f"{more} more fields",
        "model": rates.name,
    }


def interfaces() -> dict[str, str]:
    """The computed parts of formats.md: usage of each command, statuses in the order of codes."""
    from spherodetect.cli import parser
    from spherodetect.score.counts import STATUSES

    (commands,) = (action.choices for action in parser()._actions if action.dest == "command")
    usages = (" ".join(one.format_usage().split()) for one in commands.values())
    return {
        "commands": _wrapped(
            *(usage.removeprefix("usage: ").replace(" [-h]", "") for usage in usages)
        ),
        "statuses": ", ".join(f"{code} `{name}`" for code, name in enumerate(STATUSES)),
    }


def _wrapped(*lines: str) -> str:
    return "\n".join(
        textwrap.fill(line, 78, subsequent_indent="    ", break_on_hyphens=False) for line in lines
    )


def on_post_build(config: Any) -> None:
    """Warn of each public name that has no docstring or is on no page."""
    package = griffe.load("spherodetect", search_paths=[str(ROOT / "src")], allow_inspection=False)
    shown = shown_names(Path(config["site_dir"], "objects.inv"))
    for name, documented in sorted(set(public_names(package))):
        if not documented:
            logger.warning("%s: a public name without a docstring", name)
        elif name not in shown:
            logger.warning("%s: a public name that no page shows", name)


def public_names(package: Any) -> Iterator[tuple[str, bool]]:
    """Yield each public function, class and method: its full name, and whether it has a docstring.

    The full name is that of the module which defines it.
    """
    # Attribute access is not possible: the functions `measure` and `segment` of the package hide
    # the modules of these names.
    modules = [package, *(package.modules_collection[f"{package.path}.{name}"] for name in PUBLIC)]
    for module in modules:
        for name, member in module.members.items():
            listed = module.exports is not None and name in module.exports
            own = not name.startswith("_") and not member.is_alias
            if listed or (module.exports is None and own):
                yield from _documented(member.final_target if member.is_alias else member)


def _documented(thing: Any) -> Iterator[tuple[str, bool]]:
    if thing.is_function or thing.is_class or "property" in thing.labels:
        yield thing.path, bool(thing.docstring)
    if thing.is_class:
        for name, member in thing.members.items():
            if not name.startswith("_") and not member.is_alias:
                yield from _documented(member)


def shown_names(inventory: Path) -> set[str]:
    """The names that have a place on the site, read from its Sphinx inventory."""
    lines = zlib.decompress(inventory.read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    return {line.split()[0] for line in lines}
