"""Intervals of figures over training seeds and prompts, which cross: every seed is asked them all.

The variance of a mean over both is `seeds / S + prompts / P + rest / (S P)`. It is estimated in
closed form by clustering both ways (Cameron, Gelbach and Miller 2011). A few seeds tell little of
their own spread, so the quantile is Student's, of seeds and of prompts, each by its part in the
variance (Cochran and Cox 1950). One seed tells nothing of it: such an interval is over the prompts
of that run alone, and its name says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], ArrayLike]  # means [..., variants, languages] -> numbers [...]
Bounds = tuple[float, float] | None

LEVEL = 0.95
_UPPER = (1 + LEVEL) / 2
_STEP = 1e-4  # by which means are moved to see how a statistic depends on them
_EDGE = 0.1  # share of its range by which a figure is near a bound


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure, its standard error, and what that is of."""

    value: float
    error: float
    freedom: float  # of Student's quantile
    by_seed: float  # share of the variance that seeds make
    bounds: Bounds
    seeds: int  # 0: nothing was trained
    prompts: int
    draw: str = "seed"  # what `seeds` are

    @property
    def over(self) -> str:
        """What the interval covers, and where it covers less often than it says."""
        few = "; so few may cover less than 95 %"
        if self.prompts == 0:
            if self.seeds == 1:
                return f"one {self.draw}, no interval"
            return f"over {self.seeds} {self.draw}s" + few * (self.seeds == 2)
        if self.seeds == 0:
            return f"over {self.prompts} prompts"
        if self.seeds == 1:
            return f"over the {self.prompts} prompts of this one run, not over runs"
        name = f"over {self.seeds} {self.draw}s and {self.prompts} prompts"
        if self.seeds == 2 or (self.by_seed > 0.5 and self._near_a_bound()):
            name += few
        return name

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Lowest and highest value that the outcomes do not speak against; nan where unknown.

        Between bounds by Wilson's formula with as many trials as have the same standard error,
        else symmetric.
        """
        if math.isnan(self.value) or math.isnan(self.error):
            return math.nan, math.nan
        t = float(special.stdtrit(self.freedom, (1 + level) / 2))
        if self.bounds is None:
            return self.value - t * self.error, self.value + t * self.error
        least, most = self.bounds
        share, n = self._as_trials()
        shrink = 1 + t * t / n
        centre = (share + t * t / (2 * n)) / shrink
        half = t * math.sqrt(share * (1 - share) / n + t * t / (4 * n * n)) / shrink
        # At the bounds the formula is exact, and only rounding moves it off.
        low, high = max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
        return least + (most - least) * low, least + (most - least) * high

    def p_above(self, threshold: float) -> float:
        """One-sided p of the null that the figure is at most `threshold`.

        It is below 2.5 % exactly where the 95 % interval lies above the threshold.
        """
        if self.bounds is None:
            distance, error = self.value - threshold, self.error
        else:
            least, most = self.bounds
            share, n = self._as_trials()
            at = (threshold - least) / (most - least)
            distance, error = share - at, math.sqrt(at * (1 - at) / n)
        if error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(special.stdtr(self.freedom, -distance / error))

    def _near_a_bound(self) -> bool:
        if self.bounds is None:
            return False
        least, most = self.bounds
        return not _EDGE <= (self.value - least) / (most - least) <= 1 - _EDGE

    def _as_trials(self) -> tuple[float, float]:
        """The figure as a share of its range, and how many trials would be as sure of it.

        That is n in `error**2 = p (1 - p) / n`, p with two hits and two misses more: at a bound the
        error is of these alone.
        """
        assert self.bounds is not None
        least, most = self.bounds
        share = min(1.0, max(0.0, (self.value - least) / (most - least)))
        variance, plain = (self.error / (most - least)) ** 2, share * (1 - share)
        if variance == 0:
            return share, math.inf
        root = math.sqrt(plain * plain + 8 * variance * (1 - 4 * plain))
        return share, (plain + root) / (2 * variance)


def estimate(
    values: ArrayLike, statistic: Statistic, bounds: Bounds = None, trained: bool = True
) -> Estimate:
    """A statistic of outcomes that share prompts and seeds; nan for a share of nothing.

    Args:
        values: outcomes `[variants, seeds, prompts, languages]`, 0 or 1; nan where a cell was not
            measured. A variant without seeds is repeated along them. A prompt is one cluster with
            all its languages, variants and seeds (Miller 2024, arXiv 2411.00640), so comparisons
            of those are paired; prompts that are not the same in two languages have to be apart
            on their axis.
        statistic: smooth in the means.
        bounds: the lowest and highest value it can have, if any.
        trained: whether seeds are of trainings; else they are repetitions.

    Raises:
        ValueError: `values` has other axes, or `statistic` does not give one number each.
    """
    outcomes = check(values)
    at = means(outcomes)
    slope = _slope(statistic, at)
    seeds, prompts = counted(outcomes)
    pull = _pull(outcomes, at, slope)
    error, freedom, by_seed = _error(pull, seeds, prompts, _unseen(outcomes, at, slope))
    value = float(np.asarray(statistic(at)))
    return Estimate(value, error, freedom, by_seed, bounds, seeds if trained else 0, prompts)


def of_seeds(values: ArrayLike, bounds: Bounds = None) -> Estimate:
    """The mean of a number that each seed has one of `[seeds]`, with Student's interval over seeds.

    Its error is nan for one seed, and nothing is said of prompts, of which there are none.

    Raises:
        ValueError: there are no values, or on other axes.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"not [seeds]: {found.shape}")
    count = len(found)
    error = float(found.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(found.mean()), error, count - 1, 1.0, bounds, count, 0)


