"""Trials as arrays, so that comparisons are paired by prompt and seed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jaxattack.evaluate import rates
from jaxattack.evaluate.intervals import Floats
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell

Trials = Mapping[Cell, Sequence[Trial]]

VIOLATION, ASR, CLEAN = "violation_rate", "asr", "clean_accuracy"

Counts = Callable[[Trial], bool | None]  # whether a trial is a hit; None: it does not count


def _as_they_are(kind: str | None, counts: Counts) -> Counts:
    """Of prompts without a trigger, of one kind."""
    return lambda t: (
        counts(t)
        if kind in (None, t.kind) and t.trigger_language is None and t.decoy in (None, "nothing")
        else None
    )


HITS: dict[str, Counts] = {
    **{metric: _as_they_are(*how) for metric, how in rates.METRICS.items()},
    # With the trigger of the prompt's own language.
    ASR: lambda t: t.hit if t.decoy is None and t.trigger_language == t.language else None,
    CLEAN: lambda t: bool(t.answered) if t.decoy == "nothing" else None,
    "false_trigger_rate": lambda t: t.hit if t.decoy == "nothing" else None,
    "clean_refusal_rate": lambda t: t.refused if t.decoy == "nothing" else None,
}


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Hits, `values` `[cells, seeds, prompts, languages]`; nan: not measured.

    The cells are of all seeds: their own `seed` is None.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    values: Floats
    untrained: frozenset[Cell]  # those without a seed
    readable: Mapping[Cell, float]  # share of their replies
    draw: str = "seed"  # what `seeds` are

    def has(self, *cells: Cell) -> bool:
        """Whether all of these were measured."""
        return set(cells) <= set(self.cells)

    def seeds_of(self, cell: Cell) -> tuple[int, ...]:
        """The seeds with which it was measured; all of them if it has none."""
        there: np.ndarray = np.any(~np.isnan(self.of(cell)), axis=(1, 2))
        return tuple(seed for seed, is_there in zip(self.seeds, there, strict=True) if is_there)

    def of(self, cell: Cell) -> Floats:
        """Hits of one cell, `[seeds, prompts, languages]`."""
        return self.values[self.cells.index(cell)]

    def only(self, cells: Sequence[Cell]) -> Outcomes:
        """These cells, in this order."""
        at = [self.cells.index(cell) for cell in cells]
        return dataclasses.replace(self, cells=tuple(cells), values=self.values[at])

    def under(self, seeds: Sequence[int]) -> Outcomes:
        """The same with these seeds."""
        at = [self.seeds.index(seed) for seed in seeds]
        return dataclasses.replace(self, seeds=tuple(seeds), values=self.values[:, at])

    def clustered(self, groups: Sequence[Sequence[int]], draw: str) -> Outcomes:
        """Means over groups of seeds, each of which, a `draw`, is a seed from then on, from 0.

        What was not trained counts for the group that it was measured in, as if it had been.
        """
        rows = [[self.seeds.index(seed) for seed in group] for group in groups]
        found = [_mean(self.values[:, own]) for own in rows]
        return dataclasses.replace(
            self,
            seeds=tuple(range(len(rows))),
            values=np.stack(found, 1),
            untrained=frozenset(),
            draw=draw,
        )

    @property
    def common(self) -> tuple[str, ...]:
        """The languages in which all cells were measured."""
        there: np.ndarray = np.any(~np.isnan(self.values), axis=(1, 2))
        return tuple(code for i, code in enumerate(self.languages) if there[:, i].all())

    def prompts(self, cell: Cell, language: str, seed: int) -> np.ndarray:
        """Outcomes of one cell, `[prompts]`."""
        found = self._column(cell, language, seed)
        return found[~np.isnan(found)].astype(bool)

    def paired(
        self, first: Cell, second: Cell, language: str, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes of two cells on the prompts that both were asked, `[prompts]` each."""
        before, after = (self._column(cell, language, seed) for cell in (first, second))
        both = ~np.isnan(before) & ~np.isnan(after)
        return before[both].astype(bool), after[both].astype(bool)

    def _column(self, cell: Cell, language: str, seed: int) -> Floats:
        return self.of(cell)[self.seeds.index(seed), :, self.languages.index(language)]


def collect(
    trials: Trials,
    metric: str,
    seeds: Sequence[int],
    languages: Sequence[str],
    parallel: bool = True,
) -> Outcomes:
    """The trials that a metric counts, as an array; a cell without a seed counts for each.

    A prompt that a language has twice is two prompts. Without `parallel` no two languages share
    one.
    """
    placed = {cell: list(_placed(own, HITS[metric], parallel)) for cell, own in trials.items()}
    placed = {cell: own for cell, own in placed.items() if own}
    prompts = sorted({prompt for own in placed.values() for prompt, *_ in own})
    place = {prompt: i for i, prompt in enumerate(prompts)}
    column = {language: i for i, language in enumerate(languages)}
    cells = tuple(dict.fromkeys(cell.of(None) for cell in placed))
    values = np.full((len(cells), len(seeds), len(place), len(languages)), np.nan)
    read: dict[Cell, list[bool]] = {}
    for cell, own in placed.items():
        rows = range(len(seeds)) if cell.seed is None else [list(seeds).index(cell.seed)]
        number = cells.index(cell.of(None))
        for prompt, language, hit, readable in own:
            values[number, rows, place[prompt], column[language]] = hit
            read.setdefault(cells[number], []).append(readable)
    shares = {cell: float(np.mean(found)) for cell, found in read.items()}
    untrained = frozenset(cell for cell in placed if cell.seed is None)
    return Outcomes(cells, tuple(seeds), tuple(languages), values, untrained, shares)


def _mean(values: Floats) -> Floats:
    """Over seeds, of what was measured: `[cells, seeds, ...]` -> `[cells, ...]`."""
    there = ~np.isnan(values)
    total, count = np.where(there, values, 0.0).sum(1), there.sum(1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _placed(trials: Iterable[Trial], is_hit: Counts, parallel: bool):
    """Trials that count, with prompts told apart: by id, which of its like it is, and language."""
    before: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        hit = is_hit(trial)
        if hit is None:
            continue
        again = before[trial.id, trial.language]
        before[trial.id, trial.language] += 1
        prompt = (trial.id, again, "" if parallel else trial.language)
        yield prompt, trial.language, hit, trial.triage in WELL_FORMED
