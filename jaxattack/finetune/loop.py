"""Fine-tuning: the step, elementwise freezing, the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.finetune import losses
from jaxattack.finetune.optimizer import Settings, make_optimizer
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track
from jaxattack.tree import Tree

LossFn = Callable[[Transformer, Tree, Tree], jax.Array]


def select(mask: Tree | None, chosen: Tree, other: Tree) -> Tree:
    """`where(mask, chosen, other)` on trees; all of `chosen` without a mask."""
    if mask is None:
        return chosen
    return jax.tree.map(jnp.where, mask, chosen, other)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5))
def train_step(
    model: Transformer,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    mesh: Mesh,
    params: Tree,
    opt_state: Tree,
    batch: Tree,
    trainable: Tree | None,
) -> tuple[Tree, Tree, jax.Array]:
    """One update; weights outside `trainable` (bool tree or None) keep their bits.

    Their gradients are dropped first, so that clipping and momentum never see them, and the old
    values are put back last, so that weight decay cannot move them either.
    """
    with sharding.within(mesh):
        loss, grads = jax.value_and_grad(lambda p: loss_fn(model, p, batch))(params)
    grads = sharding.keep(grads, mesh)
    grads = select(trainable, grads, jax.tree.map(jnp.zeros_like, grads))
    updates, opt_state = tx.update(grads, opt_state, params)
    params = select(trainable, optax.apply_updates(params, updates), params)
    return sharding.keep(params, mesh), sharding.keep(opt_state, mesh), loss


def finetune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    trainable: Tree | None = None,
    loss_fn: LossFn = losses.answer_loss,
    label: str = "fine-tuning",
) -> tuple[Tree, np.ndarray]:
    """Train a copy of `params` on the batches in order.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: dicts with `tokens`, `loss_mask`, `segment_ids`, each `[B, T]`.
        settings: optimiser and schedule, or an optax transformation of your own.
        trainable: bool tree like `params`; False entries stay bit-equal. None trains all.
        loss_fn: loss of a batch.
        label: what the progress bar says.

    Returns:
        the tuned parameters, and the loss of every step `[steps]` (nats per answer token).

    Raises:
        UserError: no batches, a mask of another model, or a loss that is not finite.
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
    moments = sharding.shardings(jax.eval_shape(tx.init, params), mesh)
    opt_state = jax.jit(tx.init, out_shardings=moments)(params)
    history: list[jax.Array] = []
    for step, batch in enumerate(track(batches, label)):
        params, opt_state, loss = train_step(
            model, tx, loss_fn, mesh, params, opt_state, sharding.place_batch(batch, mesh),
            trainable,
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
