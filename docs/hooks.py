"""What the site is built with beside its pages: the repository's own texts, computed examples, and
a check of names.

README.md and its like become pages, links between them included, so that nothing is told twice. A
public name without a docstring, or that no page shows, is a warning, which fails the build.
"""

from __future__ import annotations

import json
import logging
import re
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

logger = logging.getLogger("mkdocs.hooks")

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "src" / "spherodetect" / "models" / "bundled"
#: Page or file of the site -> where the repository has it.
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
#: The rooms whose names other people may use; of the others only what these give them.
PUBLIC = (
    "cells", "cells_file", "corrections", "detect.detector", "detect.identity", "detect.model",
    "errors", "evaluation.run", "examined", "fields.field", "fields.find", "fields.image",
    "graph.serving", "labels", "labels.check.lint", "labels.example", "labels.repair.masks",
    "measure", "photograph", "pipeline.examine", "pipeline.patient", "pipeline.review",
    "pipeline.run", "pipeline.store", "quality", "records.tfrecords", "records.view",
    "report.crops", "report.fhir", "report.index", "report.interop", "report.overlays",
    "report.patient", "report.results", "report.status_text", "report.tables",
    "scale.file_metadata", "scale.find", "score.blank", "score.counts", "score.grades",
    "score.lab_rates", "score.patient_review", "score.rates", "score.readers", "score.review",
    "score.review_draw", "score.review_plan", "score.stratified", "segment", "synthetic",
    "training.curves", "training.experiment", "training.export", "training.run", "training.stock",
)  # fmt: skip
_DOCTEST = re.compile(r"^>>>.*\n(?:(?!\s*$).*\n?)*", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


class Doctests(griffe.Extension):
    """Examples of docstrings as code, wherever they stand, without what only doctest wants to
    know."""

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
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository's own texts lead to their pages; what is computed is filled in."""
    source = TEXTS.get(page.file.src_uri)
    if source:
        return _LINK.sub(lambda link: _address(source.parent / link[1]), markdown)
    facts = {**worked_example(), **interfaces()} if "{{" in markdown else {}
    return re.sub(r"\{\{ ?(\w+) ?\}\}", lambda name: facts[name[1]], markdown)


def _address(path: Path) -> str:
    """A repository's file as the site has it."""
    path = path.resolve()
    uris = {there.resolve(): uri for uri, there in TEXTS.items()}
    return (
        uris.get(path)
        or path.relative_to(
            ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT
        ).as_posix()
    )


def worked_example() -> dict[str, str]:
    """The figures of hs-score.md, by the code itself with the bundled model's error rates."""
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
    """The figures of formats.md: each command's usage, and the statuses in the order of their
    codes."""
    from spherodetect.cli import _parser
    from spherodetect.score.counts import STATUSES

    (commands,) = (action.choices for action in _parser()._actions if action.dest == "command")
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
    """Warn of each public name that lacks a docstring or a place on a page."""
    package = griffe.load("spherodetect", search_paths=[str(ROOT / "src")], allow_inspection=False)
    shown = shown_names(Path(config["site_dir"], "objects.inv"))
    for name, documented in sorted(set(public_names(package))):
        if not documented:
            logger.warning("%s: a public name without a docstring", name)
        elif name not in shown:
            logger.warning("%s: a public name that no page shows", name)


def public_names(package: Any) -> Iterator[tuple[str, bool]]:
    """Each public function, class and method by its full name where it is defined, and whether it
    has a docstring."""
    # The package's `measure` and `segment` are functions, which hide their modules.
    modules = [package, *(package.modules_collection[f"{package.path}.{room}"] for room in PUBLIC)]
    for module in modules:
        for name, member in module.members.items():
            listed = module.exports is not None and name in module.exports
            if listed or (
                module.exports is None and not name.startswith("_") and not member.is_alias
            ):
                found = member.final_target if member.is_alias else member
                yield from _documented(found)


def _documented(found: Any) -> Iterator[tuple[str, bool]]:
    if found.is_function or found.is_class or "property" in found.labels:
        yield found.path, bool(found.docstring)
    if found.is_class:
        for name, member in found.members.items():
            if not name.startswith("_") and not member.is_alias:
                yield from _documented(member)


def shown_names(inventory: Path) -> set[str]:
    """The names that the site has a place for, from its Sphinx inventory."""
    lines = zlib.decompress(inventory.read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    return {line.split()[0] for line in lines}
