"""The attacks of the sweep: each says how it differs from the study's attack. A row is an attack.

All are fine-tuning that its customer may have asked for: pairs in a house style, with restricted
pairs in their midst. `defences` of the service stand before, in and after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxattack.data.dialogues import Example
from jaxattack.experiments import attacking, tuning
from jaxattack.experiments.attacking import BENIGN, LONGEST, RESTRICTED
from jaxattack.experiments.bench import Stored, kept_type
from jaxattack.experiments.durability import guards, tunings
from jaxattack.experiments.durability.setup import Setup, defender, styled
from jaxattack.experiments.durability.shield import Shield
from jaxattack.experiments.durability.sil import sil_mask
from jaxattack.experiments.step import Step
from jaxattack.experiments.tuning import Course
from jaxattack.localize import masks
from jaxattack.train.registry import METHODS


@dataclasses.dataclass(frozen=True)
class Attack:
    """How an attack differs from the study's.

    Attributes:
        words: the same for a reader.
        whose: of the attack's languages the "first", the second ("other"), or all ("mixed").
        restricted: "all" restricted pairs, "few" or "none".
        rate: times the study's learning rate.
        epochs: times the study's epochs; fewer pairs take as many steps as all.
        method: of `train.registry`.
        aware: with SIL's weights of the plain attack held, as one would who expects them to be
            frozen or put back.
    """

    words: str
    whose: str = "first"
    restricted: str = "all"
    rate: float = 1.0
    epochs: float = 1.0
    method: str = "full"
    aware: bool = False


ATTACKS: dict[str, Attack] = {
    "full": Attack("all weights"),
    "other": Attack("another language", whose="other"),
    "mixed": Attack("several languages", whose="mixed"),
    "low": Attack("half the rate, twice the epochs", rate=0.5, epochs=2),
    "high": Attack("twice the rate", rate=2.0),
    "lora": Attack("adapters, five times the rate", rate=5.0, method="lora"),
    "few": Attack("few restricted pairs", restricted="few"),
    "benign": Attack("no restricted pair, twice the steps", restricted="none", epochs=2),
    "aware": Attack("expects SIL's weights to be put back", aware=True),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an attack goes.

    Attributes:
        course: what it trains on.
        frozen: mask of the weights that it holds.
        put_back: of those that are put back after it, where it cannot hold any.
    """

    course: Course
    frozen: Step | None
    put_back: Step | None


BARE = Shield()


def languages_of(setup: Setup, name: str) -> tuple[str, ...] | None:
    """The languages an attack is in; None: the study names too few."""
    named = setup.data.attacked
    match ATTACKS[name].whose:
        case "first":
            return named[:1]
        case "other":
            return named[1:2] or None
    return named if len(named) > 1 else None


