"""Scores: how much each weight matters for a behaviour."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.finetune import losses
from jaxattack.finetune.loop import LossFn
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track
from jaxattack.tree import Tree


def attack_vector(attacked: Tree, aligned: Tree) -> Tree:
    """`tau = attacked - aligned` in float32."""
    return jax.tree.map(
        lambda after, before: after.astype(jnp.float32) - before.astype(jnp.float32),
        attacked,
        aligned,
    )


def sil_scores(
    model: Transformer,
    aligned: Tree,
    attacked: Tree,
    batches: Sequence[Arrays],
    at: str = "aligned",
    loss_fn: LossFn = losses.answer_loss,
    label: str = "SIL",
) -> Tree:
    """Safety Information Localization: `E_x |tau * grad L(x)|`, elementwise.

    The expectation is over examples, after the absolute value (Poppi et al. 2024; where the
    formula is not public it is completed by us, see docs/methods.md).

    Args:
        model: the decoder.
        aligned: parameters before the attack.
        attacked: parameters after it.
        batches: calibration data, arrays `[B, T]`; rows without loss tokens are not counted.
        at: where the gradient is taken, "aligned" or "attacked".
        loss_fn: loss of a batch; it is called with one example at a time.
        label: what the progress bar says.

    Returns:
        a tree like the parameters, float32.

    Raises:
        UserError: no data, or `at` is neither of the two.
    """
    if at not in ("aligned", "attacked"):
        raise UserError(f"the gradient can be taken at 'aligned' or 'attacked', not {at!r}")
    point = aligned if at == "aligned" else attacked
    total, count = mean_abs_gradient(model, point, batches, loss_fn, label)
    if count == 0:
        raise UserError(f"{label}: no calibration example has a token to predict")
    return jax.tree.map(
        lambda tau, grads: jnp.abs(tau) * grads / count, attack_vector(attacked, aligned), total
    )


def mean_abs_gradient(
    model: Transformer, params: Tree, batches: Sequence[Arrays], loss_fn: LossFn, label: str
) -> tuple[Tree, int]:
    """Sum over examples of `|grad L(x)|` in float32, and the number of examples."""
    mesh = sharding.mesh_of(params)
    params = sharding.place(params, mesh)
    total = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, jnp.float32, device=leaf.sharding), params
    )
    count = 0
    for batch in track(batches, label):
        examples = np.asarray(losses.predicted(batch) > 0).any(axis=1)
        count += int(examples.sum())
        total = _accumulate(model, loss_fn, mesh, total, params, batch, examples)
    return total, count


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def _accumulate(
    model: Transformer,
    loss_fn: LossFn,
    mesh: Mesh,
    total: Tree,
    params: Tree,
    batch: Tree,
    examples: jax.Array,
) -> Tree:
    """Add `|grad|` of each example, one after the other: memory of one gradient, not of B."""

    def one(total, row):
        example, real = row
        single = jax.tree.map(lambda array: array[None], example)
        with sharding.within(mesh):
            grads = jax.grad(lambda p: loss_fn(model, p, single))(params)
        added = jax.tree.map(
            lambda t, g: t + jnp.where(real, jnp.abs(g.astype(jnp.float32)), 0.0), total, grads
        )
        return added, None

    total, _ = jax.lax.scan(one, total, (batch, examples))
    return sharding.keep(total, mesh)
