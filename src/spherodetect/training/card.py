"""MODEL_CARD.md from model.json: what the model is, what it saw, what was measured (headings after Mitchell 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spherodetect.score import FIXED_SENTENCE, RESEARCH_USE

_SECOND_LOOK = (
    "A second look, a small network that sees each cell's density and mask pixel by pixel and its size (in µm where "
    "the pixel size is known), has half a say in what is a spherocyte; held-out cells of other detectors taught it. "
)


def model_card(card: Mapping[str, Any]) -> str:
    """The text of a model card; `card` is the content of model.json."""
    data = card["provenance"].get("data", {})
    figures, second = card["held_out_figures"], card["provenance"].get("second_look")
    return "\n".join(
        [
            f"# Model card: {card['name']}",
            "",
            f"{RESEARCH_USE} {FIXED_SENTENCE}",
            "",
            "## Model details",
            "Mask R-CNN on MobileNetV2 with a feature pyramid, trained with TensorFlow Model Garden from random "
            f"weights; it sees optical density at {card['rbc_px']:g} px a red cell. "
            f"{_SECOND_LOOK if second else ''}p_spherocyte is the odds so found, calibrated on held-out cells. "
            "Classes: " + ", ".join(card["class_names"]) + ".",
            "",
            "## Intended use",
            "Research: what share of the separate, whole red cells of a thin smear look like spherocytes. Not for "
            "diagnosis, not for thick smears, electron microscopy or unstained cells.",
            "",
            "## Factors and limits",
            "- It never saw May-Grünwald-Giemsa stain. Stains seen: " + "; ".join(card["stains_seen"]) + ".",
            "- No patient ids exist in its training data: fields of a block of file numbers may be of one slide, and "
            "blocks stand for patients. All real spherocytes come from one laboratory.",
            "- Masks are pseudo-labels: points and boxes refined by segmentation of optical density.",
            "- Microcytes and burr cells are the look-alikes; the counts by fine class are in model.json.",
            "- The limit of blank is a proxy: no healthy controls are public.",
            "",
            "## Training data",
            *_data_rows(data, "train"),
            "",
            "## Evaluation data",
            *_data_rows(data, "val"),
            "",
            "## Quantitative analyses",
            f"Class of the cells that were found in held-out fields, from {card['rates'].get('folds', 1)} detector(s), "
            "each judged on fields that neither it nor its second look was taught by; calibration and error rates are "
            "joined. A block of which less than a third is labelled says nothing about other cells: there people "
            "labelled what struck them. Missed cells are not in these figures; `spherodetect evaluate` counts them.",
            "",
            *([f"- {name.replace('_', ' ')}: " + (f"{value:.3f}" if isinstance(value, float) else f"{value}")
               for name, value in figures.items()] or ["- not measured: too few labelled spherocytes were held out"]),
            "",
            "| block | spherocytes | called | other cells | called |",
            "|---|---|---|---|---|",
            *(
                f"| {b['name']} | {b['true_spherocytes']} | {b['called_of_true']} "
                f"| {b['true_others']} | {b['called_of_others']} |"
                for b in card["rates"]["blocks"]
            ),
            "",
        ]
    )  # fmt: skip


def _data_rows(data: Mapping[str, Any], split: str) -> list[str]:
    rows = []
    for name, manifest in sorted(data.items()):
        if split in manifest["splits"]:
            part = manifest["splits"][split]
            classes = ", ".join(f"{count} {kind}" for kind, count in part["classes"].items())
            leaks = " (written although the split leaks)" if manifest["forced"] else ""
            rows.append(f"- {name}: {part['images']} fields; {classes}{leaks}")
    return rows or ["- none recorded"]