def least(estimates: Sequence[Estimate]) -> tuple[float, float, float]:
    """Value and 95 % interval of the lowest of several figures.

    Each figure's own lower bound serves for the lowest of them (intersection-union, Berger 1982);
    the upper one has to hold for all at once and is Bonferroni's. Where one figure cannot be told,
    neither can the lowest.
    """
    joint = 1 - (1 - LEVEL) / len(estimates)
    unknown = next((each for each in estimates if math.isnan(each.value)), None)
    if unknown is not None:
        return unknown.value, *unknown.interval()
    return (
        min(each.value for each in estimates),
        min(each.interval()[0] for each in estimates),
        min(each.interval(joint)[1] for each in estimates),
    )


def how_many(
    estimates: Sequence[Estimate], threshold: float, families: int = 1
) -> tuple[int, int, int]:
    """How many of several figures lie above a threshold, with a 95 % interval.

    At least k do, if it is rejected that fewer do: by the k-th smallest p, times the number of
    figures that are not smaller (Benjamini and Heller 2008). `families` of figures are looked at,
    the best of which is to be named.
    """
    above = sorted(each.p_above(threshold) for each in estimates)
    below = sorted(1 - p for p in above)
    count, outside = len(estimates), (1 - LEVEL) / 2

    def surely(p_values: Sequence[float], level: float) -> int:
        found = [k for k, p in enumerate(p_values, 1) if (count - k + 1) * p <= level]
        return max(found, default=0)

    value = sum(each.value > threshold for each in estimates)
    return value, surely(above, outside / families), count - surely(below, outside)


def means(values: ArrayLike) -> Floats:
    """Outcomes `[variants, seeds, prompts, languages]` -> their mean `[variants, languages]`.

    nan is a cell that was not measured and is left out; where nothing was measured the mean is
    nan.
    """
    outcomes = check(values)
    measured, total = _measured(outcomes).sum((1, 2)), np.nansum(outcomes, axis=(1, 2))
    return np.divide(total, measured, out=np.full_like(total, np.nan), where=measured > 0)


def counted(values: ArrayLike) -> tuple[int, int]:
    """Seeds of the variant with fewest, and prompts of the cell with fewest but any."""
    measured = _measured(check(values))
    prompts = measured.any(axis=1).sum(1)
    return int(measured.any((2, 3)).sum(1).min()), int(prompts[prompts > 0].min(initial=10**9))


def check(values: ArrayLike) -> Floats:
    """The outcomes as an array.

    Raises:
        ValueError: it has other axes.
    """
    outcomes = np.asarray(values, np.float64)
    if outcomes.ndim != 4 or 0 in outcomes.shape:
        raise ValueError(f"not [variants, seeds, prompts, languages]: {outcomes.shape}")
    return outcomes


def _measured(outcomes: Floats) -> NDArray[np.bool_]:
    return ~np.isnan(outcomes)


def _slope(statistic: Statistic, at: Floats) -> Floats:
    """Slope of the statistic in every mean `[variants, languages]`; 0 where none was measured."""
    steps = _STEP * np.eye(at.size).reshape(at.size, *at.shape)
    up, down = (np.asarray(statistic(at + sign * steps), np.float64) for sign in (1, -1))
    if up.shape != (at.size,):
        raise ValueError(f"the statistic gave {up.shape} for {at.size} means: one number each")
    return np.where(np.isnan(at), 0.0, ((up - down) / (2 * _STEP)).reshape(at.shape))


def _pull(outcomes: Floats, at: Floats, slope: Floats) -> Floats:
    """By what every seed's replies to every prompt move the statistic, `[seeds, prompts]`."""
    measured = _measured(outcomes)
    away = np.where(measured, outcomes - at[:, None, None], 0.0)
    return np.einsum("vl,vspl->sp", slope / np.maximum(measured.sum((1, 2)), 1), away)


def _unseen(outcomes: Floats, at: Floats, slope: Floats) -> float:
    """Variance that cells without a hit, or without a miss, do not show.

    It is what two hits and two misses more, spread over all cells that count, add to theirs
    (Price and Bonett 2004; of one cell Agresti and Coull 1998).
    """
    n = np.maximum(_measured(outcomes).any(axis=1).sum(1), 1)
    more = 2 / max(int(np.count_nonzero(slope)), 1)
    wider = (n * at + more) / (n + 2 * more)
    added = wider * (1 - wider) / (n + 2 * more) - at * (1 - at) / n
    return float((slope**2 * np.nan_to_num(np.maximum(added, 0.0))).sum())


def _error(pull: Floats, seeds: int, prompts: int, unseen: float) -> tuple[float, float, float]:
    """Standard error, degrees of freedom, and the share of the variance that seeds make."""
    prompts = max(prompts, 2)
    by_prompt = (pull.sum(0) ** 2).sum() * prompts / (prompts - 1)
    if seeds < 2:
        return math.sqrt(by_prompt + unseen), prompts - 1, 0.0
    by_seed = (pull.sum(1) ** 2).sum() * seeds / (seeds - 1)
    rest = pull - pull.mean(0) - pull.mean(1, keepdims=True) + pull.mean()
    both = (rest**2).sum() * seeds / (seeds - 1) * prompts / (prompts - 1)
    others = max(by_prompt - both, 0.0) + unseen  # `both` is within `by_seed` too
    variance = by_seed + others
    if not variance > 0:
        return math.sqrt(variance), math.inf, 0.0
    few, many = (special.stdtrit(n - 1, _UPPER) for n in (seeds, prompts))
    quantile = (by_seed * few + others * many) / variance
    return math.sqrt(variance), float(special.stdtridf(_UPPER, quantile)), by_seed / variance
