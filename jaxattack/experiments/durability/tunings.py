"""Attacks as steps: one that is named, or one of several that is chosen when they have been tried.

No row of the sweep is named here, so a further one computes no other attack again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxattack.experiments import tuning
from jaxattack.experiments.bench import Decoder, Stored, kept_type
from jaxattack.experiments.durability.choosing import worst
from jaxattack.experiments.durability.guards import Asft, Guard, guarded
from jaxattack.experiments.durability.setup import Setup
from jaxattack.experiments.durability.shield import Shield
from jaxattack.experiments.step import Input, Step
from jaxattack.experiments.tuning import Course
from jaxattack.localize import stitching


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an attack goes.

    Attributes:
        course: what it trains on.
        frozen: mask of the weights that it holds.
        put_back: of those that are put back after it, where it cannot hold any.
    """

    course: Course
    frozen: Step | None
    put_back: Step | None


def tuned_step(
    setup: Setup,
    known: Mapping[str, Plan],
    shield: Shield,
    label: str,
    choice: Step | None = None,
) -> Step:
    """Weights after one of the known attacks, to be.

    Args:
        setup: what the study shares.
        known: how each of them goes.
        shield: what stands before and in it.
        label: names the step for people.
        choice: which attack it is; None: the only one there is.
    """
    bench = setup.bench
    arguments = {
        "start": shield.start or bench.start,
        "decoder": bench.decoder,
        "plans": {name: vars(plan) for name, plan in known.items()},
        "guard": shield.guard,
        "dtype": bench.dtype,
        "choice": choice,
        "alignment": alignment(setup) if isinstance(shield.guard, Asft) else (),
    }
    longest = max((plan.course for plan in known.values()), key=_steps)
    shelf = bench.shelf(
        "attack",
        label,
        tuning.save,
        Stored("params", bench.like, kept_type(longest.training.optimizer.weights)),
        steps=_steps(longest),
        rows=_steps(longest) * longest.training.batch_size,
    )
    return Step(tuned, arguments, bench.values, shelf, label=f"attack {label}")


def alignment(setup: Setup) -> tuple[Step, Step]:
    """Weights before and after the alignment."""
    assert setup.base is not None
    return setup.base, setup.bench.start


def _steps(course: Course) -> int:
    return course.training.count(course.examples)


def tuned(
    start: Input,
    decoder: Decoder,
    plans: Mapping[str, Mapping[str, Any]],
    guard: Guard | None,
    dtype: str,
    label: str,
    choice: Input | None,
    alignment: tuple[Input, ...],
) -> tuning.Tuned:
    """Weights after one of several attacks.

    Args:
        start: where it begins.
        decoder: what is tuned.
        plans: by attack, the fields of a `Plan`.
        guard: of the tuning; None: it is plain.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
        choice: rows that say which attack is taken; None: the only one.
        alignment: weights before and after it, for AsFT.
    """
    name = next(iter(plans)) if choice is None else worst(choice())
    course, mask, back = (plans[name][field] for field in ("course", "frozen", "put_back"))
    if guard is not None:
        return guarded(start, decoder, course, guard, dtype, label, mask, alignment)
    found = tuning.train(start, decoder, course, dtype, {}, label, mask)
    if back is None:
        return found
    return dataclasses.replace(found, params=stitching.rewind(found.params, start(), back()))
