"""Rank correlation, and its test between two language x language matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxattack.evaluate.intervals import LEVEL

OVER = "over languages, resampled: approximate with this few; not over prompts or seeds"


class Association(NamedTuple):
    """Rank correlation of two matrices: 95 % interval, two-sided p, and how many pairs."""

    rho: float
    low: float
    high: float
    p: float
    n: int


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of `[n]` and `[n]`; ties share their mean rank.

    nan where one of them does not vary, or fewer than two values are given.

    Raises:
        ValueError: not one value each.
    """
    first, second = _ranks(np.asarray(x, np.float64)), _ranks(np.asarray(y, np.float64))
    if first.shape != second.shape:
        raise ValueError(f"{first.size} and {second.size} values are not paired")
    middle = (first.size + 1) / 2  # the mean rank, ties or not
    first, second = first - middle, second - middle
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else float("nan")


def mantel(
    x: ArrayLike, y: ArrayLike, permutations: int = 9999, draws: int = 2000, seed: int = 0
) -> Association:
    """Spearman's rho of two matrices `[L, L]` over ordered pairs of languages, diagonal left out.

    The pairs of one language are not independent, so the p-value permutes languages, rows and
    columns together (Mantel 1967), and counts |rho| at least as large, the observed one included.
    The interval resamples languages (Snijders and Borgatti 1999): a language drawn twice brings
    its pairs twice, and none with itself.

    Args:
        x: for example transfer `[attacked, measured]`; nan where a pair was not measured.
        y: for example similarity; it is permuted, so every pair must be there.
        permutations: how many; the smallest p is 1 / (permutations + 1).
        draws: resamples of the languages.
        seed: of both.

    Raises:
        ValueError: the matrices differ in shape or are not square, or `y` lacks a pair.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or x.shape != y.shape or x.shape[0] != x.shape[1]:
        raise ValueError(f"matrices of shape {x.shape} and {y.shape} are not over the same pairs")
    count = len(x)
    apart = ~np.eye(count, dtype=bool)
    if np.isnan(y[apart]).any():
        raise ValueError("the permuted matrix lacks a pair")
    there = apart & ~np.isnan(x)
    rho = spearman(x[there], y[there])
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(count) for _ in range(permutations))
    shuffled = np.array([spearman(x[there], y[np.ix_(o, o)][there]) for o in orders])
    # Rounding must not tell a permutation that changes nothing from the observed order.
    beyond = int((np.abs(shuffled) >= abs(rho) - 1e-12).sum())
    samples = (rng.integers(count, size=count) for _ in range(draws))
    low, high = percentiles(np.array([_resampled(x, y, there, sample) for sample in samples]))
    p = (1 + beyond) / (1 + permutations) if rho == rho else float("nan")
    return Association(rho, low, high, p, int(there.sum()))


def percentiles(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Middle 95 % of resampled statistics; an undefined one counts against both bounds."""
    nothing, outside = np.isnan(draws), (1 - LEVEL) / 2
    # No interpolation, which would be undefined next to an infinite draw.
    low = np.quantile(np.where(nothing, -np.inf, draws), outside, method="lower")
    high = np.quantile(np.where(nothing, np.inf, draws), 1 - outside, method="higher")
    return float(low), float(high)


def _resampled(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    there: NDArray[np.bool_],
    sample: NDArray[np.int64],
) -> float:
    at = np.ix_(sample, sample)
    return spearman(x[at][there[at]], y[at][there[at]])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
