"""The app's classifier on measurements, compared with one on the outputs of the network.

    python -m spherodetect.training.laboratories collect FOLD --second MODEL --records ... \\
        --out FILE.npz
    python -m benchmarks.app_features FILE.npz...

Each file has the cells of patients that its detector did not see. Within a patient, half of the
fields give n labelled cells, and the average precision of spherocytes is measured on the other
half; 20 times, with other fields and cells. Expected: with 50 labels or more the measurements are
no worse than the network's outputs; a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spherodetect.training.laboratories import Collected

LABELS, REPEATS = (20, 50, 200), 20


def scores(
    features: np.ndarray, spherocyte: np.ndarray, field: np.ndarray, *, n: int, seed: int = 0
) -> list[float]:
    """Average precision on the other half of the fields, for each repeat.

    Args:
        features: (N, D) of a patient's cells.
        spherocyte: (N,) bool, their labels.
        field: (N,) int, their fields.
        n: labelled cells, half of them spherocytes where there are as many.
        seed: of the choice of fields and cells, which is the same for all features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng, found = np.random.default_rng(seed), []
    for _ in range(REPEATS):
        fields = rng.permutation(np.unique(field))
        taught = np.isin(field, fields[: len(fields) // 2])
        positive, negative = (
            np.flatnonzero(taught & spherocyte),
            np.flatnonzero(taught & ~spherocyte),
        )
        n_positive = min(len(positive), n // 2)
        chosen = np.concatenate(
            [
                rng.choice(positive, n_positive, replace=False),
                rng.choice(negative, n - n_positive, replace=False),
            ]
        )
        model = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced")
        )
        model.fit(features[chosen], spherocyte[chosen])
        judged = model.decision_function(features[~taught])
        found.append(float(average_precision_score(spherocyte[~taught], judged)))
    return found


def rows(collected: Collected) -> Iterator[tuple[str, int, str, float, float]]:
    """Patient, number of labels, features, and mean and standard deviation over the repeats."""
    label, field = collected.cells["label"], collected.cells["field"]
    kind = np.where(label >= 0, collected.labels["class_id"][np.maximum(label, 0)], -1)
    red = np.isin(kind, (1, 2)) & (collected.fields["data_set"][field] == "dataset_a_mgg")
    patient = collected.fields["block"][field]
    measured = collected.cells["numbers"]
    network = np.column_stack(
        [collected.cells["log_odds"], np.log(collected.cells["probabilities"] + 1e-4)]
    )
    both = np.column_stack([measured, network])
    for name in sorted(set(patient[red])):
        here = red & (patient == name)
        for n in LABELS:
            for kind_of, values in (("measured", measured), ("network", network), ("both", both)):
                found = scores(values[here], kind[here] == 2, field[here], n=n)
                yield str(name), n, kind_of, float(np.mean(found)), float(np.std(found))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.app_features")
    parser.add_argument("files", nargs="+", type=Path)
    for name, n, features, mean, spread in rows(Collected.load(parser.parse_args().files)):
        print(f"{name}  {n:3d} labels  {features:9s} {mean:.3f} +- {spread:.3f}")


if __name__ == "__main__":
    main()
