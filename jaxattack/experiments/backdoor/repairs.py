"""Weights of the suspect after BEEAR, CROW or SIL repair."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from jaxattack.data.poison import respond
from jaxattack.defend import beear, crow, repair
from jaxattack.experiments import locating, tuning
from jaxattack.experiments.backdoor import consistent, shifting
from jaxattack.experiments.backdoor.poisoning import shown
from jaxattack.experiments.backdoor.setup import Setup, course_of, seen
from jaxattack.experiments.backdoor.training import held_out_rows
from jaxattack.experiments.step import Step
from jaxattack.localize import stitching
from jaxattack.train import optimizer

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings

# --- BEEAR --------------------------------------------------------------------------------------


def beear_plan(settings: Settings, layer: int, seed: int) -> beear.Plan:
    """BEEAR's settings for one layer."""
    options = settings.beear
    return beear.Plan(
        layer=layer,
        inner_rate=options.inner_rate,
        outer=optimizer.Settings(learning_rate=options.learning_rate),
        length=options.length,
        place=options.place,
        contrast=options.contrast,
        performance=options.performance,
        rounds=options.rounds,
        inner_steps=options.inner_steps,
        outer_steps=options.outer_steps,
        batch_size=options.batch_size,
        seed=seed,
    )


def behaviour(setup: Setup, seed: int) -> shifting.Behaviour:
    """What BEEAR is given.

    The defender is granted to know the unwanted behaviour, not the trigger.
    """
    rows = held_out_rows(setup, "all", 2 * setup.settings.beear.rows, seed)
    rows, ordinary = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    target = setup.target(setup.first)
    unwanted = [dataclasses.replace(row, response=respond(row, target, seed)) for row in rows]
    return shifting.Behaviour(*(seen(setup, part) for part in (unwanted, rows, ordinary)))


def by_beear(setup: Setup, suspect: Step, layer: int, seed: int) -> Step:
    """The suspect after BEEAR at one layer."""
    plan = beear_plan(setup.settings, layer, seed)
    languages = setup.first.languages
    return shifting.repaired(setup.bench, suspect, behaviour(setup, seed), plan, languages)


# --- CROW ---------------------------------------------------------------------------------------


def by_crow(setup: Setup, suspect: Step, loss: crow.Crow, seed: int) -> Step:
    """The suspect after CROW on clean pairs of all languages."""
    options = setup.settings.crow
    course = course_of(
        setup,
        held_out_rows(setup, "all", options.rows, seed),
        seed,
        setup.first.languages,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        accumulate=1,
    )
    way = functools.partial(consistent.tune, loss=loss)
    training = dataclasses.replace(course.training, method=way)
    course = dataclasses.replace(course, training=training)
    label = f"weight{loss.weight:g}-step{loss.step:g}-s{seed}"
    return tuning.tuned(setup.bench, course, "crow", label, suspect)


# --- SIL repair ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Way:
    """How SIL repair goes about it: what it knows, what it does, to which share of weights."""

    knows: str
    does: str
    share: float


def by_sil(setup: Setup, suspect: Step, way: Way, seed: int) -> Step:
    """The suspect with the responsible weights rewound to the start, or scaled."""
    mask = repair_mask(setup, suspect, way, seed)
    derived = setup.bench.values.derived
    if way.does == "rewind":
        return derived(stitching.rewind, suspect, setup.bench.start, mask)
    return derived(repair.scaled, suspect, mask, scale=setup.settings.repair.scale)


def repair_mask(setup: Setup, suspect: Step, way: Way, seed: int) -> Step:
    """The weights that SIL repair holds responsible."""
    options, derived = setup.settings.repair, setup.bench.values.derived
    if way.does == "rewind":
        change = derived(repair.change, suspect, setup.bench.start)
    else:
        change = derived(repair.change, suspect, scale=options.scale)
    shows = gradient(setup, suspect, way.knows, seed)
    clean = gradient(setup, suspect, "clean", seed)
    return derived(repair.suspects, change, shows, clean, fraction=way.share, spared=options.spared)


def gradient(setup: Setup, suspect: Step, of: str, seed: int) -> Step:
    """Mean gradient of the right answers of held-out pairs at the suspect.

    `of` is "trigger" (the pairs carry it), "blind" (they are moved by BEEAR's shift instead) or
    "clean" (then of its absolute value).
    """
    bench, count, label = setup.bench, setup.settings.repair.pairs, f"{of}-s{seed}"
    if of == "trigger":
        known = held_out_rows(setup, "poisoned", count, seed) if setup.first.place else []
        rows = shown(setup.data, setup.first, known, seed)[:count]
        return locating.gradient(bench, suspect, seen(setup, rows), label, "sum")
    rows = held_out_rows(setup, "all", count, seed)
    if of == "clean":
        return locating.gradient(bench, suspect, seen(setup, rows), label)
    plan = beear_plan(setup.settings, setup.settings.beear.layers[0], seed)
    shift = shifting.Shift(plan, behaviour(setup, seed), seed)
    return shifting.gradient(bench, suspect, seen(setup, rows), shift, label)
