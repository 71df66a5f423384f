"""The rates, calibration and cut of a model in one laboratory, from the reviews made there.

Probabilities and rates are 0 to 1, log odds are natural. Imports no image code.

The line between a spherocyte and another cell differs between laboratories, and so do stain and
camera. A model that was fitted elsewhere may rank the cells well and still call twice too many. The
reviewed cells of at least three patients give, with the weight N / n of each cell's stratum:

- slope and intercept of the log odds of being a spherocyte on those of the model's p;
- the cut: a cell is called where it is likelier a spherocyte than the average cell is. Calibrated
  so, sensitivity + specificity is largest there, and every error of a corrected score is divided by
  it less 1. On three MGG patients, each by the other two, intervals from this cut hold all three
  labelled shares; from a cut of 1/2, which lies where sensitivity falls steeply, 89 %;
- for each patient one block of counts for `ClassifierRates`, with the calibration of the other
  patients, so that no patient is judged by itself. The counts are effective ones, after Kish.

These blocks replace those of the model folder. Appended to them they would narrow nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted, read_json
from spherodetect.score.rates import ClassifierRates
from spherodetect.score.review import OTHER, SPHEROCYTE, named_answers
from spherodetect.score.review_draw import drawn

MIN_PATIENTS = 3
FORMAT = 1
_LEAST_P = 1e-5
#: Weight of the penalty that draws the fit towards leaving p as it is, in effective cells.
_PENALTY = 4.0
_CUTS = (0.05, 0.5)
_NEWTON_STEPS = 50
_MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_NAME = 200
_KINDS = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")


@dataclass(frozen=True, eq=False)
class ReviewedCells:
    """The cells of one patient that a person named spherocyte or other.

    Attributes:
        p: (n,) the model's probabilities.
        spherocyte: (n,) bool, the answers.
        weight: (n,) how many cells of the patient each stands for.
    """

    p: np.ndarray
    spherocyte: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(
        cls, p: Any, cell_ids: Sequence[str], answers: Mapping[str, str], seed: int
    ) -> ReviewedCells:
        """The named cells of a review; arguments as for `reviewed_score`.

        Raises:
            ValueError: as for `reviewed_score`.
        """
        draw = drawn(p, cell_ids, seed)
        named = named_answers(draw, cell_ids, answers)
        n_cells, n = (
            np.bincount(draw.stratum[chosen], minlength=draw.n_strata)
            for chosen in (np.ones(len(named), bool), named >= 0)
        )
        said = np.isin(named, (SPHEROCYTE, OTHER))
        weight = (n_cells / np.maximum(n, 1))[draw.stratum]
        return cls(np.asarray(p, float)[said], named[said] == SPHEROCYTE, weight[said])


@dataclass(frozen=True)
class LabRates:
    """A laboratory's own calibration, cut and rates.

    Attributes:
        name: of the laboratory, shown in every output.
        model: the model whose cells were reviewed.
        slope, intercept: of the calibrated log odds on those of the model's p.
        p_spherocyte: calibrated p from which a red cell is called a spherocyte.
        blocks: one a reviewed patient, with the keys of model.json's rates.
    """

    name: str
    model: str
    slope: float
    intercept: float
    p_spherocyte: float
    blocks: tuple[Mapping[str, Any], ...]

    def calibrated(self, p: Any) -> np.ndarray:
        """p as it is in this laboratory, of the shape of p."""
        return special.expit(self.slope * _log_odds(p) + self.intercept)

    @property
    def rates(self) -> ClassifierRates:
        """Sensitivity and specificity of the cut in this laboratory."""
        model = {"rates": {"blocks": list(self.blocks)}}
        return ClassifierRates.from_model_json(model, name=f"{self.model}, rates of {self.name}")

    def to_json(self) -> dict[str, Any]:
        """What LAB.json holds."""
        return {
            "format": FORMAT,
            "name": self.name,
            "model": self.model,
            "calibration": {"slope": self.slope, "intercept": self.intercept},
            "p_spherocyte": self.p_spherocyte,
            "rates": {"blocks": [dict(block) for block in self.blocks]},
        }


def lab_rates(
    patients: Sequence[ReviewedCells], *, name: str, model: str, at_least: int = MIN_PATIENTS
) -> LabRates:
    """The calibration, cut and rates from the reviewed patients of a laboratory.

    Args:
        patients: one entry a patient.
        name: of the laboratory.
        model: the name of the model that found the cells.
        at_least: patients below which there is too little to replace the model's own rates.

    Raises:
        ValueError: too few patients, or not both kinds of cells among them.
    """
    if len(patients) < at_least:
        raise ValueError(f"expected {at_least} reviewed patients or more, got {len(patients)}")
    slope, intercept = _fit(patients)
    blocks = []
    for number, patient in enumerate(patients):
        others = [other for other in patients if other is not patient] or [patient]
        log_odds = np.polyval(_fit(others), _log_odds(patient.p))
        called = log_odds >= special.logit(_cut(others))
        blocks.append({"name": f"patient {number + 1}", **_block(patient, called)})
    return LabRates(name, model, slope, intercept, _cut(patients), tuple(blocks))


def _cut(patients: Sequence[ReviewedCells]) -> float:
    """The mean share of spherocytes of the patients, within limits."""
    shares = [
        float(patient.weight[patient.spherocyte].sum() / patient.weight.sum())
        for patient in patients
    ]
    return float(np.clip(np.mean(shares), *_CUTS))


def _log_odds(p: Any) -> np.ndarray:
    return special.logit(np.clip(np.asarray(p, float), _LEAST_P, 1 - _LEAST_P))


def _fit(patients: Sequence[ReviewedCells]) -> tuple[float, float]:
    """Slope and intercept of a weighted logistic regression, drawn a little towards 1 and 0.

    Each patient weighs as much as its effective number of cells, whatever its number of cells is.
    """
    x = np.concatenate([_log_odds(patient.p) for patient in patients])
    y = np.concatenate([patient.spherocyte for patient in patients]).astype(float)
    weight = np.concatenate(
        [patient.weight * patient.weight.sum() / np.sum(patient.weight**2) for patient in patients]
    )
    design, beta = np.stack([x, np.ones(len(x))], axis=1), np.array([1.0, 0.0])
    start = beta.copy()
    for _ in range(_NEWTON_STEPS):
        p = special.expit(design @ beta)
        gradient = design.T @ (weight * (y - p)) - _PENALTY * (beta - start)
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + _PENALTY * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        beta += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def _block(patient: ReviewedCells, called: np.ndarray) -> dict[str, int]:
    counts: list[int] = []
    for kind in (patient.spherocyte, ~patient.spherocyte):
        weight = patient.weight[kind]
        if not weight.size:
            counts += [0, 0]
            continue
        n = round(float(weight.sum() ** 2 / np.sum(weight**2)))
        counts += [n, round(n * float(weight[called[kind]].sum() / weight.sum()))]
    return dict(zip(_KINDS, counts, strict=True))


def load_lab_rates(path: str | Path) -> LabRates:
    """Read LAB.json.

    Raises:
        SpherodetectError: the file cannot be read, or holds something else.
    """
    read = read_json(Path(path), max_bytes=_MAX_FILE_BYTES)
    try:
        return lab_rates_of(read)
    except (KeyError, TypeError, ValueError, AttributeError, SpherodetectError) as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected what `spherodetect review RESULTS --rates` writes, got "
            f"{problem!r:.80}; write the file again"
        ) from problem


def lab_rates_of(read: Any) -> LabRates:
    """The rates of the content of a LAB.json.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, SpherodetectError: it is something else.
    """
    if read["format"] != FORMAT:
        raise ValueError(f"format {read['format']!r:.20}")
    calibration = read["calibration"]
    slope, intercept = float(calibration["slope"]), float(calibration["intercept"])
    cut = float(read["p_spherocyte"])
    if not (math.isfinite(slope) and math.isfinite(intercept) and 0 < cut < 1):
        raise ValueError("a calibration or cut that cannot be")
    name, model = (str(read[key])[:_MAX_NAME] for key in ("name", "model"))
    lab = LabRates(name, model, slope, intercept, cut, tuple(read["rates"]["blocks"]))
    # The counts are checked where the rates are made.
    assert lab.rates.name
    return lab
