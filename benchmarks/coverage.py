"""The coverage of the 95 % interval of the HS score, on simulated patients with known truth.

    python -m benchmarks.coverage --plot experiments/coverage.png > experiments/coverage.txt

It takes 7 minutes of one core. A patient has a true fraction of spherocytes. Its fields have a beta
distribution around that fraction, with a given intra-field correlation. Its slide has its own
sensitivity and specificity. These are drawn from the distribution between slides of the bundled
model's blocks and, in a second run, of an invented good classifier that is known from twelve blocks
only.

Two other intervals are compared: that of the counted, uncorrected percentage, and that of an oracle
that knows the design effect of each patient. Fractions and rates are 0 to 1, printed percentages 0
to 100.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.safety import read_json
from spherodetect.score import counts as scoring
from spherodetect.score import interval
from spherodetect.score.blank import limit_of_blank
from spherodetect.score.rates import ClassifierRates

FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20, 0.40, 0.60)
FIELDS = (3, 5, 10, 20, 40)
CORRELATIONS = (0.0, 0.02, 0.05, 0.10)
CELLS_A_FIELD = (35, 100)
CONDITIONS = tuple(itertools.product(FRACTIONS, FIELDS, CORRELATIONS, CELLS_A_FIELD))
BUNDLED = Path(scoring.__file__).parents[1] / "models" / "bundled" / "model.json"

_CHUNK = 64  # patients whose draws are in memory together
#: Steps of the grid in angle. With 4096 steps a limit moves by less than a thousandth of the
#: interval's width.
_STEPS = 1024


@dataclass(frozen=True, eq=False)
class Slides:
    """A classifier: the rates that the score uses, and the true rates of new slides.

    The true rates are (conditions, B).
    """

    rates: ClassifierRates
    sensitivity: np.ndarray
    specificity: np.ndarray


def bundled_slides(
    rng: np.random.Generator, patients: int, *, model_json: Path = BUNDLED
) -> Iterator[Slides]:
    """New slides of the classifier of a model.json, drawn from the distribution of its blocks."""
    rates = ClassifierRates.from_model_json(read_json(model_json))
    yield Slides(
        rates, *(rng.choice(rates.table[:, k], (len(CONDITIONS), patients)) for k in (0, 1))
    )


def well_behaved_slides(
    rng: np.random.Generator, patients: int, *, models: int = 20
) -> Iterator[Slides]:
    """New slides of good classifiers: sensitivity 0.87 (0.78 to 0.94), specificity 0.985 (0.95 to
    0.999).

    The score knows them from twelve validation blocks; each block is a slide with its own rates.
    """
    for part in np.array_split(np.arange(patients), models):
        n_spherocyte, n_other = rng.integers(30, 200, 12), rng.integers(200, 800, 12)
        (block_se, block_sp), (se, sp) = (
            (rng.beta(0.87 * 60, 0.13 * 60, shape), rng.beta(0.985 * 100, 0.015 * 100, shape))
            for shape in (12, (len(CONDITIONS), len(part)))
        )
        called = rng.binomial(n_spherocyte, block_se), rng.binomial(n_other, 1 - block_sp)
        yield Slides(ClassifierRates(n_spherocyte, called[0], n_other, called[1]), se, sp)


@dataclass(frozen=True, eq=False)
class Coverage:
    """Results of each of CONDITIONS, (320,): shares of patients and mean widths, 0 to 1.

    Attributes:
        held, uncorrected_held: share of the intervals that contain the truth, of the score and of
            the counted percentage.
        low_is_zero: share of the intervals that begin at 0.
        width, oracle_width: mean widths.
    """

    patients: int
    held: np.ndarray
    uncorrected_held: np.ndarray
    low_is_zero: np.ndarray
    width: np.ndarray
    oracle_width: np.ndarray

    @property
    def groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The main conditions (5 % and more, 5 fields and more), the others above 0, those at 0."""
        fraction, fields = np.array(CONDITIONS).T[:2]
        main, zero = (fraction >= 0.05) & (fields >= 5), fraction == 0
        return main, ~main & ~zero, zero

    def figures(self) -> dict[str, float]:
        """The summary of the coverage."""
        main, other, zero = self.groups
        return {
            "main, mean coverage": self.held[main].mean(),
            "main, least coverage": self.held[main].min(),
            "main, mean coverage uncorrected": self.uncorrected_held[main].mean(),
            "main, width of the oracle's": (self.width[main] / self.oracle_width[main]).mean(),
            "other above 0, mean coverage": self.held[other].mean(),
            "other above 0, least coverage": self.held[other].min(),
            "other above 0, width of the oracle's": (
                self.width[other] / self.oracle_width[other]
            ).mean(),
            "at 0, interval begins at 0": self.low_is_zero[zero].mean(),
            "at 0, least of them": self.low_is_zero[zero].min(),
        }

    def __str__(self) -> str:
        columns = list(itertools.product(CELLS_A_FIELD, CORRELATIONS))
        rows = list(itertools.product(FRACTIONS, FIELDS))
        shape = len(rows), len(CORRELATIONS), len(CELLS_A_FIELD)
        held, raw, width, ratio = (
            values.reshape(shape).swapaxes(1, 2).reshape(len(rows), -1)
            for values in (
                self.held,
                self.uncorrected_held,
                self.width,
                self.width / self.oracle_width,
            )
        )
        lines = [
            f"{self.patients} patients a cell; coverage in percent by cells a field and "
            "intra-field correlation",
            f"true %  fields | {' '.join(f'{m:3d} {rho:3g}'.rjust(7) for m, rho in columns)}"
            " | uncorrected | width, points | of the oracle's",
        ]
        for (fraction, fields), *values in zip(rows, held, raw, width, ratio, strict=True):
            each = " ".join(f"{100 * share:7.1f}" for share in values[0])
            lines.append(
                f"{100 * fraction:6.0f}  {fields:6d} | {each} | {100 * values[1].mean():11.1f} | "
                f"{100 * values[2].mean():13.1f} | {values[3].mean():.2f}"
            )
        return "\n".join(
            [*lines, *(f"{name}: {value:.3f}" for name, value in self.figures().items())]
        )


