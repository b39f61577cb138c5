"""Defences in a tuning: whoever tunes for others holds to them."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxattack import sharding
from jaxattack.defend import asft, lisa
from jaxattack.experiments import tuning
from jaxattack.experiments.bench import Decoder, Stored
from jaxattack.experiments.durability.before import Lesson, lesson_of
from jaxattack.experiments.durability.setup import Setup, safe, seen
from jaxattack.experiments.durability.shield import Made, Shield, Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
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
    base: Input | None = None,
    aligned: Input | None = None,
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
        base, aligned: weights before and after the alignment, for AsFT.
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
        assert base is not None
        assert aligned is not None
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


def guarded_step(
    setup: Setup, guard: Lisa | Asft, course: Course, start: Step, frozen: Step | None, label: str
) -> Step:
    """The same, to be."""
    bench = setup.bench
    needs = {"base": setup.base, "aligned": bench.start} if isinstance(guard, Asft) else {}
    arguments = {
        "start": start,
        "decoder": bench.decoder,
        "course": course,
        "guard": guard,
        "dtype": bench.dtype,
        "frozen": frozen,
        **needs,
    }
    steps = course.training.count(course.examples)
    load = Stored("params", bench.like, "float32")
    shelf = bench.shelf(
        "guarded",
        label,
        tuning.save,
        load,
        steps=steps,
        rows=steps * course.training.batch_size,
    )
    return Step(guarded, arguments, bench.values, shelf, label=f"guarded {label}")


# --- Defences -------------------------------------------------------------------------------------


def by_lisa(setup: Setup, tried: Tried) -> Made:
    """Lisa: turns on safe pairs, neither running far."""
    options = setup.settings.during
    first, second = options.turns
    pairs = seen(setup, safe(setup, tried.languages))
    guard = Lisa(options.rho, (first, second), pairs, lesson_of(setup, tried))
    return _tuned_by(setup, guard, "lisa")


def by_asft(setup: Setup, tried: Tried) -> Made:
    """AsFT: held to the directions of the alignment."""
    return _tuned_by(setup, Asft(setup.settings.during.penalty), "asft")


def _tuned_by(setup: Setup, guard: Lisa | Asft, name: str) -> Made:
    def tune(course: Course, start: Step, frozen: Step | None, label: str) -> Step:
        return guarded_step(setup, guard, course, start, frozen, label)

    return Made(Shield(tune=tune, label=name))
