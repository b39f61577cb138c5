"""Result rows -> rates one can look up, and their means over languages and attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxattack.evaluate.rates import OF_WEIGHTS
from jaxattack.report.rates import METRIC_NAMES, VIOLATION, Pair, Rate, average, over_seeds
from jaxattack.report.variants import (
    ADAPTED,
    MASKED,
    METHOD_NAMES,
    Variant,
    is_number,
    parse_variant,
)


@dataclass(frozen=True)
class Tables:
    """All rates of a study, with the orders in which to show them.

    Attributes:
        rates: by variant, language asked in and metric.
        variants: in the order of the rows, with their names.
        languages: what the aligned model speaks.
        added: what only models adapted later speak.
        attacked: languages of the attacks in one language.
        metrics, seeds: those measured.
        fraction: the size of mask most variants use.
    """

    rates: Mapping[tuple[Variant, str, str], Rate]
    variants: Mapping[Variant, str]
    languages: tuple[str, ...]
    added: tuple[str, ...]
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
        if not is_number(row.get("value")) or row["metric"] in OF_WEIGHTS:
            continue
        variant = parse_variant(row["variant"])
        variants.setdefault(variant, row["variant"])
        groups.setdefault((variant, row["language"], row["metric"]), []).append(row)
    attacked = [v.language for v in variants if v.kind == "attacked" and not v.method]
    metrics = {metric for _, _, metric in groups}
    seeds = {row["seed"] for rows in groups.values() for row in rows if row.get("seed") is not None}
    asked = _in_order(results.get("languages") or (), [key[1] for key in groups])
    spoken = {language for variant, language, _ in groups if variant.kind not in ADAPTED}
    spoken -= {code for row in results.get("adaptation") or () for code in row["languages"]}
    return Tables(
        rates={key: over_seeds(rows) for key, rows in groups.items()},
        variants=variants,
        languages=tuple(code for code in asked if code in spoken),
        added=tuple(code for code in asked if code not in spoken),
        attacked=_in_order(results.get("attack_languages") or (), attacked),
        metrics=tuple(sorted(metrics, key=_metric_order)),
        seeds=tuple(sorted(seeds)),
        fraction=_main_fraction(variants),
    )


def among(tables: Tables, *likes: Variant) -> Tables:
    """The tables of those attacks after which any of `likes` was measured too.

    A mean over them may be set beside the means of other variants `among` the same.
    """
    attacked = [
        c for c in tables.attacked if any(for_language(v, c) in tables.variants for v in likes)
    ]
    return replace(tables, attacked=tuple(attacked))


def pairs(tables: Tables, like: Variant, metric: str = VIOLATION) -> dict[str, Pair]:
    """For each attack language, the variant `like` (its language ignored), own and others.

    `Variant("aligned")` gives the aligned model, split by each attack's languages. Attack
    languages without a single rate are left out.
    """
    found = {}
    for language in tables.attacked:
        pair = split(tables, for_language(like, language), language, metric)
        if pair.own or pair.others:
            found[language] = pair
    return found


def split(tables: Tables, variant: Variant, attacked: str, metric: str = VIOLATION) -> Pair:
    """One variant in an attacked language and, mean, in the others."""
    others = [code for code in tables.languages if code != attacked]
    mean = average(tables.rate(variant, code, metric) for code in others)
    return Pair(tables.rate(variant, attacked, metric), mean)


def for_language(like: Variant, language: str) -> Variant:
    """The variant `like` of one attack; models that were not attacked are the same for all."""
    same = like.kind in ("aligned", "unattacked", "adapted")
    return like if same else like._replace(language=language)


def mean_pair(tables: Tables, like: Variant, metric: str = VIOLATION) -> Pair:
    """`pairs` averaged over the attack languages."""
    found = pairs(tables, like, metric).values()
    return Pair(average(pair.own for pair in found), average(pair.others for pair in found))


def everywhere(tables: Tables, variant: Variant, metric: str = VIOLATION) -> Rate | None:
    """Mean over all languages of the aligned model, the attacked one included."""
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


def numbers(tables: Tables, kind: str, method: str) -> list[float]:
    """The mask fractions (pairs, rounds, settings) measured of a kind and method, ascending."""
    found = {
        variant.fraction
        for variant in tables.variants
        if (variant.kind, variant.method) == (kind, method) and variant.fraction is not None
    }
    return sorted(found)


def methods(tables: Tables, kind: str = "stitched") -> list[str]:
    """Methods of a kind in the order of `METHOD_NAMES`, unknown ones after them."""
    found = {variant.method for variant in tables.variants if variant.kind == kind} - {""}
    return list(_in_order([name for name in METHOD_NAMES if name in found], sorted(found)))


def _main_fraction(variants: Iterable[Variant]) -> float | None:
    """The fraction most variants use: there the controls, the freeze and the rewind meet."""
    used = [v.fraction for v in variants if v.kind in MASKED and v.fraction is not None]
    return max(sorted(set(used)), key=used.count, default=None)


def _in_order(first: Iterable[str], rest: Iterable[str]) -> tuple[str, ...]:
    present = set(rest := list(rest))
    return tuple(dict.fromkeys([*(item for item in first if item in present), *rest]))


def _metric_order(metric: str) -> tuple[int, str]:
    known = list(METRIC_NAMES)
    return (known.index(metric) if metric in known else len(known), metric)
