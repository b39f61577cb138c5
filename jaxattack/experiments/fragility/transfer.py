"""A1: attack in each language, measure all; fewer pairs, several languages, benign pairs."""

from __future__ import annotations

from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, measure
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import sharing
from jaxattack.experiments.fragility.setup import Setup, attack


def baseline(agenda: Agenda, setup: Setup) -> None:
    """The aligned model, and the attacks whose weights are localized: all sections compare."""
    measure(agenda, setup, Cell("aligned"), setup.bench.start)
    for seed in setup.settings.seeds:
        for language in setup.data.localized:
            attacked(agenda, setup, language, seed)


def attacked(agenda: Agenda, setup: Setup, language: str, seed: int) -> None:
    """The attack in one language."""
    cell = Cell("attacked", seed, language)
    measure(agenda, setup, cell, attack(setup, [language], seed))


def transfer(agenda: Agenda, setup: Setup) -> None:
    """The transfer matrix and its controls."""
    options = setup.settings.transfer
    for seed in setup.settings.seeds:
        for language in setup.data.attacked:
            attacked(agenda, setup, language, seed)
        for language in setup.data.localized:
            if options.benign and language in setup.data.pairs[BENIGN]:
                tuned = attack(setup, [language], seed, BENIGN)
                measure(agenda, setup, Cell("benign", seed, language), tuned)
            most = min(setup.settings.attack.pairs, len(setup.data.pairs[RESTRICTED][language]))
            for dose in options.doses:
                if dose >= most:
                    agenda.skip("config.transfer.doses", f"{dose} of {most} pairs in {language}")
                    continue
                few = attack(setup, [language], seed, pairs=dose)
                measure(agenda, setup, Cell("attacked", seed, language, pairs=dose), few)
        for mixed in options.mixed:
            tuned = attack(setup, mixed.split("+"), seed)
            measure(agenda, setup, Cell("attacked", seed, mixed), tuned)
    for contrast in options.sharing:
        sharing.measured(agenda, setup, contrast)
