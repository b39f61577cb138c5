"""Tunings that whoever tunes for others has a part in, as functions of values."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxattack import sharding
from jaxattack.defend import asft, lisa
from jaxattack.experiments import tuning
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.durability.lessons import Lesson
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input
from jaxattack.experiments.tuning import Course
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


def guarded(
    start: Input,
    decoder: Decoder,
    course: Course,
    guard: Lisa | Asft,
    dtype: str,
    label: str,
    frozen: Input | None = None,
    alignment: tuple[Input, ...] = (),
) -> tuning.Tuned:
    """Weights tuned on a course under a guard.

    Args:
        start: where it begins.
        decoder: what is tuned.
        course: what on.
        guard: which, with what it goes by.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
        frozen: mask of the weights that must not move.
        alignment: weights before and after it, for AsFT.
    """
    trainable = None if frozen is None else masks.complement(frozen())
    params, training = start.alone(), course.training
    order = tuning.order_of(decoder.tokenizer, course, sharding.ways(sharding.mesh_of(params)))
    options: dict[str, Any] = {"trainable": trainable, "dtype": dtype, "label": label}
    if isinstance(guard, Lisa):
        good = guard.lesson.batches(guard.safe, decoder.tokenizer, 1)
        tuned, history = lisa.tune(
            decoder.model,
            params,
            order,
            good,
            training.optimizer,
            guard.rho,
            guard.turns,
            **options,
        )
    else:
        base, aligned = alignment
        tuned, history = asft.tune(
            decoder.model,
            params,
            order,
            training.optimizer,
            base(),
            aligned(),
            guard.strength,
            **options,
        )
    moved = shares_moved(params, tuned, dtype, trainable) | {"languages": list(course.languages)}
    return tuning.Tuned(tuned, [float(loss) for loss in history], {tuning.MOVED: moved})


Guard = Lisa | Asft
