"""The reviewed score against a second implementation, exact enumeration and simulated patients."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import optimize, special, stats

from benchmarks.reviewed import Looks, Patient, coverage, measure, simulate, simulated
from spherodetect.score.review import finished, review_order, reviewed_score
from spherodetect.score.review_draw import drawn
from spherodetect.score.review_plan import expected_cells, more_cells_needed
from spherodetect.score.stratified import BetaMixture, Strata


def example(rng, n_cells=600, share=0.2, n_fields=8, distance=2.0):
    """Probabilities, ids, fields and true classes of one patient."""
    truth = rng.random(n_cells) < share
    p = special.expit(distance * (rng.normal(size=n_cells) + distance * (truth - 0.5)) - 1.5)
    ids = [f"field {i % n_fields}/cell {i}" for i in range(n_cells)]
    return p, ids, [name.partition("/")[0] for name in ids], truth


def answered(order, ids, truth, n, *, rng=None, excluded=0.0, unsure=0.0):
    """The answers of a reader about the first n cells."""
    answers = {}
    for i in order[:n]:
        draw = rng.random() if rng is not None else 1.0
        answers[ids[i]] = "spherocyte" if truth[i] else "other"
        if draw < excluded + unsure:
            answers[ids[i]] = "excluded" if draw < excluded else "unsure"
    return answers


# --- A second implementation, from the text of the method alone, with loops. ---------------------


def plain_strata(p, ids, seed):
    cells = []
    for prob, cell_id in zip(p, ids, strict=True):
        digest = hashlib.blake2b(f"{seed}|{cell_id}".encode(), digest_size=8).digest()
        q = (prob + 0.06) / 1.12
        cells.append((prob, int.from_bytes(digest, "big") / 2**64, cell_id, math.sqrt(q * (1 - q))))
    cells.sort()
    total = sum(s for *_, s in cells)
    strata, running = defaultdict(list), 0.0
    for cell in cells:
        running += cell[3]
        strata[math.floor(10 * (running - cell[3] / 2) / total)].append(cell)
    return [strata[h] for h in sorted(strata)]


def plain_order(p, ids, seed):
    keyed = []
    for h, cells in enumerate(plain_strata(p, ids, seed)):
        weight = sum(s for *_, s in cells)
        for k, (_, u, cell_id, _) in enumerate(sorted(cells, key=lambda cell: cell[1]), 1):
            keyed.append(((k - 0.5) / weight, h, u, cell_id))
    return [cell_id for *_, cell_id in sorted(keyed)]


def plain_limits(p, ids, fields, answers, seed):
    """cells and patient limits in percent, as (low, high, low, high)."""
    strata = plain_strata(p, ids, seed)
    field_of = dict(zip(ids, fields, strict=True))
    rows = []
    for cells in strata:
        names = [cell[2] for cell in cells]
        said = [answers[name] for name in names if name in answers]
        N, n = len(names), len(said)
        v = sum(a in ("spherocyte", "other") for a in said)
        x = said.count("spherocyte")
        rows.append({"N": N, "n": n, "v": v, "x": x, "f": n / N, "Np": N * v / n, "names": names})
    M = sum(row["Np"] for row in rows)
    tau = sum(row["N"] * row["x"] / row["n"] for row in rows) / M
    v_lin = within = 0.0
    for row in rows:
        row["W"], row["r"] = row["Np"] / M, row["x"] / row["v"]
        row["b"] = (1 - row["f"]) * row["r"] * (1 - row["r"]) / max(row["v"] - 1, 1)
        y = [1 - tau] * row["x"] + [-tau] * (row["v"] - row["x"]) + [0.0] * (row["n"] - row["v"])
        s2 = float(np.var(y, ddof=1)) if row["n"] > 1 else 0.0
        v_lin += row["N"] ** 2 * (1 - row["f"]) * s2 / row["n"] / M**2
        within += row["W"] ** 2 * row["b"]
    e = max(v_lin - within, 0.0)

    def pair(upper):
        def gain(row):
            room = 1 - row["r"] if upper else row["r"]
            return row["W"] * (1 - row["f"]) * room / (row["v"] + 1)

        g = max(rows, key=gain)
        a = g["x"] + 1 if upper else g["x"]
        mu = a / (g["v"] + 1)
        mean = sum(row["W"] * row["r"] for row in rows)
        mean += g["W"] * (1 - g["f"]) * (mu - g["r"])
        var = within - g["W"] ** 2 * g["b"] + e
        if g["f"] < 1:
            var += (
                (g["W"] * (1 - g["f"])) ** 2
                * (mu * (1 - mu) / (g["v"] + 2))
                * (1 + (g["v"] + 1) / (g["Np"] - g["v"]))
            )
        return mean, var

    def limits(moments):
        def cdf(t):
            total = 0.0
            for mean, var in moments:
                if var < 1e-18 or mean in (0.0, 1.0):
                    total += float(t >= mean) / 2
                else:
                    k = mean * (1 - mean) / var - 1
                    total += stats.beta.cdf(t, mean * k, (1 - mean) * k) / 2
            return total

        out = []
        for level in (0.02, 0.98):
            low_end, high_end = cdf(0.0) >= level, cdf(1 - 1e-15) < level
            root = optimize.brentq(lambda t, at=level: cdf(t) - at, 0, 1) if not low_end else 0.0
            out.append(1.0 if high_end else root)
        return out

    moments = [pair(False), pair(True)]
    low, high = limits(moments)
    c = sum(row["N"] for row in rows) - sum(a in ("excluded", "unsure") for a in answers.values())
    least = sum(row["x"] for row in rows) / c
    most = 1 - sum(row["v"] - row["x"] for row in rows) / c
    cells = [min(max(value, least), most) for value in (low, high)]

    names = sorted(set(fields))
    J = len(names)
    counts = [fields.count(name) for name in names]
    d0 = 1 + (sum(m * m for m in counts) / sum(counts) - 1) * 0.05
    d = d0
    if J >= 5 and 0 < tau < 1:
        r2 = sum(row["Np"] * (row["r"] - tau) ** 2 for row in rows) / (M * tau * (1 - tau))
        z2 = 0.0
        for name in names:
            z = m_j = 0.0
            for row in rows:
                C = sum(field_of[cell] == name for cell in row["names"]) * row["v"] / row["n"]
                z += C * row["r"]
                m_j += C
            z2 += (z - tau * m_j) ** 2
        d1 = J / (J - 1) * z2 / (M * tau * (1 - tau)) + 1 - r2 + (1 - r2**2) * (d0 - 1)
        d = max(1.0, (2 * d0 + (J - 1) * d1) / (J + 1))
    T = (stats.t.ppf(0.975, J + 1) / 1.96) ** 2
    patient = limits([(m, var + d * T * m * (1 - m) / M) for m, var in moments])
    return [100 * value for value in (*cells, *patient)]


def limits_of(score):
    return [score.cells_low, score.cells_high, score.patient_low, score.patient_high]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize(("n_cells", "n"), [(120, 50), (600, 50), (600, 137), (1500, 300)])
@pytest.mark.parametrize("excluded", [0.0, 0.05])
def test_a_second_implementation_agrees(share, n_cells, n, excluded):
    rng = np.random.default_rng(int(1000 * share) + n)
    for n_fields in (1, 3, 8):
        p, ids, fields, truth = example(rng, n_cells, share, n_fields)
        order = review_order(p, ids, 5)
        assert [ids[i] for i in order] == plain_order(p, ids, 5)
        answers = answered(order, ids, truth, n, rng=rng, excluded=excluded, unsure=excluded / 2)
        score = reviewed_score(p, ids, fields, answers, 5)
        expected = plain_limits(p, ids, fields, answers, 5)
        assert limits_of(score)[:2] == pytest.approx(expected[:2], abs=0.001)
        # The package never lets the patient's limits lie inside those of the cells.
        expected[2:] = min(expected[2], expected[0]), max(expected[3], expected[1])
        assert limits_of(score)[2:] == pytest.approx(expected[2:], abs=0.001)


# --- The draw. -----------------------------------------------------------------------------------


def test_order_depends_on_the_seed_and_not_on_the_rows():
    rng = np.random.default_rng(1)
    p, ids, _, _ = example(rng)
    order = [ids[i] for i in review_order(p, ids, 3)]
    assert order == [ids[i] for i in review_order(p, ids, 3)]
    assert sorted(order) == sorted(ids)
    mixed = rng.permutation(len(p))
    mixed_ids = [ids[i] for i in mixed]
    assert order == [mixed_ids[i] for i in review_order(p[mixed], mixed_ids, 3)]
    assert order != [ids[i] for i in review_order(p, ids, 4)]


def test_equal_probabilities_are_ordered_by_their_hash():
    ids = [f"c{i}" for i in range(300)]
    order = review_order(np.full(300, 0.5), ids, 1)
    assert [ids[i] for i in order] == plain_order([0.5] * 300, ids, 1)


@pytest.mark.parametrize("n_cells", [300, 1500, 3000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_every_stratum_has_its_part_of_every_prefix(n_cells, share):
    p, ids, _, _ = example(np.random.default_rng(2), n_cells, share)
    draw = drawn(p, ids, 9)
    assert draw.n_strata == 10
    for n in (50, 75, 300):
        counts = np.bincount(draw.stratum[draw.order[:n]], minlength=10)
        assert counts.min() >= 2
        # The strata have equal sums of s, so their parts differ by little.
        assert counts.max() - counts.min() <= 2 or n_cells == 300


@pytest.mark.parametrize(
    ("p", "ids", "match"),
    [([0.5, 1.2], ["a", "b"], "0 to 1"), ([0.5, math.nan], ["a", "b"], "0 to 1"),
     ([0.5, 0.6], ["a", "a"], "alike"), ([0.5], ["a", "b"], r"\(2,\)")],
)  # fmt: skip
def test_impossible_cells_are_refused(p, ids, match):
    with pytest.raises(ValueError, match=match):
        review_order(p, ids, 1)


# --- Invariants of the estimate. -----------------------------------------------------------------


def test_all_cells_reviewed_leave_no_doubt_about_them():
    p, ids, fields, truth = example(np.random.default_rng(3), 300)
    answers = answered(range(300), ids, truth, 300)
    score = reviewed_score(p, ids, fields, answers, 1)
    assert score.cells_width < 1e-6
    assert score.score == pytest.approx(100 * truth.mean())
    assert score.patient_width > 1


def test_none_found_begins_at_zero():
    p, ids, fields, _ = example(np.random.default_rng(4), 1500)
    answers = answered(review_order(p, ids, 1), ids, np.zeros(1500, bool), 100)
    score = reviewed_score(p, ids, fields, answers, 1)
    assert score.cells_low == score.patient_low == 0
    assert 1.5 < score.cells_high < 5


def test_flipped_answers_mirror_the_limits():
    rng = np.random.default_rng(5)
    for share in (0.0, 0.03, 0.4):
        p, ids, fields, truth = example(rng, 500, share)
        order = review_order(p, ids, 1)
        score, mirrored = (
            reviewed_score(p, ids, fields, answered(order, ids, labels, 90), 1)
            for labels in (truth, ~truth)
        )
        assert limits_of(mirrored) == pytest.approx(
            [100 - value for value in np.array(limits_of(score))[[1, 0, 3, 2]]], abs=1e-6
        )


def test_patient_contains_cells_and_cells_contain_what_was_named():
    rng = np.random.default_rng(6)
    for n_cells in (60, 300, 1500):
        for share in (0.0, 0.02, 0.5, 1.0):
            p, ids, fields, truth = example(rng, n_cells, share, int(rng.integers(1, 12)))
            order = review_order(p, ids, 1)
            answers = answered(order, ids, truth, 60, rng=rng, excluded=0.05)
            score = reviewed_score(p, ids, fields, answers, 1)
            assert 0 <= score.patient_low <= score.cells_low <= score.score + 1e-9
            assert score.score - 1e-9 <= score.cells_high <= score.patient_high <= 100
            countable = n_cells - score.n_excluded
            assert score.cells_low >= 100 * score.n_spherocytes / countable - 1e-9


def test_unsure_cells_are_counted_and_bracket_the_score():
    rng = np.random.default_rng(7)
    p, ids, fields, truth = example(rng, 800, 0.3)
    answers = answered(review_order(p, ids, 1), ids, truth, 100, rng=rng, excluded=0.1, unsure=0.2)
    score = reviewed_score(p, ids, fields, answers, 1)
    said = list(answers.values())
    assert (score.n_reviewed, score.n_excluded, score.n_unsure, score.n_spherocytes) == (
        100, said.count("excluded"), said.count("unsure"), said.count("spherocyte"),
    )  # fmt: skip
    assert score.score_unsure_other < score.score < score.score_unsure_spherocyte
    other = {cell: "other" if a == "unsure" else a for cell, a in answers.items()}
    assert score.score_unsure_other == reviewed_score(p, ids, fields, other, 1).score


def test_only_excluded_cells_prove_nothing():
    p, ids, fields, _ = example(np.random.default_rng(8), 100)
    answers = {ids[i]: "excluded" for i in review_order(p, ids, 1)[:60]}
    score = reviewed_score(p, ids, fields, answers, 1)
    assert math.isnan(score.score)
    assert limits_of(score) == [0, 100, 0, 100]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a, order: a.pop(order[3]), "first 49"),
        (lambda a, order: a.update({order[60]: "other"}), "first 51"),
        (lambda a, order: a.update({order[2]: "sphere"}), "sphere"),
        (lambda a, order: [a.pop(order[i]) for i in range(3, 50)], "stratum"),
    ],
)
def test_answers_that_are_no_prefix_are_refused(change, match):
    p, ids, fields, truth = example(np.random.default_rng(9))
    order = review_order(p, ids, 1)
    answers = answered(order, ids, truth, 50)
    change(answers, [ids[i] for i in order])
    with pytest.raises(ValueError, match=match):
        reviewed_score(p, ids, fields, answers, 1)


def test_no_cell_is_refused():
    with pytest.raises(ValueError, match="countable"):
        reviewed_score([], [], [], {}, 1)


def test_draws_have_the_limits_as_quantiles():
    p, ids, fields, truth = example(np.random.default_rng(10), 1000, 0.15)
    score = reviewed_score(p, ids, fields, answered(review_order(p, ids, 1), ids, truth, 150), 1)
    percent = score.percent_draws()
    assert np.all(np.diff(percent) >= 0)
    low, high = np.quantile(percent, [0.02, 0.98])
    assert (low, high) == pytest.approx((score.patient_low, score.patient_high), abs=0.02)


def test_a_point_and_a_beta_mix():
    mixture = BetaMixture((0.0, 0.0), (0.1, 0.002))
    assert mixture.quantile(0.5) == 0
    assert mixture.below(mixture.quantile(0.75)) == pytest.approx(0.75)


# --- The stopping rule and the forecast. ---------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "ns", "end"),
    [
        ([], [], False),
        ([9.0], [50], False),
        ([9.0, 11.0], [50, 75], True),
        ([14.0, 10.0], [50, 75], False),
        ([14.0, 10.0, 12.0], [50, 75, 100], True),
        ([5.0, 14.0], [25, 50], False),
        ([20.0], [300], True),
    ],
)
def test_one_batch_follows_the_first_narrow_look(widths, ns, end):
    assert finished(widths, ns, width=10) is end


def test_the_forecast_comes_true():
    p, ids, fields, truth = example(np.random.default_rng(11), 1500, 0.2, 15, distance=2.5)
    order = review_order(p, ids, 1)
    answers = answered(order, ids, truth, 50)
    more = more_cells_needed(p, ids, fields, answers, 1, width=14)
    assert more and more % 25 == 0
    then = reviewed_score(p, ids, fields, answered(order, ids, truth, 50 + more), 1)
    assert then.patient_width == pytest.approx(14, abs=2.5)
    assert more_cells_needed(p, ids, fields, answers, 1, width=99) == 0
    assert more_cells_needed(p, ids, fields, answers, 1, width=0.1) is None


def test_the_forecast_before_the_first_answer():
    p, ids, fields, truth = example(np.random.default_rng(14), 1500, 0.2, 15, distance=2.5)
    n = expected_cells(p, ids, fields, width=12)
    assert 50 <= n < 400
    score = reviewed_score(p, ids, fields, answered(review_order(p, ids, 1), ids, truth, n), 1)
    assert score.patient_width == pytest.approx(12, abs=2.5)
    assert expected_cells(p, ids, fields, width=0.1) is None
    assert expected_cells([], [], [], width=10) is None


# --- Coverage. -----------------------------------------------------------------------------------


def test_exact_coverage_of_one_stratum():
    N, n = 600, 60
    intervals = [Strata([N], [n], [n], [x]).found_limits() for x in range(n + 1)]
    low, high = np.array(intervals).T
    x = np.arange(n + 1)
    for K in range(N + 1):
        held = (low <= K / N + 1e-9) & (high >= K / N - 1e-9)
        assert stats.hypergeom.pmf(x, N, K, n)[held].sum() >= 0.93, K


def test_exact_coverage_of_two_strata():
    N, n = (450, 150), (20, 20)
    x = np.arange(21)
    limits = np.array(
        [[Strata(N, n, n, [a, b]).found_limits() for b in x] for a in x]
    )  # (21, 21, 2)
    pmf = [
        np.array([stats.hypergeom.pmf(x, N[h], K, n[h]) for K in range(N[h] + 1)]) for h in (0, 1)
    ]
    least = 1.0
    for first in range(0, 451, 9):
        for second in range(0, 151, 5):
            truth = (first + second) / 600
            held = (limits[..., 0] <= truth + 1e-9) & (truth - 1e-9 <= limits[..., 1])
            least = min(least, float(pmf[0][first] @ held @ pmf[1][second]))
    assert least >= 0.925


def _check(outcomes, n_patients):
    held = np.array([coverage(part) for part in outcomes.values()])
    assert held.mean() >= 0.95
    least = 0.93 - 3.3 * math.sqrt(0.93 * 0.07 / n_patients)
    assert held.min() >= least, [key for key, part in outcomes.items() if coverage(part) < least]
    patients = [np.mean([o.patient_held for o in part]) for part in outcomes.values()]
    assert np.mean(patients) >= 0.95


@pytest.mark.slow
def test_simulated_reviews_hold():
    _check(simulate(25), 25)


@pytest.mark.slow
def test_many_simulated_reviews_hold():
    _check(simulate(400, seed=17), 400)


def test_a_wrong_classifier_costs_width_and_not_coverage():
    rng = np.random.default_rng(12)
    widths = {}
    for classifier in ("good", "useless"):
        patient = simulated(rng, share=0.2, n_cells=1500, classifier=classifier, excluded=0.0)
        outcomes = measure(patient, 100, 100)
        assert coverage(outcomes) >= 0.87
        widths[classifier] = np.mean([outcome.cells_width for outcome in outcomes])
    assert widths["good"] < 0.65 * widths["useless"]


def test_the_benchmark_looks_as_the_public_function_does():
    rng = np.random.default_rng(13)
    patient = simulated(rng, share=0.1, n_cells=700, classifier="mediocre", excluded=0.0)
    assert isinstance(patient, Patient)
    assert Looks(patient, 0).at(100).cells_width == pytest.approx(
        measure(patient, 100, 1)[0].cells_width
    )
