"""Places for the cells of a field, with the stated shares of overlapping and touching cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from spherodetect.synthetic.bodies import Body
from spherodetect.synthetic.style import SmearStyle


def settle(
    rng: np.random.Generator,
    bodies: list[Body],
    n_red: int,
    size_hw: tuple[int, int],
    style: SmearStyle,
    overlap_fraction: float,
    touching_fraction: float,
) -> np.ndarray:
    """(N, 2) centres (y, x) of the cells in pixels.

    The cells get random places. Then they push each other apart and pull chosen neighbours
    together, in a fixed number of rounds. Meanwhile the field is a torus, so that cells do not
    accumulate at the borders.

    Args:
        rng: source of random numbers.
        bodies: the cells, red cells first.
        n_red: number of red cells.
        size_hw: height and width of the field in pixels.
        style: the smear.
        overlap_fraction: share of the red cells that overlap a neighbour.
        touching_fraction: share of the red cells that touch a neighbour.
    """
    if not bodies:
        return np.zeros((0, 2))
    radius = np.array([b.diameter_um / 2 / style.um_per_px for b in bodies])
    reach = radius * [(1 + b.outline.max()) / 2 for b in bodies]
    # Each cell keeps a random distance from its neighbours.
    gap = (0.15 + rng.exponential(0.35, len(bodies))) / style.um_per_px
    # The border may cut a red cell, but half of its smallest radius stays inside.
    outside = 0.5 * radius * [b.outline.min() for b in bodies] * (np.arange(len(bodies)) < n_red)

    order = rng.permutation(n_red)
    n_overlap = round(overlap_fraction * n_red)
    n_touching = min(round(touching_fraction * n_red), n_red - n_overlap)
    # Chains of neighbours with the distance of their centres, relative to the sum of their radii.
    chained: list[tuple[int, int]] = []
    apart: list[float] = []
    for chosen, nearest, farthest in (
        (order[:n_overlap], 0.55, 0.87),
        (order[n_overlap:][:n_touching], 0.98, 1.0),
    ):
        for a, b in _neighbours(rng, chosen):
            chained.append((a, b))
            apart.append((reach[a] + reach[b]) * rng.uniform(nearest, farthest))
    links, distance = np.array(chained, int).reshape(-1, 2), np.array(apart)

    torus = np.array(size_hw) + 2 * outside.max(initial=0)
    at = rng.uniform(0, torus, (len(bodies), 2))
    for (a, b), d in zip(links, distance, strict=True):
        turn = rng.uniform(0, 2 * np.pi)
        at[b] = at[a] + d * np.array([np.sin(turn), np.cos(turn)])
    linked = np.sort(links, axis=1) @ [len(bodies), 1]
    widest = 2 * (reach + gap).max()
    for _ in range(80):
        # The modulo is taken twice: for a tiny negative number it is the size of the torus itself,
        # which cKDTree refuses.
        tree = cKDTree(at % torus % torus, boxsize=torus)
        pairs = tree.query_pairs(min(widest, torus.min() / 2), output_type="ndarray")
        pairs = pairs[~np.isin(pairs @ [len(bodies), 1], linked)]
        least = (reach + gap)[pairs].sum(axis=1)
        pairs, target = np.concatenate([pairs, links]), np.concatenate([least, distance])
        step = at[pairs[:, 1]] - at[pairs[:, 0]]
        step -= torus * np.round(step / torus)
        length = np.maximum(np.hypot(*step.T), 1e-6)
        # Cells that are not linked only push; linked cells also pull.
        push = target - length
        push[: len(pairs) - len(links)].clip(0, out=push[: len(pairs) - len(links)])
        move = step * (0.35 * push / length)[:, None]
        np.add.at(at, pairs[:, 0], -move)
        np.add.at(at, pairs[:, 1], move)
    centres = at % torus - outside.max(initial=0)
    return np.clip(centres, 0.5 - outside[:, None], np.array(size_hw) - 0.5 + outside[:, None])


def _neighbours(rng: np.random.Generator, chosen: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours in chains of two or three of the chosen cells.

    A single chosen cell has no neighbour.
    """
    start = 0
    while len(chosen) - start >= 2:
        left = len(chosen) - start
        size = left if left <= 3 else 2 if left == 4 else int(rng.choice([2, 2, 3]))
        yield from zip(
            chosen[start : start + size - 1], chosen[start + 1 : start + size], strict=True
        )
        start += size
