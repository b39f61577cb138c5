"""BEEAR: safe behaviour is trained in under the hidden-state shift that breaks it most.

Zeng et al. 2024: a backdoor moves hidden states in much the same direction whatever its trigger,
so the defender looks for one shift, shared by all prompts, that brings out the unwanted behaviour,
and then tunes the weights to behave under it; round after round. No trigger is known or needed,
but the unwanted behaviour is.

The objective is reconstructed by us from descriptions and settings, not from the paper's text:

    inner  delta* = argmin_delta  L(unwanted; delta) - contrast * L(safe; delta)
    outer  theta <- step down  L(safe; delta*) + performance * L(ordinary)

with L the mean cross entropy of answer tokens and delta `[n, D]` added to the states after one
layer, at n places of each prompt. Every round starts from delta = 0.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import Block, Transformer, hidden_states
from jaxattack.progress import track
from jaxattack.train.checks import GROWTH, check_answers, check_sound, largest
from jaxattack.train.loop import Rounding, Training, init_state, train_step
from jaxattack.train.losses import answer_loss, next_token_loss
from jaxattack.train.optimizer import Settings, make_optimizer
from jaxattack.train.rounding import as_types, forward_types, trained_copy
from jaxattack.tree import Tree

PLACES = ("before_answer", "start")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the two levels take turns.

    `place` is where the shift goes: on the last tokens before the answer, or the first of the
    prompt. `outer` is the optimiser of the weights; its schedule runs over all rounds.

    Raises:
        UserError: a value out of its range.
    """

    layer: int  # the shift is added to the states after so many layers
    inner_rate: float  # Adam's learning rate for the shift
    outer: Settings
    length: int = 7  # n, in tokens
    place: str = "before_answer"
    contrast: float = 0.05
    performance: float = 1.0
    rounds: int = 2
    inner_steps: int = 30
    outer_steps: int = 30
    batch_size: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise UserError(f"place is {self.place!r}; give one of {', '.join(PLACES)}")
        for name in ("layer", "length", "rounds", "inner_steps", "outer_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it should be at least 1")
        if self.outer.accumulate != 1:
            raise UserError("BEEAR's batches are not split; leave `accumulate` at 1")


def beear(
    model: Transformer,
    params: Tree,
    unwanted: Arrays,
    safe: Arrays,
    ordinary: Arrays,
    plan: Plan,
    label: str = "BEEAR",
    dtype: str | None = None,
) -> tuple[Tree, dict[str, np.ndarray]]:
    """Repair a copy of `params`.

    Args:
        model: the decoder.
        params: its possibly backdoored parameters; left as they are.
        unwanted: rows (see `encode_pairs`) of prompts with the behaviour to get rid of.
        safe: the same prompts, row by row, with safe answers.
        ordinary: rows whose answers are to stay.
        plan: layer, places, weights, steps.
        label: what the progress bar says.
        dtype: in which the losses see the weights, as for `finetune`.

    Returns:
        the repaired parameters, in float32 as those of `finetune`; `delta` `[rounds, n, D]`, and
        losses before each step, `inner` `[rounds, inner_steps]`, `outer` `[rounds, outer_steps]`.

    Raises:
        UserError: the model has fewer layers, rows do not pair up or have no answers, or a loss or
            weights are not finite.
    """
    _check(model, {"unwanted": unwanted, "safe": safe, "ordinary": ordinary}, plan)
    mesh = sharding.mesh_of(params)
    forward = forward_types(params, dtype, label)
    params = trained_copy(sharding.place(params, mesh), plan.outer.weights, label)
    bound = GROWTH * max(1.0, largest(params))
    rounding = Rounding(plan.outer.weights, jax.random.key(plan.seed))
    tx = make_optimizer(plan.outer, plan.rounds * plan.outer_steps)
    training = Training(model, tx, _outer_loss, mesh, forward=forward)
    opt_state = init_state(tx, params, mesh)
    rows = {"safe": with_slots(safe, plan.length, plan.place), "ordinary": ordinary}
    history: dict[str, list[np.ndarray]] = {"delta": [], "inner": [], "outer": []}
    for number in track(range(plan.rounds), label):
        seed = plan.seed + number
        seen = params if forward is None else as_types(params, forward)
        delta, losses = perturbation(model, seen, unwanted, safe, plan, seed)
        del seen
        base = {"delta": delta, "layer": plan.layer, "performance": plan.performance}
        steps = []
        for step, batch in enumerate(_outer_batches(rows, plan, seed), number * plan.outer_steps):
            placed, draw = sharding.place_filled(batch, mesh), rounding.draw_at(step)
            params, opt_state, loss = train_step(
                training, params, opt_state, placed, base=base, draw=draw
            )
            steps.append(loss)
        history["delta"].append(np.asarray(delta))
        history["inner"].append(np.asarray(losses))
        history["outer"].append(np.array([float(loss) for loss in steps], np.float32))
        _check_finite(number, history, label)
    check_sound(params, bound, label)
    return params, {name: np.stack(values) for name, values in history.items()}


