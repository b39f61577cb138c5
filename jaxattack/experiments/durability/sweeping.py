"""Every attack on every defence; the worst one on prompts that it was not chosen by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxattack.experiments.agenda import Agenda, Measured
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.durability import choosing
from jaxattack.experiments.durability.attacks import attacked, chosen, languages_of
from jaxattack.experiments.durability.registry import DEFENCES
from jaxattack.experiments.durability.setup import VALIDATION, Setup, defender, measure
from jaxattack.experiments.durability.shield import Made, Tried
from jaxattack.experiments.step import Step

NONE = "undefended"  # the method of cells that nothing defends
OTHER = "other"  # the attack in another language


def baseline(agenda: Agenda, setup: Setup) -> None:
    """The aligned model, and what the first attack does to it undefended."""
    measure(agenda, setup, Cell("aligned"), setup.bench.start)
    measure(agenda, setup, Cell("aligned", prompts=VALIDATION), setup.bench.start)
    for seed in setup.settings.seeds:
        hit(agenda, setup, Under(NONE, Made()), setup.settings.sweep.attacks[0], seed)


@dataclasses.dataclass(frozen=True)
class Under:
    """A defence made ready, and what its cells are called by.

    Attributes:
        method: its name.
        made: the defence.
        defended: the language of the defender's pairs, where it is one.
        strength: of a repair, where it is not the one that is swept.
    """

    method: str
    made: Made
    defended: str | None = None
    strength: float | None = None


def hit(
    agenda: Agenda,
    setup: Setup,
    under: Under,
    attack: str,
    seed: int,
    prompts: str | None = None,
) -> Cell | None:
    """Ask for what is left of a defence under an attack: the cell.

    Args:
        agenda: to which it is added.
        setup: what the study shares.
        under: the defence.
        attack: a row of the sweep.
        seed: of the attack.
        prompts: which; None: those of the test.
    """
    made = under.made
    tuned = attacked(setup, attack, seed, made.shield)
    if tuned is None:
        agenda.skip(
            "config.sweep.attacks", f"{attack} against {under.method}: there is none such here"
        )
        return None
    weights = made.repair(tuned) if made.repair else tuned
    languages = "+".join(languages_of(setup, attack) or ())
    cell = Cell(
        "swept",
        seed,
        languages,
        under.method,
        attack=attack,
        strength=under.strength,
        defended=under.defended,
        prompts=prompts,
    )
    measure(agenda, setup, cell, weights)
    return cell


def sweep(agenda: Agenda, setup: Setup) -> None:
    """The sweep against no defence and against each.

    The worst attack is chosen with the first seed; all seeds are then attacked in that way.
    """
    for method in (NONE, *setup.settings.defend.defences):
        _swept(agenda, setup, method)


def made_by(setup: Setup, method: str, seed: int) -> Made:
    """A defence as it is swept: with all the defender's pairs, at its first strength."""
    row = DEFENCES.get(method)
    if row is None:
        return Made()
    return row.make(setup, Tried(seed, defender(setup), row.tried(setup.settings.after)[0]))


def _swept(agenda: Agenda, setup: Setup, method: str) -> None:
    first = setup.settings.seeds[0]
    ready = {seed: made_by(setup, method, seed) for seed in setup.settings.seeds}
    found: dict[str, Measured] = {}
    for attack in setup.settings.sweep.attacks:
        cell = hit(agenda, setup, Under(method, ready[first]), attack, first, VALIDATION)
        if cell is not None:
            found[attack] = agenda.cells[cell]
    if not found:
        return
    choice = chosen_of(agenda, setup, method, {name: m.trials for name, m in found.items()})
    for seed, made in ready.items():
        hit(agenda, setup, Under(method, made), setup.settings.sweep.attacks[0], seed)
        if made.shield.start is not None:
            measure(agenda, setup, Cell("shielded", seed, method=method), made.shield.start)
        if seed == first:  # these attacks are all there
            candidates = {name: m.weights for name, m in found.items()}
            arguments = {"choice": choice, "candidates": candidates}
            weights = Step(choosing.picked, arguments, setup.bench.values)
        else:
            tuned = chosen(setup, choice, seed, made.shield)
            weights = made.repair(tuned) if made.repair else tuned
        measure(agenda, setup, Cell("worst", seed, method=method), weights)


def chosen_of(agenda: Agenda, setup: Setup, method: str, judged: Mapping[str, Step]) -> Step:
    """Which attack is the worst, to be; also a table."""
    aligned = agenda.cells[Cell("aligned", prompts=VALIDATION)].trials
    choice = setup.bench.rows(
        "choice",
        method,
        choosing.choose,
        aligned,
        *judged.values(),
        attacks=tuple(judged),
        bound=setup.settings.sweep.bound,
        columns={"method": method},
    )
    agenda.find("choice", choice)
    return choice


# --- Beside the sweep -----------------------------------------------------------------------------


def frontier(agenda: Agenda, setup: Setup) -> None:
    """Repairs at every strength, after the first attack: what they undo, and what they cost.

    The strength that is swept with every seed, the others with the first.
    """
    first, languages = setup.settings.sweep.attacks[0], defender(setup)
    for method in setup.settings.defend.defences:
        row, seeds = DEFENCES[method], setup.settings.seeds
        for i, strength in enumerate(row.tried(setup.settings.after) if row.strengths else ()):
            for seed in seeds[:1] if i else seeds:
                made = row.make(setup, Tried(seed, languages, strength))
                hit(agenda, setup, Under(method, made, strength=strength), first, seed)


def alone(agenda: Agenda, setup: Setup) -> None:
    """Defences whose pairs are in one language, against the first attack and one in another."""
    attacks = tuple(dict.fromkeys((setup.settings.sweep.attacks[0], OTHER)))
    for seed in setup.settings.seeds:
        hit(agenda, setup, Under(NONE, Made()), OTHER, seed)
        for method in setup.settings.defend.defences:
            row = DEFENCES[method]
            strength = row.tried(setup.settings.after)[0]
            for language in setup.settings.defend.alone if row.alone else ():
                made = row.make(setup, Tried(seed, (language,), strength))
                for attack in attacks:
                    hit(agenda, setup, Under(method, made, language), attack, seed)
