"""Comparisons on the same prompts: paired tests, corrections and clustered intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Verdict = Literal["holds", "does not hold", "undecided"]

_LEVEL = 0.95


def mcnemar(before: ArrayLike, after: ArrayLike) -> float:
    """Exact two-sided p that outcomes `[n]` change in both directions alike (McNemar 1947).

    Only the prompts whose outcome differs count; under the null each of them is a fair coin. 1.0
    where none differs.

    Raises:
        ValueError: the two do not have one outcome each for the same prompts.
    """
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"outcomes of shape {first.shape} and {second.shape} are not paired")
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    n = gained + lost
    # Integers of any size: exact until the one division.
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values of one family, in the order given (Holm 1979).

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values must lie in [0, 1]: {list(p_values)}")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def means(values: ArrayLike) -> Floats:
    """Outcomes `[variants, seeds, prompts, languages]` -> their mean `[variants, languages]`.

    nan is a cell that was not measured and is left out; where nothing was measured the mean is
    nan.
    """
    outcomes = _outcomes(values)
    return _weighted(outcomes, np.ones((1, outcomes.shape[1])), np.ones((1, outcomes.shape[2])))[0]


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], ArrayLike],
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of outcomes that share prompts and seeds.

    Training seeds and prompts are resampled independently of each other (the pigeonhole
    bootstrap, Owen 2007). A prompt is one cluster: all its languages, variants and seeds come
    along (Miller 2024, arXiv 2411.00640), so comparisons of variants and of languages are paired.
    With one seed only the prompts are resampled. The point estimate is `statistic(means(values))`.

    Not for one proportion: at 0 and at 1 every resample is the same and the interval empty, so
    `rates.wilson` has that case. Few seeds make the interval a little short for the spread between
    them (by `sqrt((s - 1) / s)`), and resampling both a little long for the rest.

    Args:
        values: outcomes `[variants, seeds, prompts, languages]`, 0 or 1 or a score; nan where a
            cell was not measured. A variant without seeds is repeated along them.
        statistic: means `[..., variants, languages]` -> numbers `[...]`; called once, with all
            draws on the leading axis. Draws where it is nan count as -inf for the lower bound and
            as inf for the upper one.
        draws: how many resamples.
        seed: of the resampling.

    Raises:
        ValueError: `values` has other axes, or `statistic` does not give one number a draw.
    """
    outcomes = _outcomes(values)
    rng = np.random.default_rng(seed)
    seeds, prompts = (_counts(rng, draws, n) for n in outcomes.shape[1:3])
    found = np.asarray(statistic(_weighted(outcomes, seeds, prompts)), np.float64)
    if found.shape != (draws,):
        raise ValueError(f"the statistic gave {found.shape} for {draws} draws: one number each")
    return percentiles(found)


def percentiles(draws: Floats) -> tuple[float, float]:
    """Middle 95 % of resampled statistics; an undefined one counts against both bounds."""
    nothing, outside = np.isnan(draws), (1 - _LEVEL) / 2
    # No interpolation, which would be undefined next to an infinite draw.
    low = np.quantile(np.where(nothing, -np.inf, draws), outside, method="lower")
    high = np.quantile(np.where(nothing, np.inf, draws), 1 - outside, method="higher")
    return float(low), float(high)


def verdict(low: float, high: float, threshold: float) -> Verdict:
    """Whether a quantity lies above a threshold, as far as its interval tells."""
    if low > threshold:
        return "holds"
    return "does not hold" if high < threshold else "undecided"


def _outcomes(values: ArrayLike) -> Floats:
    outcomes = np.asarray(values, np.float64)
    if outcomes.ndim != 4 or 0 in outcomes.shape:
        raise ValueError(f"not [variants, seeds, prompts, languages]: {outcomes.shape}")
    return outcomes


def _counts(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """How often each of n things is drawn when n are drawn with replacement, `[draws, n]`."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _weighted(outcomes: Floats, seeds: Floats, prompts: Floats) -> Floats:
    """Means `[D, V, L]` under the weights `[D, S]` and `[D, P]`; nan outcomes weigh nothing."""
    measured = ~np.isnan(outcomes)
    total = _sums(np.where(measured, outcomes, 0.0), seeds, prompts)
    weight = _sums(measured.astype(np.float64), seeds, prompts)
    nothing = np.full_like(total, np.nan)
    return np.divide(total, weight, out=nothing, where=weight > 0)


def _sums(cells: Floats, seeds: Floats, prompts: Floats) -> Floats:
    by_seed = np.tensordot(prompts, cells, axes=(1, 2))  # [D, V, S, L], a matrix product
    return np.einsum("ds,dvsl->dvl", seeds, by_seed)