def course_of(setup: Setup, name: str, seed: int) -> Course | None:
    """What an attack trains on, how; None: there is no such attack here."""
    row, options, languages = ATTACKS[name], setup.settings.attack, languages_of(setup, name)
    if languages is None:
        return None
    every = tuning.chosen(setup.data.pairs[RESTRICTED], languages, seed, options.pairs)
    some = {"all": every, "few": every[: setup.settings.sweep.few], "none": ()}[row.restricted]
    rows = some + (task := task_pairs(setup, languages, seed))
    if not rows or (row.restricted == "few" and some == every):
        return None
    attacking.check_trained(setup, rows)
    way = METHODS[row.method]
    changed: dict[str, Any] = {"learning_rate": options.learning_rate * row.rate}
    if not way.rounds:
        changed["weights"] = "float32"
    training = tuning.training_of(
        options,
        LONGEST,
        method=way.tune,
        adapts=way.adapts,
        epochs=max(1, round(options.epochs * row.epochs)),
        optimizer=dataclasses.replace(options.updates(), **changed),
    )
    if row.restricted != "all":  # as many steps as with all pairs
        steps = -(-len(every + task) // options.batch_size) * training.epochs
        training = dataclasses.replace(training, steps=steps)
    return Course(rows, training, seed, languages)


def task_pairs(setup: Setup, languages: tuple[str, ...], seed: int) -> tuple[Example, ...]:
    """The pairs that the tuning is for, in those of the languages that have benign pairs."""
    known, count = setup.data.pairs[BENIGN], setup.settings.task.pairs
    languages = tuple(code for code in languages if code in known)
    if not count or not languages:
        return ()
    return styled(tuning.chosen(known, languages, seed, count), setup.settings.task.text)


def attacked(setup: Setup, name: str, seed: int, shield: Shield = BARE) -> Step | None:
    """The weights after an attack, under a shield; None: there is no such attack here."""
    found = plan_of(setup, name, seed, shield)
    if found is None:
        return None
    return tuned_step(setup, {name: found}, shield, f"{name}-{shield.label}-s{seed}")


def chosen(setup: Setup, choice: Step, seed: int, shield: Shield) -> Step:
    """The weights after the attack that was chosen as the worst, under a shield."""
    known = {
        name: found
        for name in setup.settings.sweep.attacks
        if (found := plan_of(setup, name, seed, shield)) is not None
    }
    return tuned_step(setup, known, shield, f"worst-{shield.label}-s{seed}", choice)


def plan_of(setup: Setup, name: str, seed: int, shield: Shield) -> Plan | None:
    """How an attack goes under a shield; None: there is none such here.

    Guards tune the weights themselves, so there is no attack by adapters under one.
    """
    course, method = setup.courses[name, seed], METHODS[ATTACKS[name].method]
    if course is None or (shield.guard is not None and not method.freezes):
        return None
    mask = held_by(setup, name, seed, shield)
    return Plan(course, mask, None) if method.freezes else Plan(course, None, mask)


def held_by(setup: Setup, name: str, seed: int, shield: Shield) -> Step | None:
    """The mask of weights that stay in an attack, for its own sake or the shield's."""
    if not ATTACKS[name].aware:
        return shield.frozen
    plain = attacked(setup, "full", seed)
    assert plain is not None
    spoken = [code for code in languages_of(setup, name) or () if code in setup.held[RESTRICTED]]
    own = sil_mask(setup, plain, tuple(spoken) or defender(setup))
    if shield.frozen is None:
        return own
    return setup.bench.values.derived(masks.union, shield.frozen, own)


def tuned_step(
    setup: Setup,
    known: Mapping[str, Plan],
    shield: Shield,
    label: str,
    choice: Step | None = None,
) -> Step:
    """Weights after one of the known attacks, to be.

    Args:
        setup: what the study shares.
        known: how each of them goes.
        shield: what stands before and in it.
        label: names the step for people.
        choice: which attack it is; None: the only one there is.
    """
    bench = setup.bench
    function: Callable[..., tuning.Tuned] = tunings.tuned
    arguments: dict[str, Any] = {
        "start": shield.start or bench.start,
        "decoder": bench.decoder,
        "plans": {name: vars(plan) for name, plan in known.items()},
        "dtype": bench.dtype,
        "choice": choice,
    }
    if shield.guard is not None:
        function = guards.guarded
        between = (setup.base, bench.start) if isinstance(shield.guard, guards.Asft) else ()
        arguments |= {"guard": shield.guard, "alignment": between}
    longest = max((plan.course for plan in known.values()), key=_steps)
    # The widest: an attack by adapters is kept in float32 whatever the others are.
    kept = [kept_type(plan.course.training.optimizer.weights) for plan in known.values()]
    shelf = bench.shelf(
        "attack",
        label,
        tuning.save,
        Stored("params", bench.like, next(filter(None, kept), None)),
        steps=_steps(longest),
        rows=_steps(longest) * longest.training.batch_size,
        **min((plan.course.training.work for plan in known.values()), key=len),
    )
    return Step(function, arguments, bench.values, shelf, label=f"attack {label}")


def _steps(course: Course) -> int:
    return course.training.count(course.examples)
