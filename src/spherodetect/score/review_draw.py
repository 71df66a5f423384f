"""The order in which a person reviews the cells of a patient: a stratified draw from a seed.

Probabilities are 0 to 1, ids are text. Imports no image code.

The draw needs a seed and the cell ids, and no random generator: u is a hash of both. The model's p
gives each cell the standard deviation s that its answer is expected to have. The cells are sorted
by p and cut into 10 strata of equal sums of s. Each stratum gets a part of every prefix of the
order that is proportional to its sum (Sainte-Laguë's method). So a review may stop, or go on, at
any cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

N_STRATA = 10
#: p is drawn towards 1/2 by this much, so that no cell is taken to be certain.
_LEAST_P = 0.06


def review_order(p: Any, cell_ids: Sequence[str], seed: int) -> np.ndarray:
    """(M,) int, the positions of the cells in the order in which they are to be reviewed.

    Args:
        p: (M,) the model's probability that each countable cell is a spherocyte.
        cell_ids: (M,) text, no two alike.
        seed: a whole number.

    Every prefix of the order is a stratified simple random sample. The order does not depend on the
    order of the rows.

    Raises:
        ValueError: probabilities outside 0 to 1, ids that are alike, or different lengths.
    """
    return drawn(p, cell_ids, seed).order


@dataclass(frozen=True, eq=False)
class Draw:
    """The order of a review and the strata it was drawn from.

    Attributes:
        order: (M,) positions.
        stratum: (M,) the stratum of each cell, 0 to H - 1.
        n_strata: H.
    """

    order: np.ndarray
    stratum: np.ndarray
    n_strata: int


def drawn(p: Any, cell_ids: Sequence[str], seed: int) -> Draw:
    """The order of `review_order` together with the strata."""
    p = _probabilities(p, cell_ids)
    u = np.array([_uniform(seed, cell_id) for cell_id in cell_ids])
    shrunk = (p + _LEAST_P) / (1 + 2 * _LEAST_P)
    spread = np.sqrt(shrunk * (1 - shrunk))
    by_p = np.lexsort((u, p))
    running = np.cumsum(spread[by_p])
    total = running[-1] if len(p) else 1.0
    cut = np.floor(N_STRATA * (running - spread[by_p] / 2) / total).astype(int)
    stratum = np.empty(len(p), int)
    stratum[by_p] = np.unique(cut, return_inverse=True)[1]
    n_strata = int(stratum.max(initial=-1)) + 1
    sums = np.bincount(stratum[by_p], spread[by_p], minlength=n_strata)
    # The k-th cell of a stratum by u; lexsort puts each stratum's cells side by side.
    by_u = np.lexsort((u, stratum))
    first = np.searchsorted(stratum[by_u], np.arange(n_strata))
    rank = np.empty(len(p))
    rank[by_u] = np.arange(len(p)) - first[stratum[by_u]] + 0.5
    return Draw(np.lexsort((u, stratum, rank / sums[stratum])), stratum, n_strata)


def _probabilities(p: Any, cell_ids: Sequence[str]) -> np.ndarray:
    p = np.asarray(p, float)
    if p.shape != (len(cell_ids),):
        raise ValueError(f"expected one p a cell, ({len(cell_ids)},), got {p.shape}")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("expected p from 0 to 1 for each cell")
    if len(set(cell_ids)) < len(cell_ids):
        raise ValueError("expected cell ids of which no two are alike")
    return p


def _uniform(seed: int, cell_id: str) -> float:
    """A number in 0..1 that seed and cell id determine."""
    text = f"{int(seed)}|{cell_id}".encode(errors="backslashreplace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64
