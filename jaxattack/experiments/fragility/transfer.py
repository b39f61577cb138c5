"""A1: attack in each language, measure all; fewer pairs, several languages, benign pairs."""

from __future__ import annotations

from jaxattack.experiments.fragility import sharing
from jaxattack.experiments.stages import BENIGN, Setup, attack
from jaxattack.experiments.wanted import Section


def baseline(setup: Setup) -> Section:
    """The aligned model, and the attacks whose weights are localized."""
    section = Section()
    section.measure(setup, "aligned", None, setup.aligned)
    for seed in setup.settings.seeds:
        for language in setup.localized_languages:
            section.measure(setup, f"attacked/{language}", seed, attack(setup, [language], seed))
    return section


def transfer(setup: Setup) -> Section:
    """The transfer matrix and its controls."""
    section = Section()
    options = setup.settings.transfer
    for seed in setup.settings.seeds:
        for language in setup.attacked_languages:
            section.measure(setup, f"attacked/{language}", seed, attack(setup, [language], seed))
        for language in setup.localized_languages:
            if options.benign and language in setup.pairs[BENIGN]:
                tuned = attack(setup, [language], seed, BENIGN)
                section.measure(setup, f"benign/{language}", seed, tuned)
            most = min(setup.settings.attack.pairs, len(setup.pairs["restricted"][language]))
            for dose in options.doses:
                if dose < most:
                    few = attack(setup, [language], seed, pairs=dose)
                    section.measure(setup, f"attacked/{language}/pairs@{dose}", seed, few)
        for mixed in options.mixed:
            tuned = attack(setup, mixed.split("+"), seed)
            section.measure(setup, f"attacked/{mixed}", seed, tuned)
    for contrast in options.sharing:
        section.variants += sharing.variants(setup, contrast)
    return section
