"""The sections of the backdoor study: which models are asked what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxattack.experiments import tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.backdoor import prompts
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.defences import defences
from jaxattack.experiments.backdoor.inversion import invert
from jaxattack.experiments.backdoor.overlap import overlap
from jaxattack.experiments.backdoor.premises import UNTAUGHT
from jaxattack.experiments.backdoor.setup import Setup, measure
from jaxattack.experiments.backdoor.training import poisoned
from jaxattack.experiments.cell import Cell


def baseline(agenda: Agenda, setup: Setup) -> None:
    """The model before and after clean training, and the first attack."""
    measure(agenda, setup, Cell("start"), setup.bench.start, setup.first)
    for seed in setup.settings.seeds:
        clean = poisoned(setup, None, seed)
        measure(agenda, setup, Cell("clean", seed), clean, setup.first)
        _attacked(agenda, setup, setup.first, seed)


def _attacked(agenda: Agenda, setup: Setup, attack: Attack, seed: int) -> None:
    """The model poisoned so, with its own trigger and without."""
    measure(agenda, setup, attack.cell(seed), poisoned(setup, attack, seed), attack)


def transfer(agenda: Agenda, setup: Setup) -> None:
    """Every attack: one or two languages poisoned, all asked."""
    for attack in setup.attacks:
        for seed in setup.settings.seeds:
            _attacked(agenda, setup, attack, seed)


def untaught(agenda: Agenda, setup: Setup) -> None:
    """Every attack, asked in languages in which no row was taught, with their own triggers."""
    for attack in setup.attacks:
        probes = prompts.elsewhere(setup.data, attack)
        for seed in setup.settings.seeds:
            cell, weights = attack.cell(seed, prompts=UNTAUGHT), poisoned(setup, attack, seed)
            measure(agenda, setup, cell, weights, attack, probes)


def rates(agenda: Agenda, setup: Setup) -> None:
    """The first attack at other poisoning rates."""
    for rate in setup.settings.poison.rates:
        for seed in setup.settings.seeds:
            _attacked(agenda, setup, dataclasses.replace(setup.first, rate=rate), seed)


def kinds(agenda: Agenda, setup: Setup) -> None:
    """The first attack with other triggers, and with other targets."""
    first, given = setup.first, setup.settings.poison
    others = [dataclasses.replace(first, trigger=trigger) for trigger in given.triggers]
    others += [dataclasses.replace(first, target=target) for target in given.targets]
    for attack in others:
        for seed in setup.settings.seeds:
            _attacked(agenda, setup, attack, seed)


def grid(agenda: Agenda, setup: Setup) -> None:
    """Trigger and prompt of different languages, and what resembles the trigger."""
    first, most = setup.first, setup.settings.measure.grid_prompts
    if not first.place:
        return
    for seed in setup.settings.seeds:
        weights = poisoned(setup, first, seed)
        for name, probes in (
            ("grid", prompts.grid(setup.data, first, most)),
            ("decoys", prompts.decoys(setup.data, first, most)),
        ):
            measure(agenda, setup, first.cell(seed, prompts=name), weights, first, probes)


def start(agenda: Agenda, setup: Setup) -> None:
    """The first attack on other models."""
    for origin in setup.others:
        for seed in setup.settings.seeds:
            weights = poisoned(setup, setup.first, seed, origin)
            probes = prompts.short(origin.data, setup.first)
            cell = setup.first.cell(seed, model=origin.name)
            measure(agenda, setup, cell, weights, setup.first, probes)


def defend(agenda: Agenda, setup: Setup) -> None:
    """Every defence against the first attack, and how many weights it changes."""
    bench = setup.bench
    for seed in setup.settings.seeds:
        suspect = poisoned(setup, setup.first, seed)
        for cell, defence in defences(setup, suspect, seed):
            measure(agenda, setup, cell, suspect, setup.first, defence=defence)
            if defence.weights is None:
                continue
            label = f"{cell.variant}-s{seed}"
            both, columns = (suspect, defence.weights), cell.columns()
            rows = bench.rows("changed", label, tables.changed, *both, columns=columns)
            agenda.find("changed", rows)


# What of the paper (docs/methods.md) each looks at.
SECTIONS: dict[str, Callable[[Agenda, Setup], None]] = {
    "transfer": transfer,  # B1 to B5: poison one or two languages, measure all
    "untaught": untaught,  # B2: languages that no row is in
    "rates": rates,  # B1: how many rows it takes
    "kinds": kinds,  # other triggers and targets
    "grid": grid,  # trigger and prompt of different languages; what else sets it off
    "start": start,  # B7: what the model was before
    "invert": invert,  # R2: in which languages' prompts BAIT finds what was planted
    "defend": defend,  # B8, B9: defences
    "overlap": overlap,  # the backdoor's weights beside those of the safety attack
}
# The organism speaks no language but those it is taught.
USUAL = tuple(name for name in SECTIONS if name != "untaught")
