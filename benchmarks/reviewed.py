"""How often the interval of the reviewed score holds, and how wide it is.

    python -m benchmarks.reviewed [--patients N] [--plot FILE]
    python -m benchmarks.reviewed --labels labelled_cells.csv... [--draws N] [--rates]

Without labels, patients are simulated: a true share, fields, a classifier, and cells that a reader
excludes. The stopping rule ends each review. The table says for each share of spherocytes how often
the interval of the cells held, how often that of the patient did, and how many cells were reviewed.

With tables that `spherodetect evaluate` wrote, the patients are real: the labels are the answers
and p is the model's, of every countable cell that a label names. The cells of a patient are drawn
anew with each seed. The truth is the labelled share, which does not depend on the draw, so this is
the coverage of the cells' interval. Percentages are 0 to 100.

With --rates, 100 cells of each real patient are reviewed, and the rates that follow (as from
`review --rates`) score each patient by the reviews of the others, without a review of its own.
Halves of a patient's fields stand in for further patients where there are few.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from spherodetect.detect.model_folder import BUNDLED
from spherodetect.safety import read_json
from spherodetect.score.counts import PatientScore, score_counts
from spherodetect.score.lab_rates import ReviewedCells, lab_rates
from spherodetect.score.rates import ClassifierRates
from spherodetect.score.review import (
    BATCH_CELLS,
    FIRST_CELLS,
    MAX_CELLS,
    finished,
    patient_mixture,
    reviewed_score,
)
from spherodetect.score.review_draw import drawn
from spherodetect.score.stratified import LEVELS, Strata

SHARES = (0.0, 0.01, 0.05, 0.2, 0.5)
N_CELLS = (400, 1500)
WIDTHS = (10.0, 5.0)
EXCLUDED = 0.03
FIELD_CELLS = 100
FIELD_ICC = 0.03
#: Distance between the two classes in standard deviations, and what is added to the log odds.
CLASSIFIERS = {
    "good": (4.0, 0.0),
    "mediocre": (2.0, 0.0),
    "shifted": (3.0, 4.0),
    "useless": (0.0, 0.0),
}
RATES_CELLS, RATES_DRAWS, PLOT_PATIENTS = 100, 10, 40
_LOOKS = (*range(FIRST_CELLS, MAX_CELLS + 1, BATCH_CELLS),)


@dataclass(frozen=True, eq=False)
class Patient:
    """The cells of one patient and the answers that a reader would give.

    Attributes:
        p: (M,) the classifier's probabilities.
        field: (M,) int, numbers of fields from 0.
        spherocyte, countable: (M,) bool.
        percent: what the fields are a sample of; nan where nobody knows.
    """

    p: np.ndarray
    field: np.ndarray
    spherocyte: np.ndarray
    countable: np.ndarray
    percent: float = float("nan")

    @property
    def cells_percent(self) -> float:
        """The share of spherocytes among all countable cells."""
        return 100 * float((self.spherocyte & self.countable).sum() / self.countable.sum())


@dataclass(frozen=True)
class Outcome:
    """One review that the rule ended: whether each interval held, its width, and its cells."""

    n: int
    cells_held: bool
    cells_width: float
    patient_held: bool
    patient_width: float


def simulated(
    rng: np.random.Generator, *, share: float, n_cells: int, classifier: str, excluded: float
) -> Patient:
    """A patient whose fields differ as real ones do."""
    distance, shift = CLASSIFIERS[classifier]
    n_fields = max(5, n_cells // FIELD_CELLS)
    field = rng.integers(n_fields, size=n_cells)
    spread = 1 / FIELD_ICC - 1
    of_field = rng.beta(share * spread, (1 - share) * spread, n_fields) if share else np.zeros(1)
    spherocyte = rng.random(n_cells) < (of_field[field] if share else 0.0)
    evidence = distance * (rng.normal(size=n_cells) + distance * (spherocyte - 0.5))
    noise = rng.normal(size=n_cells) if not distance else 0.0
    p = special.expit(evidence + special.logit(0.1) + shift + noise)
    return Patient(p, field, spherocyte, rng.random(n_cells) >= excluded, 100 * share)


class Looks:
    """The intervals of one patient's review after any number of cells."""

    def __init__(self, patient: Patient, seed: int) -> None:
        self._patient = patient
        self._draw = drawn(patient.p, [str(i) for i in range(len(patient.p))], seed)
        shape = int(patient.field.max()) + 1, self._draw.n_strata
        self._crossed = np.zeros(shape)
        np.add.at(self._crossed, (patient.field, self._draw.stratum), 1)

    def at(self, n: int) -> Outcome:
        """The intervals after n cells."""
        h, first = self._draw.stratum, self._draw.order[:n]
        valid = first[self._patient.countable[first]]
        parts = (h, h[first], h[valid], h[valid[self._patient.spherocyte[valid]]])
        strata = Strata(*(np.bincount(part, minlength=self._draw.n_strata) for part in parts))
        low, high = (100 * limit for limit in strata.found_limits())
        mixture = patient_mixture(strata, self._crossed)[1]
        patient_low = min(100 * mixture.quantile(LEVELS[0]), low)
        patient_high = max(100 * mixture.quantile(LEVELS[1]), high)
        truth, percent = self._patient.cells_percent, self._patient.percent
        return Outcome(
            n,
            low - 1e-9 <= truth <= high + 1e-9,
            high - low,
            patient_low - 1e-9 <= percent <= patient_high + 1e-9,
            patient_high - patient_low,
        )

    def stopped(self, width: float) -> Outcome:
        """The intervals where the rule ends the review."""
        n_max, seen = min(MAX_CELLS, len(self._patient.p)), []
        for n in _LOOKS:
            seen.append(self.at(min(n, n_max)))
            widths, ns = [look.cells_width for look in seen], [look.n for look in seen]
            if finished(widths, ns, width=width, n_max=n_max):
                break
        return seen[-1]


