"""What each defence took in time and memory, as the records of its steps have it."""

from __future__ import annotations

from typing import Any

from jaxattack.experiments import asking
from jaxattack.experiments.agenda import Agenda, Measured
from jaxattack.experiments.durability.premises import Study
from jaxattack.experiments.durability.setup import Setup
from jaxattack.experiments.durability.sweeping import NONE
from jaxattack.stages import Stage, in_order


def rows(setup: Setup, found: Agenda) -> list[dict[str, Any]]:
    """Seconds and bytes of every defence under the first attack and seed; not of a plain tuning.

    They are of this machine and of what ran beside it, with what was compiled. `seconds` are those
    of the steps that the defence alone needs, less those of the plain tuning that it replaces;
    repairs that are arithmetic on the weights are done when these are asked, in the time before the
    first token. `bytes` is the most that these steps, and asking, held at once.
    """
    study, seed = Study.of(setup.settings, setup.languages), setup.settings.seeds[0]
    plain = found.cells.get(study.single(NONE).of(seed))
    if plain is None or plain.replies.shelf is None:
        return []
    return [
        cell.columns() | cost(found.cells[cell], plain)
        for cell in (study.single(name).of(seed) for name in (NONE, *study.defences))
        if cell in found.cells
    ]


def cost(defended: Measured, plain: Measured) -> dict[str, Any]:
    """Seconds beyond what the undefended model takes, and bytes, of one defence."""
    own, shared = _made(defended), _made(plain)
    more = sum(stage.seconds() for name, stage in own.items() if name not in shared)
    instead = sum(stage.seconds() for name, stage in shared.items() if name not in own)
    arithmetic = _before_decoding(defended) - _before_decoding(plain)
    known = [stage.memory() for stage in (*own.values(), defended.replies.stage)]
    held = [most for most in known if most is not None]
    return {
        "seconds": round(max(more - instead + arithmetic, 0.0), 3),
        "bytes": max(held) if len(held) == len(known) else None,
    }


def _made(measured: Measured) -> dict[str, Stage]:
    """The steps on disk that weights are made by."""
    return {stage.id: stage for stage in in_order(measured.weights.needs)}


def _before_decoding(measured: Measured) -> float:
    stage = measured.replies.stage
    return stage.seconds() - asking.load(stage.folder).seconds
