"""Uses the prevalence of spherocytes in a field as the prior of its cells.

A person who labels a cell sees the whole slide. A network that judges each cell alone finds 75 % of
the spherocytes on one slide and 99 % on another. With the field's own prevalence as the prior, this
difference becomes smaller. The prevalence is estimated from the field itself by expectation
maximisation (Saerens, Latinne & Decaestecker 2002, Neural Computation 14:21).

The prior is only raised, never lowered. In a field with few spherocytes each cell is judged by
itself, so that a patient with few spherocytes does not lose them.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

#: The prior is raised above this share of spherocytes.
USUAL = 0.3
#: Weight of the prior: the estimate contains this many extra cells with the usual share.
DOUBT_CELLS = 10.0
ROUNDS = 20
#: Largest increase of the log odds. In a stain that is new to the network all cells are uncertain,
#: and such a field must not become a field of spherocytes.
MAX_RAISE = 1.5


def estimate_raise(log_odds: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """The increase of the log odds of a field's cells by its prevalence, scalar, 0 to MAX_RAISE.

    Args:
        log_odds: (N,) of spherocyte against other red cell, for the cells of one field, without a
            prior.
        among: (N,) bool, the whole, separated red cells, from which prevalence is estimated.
    """
    counted = tf.cast(among, log_odds.dtype)
    n = tf.reduce_sum(counted)
    usual = math.log(USUAL / (1 - USUAL))
    raised = tf.zeros([], log_odds.dtype)
    for _ in range(ROUNDS):
        spherocytes = tf.reduce_sum(tf.sigmoid(log_odds + raised) * counted)
        share = (spherocytes + DOUBT_CELLS * USUAL) / (n + DOUBT_CELLS)
        raised = tf.clip_by_value(tf.math.log(share / (1.0 - share)) - usual, 0.0, MAX_RAISE)
    return raised


def with_field_prior(
    log_odds: np.ndarray,
    among: np.ndarray,
    field: np.ndarray,
    others: np.ndarray,
    others_field: np.ndarray,
) -> np.ndarray:
    """Log odds of the cells of many fields, (N,), with their field's prevalence as the prior.

    Args:
        log_odds, among, field: (N,) of the cells, see `estimate_raise`.
        others, others_field: (M,) log odds and fields of further whole, separated red cells, which
            count for the prevalence only.
    """
    result = np.array(log_odds, float)
    for name in np.unique(np.asarray(field, str)):
        here = np.asarray(field, str) == name
        others_here = np.asarray(others_field, str) == name
        odds = np.concatenate([result[here], others[others_here]])
        whole = np.concatenate([among[here], np.ones(int(others_here.sum()), bool)])
        result[here] += float(estimate_raise(tf.constant(odds), tf.constant(whole)))
    return result


__all__ = ["estimate_raise", "with_field_prior"]