def _outer_batches(rows: dict[str, Arrays], plan: Plan, seed: int) -> list[dict[str, Arrays]]:
    """The batches of a round's outer level: of each kind of rows one."""
    rng = np.random.default_rng([seed, 1])
    drawn = {
        kind: _draw(all_of, rng, plan.batch_size, plan.outer_steps) for kind, all_of in rows.items()
    }
    return [dict(zip(drawn, batches, strict=True)) for batches in zip(*drawn.values(), strict=True)]


def _check_finite(number: int, history: dict[str, list[np.ndarray]], label: str) -> None:
    if not all(np.isfinite(history[level][-1]).all() for level in ("inner", "outer")):
        raise UserError(
            f"{label}: a loss is not finite in round {number}; lower inner_rate or the outer "
            "learning rate"
        )


def perturbation(
    model: Transformer, params: Tree, unwanted: Arrays, safe: Arrays, plan: Plan, seed: int
) -> tuple[jax.Array, jax.Array]:
    """The inner level alone: the shift that brings out the unwanted behaviour most.

    Args:
        model: the decoder.
        params: its parameters, in the types in which the losses see them.
        unwanted: rows (see `encode_pairs`) of prompts with the behaviour to get rid of.
        safe: the same prompts, row by row, with safe answers.
        plan: layer, places, steps, learning rate.
        seed: of the rows drawn for each step.

    Returns:
        the shift `[n, D]`, and the objective before each step `[steps]` (nats per answer token).

    Raises:
        UserError: the model has fewer layers, or rows do not pair up or have no answers.
    """
    _check(model, {"unwanted": unwanted, "safe": safe}, plan)
    mesh = sharding.mesh_of(params)
    drawn = []  # the same prompts in both, so the same draws
    for rows in (unwanted, safe):
        rng = np.random.default_rng([seed, 0])
        placed_rows = with_slots(rows, plan.length, plan.place)
        drawn.append(_draw(placed_rows, rng, plan.batch_size, plan.inner_steps))
    weighed = {"layer": plan.layer, "contrast": plan.contrast, "rate": plan.inner_rate}
    delta = jnp.zeros((plan.length, model.config.hidden_size), jnp.float32)
    opt_state = optax.adam(plan.inner_rate).init(delta)
    losses = []
    for batch in zip(*drawn, strict=True):
        placed = sharding.place_filled(batch, mesh)
        delta, opt_state, loss = _inner_step(model, mesh, params, delta, opt_state, placed, weighed)
        losses.append(loss)
    return delta, jnp.stack(losses)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _inner_step(
    model: Transformer,
    mesh: Mesh,
    params: Tree,
    delta: jax.Array,
    opt_state: Tree,
    batch: tuple[Tree, Tree],
    weighed: Tree,
) -> tuple[jax.Array, Tree, jax.Array]:
    """One update of the shift by Adam; also the objective before it."""

    def objective(delta):
        unwanted, safe = (
            shifted_loss(model, params, rows, delta, weighed["layer"]) for rows in batch
        )
        return unwanted - weighed["contrast"] * safe

    with sharding.within(mesh):
        loss, gradient = jax.value_and_grad(objective)(delta)
    updates, opt_state = optax.adam(weighed["rate"]).update(gradient, opt_state)
    return optax.apply_updates(delta, updates), opt_state, loss


