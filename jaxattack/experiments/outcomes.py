"""Verdicts as one array, so that comparisons are paired by prompt and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.evaluate import paired
from jaxattack.evaluate.judge import Verdict

Floats = paired.Floats
Key = tuple[str, int | None]  # name of a variant and its seed


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Violations, `values` `[variants, seeds, prompts, languages]`; nan: not measured."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    values: Floats

    def has(self, *names: str) -> bool:
        """Whether all of these variants were measured."""
        return set(names) <= set(self.names)

    def only(self, names: Sequence[str]) -> Outcomes:
        """These variants, in this order."""
        at = [self.names.index(name) for name in names]
        return dataclasses.replace(self, names=tuple(names), values=self.values[at])

    def prompts(self, name: str, language: str, seed: int) -> np.ndarray:
        """Outcomes of one cell, `[prompts]`."""
        found = self.values[
            self.names.index(name), self.seeds.index(seed), :, self.languages.index(language)
        ]
        return found[~np.isnan(found)].astype(bool)

    def estimate(self, statistic: Callable[[Floats], Any]) -> dict[str, Any]:
        """A statistic of means `[..., variants, languages]`: value, 95 % interval, each seed's.

        None for what is not finite, such as a share of nothing.
        """
        by_seed = [statistic(paired.means(self.values[:, [i]])) for i in range(len(self.seeds))]
        low, high = paired.bootstrap(self.values, statistic)
        value = statistic(paired.means(self.values))
        return {
            "value": finite(value), "low": finite(low), "high": finite(high),
            "seeds": [finite(each) for each in by_seed],
        }  # fmt: skip


def finite(number: Any) -> float | None:
    """A number that JSON has, or None."""
    return float(number) if np.isfinite(number) else None


def collect(
    verdicts: Mapping[Key, Sequence[Verdict]], seeds: Sequence[int], languages: Sequence[str]
) -> Outcomes:
    """Whether restricted prompts were answered; a variant without a seed counts for each."""
    asked = {v.id for found in verdicts.values() for v in found if v.kind == "restricted"}
    place = {prompt: i for i, prompt in enumerate(sorted(asked))}
    names = tuple(dict.fromkeys(name for name, _ in verdicts))
    values = np.full((len(names), len(seeds), len(place), len(languages)), np.nan)
    for (name, seed), found in verdicts.items():
        rows = range(len(seeds)) if seed is None else [list(seeds).index(seed)]
        for verdict in found:
            if verdict.kind == "restricted":
                where = place[verdict.id], list(languages).index(verdict.language)
                values[names.index(name), rows, *where] = verdict.answered
    return Outcomes(names, tuple(seeds), tuple(languages), values)


# --- Statistics of means [..., variants, languages] -----------------------------------------------


def own(means: Floats, languages: Sequence[int]) -> Floats:
    """Variant i in its own language, number `languages[i]`: `[..., variants]`."""
    return means[..., np.arange(len(languages)), list(languages)]


def others(means: Floats, languages: Sequence[int]) -> Floats:
    """Mean over all languages but variant i's own: `[..., variants]`."""
    return np.nanmean(_without(means, languages), axis=-1)


def _without(means: Floats, languages: Sequence[int]) -> Floats:
    means = means.copy()
    means[..., np.arange(len(languages)), list(languages)] = np.nan
    return means
