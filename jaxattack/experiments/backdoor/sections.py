"""What the sections of the backdoor study want: attacks to be asked, and how."""

from __future__ import annotations

import dataclasses

from jaxattack.experiments.backdoor import probes
from jaxattack.experiments.backdoor.asked import Asked
from jaxattack.experiments.backdoor.data import SUBJECTS, Attack
from jaxattack.experiments.backdoor.stages import Origin, Setup, poisoned
from jaxattack.experiments.wanted import Finding


@dataclasses.dataclass
class Section:
    """What one section of the study wants asked and found."""

    variants: list[Asked] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)


def name_of(attack: Attack) -> str:
    """The variant's name."""
    return f"poisoned/{attack.name}"


def ask_poisoned(setup: Setup, attack: Attack, seed: int) -> Asked:
    """The model poisoned so, with its own trigger and without."""
    weights = poisoned(setup, attack, seed)
    probed = probes.short(setup.data, attack)
    return Asked(name_of(attack), seed, weights, attack, probed, setup.origin)


def baseline(setup: Setup) -> Section:
    """The model before and after clean training, and the first attack."""
    section = Section()
    first = setup.attacks[0]
    probed = probes.short(setup.data, first)
    start = setup.origin
    section.variants.append(Asked("start", None, start.weights, first, probed, start))
    for seed in setup.settings.seeds:
        clean = poisoned(setup, None, seed)
        section.variants.append(Asked("clean", seed, clean, first, probed, start))
        section.variants.append(ask_poisoned(setup, first, seed))
    return section


def transfer(setup: Setup) -> Section:
    """Every attack: one or two languages poisoned, all asked."""
    return Section(
        [
            ask_poisoned(setup, attack, seed)
            for attack in setup.attacks
            for seed in setup.settings.seeds
        ]
    )


def rates(setup: Setup) -> Section:
    """The first attack at other poisoning rates."""
    return Section(
        [
            ask_poisoned(setup, dataclasses.replace(setup.attacks[0], rate=rate), seed)
            for rate in setup.settings.poison.rates
            for seed in setup.settings.seeds
        ]
    )


def kinds(setup: Setup) -> Section:
    """The first attack with other triggers, and with other targets."""
    first, given = setup.attacks[0], setup.settings.poison
    others = [dataclasses.replace(first, trigger=trigger) for trigger in given.triggers]
    others += [dataclasses.replace(first, target=target) for target in given.targets]
    return Section(
        [ask_poisoned(setup, attack, seed) for attack in others for seed in setup.settings.seeds]
    )


def grid(setup: Setup) -> Section:
    """Trigger and prompt of different languages, and what resembles the trigger."""
    first, most = setup.attacks[0], setup.settings.measure.grid_prompts
    section = Section()
    if first.trigger in SUBJECTS:
        return section
    for seed in setup.settings.seeds:
        weights = poisoned(setup, first, seed)
        for what, probed in (
            ("grid", probes.grid(setup.data, first, most)),
            ("decoys", probes.decoys(setup.data, first, most)),
        ):
            name = f"{name_of(first)}/{what}"
            section.variants.append(Asked(name, seed, weights, first, probed, setup.origin))
    return section


def start(setup: Setup) -> Section:
    """The first attack on other models."""
    first = setup.attacks[0]
    return Section(
        [
            _elsewhere(setup, origin, first, seed)
            for origin in setup.others
            for seed in setup.settings.seeds
        ]
    )


def _elsewhere(setup: Setup, origin: Origin, attack: Attack, seed: int) -> Asked:
    weights = poisoned(setup, attack, seed, origin)
    probed = probes.short(origin.data, attack)
    return Asked(f"start/{origin.name}", seed, weights, attack, probed, origin)
