"""Defences in a tuning: whoever tunes for others holds to them."""

from __future__ import annotations

from jaxattack.experiments.durability.guards import Asft, Lisa
from jaxattack.experiments.durability.setup import Setup, lesson_of, safe, seen
from jaxattack.experiments.durability.shield import Made, Shield, Tried


def by_lisa(setup: Setup, tried: Tried) -> Made:
    """Lisa: turns on safe pairs, neither running far."""
    options = setup.settings.during
    first, second = options.turns
    pairs = seen(setup, safe(setup, tried.languages))
    guard = Lisa(options.rho, (first, second), pairs, lesson_of(setup, tried.seed))
    return Made(Shield(guard=guard, label="lisa"))


def by_asft(setup: Setup, tried: Tried) -> Made:
    """AsFT: held to the directions of the alignment."""
    return Made(Shield(guard=Asft(setup.settings.during.penalty), label="asft"))