def simulate(
    n_patients: int, *, seed: int = 16, excluded: float = EXCLUDED
) -> dict[tuple[float, int, str, float], list[Outcome]]:
    """Reviews that the rule ended, for each share, number of cells, classifier and width."""
    outcomes: dict[tuple[float, int, str, float], list[Outcome]] = {}
    for number, (share, n_cells, classifier) in enumerate(_grid()):
        rng = np.random.default_rng([seed, number])
        for patient_number in range(n_patients):
            patient = simulated(
                rng, share=share, n_cells=n_cells, classifier=classifier, excluded=excluded
            )
            looks = Looks(patient, patient_number)
            for width in WIDTHS:
                key = share, n_cells, classifier, width
                outcomes.setdefault(key, []).append(looks.stopped(width))
    return outcomes


def _grid() -> Iterator[tuple[float, int, str]]:
    return ((s, m, c) for s in SHARES for m in N_CELLS for c in CLASSIFIERS)


def patients_of(tables: Sequence[Path], *, min_cells: int = 200) -> dict[str, Patient]:
    """The patients of tables that `spherodetect evaluate` wrote, or its blocks without patients."""
    rows: dict[str, list[dict[str, str]]] = {}
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["countable"] == "1" and row["label"] in ("rbc", "spherocyte"):
                    rows.setdefault(row["patient"] or row["block"], []).append(row)
    return {name: _patient(some) for name, some in rows.items() if len(some) >= min_cells}


def _patient(rows: Sequence[dict[str, str]]) -> Patient:
    field = np.unique([row["field"] for row in rows], return_inverse=True)[1]
    spherocyte = np.array([row["label"] == "spherocyte" for row in rows])
    p = np.array([float(row["p_spherocyte"]) for row in rows])
    return Patient(p, field, spherocyte, np.ones(len(rows), bool))


