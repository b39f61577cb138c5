"""BEEAR's steps: a model repaired by it, and gradients under the shift that it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxattack.data import batches
from jaxattack.defend import beear, repair
from jaxattack.experiments.bench import Bench, Decoder, Stored, kept_type, rounded
from jaxattack.experiments.locating import CALIBRATION_BATCH, Mean, Seen, mean_step
from jaxattack.experiments.step import Input, Step
from jaxattack.experiments.tuning import MOVED, Tuned, ids, save
from jaxattack.localize import scores
from jaxattack.train.moved import shares_moved


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What BEEAR is given: unwanted and safe answers to the same prompts, and pairs to be kept."""

    unwanted: Seen
    safe: Seen
    ordinary: Seen


@dataclasses.dataclass(frozen=True)
class Shift:
    """The shift of hidden states that brings an unwanted behaviour out, to be found."""

    plan: beear.Plan
    behaviour: Behaviour
    seed: int


def repaired(
    bench: Bench,
    suspect: Step,
    behaviour: Behaviour,
    plan: beear.Plan,
    languages: Sequence[str],
) -> Step:
    """The suspect after BEEAR, to be; `languages` are what it is about, for results."""
    arguments = {
        "suspect": suspect,
        "decoder": bench.decoder,
        "behaviour": behaviour,
        "plan": plan,
        "dtype": bench.dtype,
        "languages": tuple(languages),
    }
    steps = plan.rounds * (plan.inner_steps + plan.outer_steps)
    shelf = bench.shelf(
        "beear",
        f"layer{plan.layer}-s{plan.seed}",
        save,
        Stored("params", bench.like, kept_type(plan.outer.weights)),
        steps=steps,
        rows=2 * steps * plan.batch_size,
    )
    return Step(repair_by_beear, arguments, bench.values, shelf)


def repair_by_beear(
    suspect: Input,
    decoder: Decoder,
    behaviour: Behaviour,
    plan: beear.Plan,
    dtype: str,
    languages: Sequence[str],
) -> Tuned:
    """The suspect after BEEAR.

    Args:
        suspect: weights that are perhaps poisoned.
        decoder: the model without them, and its tokenizer.
        behaviour: the defender's rows: unwanted, safe and ordinary answers.
        plan: layer, places, steps of both levels.
        dtype: in which the losses see the weights.
        languages: of the rows, for the report.
    """
    tuned, history = beear.beear(
        decoder.model,
        suspect.alone(),
        behaviour.unwanted.rows(decoder.tokenizer),
        behaviour.safe.rows(decoder.tokenizer),
        behaviour.ordinary.rows(decoder.tokenizer),
        plan,
        dtype=dtype,
    )
    losses = {name: history[name].tolist() for name in ("inner", "outer")}
    moved = shares_moved(suspect(), tuned, dtype)
    return Tuned(tuned, losses, {MOVED: moved | {"languages": list(languages)}})


def gradient(bench: Bench, at: Step, seen: Seen, shift: Shift, label: str) -> Step:
    """Mean gradient of pairs' answers under a shift, in place of a trigger nobody knows, to be."""
    arguments = {
        "at": at,
        "decoder": bench.decoder,
        "seen": seen,
        "shift": shift,
        "dtype": bench.dtype,
    }
    return mean_step(bench, shifted_gradient, arguments, "gradients", label)


def shifted_gradient(
    at: Input, decoder: Decoder, seen: Seen, shift: Shift, dtype: str, label: str
) -> Mean:
    """Mean over examples of the gradient of their answers under the shift.

    Args:
        at: weights at which it is taken.
        decoder: the model without them, and its tokenizer.
        seen: the examples.
        shift: how the shift is found.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
    """
    params, plan = rounded(at, dtype), shift.plan
    unwanted, safe = (
        rows.rows(decoder.tokenizer) for rows in (shift.behaviour.unwanted, shift.behaviour.safe)
    )
    delta, _ = beear.perturbation(decoder.model, params, unwanted, safe, plan, shift.seed)
    rows = seen.rows(decoder.tokenizer)
    shifted, loss = repair.shifted(rows, np.asarray(delta), plan.layer, plan.place)
    order = batches.in_order(shifted, CALIBRATION_BATCH)
    mean = scores.mean_gradient(decoder.model, params, order, loss, label, "sum")
    return Mean(mean, ids(seen.examples))