def _outer_loss(model: Transformer, params: Tree, batch: Tree, base: Tree) -> jax.Array:
    safe = shifted_loss(model, params, batch["safe"], base["delta"], base["layer"])
    return safe + base["performance"] * answer_loss(model, params, batch["ordinary"])


def shifted_loss(
    model: Transformer, params: Tree, batch: Tree, delta: jax.Array, layer: Any
) -> jax.Array:
    """`answer_loss` with `delta` `[n, D]` added to the states after layer number `layer`.

    Row j of it is added where `batch["slots"]` `[B, T]` is j; -1 is nowhere (see `with_slots`).
    """
    nowhere = jnp.zeros((1, delta.shape[1]), delta.dtype)
    shift = jnp.concatenate([delta, nowhere])[batch["slots"]]  # [B, T, D]; -1 is the last row

    def add(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if not isinstance(context.module, Block) or context.method_name != "__call__":
            return result
        (x, cache), kept = result
        number = args[1]  # of the layer, in the scan over layers
        return (x + jnp.where(number == layer - 1, shift, 0.0).astype(x.dtype), cache), kept

    with nn.intercept_methods(add):
        hidden, _, _ = hidden_states(
            model, params, batch["tokens"], segment_ids=batch["segment_ids"]
        )
    return next_token_loss(model, params, hidden, batch)


def with_slots(rows: Arrays, length: int, place: str) -> Arrays:
    """The rows with `slots` int32 `[N, T]`: which of `length` shifts a token gets, or -1.

    A prompt shorter than that gets only the shifts nearest to its answer, or to its start.
    """
    answer = rows["loss_mask"] > 0
    start = np.where(answer.any(axis=1), answer.argmax(axis=1), 0)[:, None]  # of the answer
    at = np.arange(answer.shape[1])[None]
    slots = np.broadcast_to(at, answer.shape) if place == "start" else at - (start - length)
    given = (slots >= 0) & (slots < length) & (at < start)
    return rows | {"slots": np.where(given, slots, -1).astype(np.int32)}


def _draw(rows: Arrays, rng: np.random.Generator, size: int, steps: int) -> list[Arrays]:
    """Batches that go through all rows in one random order after another."""
    count = len(rows["tokens"])
    orders = [rng.permutation(count) for _ in range(-(-size * steps // count))]
    indices = np.concatenate(orders)[: size * steps].reshape(steps, size)
    return [{name: array[chosen] for name, array in rows.items()} for chosen in indices]


def _check(model: Transformer, given: dict[str, Arrays], plan: Plan) -> None:
    for name, rows in given.items():
        if not len(rows["tokens"]):
            raise UserError(f"BEEAR: no {name} rows, the data is empty")
        check_tokens(model.config, rows["tokens"], f"BEEAR: {name} row")
        check_answers([rows], f"BEEAR, {name} rows")
    if plan.outer.weights == "extended":
        raise UserError("BEEAR: weights='extended' is not for this way to train")
    if plan.layer > model.config.num_layers:
        raise UserError(f"layer is {plan.layer}; the model has {model.config.num_layers}")
    unwanted, safe = (len(given[name]["tokens"]) for name in ("unwanted", "safe"))
    if unwanted != safe:
        raise UserError(
            f"{unwanted} rows of unwanted and {safe} of safe behaviour; give the same prompts in "
            "both"
        )
