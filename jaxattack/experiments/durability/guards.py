"""Tunings that whoever tunes for others has a part in, as functions of values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxattack import sharding
from jaxattack.defend import asft, lisa
from jaxattack.experiments import tuning
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.durability.choosing import taken
from jaxattack.experiments.durability.setup import Lesson
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input
from jaxattack.localize import masks
from jaxattack.train.moved import shares_moved


@dataclasses.dataclass(frozen=True)
class Lisa:
    """Turns on safe pairs, and a pull back to where each began (see `defend.lisa`)."""

    rho: float
    turns: tuple[int, int]
    safe: Seen
    lesson: Lesson


@dataclasses.dataclass(frozen=True)
class Asft:
    """A penalty on leaving the alignment's directions (see `defend.asft`)."""

    strength: float


Guard = Lisa | Asft


def guarded(
    start: Input,
    decoder: Decoder,
    plans: Mapping[str, Mapping[str, Any]],
    guard: Guard,
    dtype: str,
    label: str,
    choice: Input | None,
    alignment: tuple[Input, ...],
) -> tuning.Tuned:
    """Weights after one of several attacks, under a guard.

    Args:
        start: where it begins.
        decoder: what is tuned.
        plans: by attack, the fields of an `attacks.Plan`.
        guard: which, with what it goes by.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
        choice: rows that say which attack is taken; None: the only one.
        alignment: weights before and after it, for AsFT.
    """
    plan = plans[taken(plans, choice)]
    course, frozen = plan["course"], plan["frozen"]
    params, training = start.alone(), course.training
    order = tuning.order_of(decoder.tokenizer, course, sharding.ways(sharding.mesh_of(params)))
    options: dict[str, Any] = {
        "trainable": None if frozen is None else masks.complement(frozen()),
        "dtype": dtype,
        "key": tuning.key_of(course),
        "label": label,
    }
    common = (decoder.model, params, order)
    if isinstance(guard, Lisa):
        good = guard.lesson.batches(guard.safe, decoder.tokenizer, 1)
        tuned, history = lisa.tune(
            *common, good, training.optimizer, guard.rho, guard.turns, **options
        )
    else:
        base, aligned = alignment
        tuned, history = asft.tune(
            *common, training.optimizer, base(), aligned(), guard.strength, **options
        )
    moved = shares_moved(params, tuned, dtype, options["trainable"])
    about = {tuning.MOVED: moved | {"languages": list(course.languages)}}
    return tuning.Tuned(tuned, [float(loss) for loss in history], about)