def simulate(slides: Sequence[Slides], *, rng: np.random.Generator) -> Coverage:
    """The coverage of patients, one a slide, under each condition."""
    parts = [_outcomes(one, rng) for one in slides]
    held, raw, zero, width, oracle = np.concatenate(parts, axis=2)
    return Coverage(
        held.shape[1], *(values.mean(axis=1) for values in (held, raw, zero, width, oracle))
    )


def _outcomes(slides: Slides, rng: np.random.Generator) -> np.ndarray:
    """The values of each patient, (5, conditions, patients), of which Coverage has the means."""
    table, n_patients = slides.rates.table, slides.sensitivity.shape[1]
    blank_limit = cache(lambda n: limit_of_blank(n, model=slides.rates) / 100)
    outcomes = np.empty((5, len(CONDITIONS), n_patients))
    each = zip(CONDITIONS, slides.sensitivity, slides.specificity, strict=True)
    for at, ((fraction, n_fields, correlation, cells), se, sp) in enumerate(each):
        drawn = _counts(rng, se[:, None], sp[:, None], fraction, n_fields, correlation, cells)
        summaries = [interval.summarise(s, m) for s, m in zip(*drawn, strict=True)]
        share, n = (np.array([getattr(s, name) for s in summaries]) for name in ("share", "n"))
        effect, dof = (
            np.array([s.design_effect for s in summaries]),
            np.full(n_patients, n_fields + 1.0),
        )
        low, high = _limits(share, n / effect, dof, table)
        low[share <= [blank_limit(int(k)) + 1e-12 for k in n]] = 0
        raw_low, raw_high = _limits(
            share, n / effect, dof, np.array([[1, 1, 0.025], [1, 1, 0.975]])
        )
        oracle_low, oracle_high = _limits(
            share,
            n / _true_effect(se, sp, fraction, correlation, cells),
            np.full(n_patients, 1e6),
            table,
        )
        outcomes[:, at] = (
            (low <= fraction) & (fraction <= high),
            (raw_low <= fraction) & (fraction <= raw_high),
            low == 0,
            high - low,
            oracle_high - oracle_low,
        )
    return outcomes


