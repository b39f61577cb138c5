"""Fine-tuning: the step, elementwise freezing, the loop."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxattack import meter, savepoint, sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track
from jaxattack.train import in_parts, losses
from jaxattack.train.checks import (
    GROWTH,
    check_finite,
    check_given,
    check_learned,
    check_sound,
    largest,
    of_answers,
)
from jaxattack.train.losses import LossFn
from jaxattack.train.optimizer import Elementwise, Settings, learning_rates, make_optimizer
from jaxattack.train.rounding import (
    Draw,
    Types,
    as_types,
    forward_types,
    rounded,
    select,
    trained_copy,
    types_of,
    wide,
)
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained, by which loss and optimiser, where; equal ones are compiled once.

    Attributes:
        model: the decoder.
        tx: the optimiser.
        loss_fn: loss of a batch.
        mesh: where the parameters are.
        accumulate: parts in which a batch is worked off.
        forward: types in which the loss sees float32 weights; None: as they are.
    """

    model: Transformer
    tx: optax.GradientTransformation | Elementwise
    loss_fn: LossFn
    mesh: Mesh
    accumulate: int = 1
    forward: Types | None = None


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    training: Training,
    params: Tree,
    opt_state: Tree,
    batch: Tree,
    trainable: Tree | None = None,
    base: Tree | None = None,
    draw: Draw | None = None,
) -> tuple[Tree, Tree, jax.Array]:
    """One update; weights outside `trainable` (bool tree or None) keep their bits.

    Their gradients are dropped first, so that clipping and momentum never see them, and the old
    values are put back last, so that weight decay cannot move them either.

    The optimiser works in float32 whatever the weights are. Weights in float32 stay what it makes
    of them; others are rounded after the update, which may be made of one layer after the other.

    Args:
        training: what is trained, and how.
        params: the weights; their memory is taken, as that of `opt_state`.
        opt_state: of the optimiser, see `init_state`.
        batch: arrays `[B, ...]`, as the loss takes them.
        trainable: bool tree like `params`; None trains all.
        base: weights the loss reads beside those that are trained, its fourth argument.
        draw: round at random instead of to the nearest value.

    Returns:
        weights and state after the update, and the loss before it (nats per answer token).
    """
    mesh, forward = training.mesh, training.forward
    context = () if base is None else (base,)

    def loss_of(params, part):
        seen = params if forward is None else as_types(params, forward)
        return training.loss_fn(training.model, seen, part, *context)

    def gradient(part):
        with sharding.within(mesh):
            return jax.value_and_grad(loss_of)(params, part)

    if training.accumulate == 1:
        loss, grads = gradient(batch)
        grads = sharding.keep(grads, mesh)
    else:
        loss, grads = _accumulated(gradient, params, batch, mesh, training.accumulate)
    if isinstance(training.tx, Elementwise) and "bfloat16" in types_of(params):
        params, opt_state = in_parts.updated(
            training.tx, params, grads, opt_state, trainable, draw, mesh.size == 1
        )
        return sharding.keep(params, mesh), sharding.keep(opt_state, mesh), loss
    grads = wide(grads)
    grads = select(trainable, grads, jax.tree.map(jnp.zeros_like, grads))
    updates, opt_state = training.tx.update(grads, opt_state, wide(params))
    moved = optax.apply_updates(wide(params), updates)
    params = select(trainable, rounded(moved, params, draw), params)
    return sharding.keep(params, mesh), sharding.keep(opt_state, mesh), loss


def _accumulated(
    gradient: Callable[[Tree], tuple[jax.Array, Tree]],
    params: Tree,
    batch: Tree,
    mesh: Mesh,
    count: int,
) -> tuple[jax.Array, Tree]:
    """Loss and float32 gradient of the whole batch, one part of its rows after the other.

    Each part's loss is a mean over its own answer tokens, so it weighs as many as it has.
    """
    parts = _split_rows(batch, mesh, count)
    tokens = jax.vmap(lambda part: jnp.sum(losses.predicted(part)))(parts)
    weights = tokens / jnp.maximum(jnp.sum(tokens), 1.0)

    def add(total, weighted_part):
        weight, part = weighted_part
        loss, grads = gradient(part)
        grads = jax.tree.map(lambda t, g: t + weight * g, total[1], wide(grads))
        return (total[0] + weight * loss, sharding.keep(grads, mesh)), None

    zeros = sharding.keep(jax.tree.map(jnp.zeros_like, wide(params)), mesh)
    total, _ = jax.lax.scan(add, (jnp.float32(0.0), zeros), (weights, parts))
    return total


