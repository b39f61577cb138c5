"""Defences before a tuning: weights that are hard to lead astray, weights that may not move."""

from __future__ import annotations

from typing import Any

from jaxattack.defend import booster, lox, vaccine
from jaxattack.experiments import tuning
from jaxattack.experiments.attacking import LONGEST, RESTRICTED
from jaxattack.experiments.durability.lessons import lesson_step, named
from jaxattack.experiments.durability.setup import Setup, held
from jaxattack.experiments.durability.shield import Made, Shield, Tried
from jaxattack.experiments.durability.sil import sil_mask
from jaxattack.experiments.step import Step
from jaxattack.localize import masks


def by_lox(setup: Setup, tried: Tried) -> Made:
    """LoX: the alignment's change of the weights, once more."""
    assert setup.base is not None
    further = setup.bench.values.derived(lox.extrapolated, setup.base, setup.bench.start)
    return Made(Shield(further, label="lox"))


def by_booster(setup: Setup, tried: Tried) -> Made:
    """Booster: alignment under which a harmful step gains little."""
    options = setup.settings.harden
    way = booster.Booster(options.strength, options.step)
    return _shielded(setup, tried, way, "booster")


def by_vaccine(setup: Setup, tried: Tried) -> Made:
    """Vaccine: alignment under the worst small shift of states."""
    way = vaccine.Vaccine(setup.settings.harden.radius)
    return _shielded(setup, tried, way, "vaccine")


def again(setup: Setup, tried: Tried) -> Made:
    """Plain tuning on the same pairs: what Booster's and Vaccine's terms add is seen beside it."""
    return _shielded(setup, tried, None, "again")


def _shielded(setup: Setup, tried: Tried, way: Any, name: str) -> Made:
    label = f"{name}-{named(setup, tried)}"
    return Made(Shield(lesson_step(setup, tried, way, name), label=label))


def by_freezing(setup: Setup, tried: Tried) -> Made:
    """Paper A: SIL's weights are held; found in an attack of the defender's own."""
    return Made(Shield(frozen=frozen_after(setup, tried, 1), label="freeze"))


def by_freezing_more(setup: Setup, tried: Tried) -> Made:
    """The masks of several such attacks, each with the masks before it held."""
    rounds = setup.settings.during.rounds
    return Made(Shield(frozen=frozen_after(setup, tried, rounds), label="freeze_more"))


def frozen_after(setup: Setup, tried: Tried, rounds: int) -> Step:
    """Union of SIL's masks of so many attacks that the defender tries."""
    derived, found = setup.bench.values.derived, None
    for number in range(rounds):
        tuned = own_attack(setup, tried, found, number)
        mask = sil_mask(setup, tuned, tried.languages)
        found = mask if found is None else derived(masks.union, found, mask)
    assert found is not None
    return found


def own_attack(setup: Setup, tried: Tried, frozen: Step | None, number: int) -> Step:
    """An attack by the defender, with its own restricted pairs."""
    rows = held(setup, RESTRICTED, tried.languages)
    training = tuning.training_of(setup.settings.attack, LONGEST)
    course = tuning.Course(rows, training, tried.seed, tried.languages)
    label = f"defender-{number + 1}-{named(setup, tried)}-s{tried.seed}"
    return tuning.tuned(setup.bench, course, "attack", label, frozen=frozen)
