"""The sections of the durability study."""

from __future__ import annotations

from collections.abc import Callable

from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.durability.setup import Setup
from jaxattack.experiments.durability.sweeping import alone, frontier, sweep

SECTIONS: dict[str, Callable[[Agenda, Setup], None]] = {
    "sweep": sweep,  # D1 to D3
    "alone": alone,  # D4, D5
    "frontier": frontier,
}
