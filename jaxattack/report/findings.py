"""The few numbers the sentences and the key figures of a report are made of."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxattack.report.languages import language_name
from jaxattack.report.rates import Pair, Rate, average, percent
from jaxattack.report.tables import Tables, everywhere, mean_pair, methods, pairs, reach
from jaxattack.report.variants import CONTROLS, METHOD_NAMES, Variant


def levels(tables: Tables, kind: str, method: str = "", fraction: float | None = None) -> Pair:
    """Mean violations of a kind of variant, own and others, over the attack languages."""
    return mean_pair(tables, Variant(kind, "", method, fraction))


def masked(tables: Tables, kind: str, method: str = "sil") -> Pair:
    """`levels` at the fraction where most variants meet; nothing if no mask was used."""
    if tables.fraction is None:
        return Pair(None, None)
    return levels(tables, kind, method, tables.fraction)


def mask_reach(tables: Tables, method: str, kind: str = "stitched") -> float | None:
    """`reach` at the fraction where most variants meet; None if that was not measured."""
    like = Variant(kind, "", method, tables.fraction)
    return reach(tables, like) if pairs(tables, like) else None


def control_reaches(tables: Tables) -> dict[str, float]:
    """How far masks of the same size, chosen otherwise, reach."""
    names = [n for n in methods(tables) if n in CONTROLS or n not in METHOD_NAMES]
    found = {name: mask_reach(tables, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def rivals(tables: Tables, apart: float) -> dict[str, dict[str, float]]:
    """For each attack language after which a control comes as near to SIL as `apart`: how far the
    controls that do reach.
    """
    found = {}
    for language in tables.attacked:
        alone = dataclasses.replace(tables, attacked=(language,))
        sil = mask_reach(alone, "sil")
        if sil is not None:
            reaches = control_reaches(alone).items()
            found[language] = {name: value for name, value in reaches if sil - value < apart}
    return {language: near for language, near in found.items() if near}


def after_attacks(tables: Tables, metric: str) -> Rate | None:
    """A metric after the attacks, mean over all languages and attacks."""
    return average(everywhere(tables, Variant("attacked", c), metric) for c in tables.attacked)


def transfer(before: Pair, after: Pair) -> float | None:
    """Violations added in the other languages, as a share of those added in the own one."""
    own = value_of(after.own) - value_of(before.own)
    if after.others is None or own <= 0:
        return None
    return (after.others.value - value_of(before.others)) / own


def share_left(rate: Rate | None, free: Rate | None, base: Rate | None) -> float | None:
    """Share of the free attack's added violations that is left; None if it added nothing."""
    if rate is None or free is None or free.value - value_of(base) < 0.05:
        return None
    return (rate.value - value_of(base)) / (free.value - value_of(base))


def above_aligned(tables: Tables) -> tuple[int, int]:
    """Unattacked cells whose interval lies above the aligned model's, and all of them."""
    above = measured = 0
    for attack in tables.attacked:
        for code in tables.languages:
            base = tables.rate(Variant("aligned"), code)
            after = tables.rate(Variant("attacked", attack), code)
            if code == attack or not base or not after or base.high is None or after.low is None:
                continue
            measured += 1
            above += after.low > base.high
    return above, measured


def transfer_range(tables: Tables) -> str:
    """Lowest and highest transfer: by measured language for one attack, else by attack."""
    if len(tables.attacked) == 1:
        attack = tables.attacked[0]
        others = [code for code in tables.languages if code != attack]
        least = extreme(tables, Variant("attacked", attack), others, min)
        most = extreme(tables, Variant("attacked", attack), others, max)
        return f"from {least} to {most}"
    found = {
        language: pair.others.value
        for language, pair in pairs(tables, Variant("attacked")).items()
        if pair.others
    }
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    return (
        f"from {percent(found[least])} after attacking {language_name(least)} "
        f"to {percent(found[most])} after {language_name(most)}"
    )


def extreme(
    tables: Tables, variant: Variant, languages: Iterable[str], pick: Callable[..., str]
) -> str:
    """The language with the lowest (`min`) or highest (`max`) violations, in words."""
    rates = {code: tables.rate(variant, code) for code in languages}
    values = {code: rate.value for code, rate in rates.items() if rate}
    code = pick(values, key=values.__getitem__)
    return f"{percent(values[code])} in {language_name(code)}"


def moved_weights(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The freezes that did not hold."""
    return [row for row in results.get("freeze_proof") or () if row["moved"]]


def value_of(rate: Rate | None) -> float:
    """What was not measured counts as no violations; the report says so."""
    return rate.value if rate else 0.0
