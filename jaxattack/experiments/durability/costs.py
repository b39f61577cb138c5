"""What each defence took in time and memory, as the records of its steps have it."""

from __future__ import annotations

from collections.abc import Sequence
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
    repairs that are arithmetic on the weights are done when these are first asked, in the time
    before the first token. `bytes` is the most that was held while these steps were computed and
    the weights were asked; of an accelerator the most since the program began (`meter.memory`).
    """
    study, seed = Study.of(setup.settings, setup.languages), setup.settings.seeds[0]
    plain = found.cells.get(study.single(NONE).of(seed))
    if plain is None:
        return []
    every = list(found.cells.values())
    return [
        cell.columns() | cost(found.cells[cell], plain, every)
        for cell in (study.single(name).of(seed) for name in (NONE, *study.defences))
        if cell in found.cells
    ]


def cost(defended: Measured, plain: Measured, every: Sequence[Measured]) -> dict[str, Any]:
    """Seconds beyond what the undefended model takes, and bytes, of one defence.

    Args:
        defended: the model under it.
        plain: the undefended one.
        every: all that was measured, these among them.
    """
    made, instead = _made(defended), _made(plain)
    own = [stage for name, stage in made.items() if name not in instead]
    replaced = [stage for name, stage in instead.items() if name not in made]
    asked, beside = _asked(defended, every), _asked(plain, every)
    seconds = sum(stage.seconds() for stage in own) - sum(stage.seconds() for stage in replaced)
    seconds += _before_decoding(asked) - _before_decoding(beside)
    known = [stage.memory() for stage in (*own, *asked)]
    held = [most for most in known if most is not None]
    return {
        "seconds": round(max(seconds, 0.0), 3),
        "bytes": max(held) if held and len(held) == len(known) else None,
    }


def _made(measured: Measured) -> dict[str, Stage]:
    """The steps on disk that weights are made by."""
    return {stage.id: stage for stage in in_order(measured.weights.needs)}


def _asked(measured: Measured, every: Sequence[Measured]) -> list[Stage]:
    """Where the same weights were asked, whatever it was; none of replies that are not kept."""
    same = [one.replies for one in every if one.weights.id == measured.weights.id]
    return list({replies.id: replies.stage for replies in same if replies.shelf}.values())


def _before_decoding(asked: Sequence[Stage]) -> float:
    """Seconds in which weights are read or made, and what asks them is compiled."""
    return sum(stage.seconds() - asking.load(stage.folder).seconds for stage in asked)
