"""What stands beside the claims: paired tests, correlations, rates of the pathway rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from jaxattack.evaluate import correlation, intervals, paired
from jaxattack.experiments.outcomes import Outcomes, finite

PERMUTATIONS = 1999

Rows = Sequence[Mapping[str, Any]]


def tests(seen: Outcomes, attacked: Sequence[str]) -> list[dict[str, Any]]:
    """Every cell of the transfer matrix against the aligned model, on the same prompts."""
    return changes(seen, [(code, "aligned", f"attacked/{code}") for code in attacked])


def changes(seen: Outcomes, pairs: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """What changes from one variant to another in every language, on the same prompts.

    A cell's p is the largest of its seeds': the change has to be there in each. Holm's correction
    is over the languages measured after one attack.

    Args:
        seen: outcomes.
        pairs: label, variant before, variant after.
    """
    found = []
    for label, first, second in pairs:
        if not seen.has(first, second):
            continue
        family: list[dict[str, Any]] = []
        for language in seen.languages:
            pairs_ = [seen.paired(first, second, language, seed) for seed in seen.seeds]
            if not all(len(before) for before, _ in pairs_):
                continue
            p_seeds = [paired.mcnemar(*pair) for pair in pairs_]
            change = [float(after.mean() - before.mean()) for before, after in pairs_]
            family.append(
                {"attack": label, "language": language, "difference": fmean(change),
                 "p_seeds": p_seeds, "p": max(p_seeds), "n": min(len(b) for b, _ in pairs_)}
            )  # fmt: skip
        adjusted = paired.holm([row["p"] for row in family])
        found += [row | {"holm": p} for row, p in zip(family, adjusted, strict=True)]
    return found


def against_transfer(
    seen: Outcomes, attacked: Sequence[str], similarity: Rows
) -> list[dict[str, Any]]:
    """Rank correlation of similarity with transfer over ordered pairs of languages.

    Transfer is the violations that attacking one language adds in the other, mean over seeds.
    """
    languages = [
        code for code in attacked if code in seen.languages and seen.has(f"attacked/{code}")
    ]
    if not similarity or len(languages) < 4:
        return []
    chosen = seen.only(["aligned", *(f"attacked/{code}" for code in languages)])
    means = intervals.means(chosen.values)[:, [seen.languages.index(code) for code in languages]]
    transferred = means[1:] - means[0]
    found = []
    for measure, layer in sorted({(row["measure"], row["layer"]) for row in similarity}):
        alike = np.full((len(languages), len(languages)), np.nan)
        for row in similarity:
            if (row["measure"], row["layer"]) == (measure, layer) and {row["a"], row["b"]} <= set(
                languages
            ):
                a, b = languages.index(row["a"]), languages.index(row["b"])
                alike[a, b] = alike[b, a] = row["value"]
        rho = correlation.mantel(transferred, alike, PERMUTATIONS)
        if np.isfinite(rho.rho):
            low, high = finite(rho.low), finite(rho.high)
            found.append(
                {"measure": measure, "layer": layer, **rho._asdict(), "low": low, "high": high,
                 "over": correlation.OVER}
            )  # fmt: skip
    return found


def capacity(seen: Outcomes, rounds: Rows) -> list[dict[str, Any]]:
    """The rounds of freezing, each with its violations; round 1 is the free attack."""
    found = []
    for language, seed in sorted({(row["language"], row["seed"]) for row in rounds}):
        own = [row for row in rounds if (row["language"], row["seed"]) == (language, seed)]
        weights = own[0]["frozen"] + own[0]["trainable_left"]
        free = {"language": language, "seed": seed, "round": 1, "frozen_share": 0.0, "frozen": 0,
                "moved": 0, "trainable_left": weights}  # fmt: skip
        for row in (free, *sorted(own, key=lambda row: row["round"])):
            name = f"pathway/{language}/round@{row['round']}"
            rates = {
                code: seen.prompts(name if row["round"] > 1 else f"attacked/{language}", code, seed)
                for code in seen.languages
            }
            means = {code: float(cell.mean()) for code, cell in rates.items() if len(cell)}
            rest = [rate for code, rate in means.items() if code != language]
            found.append(
                {**row, "own": means.get(language), "others": fmean(rest) if rest else None}
            )
    return found
