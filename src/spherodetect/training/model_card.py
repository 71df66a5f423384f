"""Writes MODEL_CARD.md: the model, its data and its accuracy (headings after Mitchell 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spherodetect.detect.model_folder import ModelCard
from spherodetect.detect.provenance import Provenance
from spherodetect.score.counts import FIXED_SENTENCE, RESEARCH_USE

_MGG = ("MGG", "May-Grünwald")
_SECOND_LOOK = (
    "A second, small network gets the optical density and the mask of each cell pixel by pixel, "
    "and its size (in µm if the pixel size is known). The log odds of both networks are averaged. "
    "The second network was trained on held-out cells of other detectors. "
)
_PRIOR = (
    "In a field where at least a third of the cells look like spherocytes, this prevalence is the "
    "prior of each cell. "
)
_TEXT = """\
# Model card: {name}

{research_use} {fixed_sentence}

## Model details
Mask R-CNN on MobileNetV2 with a feature pyramid, trained with TensorFlow Model Garden from \
{initial}. Its input is optical density at {rbc_px:g} px a red cell. {second_look}{prior}\
p_spherocyte is calibrated on held-out cells. Classes: {classes}.

## Intended use
Research: the share of spherocytes among the separate, whole red cells of a thin smear. Not for \
diagnosis, and not for thick smears, electron microscopy or unstained cells.

## Factors and limits
- {stains}
{patients}- Where labels are points or boxes, masks are pseudo-labels, refined by segmentation of \
optical density.
- Microcytes and burr cells look like spherocytes; model.json has the counts of each fine class.
- {blank}

## Training data
{training_data}

## Evaluation data
{evaluation_data}

## Quantitative analyses
The figures are of cells that were found in held-out fields, by {folds} detector(s). Neither the \
detector nor its second network was trained on the fields on which it was evaluated. Calibration \
and error rates are joint. If less than a third of a block is labelled, its other red cells are \
not used, because people then labelled conspicuous cells. Missed cells are not in these figures; \
`spherodetect evaluate` counts them.

{tuned}{figures}

| block | spherocytes | called | other cells | called |
|---|---|---|---|---|
{blocks}{reference}{conventions}"""
_TUNED = (
    "The detector was tuned from {name}, which was trained on {taught}. These fields cannot be "
    "held out again, so that the figures and rates of this section are those of {name}. {prior}\n\n"
)
_SAME_SCALE = (
    "The log odds of the tuned detector were brought to the scale of {name} on fields that the "
    "tuning did not use."
)
_JUDGED_BY = (
    "The detector was tuned from {name}, which was trained on {taught}. These fields cannot be "
    "held out again, so that the figures and rates of this section are those of {folds} other "
    "trainings, which held them out ({runs}). Their log odds were brought to the scale of this "
    "detector. The cut is at odds of {odds:g}.\n\n"
)
_CONVENTIONS = """\

## Conventions
Laboratories draw the line between a spherocyte and another small, dark cell at different places. \
A field is judged by the convention that the user states, or by that of the training films that \
look alike. A field at a distance above {threshold:.1f} from all of them is unseen. Each cell was \
judged by a fit that left out its patient or run of fields.

