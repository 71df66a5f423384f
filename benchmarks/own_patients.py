"""The width of a patient's 95 % interval against the number of labelled patients of a model.

    python -m benchmarks.own_patients [--models N]

Simulated models of a laboratory: sensitivity and specificity of each patient are drawn around 0.87
and 0.985, as in `coverage`. Each labelled patient is a held-out block of 120 spherocytes and 600
other cells. A new patient has a true percentage of 15, and 1,400 countable cells in 20 fields. The
reference is three blocks of another model, whose patients differ as much and whose mean rates are
0.93 and 0.98. Expected: intervals of about 95 % coverage, which narrow with the number of patients,
and are narrower with the reference. Percentages are 0 to 100.
"""

from __future__ import annotations

import argparse

import numpy as np

from spherodetect.score.counts import score_counts
from spherodetect.score.rates import ClassifierRates

PATIENTS = (2, 3, 4, 5, 8)
SPHEROCYTES, OTHERS = 120, 600
FIELDS, CELLS_A_FIELD, FRACTION = 20, 70, 0.15
#: Mean and concentration of the rates of patients.
SENSITIVITY, SPECIFICITY = (0.87, 60), (0.985, 100)
REFERENCE_MEANS, REFERENCE_PATIENTS = (0.93, 0.98), 3


def simulated(
    rng: np.random.Generator, patients: int, *, with_reference: bool
) -> tuple[float, float]:
    """Lower and upper limit of a new patient, by a model of some labelled patients."""
    reference = _rates(rng, REFERENCE_PATIENTS, REFERENCE_MEANS) if with_reference else None
    rates = _rates(rng, patients, (SENSITIVITY[0], SPECIFICITY[0]), reference)
    sensitivity, specificity = (
        rng.beta(mean * m, (1 - mean) * m) for mean, m in (SENSITIVITY, SPECIFICITY)
    )
    true = rng.binomial(CELLS_A_FIELD, FRACTION, FIELDS)
    called = rng.binomial(true, sensitivity) + rng.binomial(CELLS_A_FIELD - true, 1 - specificity)
    score = score_counts(called, [CELLS_A_FIELD] * FIELDS, model=rates)
    return score.hs_score_low, score.hs_score_high


def _rates(
    rng: np.random.Generator,
    patients: int,
    means: tuple[float, float],
    reference: ClassifierRates | None = None,
) -> ClassifierRates:
    counts = []
    for mean, m, n in zip(
        means, (SENSITIVITY[1], SPECIFICITY[1]), (SPHEROCYTES, OTHERS), strict=True
    ):
        counts.append(rng.binomial(n, rng.beta(mean * m, (1 - mean) * m, patients)))
    hits, right = counts
    n = (SPHEROCYTES,) * patients, (OTHERS,) * patients
    return ClassifierRates(n[0], hits, n[1], OTHERS - right, reference=reference)


def table(models: int, *, seed: int = 1) -> list[tuple[int, bool, float, float]]:
    """Patients, with reference or not, median width in points, and coverage 0 to 1."""
    rows = []
    for patients in PATIENTS:
        for with_reference in (False, True):
            rng = np.random.default_rng(seed)
            limits = np.array(
                [simulated(rng, patients, with_reference=with_reference) for _ in range(models)]
            )
            low, high = limits.T
            held = (low <= 100 * FRACTION) & (high >= 100 * FRACTION)
            rows.append(
                (patients, with_reference, float(np.median(high - low)), float(held.mean()))
            )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=40, help="simulated models of each row")
    print("labelled patients, reference, median width in points, coverage")
    for patients, with_reference, width, held in table(parser.parse_args(argv).models):
        print(
            f"{patients} {'yes' if with_reference else 'no '} {width:5.1f} {held:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