def _split_rows(batch: Tree, mesh: Mesh, count: int) -> Tree:
    """Every `[B, ...]` as `[count, B / count, ...]`.

    Part i has the rows i, i + count, ...: every device has some of each, and no row moves.
    """

    def split(rows):
        if len(rows) % count:
            raise UserError(
                f"a batch of {len(rows)} rows does not divide into {count} parts; choose a "
                "batch size that is a multiple of `accumulate`"
            )
        parts = rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)
        return sharding.constrain(parts, P(None, *sharding.BATCH))

    with sharding.within(mesh):
        return jax.tree.map(split, batch)


@dataclasses.dataclass(frozen=True)
class Updater:
    """An optax transformation of your own, with `weights` and `accumulate` as in `Settings`."""

    tx: optax.GradientTransformation
    weights: str = "float32"
    accumulate: int = 1


class Options(TypedDict, total=False):
    """Arguments of `finetune` that a function which trains by it hands on; see there."""

    trainable: Tree | None
    label: str
    dtype: str | None
    key: jax.Array | None


def init_state(tx: optax.GradientTransformation | Elementwise, params: Tree, mesh: Mesh) -> Tree:
    """The optimiser's first state, its moments in float32 and placed like the parameters."""

    def init(params):
        return tx.init(wide(params))

    placed = sharding.shardings(jax.eval_shape(init, params), mesh)
    return jax.jit(init, out_shardings=placed)(params)


def _beside(given: Tree | None, mesh: Mesh) -> Tree | None:
    return None if given is None else sharding.place(given, mesh)


def _begun(tx: Any, params: Tree, mesh: Mesh, weights: str, label: str) -> Tree:
    """`init_state`, and the byte beyond bfloat16 where weights have one."""
    state = init_state(tx, params, mesh)
    if weights != "extended":
        return state
    if not isinstance(tx, Elementwise):
        raise UserError(f"{label}: weights='extended' is not for this way to train")
    return in_parts.extended(state, params, mesh)


def finetune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays] | Sequence[dict[str, Arrays]],
    settings: Settings | Updater | optax.GradientTransformation,
    trainable: Tree | None = None,
    loss_fn: LossFn = losses.answer_loss,
    label: str = "fine-tuning",
    base: Tree | None = None,
    dtype: str | None = None,
    key: jax.Array | None = None,
    spare: bool = False,
) -> tuple[Tree, np.ndarray]:
    """Train a copy of `params` on the batches in order.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: dicts with `tokens`, `loss_mask`, `segment_ids`, each `[B, T]`; or dicts of such
            dicts, for a loss of several kinds of rows.
        settings: optimiser and schedule, or an optax transformation of your own.
        trainable: bool tree like `params`; False entries stay bit-equal. None trains all.
        loss_fn: loss of a batch: a mean over its answer tokens; a mesh may add rows without any.
        label: what the progress bar says.
        base: weights that stay, given to `loss_fn` as its fourth argument; None for none.
        dtype: in which the loss sees the weights, "float32" or "bfloat16"; None: in their own.
        key: of weights that are rounded at random, another for each training that is compared,
            or they share what chance did. None: `jax.random.key(0)`.
        spare: nobody needs `params` again, so that their memory may be taken.

    Returns:
        the tuned parameters, in float32 whatever `params` are in (see `Settings.weights`); and the
        loss of every step `[steps]` (nats per answer token).

    Raises:
        UserError: nothing to train on or to predict, or what does not fit the model; weights in
            float16, or spare and in `base`; a loss or weights not finite or beyond all bounds.

    Example:
        >>> batches = ja.epochs(ja.encode_pairs(tokenizer, pairs), batch_size=2, epochs=2, seed=0)
        >>> tuned, history = ja.finetune(model, params, batches, ja.Settings(learning_rate=1e-3))
        >>> history.shape
        (4,)
    """
    check_given(model, params, batches, trainable, loss_fn, base if spare else None, label)
    mesh, forward = sharding.mesh_of(params), forward_types(params, dtype, label)
    tx, weights, accumulate, rates = _parts_of(settings, len(batches))
    params = trained_copy(sharding.place(params, mesh), weights, label, spare)
    bound = GROWTH * max(1.0, largest(params))
    training = Training(model, tx, loss_fn, mesh, accumulate, forward)
    state = {"params": params, "opt_state": _begun(tx, params, mesh, weights, label)}
    del params  # its memory is taken by the first step
    context = {"trainable": _beside(trainable, mesh), "base": _beside(base, mesh)}
    history = _steps(training, state, batches, context, Rounding(weights, key), label, rates)
    if weights == "extended":
        state["params"] = in_parts.whole(state["params"], state.pop("opt_state").low)
    check_sound(state["params"], bound, label)
    if of_answers(loss_fn):
        check_learned(history, model.config.vocab_size, label)
    return state["params"], history


