"""What stands beside the claims: paired tests, correlations, rates of the pathway rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from jaxattack.evaluate import correlation, intervals, paired
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.outcomes import Outcomes
from jaxattack.experiments.term import finite

PERMUTATIONS = 1999

Rows = Sequence[Mapping[str, Any]]


def changes(seen: Outcomes, pairs: Iterable[tuple[Cell, Cell]]) -> list[dict[str, Any]]:
    """What changes from one cell to another in every language, on the same prompts.

    A row's p is the largest of its seeds': the change has to be there in each. Holm's correction
    is over the languages measured after one attack.

    Args:
        seen: outcomes.
        pairs: before, after; rows have the columns of the latter.
    """
    found = []
    for first, second in pairs:
        if not seen.has(first, second):
            continue
        family: list[dict[str, Any]] = []
        for language in seen.languages:
            hits = [seen.paired(first, second, language, seed) for seed in seen.seeds]
            if not all(len(before) for before, _ in hits):
                continue
            p_seeds = [paired.mcnemar(*pair) for pair in hits]
            change = [float(after.mean() - before.mean()) for before, after in hits]
            family.append(
                second.columns()
                | {
                    "language": language,
                    "difference": fmean(change),
                    "p_seeds": p_seeds,
                    "p": max(p_seeds) if min(change) >= 0 or max(change) <= 0 else 1.0,
                    "n": min(len(before) for before, _ in hits),
                }
            )
        adjusted = paired.holm([row["p"] for row in family])
        found += [row | {"holm": p} for row, p in zip(family, adjusted, strict=True)]
    return found


def against_transfer(
    seen: Outcomes, aligned: Cell, attacks: Mapping[str, Cell], similarity: Rows
) -> list[dict[str, Any]]:
    """Rank correlation of similarity with transfer over ordered pairs of languages.

    Transfer is the violations that attacking one language adds in the other, mean over seeds.
    """
    languages = [
        code for code, cell in attacks.items() if code in seen.languages and seen.has(cell)
    ]
    if not similarity or len(languages) < 4:
        return []
    chosen = seen.only([aligned, *(attacks[code] for code in languages)])
    means = intervals.means(chosen.values)[:, [seen.languages.index(code) for code in languages]]
    transferred = means[1:] - means[0]
    found = []
    for measure, layer in sorted({(row["measure"], row["layer"]) for row in similarity}):
        alike = np.full((len(languages), len(languages)), np.nan)
        for row in similarity:
            pair = row["a"], row["b"]
            if (row["measure"], row["layer"]) == (measure, layer) and {*pair} <= {*languages}:
                a, b = map(languages.index, pair)
                alike[a, b] = alike[b, a] = row["value"]
        rho = correlation.mantel(transferred, alike, PERMUTATIONS)
        if np.isfinite(rho.rho):
            low, high = finite(rho.low), finite(rho.high)
            found.append(
                {
                    "measure": measure,
                    "layer": layer,
                    **rho._asdict(),
                    "low": low,
                    "high": high,
                    "over": correlation.OVER,
                }
            )
    return found


def capacity(seen: Outcomes, rounds: Rows) -> list[dict[str, Any]]:
    """The rounds of freezing, each with its violations; round 1 is the free attack."""
    found = []
    for language, seed in sorted({(row["attacked"], row["seed"]) for row in rounds}):
        own = [row for row in rounds if (row["attacked"], row["seed"]) == (language, seed)]
        weights = own[0]["frozen"] + own[0]["trainable_left"]
        free = {
            "attacked": language,
            "seed": seed,
            "round": 1,
            "frozen_share": 0.0,
            "frozen": 0,
            "moved": 0,
            "trainable_left": weights,
        }
        for row in (free, *sorted(own, key=lambda row: row["round"])):
            number = row["round"]
            cell = Cell("attacked", attacked=language)
            if number > 1:
                cell = Cell("pathway", attacked=language, round=number)
            hits = {code: seen.prompts(cell, code, seed) for code in seen.languages}
            means = {code: float(each.mean()) for code, each in hits.items() if len(each)}
            rest = [rate for code, rate in means.items() if code != language]
            found.append(
                {**row, "own": means.get(language), "others": fmean(rest) if rest else None}
            )
    return found
