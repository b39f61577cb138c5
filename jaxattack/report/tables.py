"""Result rows -> rates one can look up, and their means over languages, attacks and seeds.

Everything here is a pure function of `results`. Two kinds of interval appear in a report and
must not be confused, so a `Rate` knows which one it carries: a measured cell has its 95 % Wilson
interval, a mean of several cells has the lowest and the highest of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

from jaxattack.report.languages import language_name

VIOLATION = "violation_rate"
METRIC_NAMES = {
    "violation_rate": "violations",
    "non_refusal_rate": "not refused",
    "benign_accuracy": "benign accuracy",
    "benign_refusal_rate": "benign refused",
    "valid_reply_rate": "valid replies",
    "asr": "attack success",
    "false_trigger_rate": "false triggers",
}
METHOD_NAMES = {
    "sil": "SIL",
    "random": "random",
    "matched_random": "tensor-matched random",
    "magnitude": "largest change",
    "complement": "all but SIL’s",
}


class Variant(NamedTuple):
    """A parsed variant name: `stitched/en/sil@0.2` -> ("stitched", "en", "sil", 0.2)."""

    kind: str
    language: str = ""
    method: str = ""
    fraction: float | None = None


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


@dataclass(frozen=True)
class Tables:
    """All rates of a study, with the orders in which to show them."""

    rates: Mapping[tuple[Variant, str, str], Rate]
    variants: Mapping[Variant, str]
    languages: tuple[str, ...]
    attacked: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    fraction: float | None

    def rate(self, variant: Variant, language: str, metric: str = VIOLATION) -> Rate | None:
        """The measured cell, or None."""
        return self.rates.get((variant, language, metric))


def tabulate(results: Mapping[str, Any]) -> Tables:
    """Index the rows; values that are no finite number (nothing was judged) are left out."""
    groups: dict[tuple[Variant, str, str], list[Mapping[str, Any]]] = {}
    variants: dict[Variant, str] = {}
    for row in results.get("rows") or ():
        if not _is_number(row.get("value")):
            continue
        variant = parse_variant(row["variant"])
        variants.setdefault(variant, row["variant"])
        groups.setdefault((variant, row["language"], row["metric"]), []).append(row)
    attacked = [variant.language for variant in variants if variant.kind == "attacked"]
    metrics = {metric for _, _, metric in groups}
    seeds = {row["seed"] for rows in groups.values() for row in rows if row.get("seed") is not None}
    return Tables(
        rates={key: _over_seeds(rows) for key, rows in groups.items()},
        variants=variants,
        languages=_in_order(results.get("languages") or (), [key[1] for key in groups]),
        attacked=_in_order(results.get("attack_languages") or (), attacked),
        metrics=tuple(sorted(metrics, key=_metric_order)),
        seeds=tuple(sorted(seeds)),
        fraction=_main_fraction(variants),
    )


def parse_variant(name: str) -> Variant:
    """Parse a variant name; a shape we do not know becomes a kind of its own."""
    if name.count("/") == 1:
        kind, language = name.split("/")
        return Variant(kind, language)
    if name.count("/") == 2 and name.count("@") == 1:
        kind, language, mask = name.split("/")
        method, _, fraction = mask.partition("@")
        if _is_number(fraction):
            return Variant(kind, language, method, float(fraction))
    return Variant(name)


def variant_label(variant: Variant) -> str:
    """A variant in words a reader understands without the naming scheme."""
    if variant.kind == "aligned":
        return "aligned model"
    language = language_name(variant.language)
    if variant.kind == "attacked":
        return f"attacked in {language}"
    if variant.fraction is None:
        return "/".join(part for part in (variant.kind, variant.language) if part)
    if variant.method == "complement":
        weights = f"all but SIL’s {share(variant.fraction)}"
    else:
        method = METHOD_NAMES.get(variant.method, variant.method)
        weights = f"{method}, {share(variant.fraction)}"
    return f"{variant.kind} ({weights}), {language}"


def percent(value: float, digits: int = 0) -> str:
    """`64 %`; whole per cents never round a few violations to none or nearly all to all."""
    if digits == 0 and 0 < value < 0.005:
        return "<1\u00a0%"
    if digits == 0 and 0.995 <= value < 1:
        return ">99\u00a0%"
    rounded = round(value * 100, digits) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:.{digits}f}".replace("-", "−") + "\u00a0%"


def share(fraction: float) -> str:
    """A mask fraction: `20 %`, `0.5 %`."""
    return f"{fraction * 100:.3g}\u00a0%"


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


def pairs(tables: Tables, like: Variant, metric: str = VIOLATION) -> dict[str, Pair]:
    """For each attack language, the variant `like` (its language ignored), own and others.

    `Variant("aligned")` gives the aligned model, split by each attack's languages. Attack
    languages without a single rate are left out.
    """
    found = {}
    for language in tables.attacked:
        variant = for_language(like, language)
        others = [code for code in tables.languages if code != language]
        pair = Pair(
            tables.rate(variant, language, metric),
            average(tables.rate(variant, code, metric) for code in others),
        )
        if pair.own or pair.others:
            found[language] = pair
    return found


def for_language(like: Variant, language: str) -> Variant:
    """The variant `like` of one attack; the aligned model is the same for all."""
    return like if like.kind == "aligned" else like._replace(language=language)


def mean_pair(tables: Tables, like: Variant, metric: str = VIOLATION) -> Pair:
    """`pairs` averaged over the attack languages."""
    found = pairs(tables, like, metric).values()
    return Pair(average(pair.own for pair in found), average(pair.others for pair in found))


def everywhere(tables: Tables, variant: Variant, metric: str = VIOLATION) -> Rate | None:
    """Mean over all measured languages, the attacked one included."""
    return average(tables.rate(variant, code, metric) for code in tables.languages)


def reach(tables: Tables, like: Variant) -> float | None:
    """Share of the full attack's added violations (mean of all languages) that `like` adds.

    1 is the full attack, 0 the aligned model. None where there is nothing to divide by.
    """
    added, full = 0.0, 0.0
    base = everywhere(tables, Variant("aligned"))
    for language in tables.attacked:
        part = everywhere(tables, for_language(like, language))
        attacked = everywhere(tables, Variant("attacked", language))
        if part and attacked:
            added += part.value - (base.value if base else 0.0)
            full += attacked.value - (base.value if base else 0.0)
    # Below five points a ratio says more about the noise than about the weights.
    return added / full if full > 0.05 * len(tables.attacked) else None


def fractions(tables: Tables, method: str) -> list[float]:
    """Mask fractions stitched by a method, ascending."""
    found = {
        variant.fraction
        for variant in tables.variants
        if variant.kind == "stitched" and variant.method == method and variant.fraction is not None
    }
    return sorted(found)


def methods(tables: Tables) -> list[str]:
    """Stitching methods in the order of `METHOD_NAMES`, unknown ones after them."""
    found = {variant.method for variant in tables.variants if variant.kind == "stitched"} - {""}
    return list(_in_order([name for name in METHOD_NAMES if name in found], sorted(found)))


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> Rate:
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


def _main_fraction(variants: Iterable[Variant]) -> float | None:
    """The fraction most variants use: there the controls, the freeze and the rewind meet."""
    used = [variant.fraction for variant in variants if variant.fraction is not None]
    return max(sorted(set(used)), key=used.count, default=None)


def _in_order(first: Iterable[str], rest: Iterable[str]) -> tuple[str, ...]:
    present = set(rest := list(rest))
    return tuple(dict.fromkeys([*(item for item in first if item in present), *rest]))


def _metric_order(metric: str) -> tuple[int, str]:
    known = list(METRIC_NAMES)
    return (known.index(metric) if metric in known else len(known), metric)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
