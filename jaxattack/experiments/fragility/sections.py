"""The sections of the fragility study, each a claim of Poppi et al. 2024 (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Callable

from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.fragility.localization import localize
from jaxattack.experiments.fragility.overlaps import overlaps
from jaxattack.experiments.fragility.pathways import pathways
from jaxattack.experiments.fragility.planted import planted
from jaxattack.experiments.fragility.setup import Setup
from jaxattack.experiments.fragility.transfer import transfer
from jaxattack.experiments.fragility.transplants import adapt

SECTIONS: dict[str, Callable[[Agenda, Setup], None]] = {
    "transfer": transfer,  # A1
    "localize": localize,  # A2
    "shared": overlaps,  # A3
    "pathways": pathways,  # A4
    "adapt": adapt,  # A5
    "planted": planted,  # A2, where it is known which weights there are to find
}
