"""Draws the figures of the README and the documentation from synthetic smears: `make figures`.

Every run writes the same bytes.

overview.png: a field, its cells as the bundled model outlines them, and the patient's score as in
the report. traps.png: four traps of label exports. repair.png: labels before and after the repair.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw

import spherodetect
from spherodetect.cells import Cells
from spherodetect.labels import read_labels
from spherodetect.labels.example import example_recipe, write_example
from spherodetect.records.view import labelled_cells
from spherodetect.report.grade_scale import graded_scale
from spherodetect.report.overlays import draw_overlay
from spherodetect.score.counts import RESEARCH_USE, PatientScore
from spherodetect.score.grades import ICSH2015
from spherodetect.synthetic import SmearStyle

HERE = Path(__file__).parent / "figures"
INK, SOFT, BLUE, ORANGE = "#1b2530", "#5b6875", "#0048ba", "#d55e00"
BANDS = ("#e9edf1", "#d6dde4", "#c2ccd6")
PANEL_PX, WINDOW_PX = 660, 264
SCALE = PANEL_PX / WINDOW_PX


def main() -> None:
    """Write all figures."""
    use_style()
    overview(HERE / "overview.png")
    traps(HERE / "traps.png")
    repair(HERE / "repair.png")


def use_style() -> None:
    """Set the font and colour of all figures, and draw without a screen."""
    mpl.use("Agg")
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 19, "text.color": INK})


def overview(path: Path) -> None:
    """Draw one field of a synthetic patient, its cells, and the score from all twelve fields."""
    style = SmearStyle()
    drawn = spherodetect.draw_patient(
        6, spherocyte_fraction=0.18, n_fields=12, style=style, patient_id="drawn"
    )
    model = spherodetect.load_model()
    found = [model.detect(field.image, style.um_per_px) for field in drawn]
    called = [int((cells.countable & (cells.names == "spherocyte")).sum()) for cells in found]
    score = spherodetect.score_counts(
        called, [int(cells.countable.sum()) for cells in found], model=model
    )
    figure, axes = _panels(3)
    axes[0].imshow(_window(Image.fromarray(drawn[0].image)))
    axes[1].imshow(_window(draw_overlay(drawn[0].image, found[0], scale=SCALE), scale=SCALE))
    _title(axes[0], "A field", "of a drawn smear")
    _title(axes[1], "Its cells", "spherocytes blue, not counted dashed")
    _title(
        axes[2],
        "The patient's HS score",
        f"{score.n_countable:,} countable cells, {score.n_fields} fields",
    )
    _score(axes[2], score)
    _save(figure, path)


def _score(axis: Any, score: PatientScore) -> None:
    """Draw the score, its interval and the graded scale as the patient's page shows them."""
    scale = graded_scale(score, ICSH2015)
    axis.axis("off")
    axis.set(xlim=(0, 103), ylim=(0, 110))
    axis.text(0, 82, f"{score.hs_score:.1f} %", fontsize=62, fontweight="bold", va="baseline")
    interval = f"95 % interval {score.hs_score_low:.1f} to {score.hs_score_high:.1f} %"
    axis.text(0, 72, interval, color=SOFT)
    for shade, band in zip(BANDS, scale["bands"], strict=False):
        axis.add_patch(plt.Rectangle((band["x"], 38), band["width"], 11, color=shade, lw=0))
        axis.text(
            band["x"] + band["width"] / 2, 43.5, band["name"], ha="center", va="center", fontsize=17
        )
    for tick in scale["ticks"]:
        axis.plot(
            [tick["x"]] * 2,
            [35.5, 49 if tick["limit"] else 38],
            color=INK,
            lw=2 if tick["limit"] else 1,
        )
        weight = "bold" if tick["limit"] else "normal"
        axis.text(
            tick["x"], 33.5, tick["label"], ha="center", va="top", fontsize=16, fontweight=weight
        )
    axis.plot(scale["limits"], [56, 56], color=BLUE, lw=4, solid_capstyle="round")
    axis.plot(scale["at"], 56, "o", color=BLUE, ms=17, mec="white", mew=2.5)
    axis.text(0, 20, f"Grade {score.grade} ({score.grade_scheme})")
    axis.text(0, 12, f"Status {score.status}", color=SOFT)
    axis.text(0, 1, RESEARCH_USE.replace(". ", ".\n"), color=SOFT, fontsize=13, va="baseline")


