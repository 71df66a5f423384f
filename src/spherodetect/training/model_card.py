"""MODEL_CARD.md from model.json: what the model is, what it saw, what was measured (headings after
Mitchell 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spherodetect.detect.model_folder import ModelCard
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE

_MGG = ("MGG", "May-Grünwald")
_SECOND_LOOK = (
    "A second look, a small network that sees each cell's density and mask pixel by pixel and its size (in µm where "
    "the pixel size is known), has half a say in what is a spherocyte; held-out cells of other detectors taught it. "
)
_PRIOR = "Where a third of a field's cells and more look like spherocytes, its doubtful cells are judged with that prior. "


def model_card(card: ModelCard) -> str:
    """The text of MODEL_CARD.md."""
    data = card.provenance.data
    initial = card.provenance.initial
    taught = card.provenance.training_splits()
    figures = card.held_out_figures
    second = card.provenance.second_look
    return "\n".join(
        [
            f"# Model card: {card.name}",
            "",
            f"{RESEARCH_USE} {FIXED_SENTENCE}",
            "",
            "## Model details",
            "Mask R-CNN on MobileNetV2 with a feature pyramid, trained with TensorFlow Model Garden from "
            f"{'the weights of an earlier checkpoint' if initial else 'random weights'}; it sees optical density at "
            f"{card.rbc_px:g} px a red cell. {_SECOND_LOOK if second else ''}{_PRIOR}p_spherocyte is the odds so "
            "found, calibrated on held-out cells. Classes: " + ", ".join(card.class_names) + ".",
            "",
            "## Intended use",
            "Research: what share of the separate, whole red cells of a thin smear look like spherocytes. Not for "
            "diagnosis, not for thick smears, electron microscopy or unstained cells.",
            "",
            "## Factors and limits",
            f"- {_stains(card.stains_seen)}",
            *_patients(data, taught),
            "- Where labels are points or boxes, masks are pseudo-labels, refined by segmentation of optical density.",
            "- Microcytes and burr cells are the look-alikes; the counts by fine class are in model.json.",
            "- The limit of blank is a proxy: no healthy controls are public.",
            "",
            "## Training data",
            *_data_rows(data, taught),
            "",
            "## Evaluation data",
            *_data_rows(
                data,
                {name: set(manifest["splits"]) - taught[name] for name, manifest in data.items()},
            ),
            "",
            "## Quantitative analyses",
            f"Class of the cells that were found in held-out fields, from {card.rates.folds} detector(s), "
            "each judged on fields that neither it nor its second look was taught by; calibration and error rates are "
            "joined. A block of which less than a third is labelled says nothing about other cells: there people "
            "labelled what struck them. Missed cells are not in these figures; `spherodetect evaluate` counts them.",
            "",
            *(
                [
                    f"- {name.replace('_', ' ')}: "
                    + (f"{value:.3f}" if isinstance(value, float) else f"{value}")
                    for name, value in figures.items()
                ]
                or ["- not measured: too few labelled spherocytes were held out"]
            ),
            "",
            "| block | spherocytes | called | other cells | called |",
            "|---|---|---|---|---|",
            *(
                f"| {b['name']} | {b['true_spherocytes']} | {b['called_of_true']} "
                f"| {b['true_others']} | {b['called_of_others']} |"
                for b in card.rates.blocks
                if b["true_spherocytes"] + b["true_others"]
            ),
            "",
        ]
    )


def _stains(seen: Sequence[str]) -> str:
    never = (
        ""
        if any(name in stain for stain in seen for name in _MGG)
        else "It never saw May-Grünwald-Giemsa stain. "
    )
    return f"{never}Stains seen: {'; '.join(seen)}."


def _patients(data: Mapping[str, Any], taught: Mapping[str, set[str]]) -> Iterator[str]:
    """What the data sets with spherocytes can and cannot tell of patients."""
    parts = {
        name: [part for split, part in manifest["splits"].items() if split in taught[name]]
        for name, manifest in data.items()
        if manifest.get("stain") != "drawn"
    }
    rich = sorted(
        name for name, of in parts.items() if any(part["classes"].get("spherocyte") for part in of)
    )
    for name in rich:
        patients = {patient for part in parts[name] for patient in part.get("patients", [])}
        yield f"- {name}: " + (
            f"spherocytes of {len(patients)} patient{'s' * (len(patients) != 1)}."
            if patients
            else "no patient ids exist; fields of a block of file numbers may be of one slide, and stand for a patient."
        )
    if len(rich) == 1:
        yield f"- All real spherocytes come from one data set, {rich[0]}."


def _data_rows(data: Mapping[str, Any], splits: Mapping[str, set[str]]) -> list[str]:
    rows = []
    for name, manifest in sorted(data.items()):
        parts = [manifest["splits"][split] for split in sorted(splits[name])]
        if parts:
            counts = sum((Counter(part["classes"]) for part in parts), Counter[str]())
            classes = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            leaks = " (written although the split leaks)" if manifest["forced"] else ""
            rows.append(
                f"- {name}: {sum(part['images'] for part in parts)} fields; {classes}{leaks}"
            )
    return rows or ["- none: the figures below are of other runs, which held these fields out"]
