"""The difference between two runs that were asked the same prompts and share no training.

Prompts are paired, seeds are not: a number that two runs both have makes no pair of their
trainings, so nothing here depends on how seeds are numbered, nor on there being as many.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import special

from jaxattack.evaluate.intervals import LEVEL, Estimate, Floats, estimate, means

RATE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)  # what each is bounded by


def rate(outcomes: Floats, trained: bool) -> Estimate:
    """A run's mean over languages of its outcomes `[seeds, prompts, languages]`; nan: none."""
    return estimate(outcomes[None], _mean, RATE, trained)


def difference(first: Floats, other: Floats, trained: bool) -> Estimate:
    """The other run's rate less the first's, of outcomes on the same prompts and languages.

    Its variance is `seeds / S` of either run, and what prompts make of the difference of both
    runs' means over seeds. Either holds the replies' own part, `rest / (S P)` of each run, which is
    taken off once. Student's quantile of the seeds has Welch's degrees of freedom (1947), for one
    run's seeds may differ more, or be more, than the other's. Where a run has one seed it is over
    prompts alone.
    """
    pooled = np.stack([_over_seeds(outcomes) for outcomes in (first, other)])
    across = _added(pooled, trained)
    seeds = [len(first), len(other)]
    if min(seeds) < 2:
        return across
    parts, rests = zip(*(_of_seeds(outcomes) for outcomes in (first, other)), strict=True)
    # Outcomes that do not differ within a language leave only what those never seen may add.
    unseen = _added(np.where(np.isnan(pooled), np.nan, means(pooled[:, None])[:, None]), trained)
    by_seed = sum(parts)
    by_prompt = max(across.error**2 - sum(rests), unseen.error**2)
    variance = by_seed + by_prompt
    found = dataclasses.replace(across, seeds=min(seeds) if trained else 0, error=variance**0.5)
    if not by_seed > 0:
        return found
    upper = (1 + LEVEL) / 2
    welch = by_seed**2 / sum(part**2 / (n - 1) for part, n in zip(parts, seeds, strict=True))
    few, many = (special.stdtrit(freedom, upper) for freedom in (welch, across.freedom))
    quantile = (by_seed * few + by_prompt * many) / variance
    freedom = float(special.stdtridf(upper, quantile))
    return dataclasses.replace(found, freedom=freedom, by_seed=by_seed / variance)


def _of_seeds(outcomes: Floats) -> tuple[float, float]:
    """Variances of a run's rate: by seeds, and the part of it that is by prompts as well."""
    own, pooled = rate(outcomes, True), rate(_over_seeds(outcomes)[None], True)
    by_seed = own.error**2 * float(own.by_seed)
    return by_seed, pooled.error**2 - (own.error**2 - by_seed)


def _over_seeds(outcomes: Floats) -> Floats:
    """Mean over seeds `[prompts, languages]`."""
    return means(outcomes.transpose(1, 0, 2)[:, :, None])


def _added(pooled: Floats, trained: bool) -> Estimate:
    """The difference of outcomes `[2, prompts, languages]`, over prompts."""
    return estimate(pooled[:, None], _gained, DIFFERENCE, trained)


def _mean(at: Floats) -> Any:
    return at[..., 0, :].mean(-1)


def _gained(at: Floats) -> Any:
    return (at[..., 1, :] - at[..., 0, :]).mean(-1)