def _counts(
    rng: np.random.Generator,
    se: np.ndarray,
    sp: np.ndarray,
    fraction: float,
    n_fields: int,
    correlation: float,
    cells: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Called spherocytes and countable cells of each field, (B, J); se and sp are (B, 1)."""
    shape = len(se), n_fields
    countable = np.maximum(rng.poisson(cells, shape), 1)
    field = np.full(shape, fraction)
    if fraction and correlation:
        spread = 1 / correlation - 1
        field = rng.beta(fraction * spread, (1 - fraction) * spread, shape)
    return rng.binomial(countable, field * se + (1 - field) * (1 - sp)).astype(
        float
    ), countable.astype(float)


def _true_effect(
    se: np.ndarray, sp: np.ndarray, fraction: float, correlation: float, cells: int
) -> np.ndarray:
    """The true design effect of the called cells, (B,), which the score does not know."""
    youden = se + sp - 1
    q = np.clip(fraction * youden + 1 - sp, 1e-9, 1 - 1e-9)
    return 1 + (cells - 1) * correlation * youden**2 * fraction * (1 - fraction) / (q * (1 - q))


def _limits(
    share: np.ndarray, n_effective: np.ndarray, dof: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """The limits of many patients, (2, B).

    A table of two rows without errors gives those of the counted percentage.
    """
    parts = []
    for first in range(0, len(share), _CHUNK):
        some = slice(first, first + _CHUNK)
        draws = interval.corrected_draws(
            share[some], n_effective[some], dof[some], table, steps=_STEPS
        )
        parts.append(draws.T if len(table) == 2 else np.quantile(draws, [0.025, 0.975], axis=1))
    return np.concatenate(parts, axis=1)


def plot(results: dict[str, Coverage], path: Path) -> None:
    """Plot the coverage against the true percentage, of the score and without correction.

    A row is a classifier, and a column is a number of fields.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shape = len(FRACTIONS), len(FIELDS), len(CORRELATIONS) * len(CELLS_A_FIELD)
    x = np.arange(1, len(FRACTIONS))
    figure, axes = plt.subplots(
        len(results),
        len(FIELDS),
        figsize=(12, 3.0 * len(results)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, (name, result) in zip(axes, results.items(), strict=True):
        for axis, j, n_fields in zip(row, range(len(FIELDS)), FIELDS, strict=True):
            axis.axhspan(93, 98, color="0.88", lw=0)
            for values, colour, label in (
                (result.uncorrected_held, "#D55E00", "as counted"),
                (result.held, "#0072B2", "HS score"),
            ):
                each = 100 * values.reshape(shape)[1:, j]
                axis.fill_between(
                    x, each.min(axis=1), each.max(axis=1), color=colour, alpha=0.2, lw=0
                )
                axis.plot(x, each.mean(axis=1), color=colour, marker="o", ms=3.5, label=label)
            axis.set(xticks=x, xticklabels=[f"{100 * f:g}" for f in FRACTIONS[1:]], ylim=(0, 101))
            axis.set_title(f"{name}, {n_fields} fields", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.supxlabel("true percentage of spherocytes", fontsize=10)
    figure.supylabel("95 % intervals that hold it, percent of patients", fontsize=10)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate both classifiers, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--patients", type=int, default=1000, help="patients a condition; default: 1000"
    )
    parser.add_argument(
        "--model-json", type=Path, default=BUNDLED, help="default: the bundled model's"
    )
    parser.add_argument("--plot", type=Path, help="also draw the figure there")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(2024)
    sources: dict[str, Any] = {
        "bundled model": bundled_slides(rng, args.patients, model_json=args.model_json),
        "well-behaved model": well_behaved_slides(rng, args.patients),
    }
    results = {}
    for name, slides in sources.items():
        results[name] = simulate(list(slides), rng=rng)
        print(f"{name}: {results[name]}\n", flush=True)
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
