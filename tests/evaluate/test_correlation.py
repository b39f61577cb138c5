"""Rank correlation and the permutation of whole languages."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.evaluate.correlation import mantel, percentiles, spearman

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30)


def test_spearman_by_hand():
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # No ties: 1 - 6 sum d^2 / (n (n^2 - 1)), d = 1 1 0 1 1.
    assert spearman([1, 2, 3, 4, 5], [2, 1, 3, 5, 4]) == pytest.approx(1 - 6 * 4 / 120)
    # Ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, variances 1.5 and 2.
    assert spearman([7, 7, 9], [1, 2, 3]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([], []))


@given(PAIRS)
def test_spearman_is_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    x, y = np.array(pairs).T
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert np.isnan(spearman(x, y))


def matrices(count, noise, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(count, 2))
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return -distance + noise * rng.normal(size=(count, count)), -distance


def test_the_p_value_is_that_of_all_permutations():
    x, y = matrices(4, noise=0.7)
    apart = ~np.eye(4, dtype=bool)
    rho = spearman(x[apart], y[apart])
    every = [
        abs(spearman(x[apart], y[np.ix_(order, order)][apart])) for order in permutations(range(4))
    ]
    exact = np.mean(np.array(every) >= abs(rho) - 1e-12)
    found = mantel(x, y, permutations=4000)
    assert found.rho == pytest.approx(rho)
    assert found.n == 12
    assert found.p == pytest.approx(exact, abs=0.03)


def test_ties_count_and_so_does_the_observed_order():
    # Two groups of two: a third of all orders keep them, and none is further from chance.
    groups = np.array([0, 0, 1, 1])
    alike = (groups[:, None] == groups[None]).astype(float)
    assert mantel(alike, alike, permutations=3000, draws=1).p == pytest.approx(1 / 3, abs=0.03)
    # No order of ten languages is like the observed one: 1 of 20 orders, that one among them.
    assert mantel(*matrices(10, noise=0.0), permutations=19, draws=1).p == 1 / 20


@pytest.mark.parametrize(("n", "middle"), [(41, (1.0, 39.0)), (100, (2.0, 97.0))])
def test_percentiles_are_draws_and_nothing_counts_against_both(n, middle):
    # Of ranks 0 to 40 the 2.5 % lie at 1 and 39; of 0 to 99 at 2.475 and 96.525, rounded outwards.
    assert percentiles(np.arange(float(n))) == middle
    low, high = percentiles(np.array([*np.arange(30.0), *[np.nan] * 2]))
    assert (low, high) == (-np.inf, np.inf)


def test_related_matrices_are_told_from_unrelated_ones():
    near = mantel(*matrices(10, noise=0.3), permutations=499, draws=300)
    assert near.p <= 0.01
    assert 0.5 < near.low < near.rho < near.high <= 1
    x, _ = matrices(10, noise=0.0, seed=3)
    _, y = matrices(10, noise=0.0, seed=4)
    far = mantel(x, y, permutations=499, draws=300)
    assert far.low < 0 < far.high
    assert far.p > 0.05


def test_p_is_uniform_under_the_null():
    found = []
    for seed in range(60):
        x, _ = matrices(6, noise=0.5, seed=seed)
        _, y = matrices(6, noise=0.5, seed=1000 + seed)
        found.append(mantel(x, y, permutations=99, draws=1, seed=seed).p)
    assert abs(np.mean(found) - 0.5) < 4 / (12 * 60) ** 0.5
    assert np.mean(np.array(found) <= 0.1) < 0.25


def test_pairs_that_were_not_measured_are_left_out():
    x, y = matrices(8, noise=0.2)
    x[3:] = np.nan  # only three languages were attacked
    np.fill_diagonal(y, np.nan)
    found = mantel(x, y, permutations=199, draws=200)
    assert found.n == 3 * 7
    rows = np.array([(i, j) for i in range(3) for j in range(8) if i != j]).T
    assert found.rho == pytest.approx(spearman(x[*rows], y[*rows]))
    assert found.p < 0.05


def test_a_permuted_matrix_must_be_whole():
    x, y = matrices(4, noise=0.2)
    y[0, 1] = np.nan
    with pytest.raises(ValueError, match="lacks a pair"):
        mantel(x, y)
    for one, two in ((x, y[:3]), (x[:3], y[:3]), (x[0], y[0])):
        with pytest.raises(ValueError, match="same pairs"):
            mantel(one, two)
