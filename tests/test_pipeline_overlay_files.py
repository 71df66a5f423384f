"""overlay_files: an overlay is drawn again if the code that draws has changed."""

from __future__ import annotations

import ast
from pathlib import Path

from spherodetect.pipeline import overlay_files


def test_every_module_that_draws_is_part_of_the_key():
    """The modules of report that the drawing modules import are drawing modules themselves."""
    known = {module.__name__ for module in overlay_files._DRAWING}
    assert "spherodetect.report.overlays" in known
    for module in overlay_files._DRAWING:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name for name in imported if name.startswith("spherodetect.report")} <= known
