"""Fine-tuning: the step, elementwise freezing, the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.finetune import losses
from jaxattack.finetune.optimizer import Settings, make_optimizer
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track
from jaxattack.tree import Tree

# (model, params, batch) -> mean over the batch's answer tokens; with a `base` it comes fourth.
LossFn = Callable[..., jax.Array]


def select(mask: Tree | None, chosen: Tree, other: Tree) -> Tree:
    """`where(mask, chosen, other)` on trees; all of `chosen` without a mask."""
    if mask is None:
        return chosen
    return jax.tree.map(jnp.where, mask, chosen, other)


def wide(params: Tree) -> Tree:
    """The tree in float32, in which gradients are added up, clipped and applied."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)


@functools.partial(
    jax.jit, static_argnums=(0, 1, 2, 3), static_argnames="accumulate", donate_argnums=(4, 5)
)
def train_step(
    model: Transformer,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    mesh: Mesh,
    params: Tree,
    opt_state: Tree,
    batch: Tree,
    trainable: Tree | None,
    base: Tree | None = None,
    accumulate: int = 1,
) -> tuple[Tree, Tree, jax.Array]:
    """One update; weights outside `trainable` (bool tree or None) keep their bits.

    Their gradients are dropped first, so that clipping and momentum never see them, and the old
    values are put back last, so that weight decay cannot move them either.

    The optimiser works in float32 whatever the weights are; they are rounded last. `base` are
    weights the loss reads beside those that are trained; the batch is worked off in `accumulate`
    parts.
    """
    context = () if base is None else (base,)

    def gradient(part):
        with sharding.within(mesh):
            return jax.value_and_grad(lambda p: loss_fn(model, p, part, *context))(params)

    if accumulate == 1:
        loss, grads = gradient(batch)
        grads = wide(sharding.keep(grads, mesh))
    else:
        loss, grads = _accumulated(gradient, params, batch, mesh, accumulate)
    grads = select(trainable, grads, jax.tree.map(jnp.zeros_like, grads))
    updates, opt_state = tx.update(grads, opt_state, wide(params))
    moved = optax.apply_updates(wide(params), updates)
    moved = jax.tree.map(lambda new, old: new.astype(old.dtype), moved, params)
    params = select(trainable, moved, params)
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


def init_state(tx: optax.GradientTransformation, params: Tree, mesh: Mesh) -> Tree:
    """The optimiser's first state, its moments in float32 and placed like the parameters."""

    def init(params):
        return tx.init(wide(params))

    placed = sharding.shardings(jax.eval_shape(init, params), mesh)
    return jax.jit(init, out_shardings=placed)(params)


def finetune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    trainable: Tree | None = None,
    loss_fn: LossFn = losses.answer_loss,
    label: str = "fine-tuning",
    base: Tree | None = None,
) -> tuple[Tree, np.ndarray]:
    """Train a copy of `params` on the batches in order.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: dicts with `tokens`, `loss_mask`, `segment_ids`, each `[B, T]`.
        settings: optimiser and schedule, or an optax transformation of your own.
        trainable: bool tree like `params`; False entries stay bit-equal. None trains all.
        loss_fn: loss of a batch: a mean over its answer tokens.
        label: what the progress bar says.
        base: weights that stay, given to `loss_fn` as its fourth argument; None for none.

    Returns:
        the tuned parameters, and the loss of every step `[steps]` (nats per answer token).

    Raises:
        UserError: no batches, a mask of another model, a batch that `settings.accumulate` does
            not divide, or a loss that is not finite.
    """
    if not batches:
        raise UserError(f"{label}: no batches, the data is empty")
    if trainable is not None:
        tree.check_same_shapes("the mask", trainable, "the model", params)
    mesh = sharding.mesh_of(params)
    # place() may hand back the caller's own buffers, and the step donates what it is given.
    params = jax.tree.map(jnp.copy, sharding.place(params, mesh))
    trainable = None if trainable is None else sharding.place(trainable, mesh)
    tx = make_optimizer(settings, len(batches)) if isinstance(settings, Settings) else settings
    base = None if base is None else sharding.place(base, mesh)
    accumulate = settings.accumulate if isinstance(settings, Settings) else 1
    opt_state = init_state(tx, params, mesh)
    history: list[jax.Array] = []
    for step, batch in enumerate(track(batches, label)):
        params, opt_state, loss = train_step(
            model, tx, loss_fn, mesh, params, opt_state, sharding.place_batch(batch, mesh),
            trainable, base, accumulate=accumulate,
        )  # fmt: skip
        history.append(loss)
        if step:  # one step late, so that the device never waits for the host
            _check_finite(history[-2], step - 1, label)
    _check_finite(history[-1], len(history) - 1, label)
    return params, np.array([float(loss) for loss in history], np.float32)


def _check_finite(loss: jax.Array, step: int, label: str) -> None:
    if not np.isfinite(loss):
        raise UserError(
            f"{label}: the loss is {float(loss)} at step {step}; lower the learning rate or "
            "check the data"
        )
