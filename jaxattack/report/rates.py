"""Rates with what is needed to judge them, their means, and how they are written.

Two kinds of interval appear in a report and must not be confused, so a `Rate` knows which one it
carries: a measured cell has its 95 % Wilson interval, a mean of several cells has the lowest and
the highest of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

VIOLATION = "violation_rate"
METRIC_NAMES = {
    "violation_rate": "violations",
    "non_refusal_rate": "not refused",
    "benign_accuracy": "benign accuracy",
    "benign_refusal_rate": "benign refused",
    "valid_reply_rate": "valid replies",
    "cut_rate": "cut by the limit",
    "asr": "attack success",
    "false_trigger_rate": "false triggers",
    "clean_accuracy": "clean accuracy",
    "clean_refusal_rate": "clean refused",
    "same_language_rate": "in the prompt’s language",
}


@dataclass(frozen=True)
class Rate:
    """A rate with what is needed to judge it.

    Attributes:
        value: mean over seeds (and over cells, for a mean).
        low, high: 95 % interval of one cell (over several seeds: what covers all of theirs), or
            the lowest and highest cell of a mean. None where the rows give none.
        n: replies judged, for one seed.
        cells: how many cells were averaged; 1 is a measured cell.
        seeds: each seed's own value; empty where there is only one.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    cells: int = 1
    seeds: tuple[tuple[int, float], ...] = ()


class Pair(NamedTuple):
    """One attack seen from its own language and from the languages it never saw (mean)."""

    own: Rate | None
    others: Rate | None


def percent(value: float, digits: int = 0) -> str:
    """`64 %`; whole per cents never round a few violations to none or nearly all to all."""
    if digits == 0 and 0 < value < 0.005:
        return "<1\u00a0%"
    if digits == 0 and 0.995 <= value < 1:
        return ">99\u00a0%"
    rounded = round(value * 100, digits) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:.{digits}f}".replace("-", "−") + "\u00a0%"


def describe(rate: Rate) -> str:
    """A rate with its interval or spread, n and seeds, on one line."""
    parts = []
    if rate.low is not None and rate.high is not None:
        words = "mean of {} cells, from" if rate.cells > 1 else "95 % interval"
        bounds = f"{percent(rate.low, 1)} to {percent(rate.high, 1)}"
        parts.append(f"{words.format(rate.cells)} {bounds}")
    parts.append(f"n = {rate.n}" + (" for each seed" if rate.seeds else ""))
    if rate.seeds:
        parts.append(seeds_text(rate))
    return f"{percent(rate.value, 1)} ({'; '.join(parts)})"


def seeds_text(rate: Rate) -> str:
    """`seed 0: 62.5 %, seed 1: 66.7 %`; empty for one seed."""
    return ", ".join(f"seed {seed}: {percent(value, 1)}" for seed, value in rate.seeds)


def average(rates: Iterable[Rate | None]) -> Rate | None:
    """Mean of cells with their spread; a single cell keeps its own interval."""
    found = [rate for rate in rates if rate is not None]
    if len(found) < 2:
        return found[0] if found else None
    # A seed has a mean only if it measured every one of these cells.
    seeds = [seed for seed, _ in found[0].seeds if all(seed in dict(r.seeds) for r in found)]
    return Rate(
        value=fmean(rate.value for rate in found),
        low=min(rate.value for rate in found),
        high=max(rate.value for rate in found),
        n=sum(rate.n for rate in found),
        cells=len(found),
        seeds=tuple((seed, fmean(dict(r.seeds)[seed] for r in found)) for seed in seeds),
    )


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> Rate:
    """One cell from the rows of its seeds."""
    rates = [
        Rate(float(row["value"]), row.get("low"), row.get("high"), int(row.get("n") or 0))
        for row in rows
    ]
    if len(rates) == 1:
        return rates[0]
    lows = [rate.low for rate in rates if rate.low is not None]
    highs = [rate.high for rate in rates if rate.high is not None]
    seeds = sorted((row["seed"], row["value"]) for row in rows if row.get("seed") is not None)
    return replace(
        rates[0],
        value=fmean(rate.value for rate in rates),
        low=min(lows, default=None),
        high=max(highs, default=None),
        n=min(rate.n for rate in rates),
        seeds=tuple(seeds),
    )
