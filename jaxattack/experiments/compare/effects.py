"""What differs between two runs' replies, prompt by prompt where both were asked the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxattack.errors import UserError
from jaxattack.evaluate.intervals import Estimate, Floats
from jaxattack.evaluate.paired import holm
from jaxattack.evaluate.rates import METRICS
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell, cell_of, trial_of
from jaxattack.experiments.compare import between
from jaxattack.experiments.durability.setup import VALIDATION
from jaxattack.experiments.runs import Run

OF_STUDY = {
    "fragility": ("violation_rate", "non_refusal_rate", "benign_accuracy"),
    "backdoor": ("asr",),
    "durability": ("violation_rate", "benign_accuracy", "task_rate"),
}


class Value(NamedTuple):
    """The outcome of a reply, and what it replies to; `trigger` is a language."""

    seed: int | None
    prompt: tuple[Any, ...]
    language: str
    hit: float
    trigger: str | None = None


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one run's cell did in the languages that are compared."""

    values: tuple[Value, ...]

    @property
    def languages(self) -> set[str]:
        """Those that were asked in."""
        return {value.language for value in self.values}

    def within(self, languages: set[str]) -> Outcomes:
        """Those of prompts that are in some languages, as is the trigger that they carry."""
        known = {None, *languages}
        return Outcomes(tuple(v for v in self.values if {v.language, v.trigger} <= known))


def check(study: str) -> None:
    """Refuse a study whose runs have nothing that is compared.

    Raises:
        UserError: it is none of those that have.
    """
    if study not in OF_STUDY:
        raise UserError(
            f"runs of the study {study!r} cannot be compared; those of {', '.join(OF_STUDY)} can"
        )


def rows(runs: Sequence[Run], parallel: bool) -> list[dict[str, Any]]:
    """The first run beside each other one: a row for every cell and metric that both measured.

    A rate is the mean over the languages in which both were asked the same prompts; `difference` is
    the other run's less the first's, and as prompts are paired its interval and its two-sided `p`
    are over both runs' seeds and these prompts (`between`). Without such a language it is over
    those that both were asked in, from the two rates' own intervals (Newcombe 1998), without `p`.
    `holm` corrects over all rows (Holm 1979).

    Args:
        runs: two or more of one study.
        parallel: whether a prompt's id names it in every language.

    Raises:
        UserError: it is no study that can be compared.
    """
    check(runs[0].study)
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
    """Outcomes by cell, whatever its seed, and metric; of test prompts alone."""
    found: dict[tuple[Cell, str], list[Value]] = {}
    for row in run.trials:
        cell, trial = cell_of(row).of(None), trial_of(row)
        if cell.prompts == VALIDATION:
            continue
        for metric in metrics:
            hit = _outcome(cell, trial, metric)
            if hit is None:
                continue
            trigger = trial.trigger_language
            prompt = (trial.id, trigger, trial.decoy)
            own = prompt if parallel else (trial.language, *prompt)
            value = Value(row["seed"], own, trial.language, float(hit), trigger)
            found.setdefault((cell, metric), []).append(value)
    return {key: Outcomes(tuple(values)) for key, values in found.items()}


def _outcome(cell: Cell, trial: Trial, metric: str) -> bool | None:
    """What a metric counts of a trial; None: nothing."""
    if metric == "asr":
        return trial.hit if trial.decoy is None else None
    if metric == "task_rate" and trial.language not in (cell.attacked or "").split("+"):
        return None  # what a tuning is for is learned in the languages of its pairs
    kind, counts = METRICS[metric]
    return counts(trial) if kind in (None, trial.kind) else None


def _difference(one: Outcomes, two: Outcomes, paired: bool) -> dict[str, Any]:
    """Both rates, their difference, its interval and p."""
    trained = any(value.seed is not None for each in (one, two) for value in each.values)
    alone = [between.rate(_arrays([each])[0], trained) for each in (one, two)]
    found = {
        "value_first": alone[0].value,
        "value": alone[1].value,
        "difference": alone[1].value - alone[0].value,
        "paired": paired,
        "seeds": min(each.seeds for each in alone),
        "prompts": min(each.prompts for each in alone),
        "over": "from the intervals of the two rates",
        "holm": None,
    }
    if paired:
        before, after = _arrays([one, two])
        both = between.difference(before, after, trained)
        low, high = both.interval()
        above = both.p_above(0.0)
        p = 2 * min(above, 1 - above) if found["difference"] else 1.0
        return found | {"over": both.over, "low": low, "high": high, "p": p}
    low, high = _newcombe(*alone)
    return found | {"low": low, "high": high, "p": None}


def _newcombe(first: Estimate, other: Estimate) -> tuple[float, float]:
    """Interval of a difference of rates that share nothing, from their own."""
    (low, high), (lowest, highest) = first.interval(), other.interval()
    p, q = first.value, other.value
    return q - p - math.hypot(q - lowest, high - p), q - p + math.hypot(highest - q, p - low)


def _arrays(runs: Sequence[Outcomes]) -> list[Floats]:
    """Outcomes of each run `[seeds, prompts, languages]`, on the same prompts and languages.

    They are nan where nothing was measured.
    """
    every = [value for each in runs for value in each.values]
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(v.prompt for v in every))}
    languages = {code: i for i, code in enumerate(sorted({v.language for v in every}))}
    found = []
    for each in runs:
        seeds = {seed: i for i, seed in enumerate(dict.fromkeys(v.seed for v in each.values))}
        found.append(np.full((len(seeds), len(prompts), len(languages)), np.nan))
        for v in each.values:
            found[-1][seeds[v.seed], prompts[v.prompt], languages[v.language]] = v.hit
    return found
