"""Comparisons on the same prompts: the paired test, its correction, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Verdict = Literal["holds", "does not hold", "undecided"]


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


def verdict(low: float, high: float, threshold: float) -> Verdict:
    """Whether a quantity lies above a threshold, as far as its interval tells."""
    if low > threshold:
        return "holds"
    return "does not hold" if high < threshold else "undecided"