def measure(patient: Patient, n: int, n_draws: int) -> list[Outcome]:
    """Reviews of n cells, each drawn with another seed, through the public function."""
    ids, fields = [str(i) for i in range(len(patient.p))], [str(f) for f in patient.field]
    truth, outcomes = patient.cells_percent, []
    for seed in range(n_draws):
        order = drawn(patient.p, ids, seed).order[:n]
        answers = {ids[i]: "spherocyte" if patient.spherocyte[i] else "other" for i in order}
        score = reviewed_score(patient.p, ids, fields, answers, seed)
        outcomes.append(
            Outcome(
                n,
                score.cells_low - 1e-9 <= truth <= score.cells_high + 1e-9,
                score.cells_width,
                score.patient_low <= truth <= score.patient_high,
                score.patient_width,
            )
        )
    return outcomes


def automatic(patient: Patient, others: Sequence[Patient], *, seed: int) -> PatientScore:
    """The score of a patient by the laboratory's rates from reviews of 100 cells of the others."""
    reviewed = []
    for other in others:
        ids = [str(i) for i in range(len(other.p))]
        order = drawn(other.p, ids, seed).order[:RATES_CELLS]
        answers = {ids[i]: "spherocyte" if other.spherocyte[i] else "other" for i in order}
        reviewed.append(ReviewedCells.of(other.p, ids, answers, seed))
    lab = lab_rates(reviewed, name="the others", model="bundled", at_least=len(others))
    return _score(patient, lab.calibrated(patient.p) >= lab.p_spherocyte, lab.rates)


def _score(patient: Patient, called: np.ndarray, rates: ClassifierRates) -> PatientScore:
    n = int(patient.field.max()) + 1
    counts = (np.bincount(patient.field[chosen], minlength=n) for chosen in (called, slice(None)))
    return score_counts(*counts, model=rates)