def traps(path: Path) -> None:
    """Draw four traps of label exports, each on a synthetic field."""
    style = SmearStyle(falloff=0.05)
    rng = np.random.default_rng(11)
    field = spherodetect.draw_field(
        rng, size_hw=(WINDOW_PX, WINDOW_PX), n_cells=26, n_white=0, style=style
    )
    other = spherodetect.draw_field(
        rng, size_hw=(WINDOW_PX, WINDOW_PX), n_cells=26, n_white=0, style=style
    )
    red = field.cells[field.cells.names != "platelet"]
    figure, axes = _panels(2, rows=2)
    outlined = draw_overlay(field.image, red, scale=SCALE)
    axes[0].imshow(
        _boxes(_window(outlined, scale=SCALE), red, lambda i: ORANGE, fill=f"{ORANGE}50")
    )
    _title(axes[0], "Boxes saved as masks", "what the mask head then learns")
    squashed = Image.fromarray(field.image).resize(
        (WINDOW_PX * 3 // 4, WINDOW_PX), Image.Resampling.BICUBIC
    )
    canvas = Image.new("RGB", (WINDOW_PX, WINDOW_PX), "white")
    canvas.paste(squashed, (WINDOW_PX // 8, 0))
    axes[1].imshow(_window(canvas))
    _title(axes[1], "Stretched on export", "round cells become ovals")
    half = WINDOW_PX // 2 - 4
    canvas = Image.new("RGB", (WINDOW_PX, WINDOW_PX), "white")
    small = [
        Image.fromarray(f.image).resize((half, half), Image.Resampling.LANCZOS)
        for f in (field, other)
    ]
    copies = [
        small[0],
        small[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        small[1],
        small[0].rotate(90),
    ]
    for copy, at in zip(
        copies, ((0, 0), (half + 8, 0), (0, half + 8), (half + 8, half + 8)), strict=True
    ):
        canvas.paste(copy, at)
    axes[2].imshow(_window(canvas))
    for (x, y), name in zip(
        ((0.02, 0.98), (0.54, 0.98), (0.02, 0.46), (0.54, 0.46)),
        ("train", "val", "train", "val"),
        strict=True,
    ):
        box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85}
        axes[2].text(
            x + 0.02, y - 0.025, name, transform=axes[2].transAxes, va="top", fontsize=16, bbox=box
        )
    _title(axes[2], "Copies in both splits", "the model is tried on what it knows")
    plain = _window(Image.fromarray(field.image))
    axes[3].imshow(_boxes(plain, red, lambda i: ORANGE if i % 3 == 0 else None))
    _title(axes[3], "Cells without a label", "taught as background, they are lost")
    _save(figure, path)


def repair(path: Path) -> None:
    """Draw a part of a drawn export as it is, and as the records have it."""
    with tempfile.TemporaryDirectory() as folder:
        export = write_example(Path(folder, "export.zip"), n_patients=2, n_fields=2, n_cells=60)
        recipe = example_recipe(export)
        labels = read_labels(recipe)
        views = [labelled_cells(labels.fields[0], recipe, repaired=done) for done in (False, True)]
    figure, axes = _panels(2)
    for axis, (image, cells) in zip(axes, views, strict=True):
        axis.imshow(_window(draw_overlay(image, cells, scale=SCALE), scale=SCALE))
    _title(axes[0], "As exported", "stretched, with boxes as outlines")
    _title(axes[1], "As in the records", "unstretched, each cell with its outline")
    _save(figure, path)


def _boxes(
    picture: Image.Image, cells: Cells, color: Any, *, fill: str | None = None
) -> Image.Image:
    """Draw the box of each cell in the colour of its index; None draws no box."""
    draw = ImageDraw.Draw(picture, "RGBA")
    for i, (y0, x0, y1, x1) in enumerate((cells.box_yxyx * SCALE).tolist()):
        if color(i):
            draw.rectangle((x0, y0, x1, y1), outline=color(i), width=4, fill=fill)
    return picture


def _window(picture: Image.Image, *, scale: float = 1.0) -> Image.Image:
    """The upper left WINDOW_PX of a field, whose picture has this scale, as a panel of PANEL_PX."""
    side = WINDOW_PX * scale
    return picture.resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC, box=(0, 0, side, side))


def _panels(n: int, *, rows: int = 1) -> tuple[Any, Any]:
    gap, head = 40, 96
    width, height = n * PANEL_PX + (n - 1) * gap, rows * (PANEL_PX + head)
    figure, axes = plt.subplots(rows, n, figsize=(width / 100, height / 100), dpi=100)
    top = 1 - head / height
    figure.subplots_adjust(0, 0, 1, top, wspace=gap / PANEL_PX, hspace=head / PANEL_PX)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes.flat


def _title(axis: Any, what: str, more: str) -> None:
    axis.text(
        0, 1.085, what, transform=axis.transAxes, fontsize=26, fontweight="bold", va="baseline"
    )
    axis.text(0, 1.03, more, transform=axis.transAxes, color=SOFT, va="baseline")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=75, metadata={"Software": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
