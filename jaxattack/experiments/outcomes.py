"""Verdicts as one array, so that comparisons are paired by prompt and seed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.evaluate import intervals
from jaxattack.evaluate.intervals import Bounds, Floats
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial

Key = tuple[str, int | None]  # name of a variant and its seed
# Prompt, language, whether it is a hit, whether the reply can be read.
Hit = tuple[str, str, bool, bool]

RATE, CHANGE = (0.0, 1.0), (-1.0, 1.0)  # bounds of a rate, of a difference of two
NOTHING = 1e-3  # rate of which no share can be taken


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Hits, `values` `[variants, seeds, prompts, languages]`; nan: not measured."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    values: Floats
    untrained: frozenset[str] = frozenset()  # variants without a seed
    readable: Mapping[str, float] = dataclasses.field(default_factory=dict)  # share of replies

    def has(self, *names: str) -> bool:
        """Whether all of these variants were measured."""
        return set(names) <= set(self.names)

    def only(self, names: Sequence[str]) -> Outcomes:
        """These variants, in this order."""
        at = [self.names.index(name) for name in names]
        return dataclasses.replace(self, names=tuple(names), values=self.values[at])

    @property
    def asked(self) -> list[str]:
        """The languages in which all of these variants were measured."""
        there: np.ndarray = np.any(~np.isnan(self.values), axis=(1, 2))
        return [code for i, code in enumerate(self.languages) if there[:, i].all()]

    def prompts(self, name: str, language: str, seed: int) -> np.ndarray:
        """Outcomes of one cell, `[prompts]`."""
        found = self._cell(name, language, seed)
        return found[~np.isnan(found)].astype(bool)

    def paired(
        self, first: str, second: str, language: str, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes of two variants on the prompts that both were asked, `[prompts]` each."""
        before, after = (self._cell(name, language, seed) for name in (first, second))
        both = ~np.isnan(before) & ~np.isnan(after)
        return before[both].astype(bool), after[both].astype(bool)

    def _cell(self, name: str, language: str, seed: int) -> Floats:
        at = self.names.index(name), self.seeds.index(seed)
        return self.values[*at, :, self.languages.index(language)]

    def figure(self, statistic: Callable[[Floats], Any], bounds: Bounds = None):
        """A statistic of means `[..., variants, languages]` with its error."""
        trained = not set(self.names) <= self.untrained
        return intervals.estimate(self.values, statistic, bounds, trained)

    def estimate(self, statistic: Callable[[Floats], Any], bounds: Bounds = None) -> dict[str, Any]:
        """A statistic of means `[..., variants, languages]`: value, 95 % interval, each seed's.

        None for what is not finite, such as a share of nothing.
        """
        found = self.figure(statistic, bounds)
        return self.written(found, (found.value, *found.interval()), statistic)

    def least(self, statistics: Sequence[Callable[[Floats], Any]]) -> dict[str, Any]:
        """The lowest of several statistics, as `estimate`."""
        found = [self.figure(statistic) for statistic in statistics]

        def lowest(means: Floats) -> Floats:
            return np.min([statistic(means) for statistic in statistics], axis=0)

        return self.written(found[0], intervals.least(found), lowest)

    def written(
        self,
        figure: intervals.Estimate,
        found: tuple[float, float, float],
        statistic: Callable[[Floats], Any],
    ) -> dict[str, Any]:
        """A value with its interval, what that covers, and the value of every seed."""
        by_seed = [statistic(intervals.means(self.values[:, [i]])) for i in range(len(self.seeds))]
        value, low, high = map(finite, found)
        return {
            "value": value, "low": low, "high": high, "over": figure.over,
            "seeds": [finite(each) for each in by_seed],
            "n_seeds": figure.seeds, "n_prompts": figure.prompts,
        }  # fmt: skip


def finite(number: Any) -> float | None:
    """A number that JSON has, or None."""
    return float(number) if np.isfinite(number) else None


def collect(
    verdicts: Mapping[Key, Sequence[Trial]], seeds: Sequence[int], languages: Sequence[str]
) -> Outcomes:
    """Whether restricted prompts were answered; prompts of one id are one in all languages."""
    return arrange(
        {
            key: [
                (v.id, v.language, bool(v.answered), v.triage in WELL_FORMED)
                for v in found
                if v.kind == "restricted"
            ]
            for key, found in verdicts.items()
        },
        seeds,
        languages,
    )


def arrange(
    trials: Mapping[Key, Iterable[Hit]],
    seeds: Sequence[int],
    languages: Sequence[str],
    parallel: bool = True,
) -> Outcomes:
    """Trials as an array; a variant without a seed counts for each.

    A prompt that a language has twice is two prompts. Without `parallel` no two languages share
    one.
    """
    placed = {key: list(_placed(found, parallel)) for key, found in trials.items()}
    prompts = sorted({prompt for found in placed.values() for prompt, *_ in found})
    place = {prompt: i for i, prompt in enumerate(prompts)}
    names = tuple(dict.fromkeys(name for name, _ in trials))
    values = np.full((len(names), len(seeds), len(place), len(languages)), np.nan)
    read: dict[str, list[bool]] = {}
    for (name, seed), found in placed.items():
        rows = range(len(seeds)) if seed is None else [list(seeds).index(seed)]
        for prompt, language, hit, readable in found:
            where = place[prompt], list(languages).index(language)
            values[names.index(name), rows, *where] = hit
            read.setdefault(name, []).append(readable)
    shares = {name: float(np.mean(found)) for name, found in read.items()}
    untrained = frozenset(name for name, seed in trials if seed is None)
    return Outcomes(names, tuple(seeds), tuple(languages), values, untrained, shares)


def _placed(trials: Iterable[Hit], parallel: bool):
    """The trials with their prompts told apart: by id, which of its like it is, and language."""
    before: Counter[tuple[str, str]] = Counter()
    for prompt, language, hit, readable in trials:
        again = before[prompt, language]
        before[prompt, language] += 1
        yield (prompt, again, "" if parallel else language), language, hit, readable


# --- Statistics of means [..., variants, languages] -----------------------------------------------


def own(means: Floats, languages: Sequence[int]) -> Floats:
    """Variant i in its own language, number `languages[i]`: `[..., variants]`."""
    return means[..., np.arange(len(languages)), list(languages)]


def others(means: Floats, languages: Sequence[int | None]) -> Floats:
    """Mean over all languages but variant i's own, None if not asked in: `[..., variants]`."""
    return everywhere(_without(means, languages))


def everywhere(means: Floats) -> Floats:
    """Mean over the languages that were measured, nan where none was: `[...]`."""
    known = ~np.isnan(means)
    total, count = np.where(known, means, 0.0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`; nan (which counts against any bound) where the whole is next to nothing."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > NOTHING)


def _without(means: Floats, languages: Sequence[int | None]) -> Floats:
    means = means.copy()
    for variant, language in enumerate(languages):
        if language is not None:
            means[..., variant, language] = np.nan
    return means
