"""Several judges of one reply: whether it counts, and how far they agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Votes = Sequence[bool | None]


def all_agree(votes: Votes) -> bool:
    """Every judge that has an opinion says so, and one has."""
    known = [vote for vote in votes if vote is not None]
    return bool(known) and all(known)


def any_says(votes: Votes) -> bool:
    """One judge says so."""
    return any(vote for vote in votes if vote is not None)


def majority(votes: Votes) -> bool:
    """More than half of those that have an opinion say so."""
    known = [vote for vote in votes if vote is not None]
    return 2 * sum(known) > len(known)


RULES: Mapping[str, Callable[[Votes], bool]] = {
    "all": all_agree,
    "any": any_says,
    "majority": majority,
}


def kappa(a: ArrayLike, b: ArrayLike) -> float:
    """Cohen's kappa of two judges' yes or no `[n]` (Cohen 1960); nan where chance explains all.

    Raises:
        ValueError: they have not judged the same replies, or none.
    """
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"judgements of shape {first.shape} and {second.shape} are no pairs")
    observed = float((first == second).mean())
    p, q = float(first.mean()), float(second.mean())
    chance = p * q + (1 - p) * (1 - q)
    return math.nan if chance == 1 else (observed - chance) / (1 - chance)


def alpha(judgements: ArrayLike) -> float:
    """Krippendorff's alpha of `[judges, n]` yes (1) or no (0); nan: no opinion (Krippendorff 2011).

    Replies with fewer than two opinions tell nothing and are left out; nan where all opinions are
    the same.
    """
    values: NDArray[np.float64] = np.asarray(judgements, np.float64)
    if values.ndim != 2:
        raise ValueError(f"not [judges, replies]: {values.shape}")
    known = ~np.isnan(values)
    counts = known.sum(0)
    yes = np.nansum(values, 0)
    paired = counts >= 2
    counts, yes = counts[paired], yes[paired]
    total, ones = counts.sum(), yes.sum()
    if not total or ones in (0, total):
        return math.nan
    # Coincidences of unlike opinions within a reply, and those that chance would make.
    observed = (2 * yes * (counts - yes) / (counts - 1)).sum() / total
    expected = 2 * ones * (total - ones) / (total * (total - 1))
    return float(1 - observed / expected)
