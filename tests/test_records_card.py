"""labels.card: every number of the manifest is there, patients are not, and hostile names stay
text."""

from __future__ import annotations

from pathlib import Path

from spherodetect.labels.recipe import Recipe
from spherodetect.records.card import write_card

MANIFEST = {
    "name": "smears",
    "annotations": {
        "read": 1234, "written": 1230, "clipped": 7,
        "repaired": {"box-to-mask": 5}, "dropped": {"malformed": 4},
    },
    "unlabelled_cells": 99,
    "forced": False,
    "splits": {
        "train": {
            "images": 3, "sources": 2, "patients": ["Jane Doe"],
            "classes": {"rbc": 1000, "unknown": 99},
        },
        "val": {"images": 1, "sources": 1, "patients": [], "classes": {"spherocyte": 230}},
    },
}  # fmt: skip


def card(path: Path, **changes: object) -> str:
    recipe = Recipe(
        "smears", "coco", Path("."), origin="a|b <script>", licence="MIT", um_per_px=0.193
    )
    return write_card(MANIFEST | changes, recipe, path).read_text(encoding="utf-8")


def test_the_card_gives_the_account(tmp_path):
    lines = card(tmp_path / "DATA_CARD.md").splitlines()
    assert "- Pixel size: 0.193 µm" in lines
    assert r"- Origin: a\|b \<script\>" in lines
    columns = ["split", "images", "photographs", "patients"]
    columns += ["rbc", "spherocyte", "wbc", "platelet", "unknown"]
    assert f"| {' | '.join(columns)} |" in lines
    assert "| train | 3 | 2 | 1 | 1,000 | 0 | 0 | 0 | 99 |" in lines
    assert "| val | 1 | 1 | unknown | 0 | 230 | 0 | 0 | 0 |" in lines
    assert "| dropped | malformed | 4 |" in lines
    assert "| repaired | box-to-mask | 5 |" in lines
    (fate,) = (line for line in lines if line.startswith("1,230 "))
    assert " 7 " in fate


def test_patients_are_counted_and_never_named(tmp_path):
    assert "Jane" not in card(tmp_path / "DATA_CARD.md")


def test_a_forced_split_and_hostile_names_are_told_as_text(tmp_path):
    text = card(tmp_path / "DATA_CARD.md", forced=True, name="x\n# y\x1b[2J<img src=//z>")
    assert "leaks" in text
    assert "leaks" not in card(tmp_path / "DATA_CARD.md")
    hostile = "x \\# y\N{REPLACEMENT CHARACTER}\\[2J\\<img src=//z\\>"
    assert text.splitlines()[0].endswith(hostile)