def halves(patient: Patient) -> list[Patient]:
    """The patient's even and odd fields, as if they were two patients."""
    parts = []
    for parity in (0, 1):
        here = patient.field % 2 == parity
        arrays = (patient.p, patient.field // 2, patient.spherocyte, patient.countable)
        parts.append(Patient(*(array[here] for array in arrays)))
    return parts


def _print_rates(tables: Sequence[Path], n_draws: int) -> None:
    patients = patients_of(tables)
    model = read_json(BUNDLED / "model.json")
    bundled = ClassifierRates.from_model_json(model)
    cut = model["thresholds"]["p_spherocyte"]
    print("patient         true %  reviewed  holds  score    low   high  width")
    for name, patient in patients.items():
        others = [other for other_name, other in patients.items() if other_name != name]
        sources = {
            "bundled": [_score(patient, patient.p >= cut, bundled)],
            f"{len(others)}": [automatic(patient, others, seed=seed) for seed in range(n_draws)],
            f"{2 * len(others)} halves": [
                automatic(patient, [half for other in others for half in halves(other)], seed=seed)
                for seed in range(n_draws)
            ],
        }
        for source, scores in sources.items():
            truth = patient.cells_percent
            held = np.mean([s.hs_score_low <= truth <= s.hs_score_high for s in scores])
            score, low, high = (
                np.mean([getattr(s, key) for s in scores])
                for key in ("hs_score", "hs_score_low", "hs_score_high")
            )
            print(
                f"{name:15} {truth:6.1f} {source:>9} {held:6.2f} {score:6.1f} {low:6.1f}"
                f" {high:6.1f} {high - low:6.1f}"
            )


def coverage(outcomes: Sequence[Outcome]) -> float:
    """Part of the cells' intervals that held."""
    return float(np.mean([outcome.cells_held for outcome in outcomes]))


def plot(outcomes: Mapping[tuple[float, int, str, float], Sequence[Outcome]], path: Path) -> None:
    """Draw the width against the number of cells, and the coverage against the true percentage."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    styles = dict(zip(CLASSIFIERS, ("o-", "s--", "^-.", "D:"), strict=True))
    for number, (name, style) in enumerate(styles.items()):
        rng = np.random.default_rng([7, number])
        widths = np.zeros((PLOT_PATIENTS, len(_LOOKS)))
        for seed in range(PLOT_PATIENTS):
            patient = simulated(rng, share=0.2, n_cells=1500, classifier=name, excluded=EXCLUDED)
            looks = Looks(patient, seed)
            widths[seed] = [looks.at(n).cells_width for n in _LOOKS]
        left.plot(_LOOKS, widths.mean(axis=0), style, ms=4, label=f"{name} model")
        held = [
            np.mean([coverage(outcomes[share, m, name, w]) for m in N_CELLS for w in WIDTHS])
            for share in SHARES
        ]
        right.plot([100 * share for share in SHARES], [100 * h for h in held], style, ms=4)
    left.axhline(10, color="0.6", lw=1)
    left.set(xlabel="reviewed cells", ylabel="points between the limits", ylim=(0, None))
    left.set_title("width of the 95 % interval at 20 %, 1,500 cells", fontsize=10)
    left.legend(frameon=False, fontsize=9)
    right.axhspan(93, 100, color="0.9", lw=0)
    right.set(
        xlabel="true percentage of spherocytes", ylabel="percent of reviews", ylim=(80, 100.5)
    )
    right.set_title("intervals that hold, reviews ended by the rule", fontsize=10)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _print_simulated(n_patients: int, path: Path | None) -> None:
    outcomes = simulate(n_patients)
    if path is not None:
        plot(outcomes, path)
    print("  true %   cells    W  least  mean  patient  reviewed  width  patient's width")
    for share in SHARES:
        for n_cells in N_CELLS:
            for width in WIDTHS:
                parts = [outcomes[share, n_cells, c, width] for c in CLASSIFIERS]
                held = [coverage(part) for part in parts]
                every = [outcome for part in parts for outcome in part]
                n, cells_width, patient_held, patient_width = (
                    np.mean([getattr(o, name) for o in every])
                    for name in ("n", "cells_width", "patient_held", "patient_width")
                )
                print(
                    f"{100 * share:8g} {n_cells:7d} {width:4g} {min(held):6.3f}"
                    f" {np.mean(held):5.3f} {patient_held:8.3f} {n:9.0f} {cells_width:6.1f}"
                    f" {patient_width:8.1f}"
                )
    held = [coverage(part) for part in outcomes.values()]
    print(f"coverage: mean {np.mean(held):.3f}, least {min(held):.3f} of {len(held)} conditions")


def _print_real(tables: Sequence[Path], n_draws: int) -> None:
    print("patient          cells  true %     n  coverage  width  patient's width  cells to W = 10")
    for name, patient in patients_of(tables).items():
        stopped = [Looks(patient, seed).stopped(10.0).n for seed in range(n_draws)]
        for n in (60, 100, 200):
            outcomes = measure(patient, n, n_draws)
            width, patient_width = (
                np.mean([getattr(o, k) for o in outcomes]) for k in ("cells_width", "patient_width")
            )
            print(
                f"{name:15} {len(patient.p):6d} {patient.cells_percent:7.1f} {n:5d}"
                f" {coverage(outcomes):9.3f} {width:6.1f} {patient_width:16.1f}"
                f" {np.mean(stopped):16.0f}"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of simulated patients, or of real ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--patients", type=int, default=200, help="patients a condition; default: 200"
    )
    parser.add_argument("--plot", type=Path, help="also draw the simulated figures there")
    parser.add_argument("--labels", type=Path, nargs="+", help="labelled_cells.csv of evaluate")
    parser.add_argument("--rates", action="store_true", help="also a laboratory's own rates")
    parser.add_argument(
        "--draws", type=int, default=200, help="reviews of a real patient; default: 200"
    )
    args = parser.parse_args(argv)
    if args.labels:
        _print_real(args.labels, args.draws)
        if args.rates:
            _print_rates(args.labels, min(args.draws, RATES_DRAWS))
    else:
        _print_simulated(args.patients, args.plot)


if __name__ == "__main__":
    main()
