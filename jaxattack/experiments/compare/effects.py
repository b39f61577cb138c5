"""What differs between two runs' replies, prompt by prompt where both were asked the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxattack.evaluate.intervals import Estimate, Floats, estimate
from jaxattack.evaluate.paired import holm
from jaxattack.evaluate.rates import METRICS
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell, cell_of, trial_of
from jaxattack.experiments.runs import Run

Value = tuple[int | None, tuple[Any, ...], str, float]  # seed, prompt, language, outcome

OF_STUDY = {
    "fragility": ("violation_rate", "non_refusal_rate", "benign_accuracy"),
    "backdoor": ("asr",),
}


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one run's cell did in the languages that are compared."""

    values: tuple[Value, ...]

    @property
    def languages(self) -> set[str]:
        """Those that were asked in."""
        return {language for _, _, language, _ in self.values}

    def within(self, languages: set[str]) -> Outcomes:
        """Those of some languages."""
        return Outcomes(tuple(value for value in self.values if value[2] in languages))


def rows(runs: Sequence[Run], parallel: bool) -> list[dict[str, Any]]:
    """The first run beside each other one: a row for every cell and metric that both measured.

    A rate is the mean over the languages in which both were asked the same prompts; `difference` is
    the other run's less the first's, and as the comparison is paired its interval and its two-sided
    `p` are over seeds and prompts. Without such a language it is over those that both were asked
    in, from the two rates' own intervals (Newcombe 1998), without `p`. `holm` corrects over all
    rows (Holm 1979).

    Args:
        runs: two or more of one study.
        parallel: whether a prompt's id names it in every language.
    """
    found = [row for other in runs[1:] for row in _beside(runs[0], other, parallel)]
    known = [row for row in found if row["p"] is not None]
    for row, p in zip(known, holm([row["p"] for row in known]), strict=True):
        row["holm"] = p
    return found


def _beside(first: Run, other: Run, parallel: bool) -> Iterator[dict[str, Any]]:
    same = first.asked_as(other)
    metrics = OF_STUDY[first.study]
    ours, theirs = (_cells(run, metrics, parallel) for run in (first, other))
    for (cell, metric), one in ours.items():
        if (cell, metric) not in theirs:
            continue
        two = theirs[cell, metric]
        languages = one.languages & two.languages
        paired = bool(languages & same)
        if paired:  # those with other prompts are left out
            languages &= same
        if not languages:
            continue
        one, two = one.within(languages), two.within(languages)
        columns = cell.columns() | {"metric": metric, "first": first.name, "run": other.name}
        yield columns | {
            "languages": len(languages),
            "judge": "the same" if first.judge == other.judge else "another",
            **_difference(one, two, paired),
        }


def _cells(run: Run, metrics: Sequence[str], parallel: bool) -> dict[tuple[Cell, str], Outcomes]:
    """Outcomes by cell, whatever its seed, and metric."""
    found: dict[tuple[Cell, str], list[Value]] = {}
    for row in run.trials:
        cell, trial = cell_of(row).of(None), trial_of(row)
        for metric in metrics:
            hit = _outcome(trial, metric)
            if hit is None:
                continue
            prompt = (trial.id, trial.trigger_language, trial.decoy)
            own = prompt if parallel else (trial.language, *prompt)
            value = (row["seed"], own, trial.language, float(hit))
            found.setdefault((cell, metric), []).append(value)
    return {key: Outcomes(tuple(values)) for key, values in found.items()}


def _outcome(trial: Trial, metric: str) -> bool | None:
    """What a metric counts of a trial; None: nothing."""
    if metric == "asr":
        return trial.hit if trial.decoy is None else None
    kind, counts = METRICS[metric]
    return counts(trial) if kind in (None, trial.kind) else None


def _difference(one: Outcomes, two: Outcomes, paired: bool) -> dict[str, Any]:
    """Both rates, their difference, its interval and p."""
    trained = any(seed is not None for each in (one, two) for seed, *_ in each.values)
    alone = [estimate(_array([each]), _mean, (0.0, 1.0), trained) for each in (one, two)]
    found = {
        "value_first": alone[0].value,
        "value": alone[1].value,
        "difference": alone[1].value - alone[0].value,
        "paired": paired,
        "seeds": min(each.seeds for each in alone),
        "prompts": min(each.prompts for each in alone),
        "over": "the intervals of two samples",
        "holm": None,
    }
    if paired:
        both = estimate(_array([one, two]), _added, (-1.0, 1.0), trained)
        low, high = both.interval()
        found["over"] = both.over
        above = both.p_above(0.0)
        p = 2 * min(above, 1 - above) if found["difference"] else 1.0
        return found | {"low": low, "high": high, "p": p}
    low, high = _newcombe(*alone)
    return found | {"low": low, "high": high, "p": None}


def _newcombe(first: Estimate, other: Estimate) -> tuple[float, float]:
    """Interval of a difference of rates that share nothing, from their own."""
    (low, high), (lowest, highest) = first.interval(), other.interval()
    p, q = first.value, other.value
    return q - p - math.hypot(q - lowest, high - p), q - p + math.hypot(highest - q, p - low)


def _mean(at: Floats) -> Any:
    return at[..., 0, :].mean(-1)


def _added(at: Floats) -> Any:
    return (at[..., 1, :] - at[..., 0, :]).mean(-1)


def _array(variants: Sequence[Outcomes]) -> Floats:
    """Outcomes `[variants, seeds, prompts, languages]`; nan where nothing was measured.

    What was not trained is repeated along the other's seeds.
    """
    every = [value for each in variants for value in each.values]
    seeds: list[int | None] = [*sorted({seed for seed, *_ in every if seed is not None})]
    seeds = seeds or [None]
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(v[1] for v in every))}
    languages = {code: i for i, code in enumerate(sorted({v[2] for v in every}))}
    found = np.full((len(variants), len(seeds), len(prompts), len(languages)), np.nan)
    for at, each in enumerate(variants):
        for seed, prompt, language, hit in each.values:
            where = slice(None) if seed is None else seeds.index(seed)
            found[at, where, prompts[prompt], languages[language]] = hit
    return found