def _steps(
    training: Training,
    state: dict[str, Tree],
    batches: Sequence[Any],
    context: dict[str, Tree | None],
    rounding: Rounding,
    label: str,
    rates: meter.Rates | None,
) -> np.ndarray:
    """Take all steps, in place; returns their losses."""
    mesh, weights = training.mesh, max(map(tree.size, (state["params"], context["base"] or {})))
    with (
        savepoint.training(state, mesh, len(batches), label) as (history, look),
        meter.training(label, history, batches, weights, mesh.size, rates) as measure,
    ):
        left = batches[len(history) :] if history else batches
        for step, batch in enumerate(track(left, label), len(history)):
            placed, draw = _placed(training, batch), rounding.draw_at(step)
            state["params"], state["opt_state"], loss = train_step(
                training, state["params"], state["opt_state"], placed, **context, draw=draw
            )
            history.append(loss)
            if step:  # one step late, so that the device never waits for the host
                check_finite(history[-2], step - 1, label)
            measure()
            look(history)
        check_finite(history[-1], len(history) - 1, label)
    return np.array([float(loss) for loss in history], np.float32)


def _placed(training: Training, batch: Tree) -> Tree:
    """A batch on the devices, filled up so that each has as many rows of every part of it."""
    kinds = [batch] if "tokens" in batch else batch.values()
    masked = all(isinstance(rows, dict) and "loss_mask" in rows for rows in kinds)
    counts = [len(leaf) for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
    # Of what else a loss may be, rows of zeros might count; and parts that differ are refused.
    if not masked or any(count % training.accumulate for count in counts):
        return sharding.place_batch(batch, training.mesh)
    return sharding.place_filled(batch, training.mesh, training.accumulate)


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How updates are rounded into `weights` (see `Settings`)."""

    weights: str
    key: jax.Array | None = None  # of the training's; None: `jax.random.key(0)`

    def draw_at(self, step: int) -> Draw | None:
        """What a step rounds by; None: to the nearest value."""
        if self.weights not in ("stochastic", "extended"):
            return None
        key = jax.random.key(0) if self.key is None else self.key
        return Draw(key, jnp.uint32(step))


def _parts_of(
    settings: Settings | Updater | optax.GradientTransformation, steps: int
) -> tuple[optax.GradientTransformation | Elementwise, str, int, meter.Rates | None]:
    """Optimiser, type of the weights, parts of a batch, learning rates if they are known."""
    if isinstance(settings, Updater):
        return settings.tx, settings.weights, settings.accumulate, None
    if not isinstance(settings, Settings):
        return settings, "float32", 1, None
    rates = functools.partial(learning_rates, settings, steps)
    return make_optimizer(settings, steps), settings.weights, settings.accumulate, rates
