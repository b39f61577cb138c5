"""Claims over checkpoints: of runs that differ in theirs alone, each is one draw.

A run's seeds are of its attacks, and what it finds is of its checkpoint. Of several checkpoints
the claims are judged by the study's own rules with a checkpoint in the place of a seed: what a run
found under its seeds is averaged first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell, cell_of, trial_of
from jaxattack.experiments.compare import differences
from jaxattack.experiments.durability import claims as durability
from jaxattack.experiments.durability.premises import Study as Durability
from jaxattack.experiments.fragility import claims as fragility
from jaxattack.experiments.fragility.premises import Study as Fragility
from jaxattack.experiments.outcomes import Outcomes, collect
from jaxattack.experiments.runs import AGAIN, Run

# What claims read beside trials; of whichever seed its rows are is all one to them.
TABLES = ("rows", "masks", "overlap", "freeze_proof", "choice")


class Draw(NamedTuple):
    """A seed of one of the runs."""

    run: int
    seed: int


def claims(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The claims that were tested, over all checkpoints; none where runs differ in more than that.

    Args:
        runs: two or more of one study.
    """
    if runs[0].study not in _JUDGES or not are_draws(runs) or _older(runs):
        return []
    _, judge = _JUDGES[runs[0].study]
    tables: dict[str, Any] = {
        name: [row | {"run": i} for i, run in enumerate(runs) for row in run.results.get(name, ())]
        for name in TABLES
    }
    tables["judge"] = runs[0].results["judge"]
    draws = [Draw(i, seed) for i, run in enumerate(runs) for seed in run.results["seeds"]]
    found = judge(runs[0], dict(_trials(runs, draws)), tables, draws)["claims"]
    return [claim for claim in found if claim["evidence"]]


def cautions(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Why there are no claims over checkpoints, where one would look for them."""
    known = len(_checkpoints(runs))
    if runs[0].study not in _JUDGES or known < 2 or not _alike(runs):
        return []
    why = "some of the runs have the same one" if known < len(runs) else ""
    if older := _older(runs):
        why = f"results of an older version lack what they need: {', '.join(older)}; {AGAIN}"
    return [{"topic": "checkpoints", "text": f"No claims over checkpoints: {why}."}] * bool(why)


def are_draws(runs: Sequence[Run]) -> bool:
    """Whether each run has a checkpoint of its own, and nothing else was done otherwise."""
    return len(_checkpoints(runs)) == len(runs) and _alike(runs)


def _checkpoints(runs: Sequence[Run]) -> set[Any]:
    return {run.manifest.get("model_fingerprint") for run in runs} - {None}


def _alike(runs: Sequence[Run]) -> bool:
    return {row["topic"] for row in differences.cautions(runs)} <= {"seeds"}


def _older(runs: Sequence[Run]) -> list[str]:
    """Runs whose results lack what claims are about."""
    needed, _ = _JUDGES[runs[0].study]
    return [run.name for run in runs if any(name not in run.results for name in needed)]


def _trials(runs: Sequence[Run], draws: Sequence[Draw]) -> Iterator[tuple[Cell, list[Trial]]]:
    """Of all runs' cells, whose seed is the draw's number; without one that of the run's first."""
    for i, run in enumerate(runs):
        first = next(n for n, draw in enumerate(draws) if draw.run == i)
        found: dict[Cell, list[Trial]] = {}
        for row in run.trials:
            found.setdefault(cell_of(row), []).append(trial_of(row))
        for cell, own in found.items():
            number = first if cell.seed is None else draws.index(Draw(i, cell.seed))
            yield cell.of(number), own


def _by_run(draws: Sequence[Draw]) -> Callable[..., Outcomes]:
    """`collect` with a run in the place of a seed."""
    runs = range(draws[-1].run + 1)
    groups = [[n for n, draw in enumerate(draws) if draw.run == run] for run in runs]

    def collected(trials: Any, metric: str, _: Any, *where: Any) -> Outcomes:
        return collect(trials, metric, range(len(draws)), *where).clustered(groups, "checkpoint")

    return collected


def _of_fragility(run: Run, trials: Any, tables: Any, draws: Sequence[Draw]) -> dict[str, Any]:
    about = Fragility(
        seeds=tuple(range(draws[-1].run + 1)),
        languages=tuple(run.results["languages"]),
        attacked=tuple(run.results["attack_languages"]),
        localized=tuple(run.results["localized"]),
        share=float(run.config["localize.control_fraction"]),
    )
    return fragility.judge(trials, tables, about, _by_run(draws))


def _of_durability(run: Run, trials: Any, tables: Any, draws: Sequence[Draw]) -> dict[str, Any]:
    settings = {
        name: json.loads(run.config[name])
        for name in ("attack.languages", "sweep.attacks", "defend.defences", "defend.alone")
    }
    about = Durability(
        tuple(range(draws[-1].run + 1)),
        tuple(run.results["languages"]),
        tuple(settings["attack.languages"]),
        settings["sweep.attacks"][0],
        tuple(settings["defend.defences"]),
        tuple(settings["defend.alone"]),
    )
    return durability.judge(trials, tables, about, _by_run(draws))


# By study: what results.json has to say, and what judges by it.
_JUDGES = {
    "fragility": (("attack_languages", "localized"), _of_fragility),
    "durability": ((), _of_durability),
}
