"""The limit of blank: the largest percentage that a slide without spherocytes may show."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from spherodetect.score.rates import ClassifierRates, HasRates, rates_table

#: The number of rows of the table that are averaged. The specificities of the first rows are evenly
#: spread as well, and each row costs an incomplete beta function.
BLANK_ROWS = 1024


def is_blank(called: int, n: int, table: np.ndarray) -> bool:
    """Whether `called` of n cells lie within the 95th percentile of slides without spherocytes.

    On such a slide the number X of called cells is binomial with the slide's false-positive rate.
    The specificity varies between slides, so X is a mixture of binomials over the table's rows. For
    one specificity Sp, P(X < called) is the regularised incomplete beta function
    I_Sp(n - called + 1, called).
    """
    if not called:
        return True
    return float(np.mean(special.betainc(n - called + 1, called, table[:BLANK_ROWS, 1]))) < 0.95


def limit_of_blank(n_countable: int, *, model: ClassifierRates | HasRates | None = None) -> float:
    """The 95th percentile of raw_percent, in percent, on slides without any spherocyte.

    The limit is a proxy: it rests on the specificity between the slides of the validation, because
    no slides of healthy controls are public. Without a model it is 0. With unknown rates it is NaN.

    Args:
        n_countable: number of countable cells on the slide. With 0 the result is NaN.
        model: the classifier's rates, or a model that has them.
    """
    table = rates_table(model)
    if not n_countable or np.isnan(table[0, 1]):
        return math.nan
    # Bisection for the largest count that is still blank.
    low, high = 0, int(n_countable)
    while low < high:
        middle = (low + high + 1) // 2
        if is_blank(middle, n_countable, table):
            low = middle
        else:
            high = middle - 1
    return 100.0 * low / n_countable