| convention | cells | spherocytes | average precision | sensitivity | specificity | ECE |
|---|---|---|---|---|---|---|
{rows}
{healthy}"""


def model_card(card: ModelCard) -> str:
    """The text of MODEL_CARD.md."""
    data = card.provenance.data
    training = card.provenance.training_splits()
    held_out = {name: set(manifest["splits"]) - training[name] for name, manifest in data.items()}
    return _TEXT.format(
        name=card.name,
        research_use=RESEARCH_USE,
        fixed_sentence=FIXED_SENTENCE,
        initial=_initial(card.provenance.initial),
        rbc_px=card.rbc_px,
        second_look=_SECOND_LOOK if card.provenance.second_look else "",
        prior=_PRIOR,
        classes=", ".join(card.class_names),
        stains=_stains(card.stains_seen),
        patients="".join(f"{line}\n" for line in _patients(data, training)),
        training_data="\n".join(_data_rows(data, training)),
        evaluation_data="\n".join(_data_rows(data, held_out)),
        folds=card.rates.folds,
        tuned=_tuned(card),
        figures="\n".join(_figures(card.held_out_figures)),
        blocks="".join(f"{row}\n" for row in _block_rows(card.rates.blocks)),
        reference=_reference(card.rates.reference),
        blank=_blank(card.conventions.get("healthy", {})),
        conventions=_conventions(card.conventions),
    )


def _initial(initial: Provenance | None) -> str:
    """What the training began with."""
    if initial is None:
        return "random weights"
    model = initial.content.get("model") or {}
    return f"the weights of {model['name']}" if "name" in model else "an earlier checkpoint"


def _tuned(card: ModelCard) -> str:
    """Whose figures these are; empty for a model that was not tuned from another one."""
    provenance = card.provenance
    before, initial = provenance.content.get("tuned_from"), provenance.initial
    if not before or initial is None or not provenance.content.get("checkpoint"):
        return ""
    taught = ", ".join(sorted(name for name, of in initial.training_splits().items() if of))
    judged = provenance.content.get("judged_by")
    if judged:
        return _JUDGED_BY.format(
            name=before["name"],
            taught=taught or "other fields",
            folds=len(judged["runs"]),
            runs=", ".join(judged["runs"]),
            odds=judged["odds"],
        )
    prior = _SAME_SCALE.format(name=before["name"]) if card.thresholds.spherocyte_prior else ""
    return _TUNED.format(name=before["name"], taught=taught or "other fields", prior=prior)


def _blank(healthy: Mapping[str, Any]) -> str:
    """The source of the limit of blank."""
    names = sorted(name for name, blocks in healthy.items() if blocks)
    if not names:
        return "The limit of blank is a proxy: there are no public healthy controls."
    return (
        f"The limit of blank of {', '.join(names)} comes from healthy blood of its stain. Of other "
        "conventions it is a proxy: their specificity between slides."
    )


def _reference(reference: Mapping[str, Any]) -> str:
    """What another model's blocks were used for; empty without any."""
    if not reference:
        return ""
    names = ", ".join(str(block["name"]) for block in reference["blocks"])
    return (
        "\nHow much error rates differ between patients was also taken from the held-out blocks "
        f"of {reference['model']} on the same stain ({reference['stain']}): {names}. Their mean "
        "rates are not used.\n"
    )


def _conventions(conventions: Mapping[str, Any]) -> str:
    """The section on conventions; empty for a model without."""
    if not conventions:
        return ""
    rows = [
        f"| {name} | {f['n_cells']} | {f['n_spherocytes']} | {f['average_precision']:.3f} "
        f"| {f['sensitivity']:.3f} | {f['specificity']:.3f} | {f['ece']:.3f} |"
        for name, f in conventions["figures"].items()
    ]
    healthy = []
    for name, blocks in conventions["healthy"].items():
        cells, called = (sum(b[key] for b in blocks) for key in ("true_others", "called_of_others"))
        healthy.append(f"\nHealthy blood, {name}: {called} of {cells} countable cells called.\n")
    return _CONVENTIONS.format(
        threshold=conventions["look_threshold"], rows="\n".join(rows), healthy="".join(healthy)
    )


def _figures(figures: Mapping[str, float]) -> list[str]:
    lines = [
        f"- {name.replace('_', ' ')}: "
        + (f"{value:.3f}" if isinstance(value, float) else f"{value}")
        for name, value in figures.items()
    ]
    return lines or [
        "- not measured: error rates need two or more held-out groups with at least ten labelled "
        "spherocytes each. Scores by this model have the status uncalibrated."
    ]


def _block_rows(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block["true_spherocytes"] + block["true_others"]:
            yield (
                f"| {block['name']} | {block['true_spherocytes']} | {block['called_of_true']} "
                f"| {block['true_others']} | {block['called_of_others']} |"
            )


def _stains(seen: Sequence[str]) -> str:
    never = (
        ""
        if any(name in stain for stain in seen for name in (*_MGG, "not stated", "unknown"))
        else "It never saw May-Grünwald-Giemsa stain. "
    )
    return f"{never}Stains seen: {'; '.join(seen)}."


def _patients(data: Mapping[str, Any], training: Mapping[str, set[str]]) -> Iterator[str]:
    """Lines on the patients of the data sets with spherocytes."""
    parts = {
        name: [part for split, part in manifest["splits"].items() if split in training[name]]
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
            else "no patient ids exist; fields of one block of file numbers may be of one slide, "
            "and count as a patient."
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
