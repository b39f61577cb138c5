"""Scores: how much each weight matters for a behaviour."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.batches import take
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.localize import batched
from jaxattack.models.config import activations, check_tokens
from jaxattack.models.moments import MOMENTS
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track
from jaxattack.train import losses
from jaxattack.train.losses import LossFn
from jaxattack.tree import Tree

SPARE = 1 << 28  # bytes of activations on a device that are kept without a thought


def is_much(activations: int, weights: int) -> bool:
    """Whether a scoring pass should compute its layers' insides again, in bytes on a device.

    Beside the weights and the totals they are the largest thing it holds.
    """
    return activations > max(SPARE, weights // 8)


def attack_vector(attacked: Tree, aligned: Tree) -> Tree:
    """`tau = attacked - aligned` in float32.

    Raises:
        UserError: the two are not of one shape, or lie apart.

    Example:
        >>> ja.attack_vector({"w": np.array([1.5, 2.0])}, {"w": np.array([1.0, 2.0])})["w"].tolist()
        [0.5, 0.0]
    """
    tree.check_alike({"the attacked model": attacked, "the aligned model": aligned})
    return jax.tree.map(
        lambda after, before: after.astype(jnp.float32) - before.astype(jnp.float32),
        attacked,
        aligned,
    )


@jax.jit
def sil(aligned: Tree, attacked: Tree, gradient: Tree) -> Tree:
    """SIL's product of the attack vector with the mean of `|grad L|`, or with the mean gradient."""
    return size_of_product(attack_vector(attacked, aligned), gradient)


@jax.jit
def size_of_product(vector: Tree, gradient: Tree) -> Tree:
    """`|tau * mean|`, of an attack vector and a mean gradient."""
    return jax.tree.map(lambda tau, mean: jnp.abs(tau * mean), vector, gradient)


def sil_scores(
    model: Transformer,
    aligned: Tree,
    attacked: Tree,
    batches: Sequence[Arrays],
    at: str = "aligned",
    loss_fn: LossFn = losses.answer_loss,
    label: str = "SIL",
    spread: bool = True,
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
        loss_fn: loss of a batch. The answer loss takes the examples of a batch together; another
            is called with one example at a time.
        label: what the progress bar says.
        spread: with a loss of your own, take one example's gradient on each part of the mesh that
            has a row of a batch. A part then holds a whole gradient; without, all devices share
            one, for models whose gradient fits none of them.

    Returns:
        a tree like the parameters, float32.

    Raises:
        UserError: no data, token ids beyond the vocabulary, models that do not fit or lie apart,
            or `at` is neither of the two.

    Example:
        >>> batches = ja.in_order(ja.encode_pairs(tokenizer, pairs), batch_size=2)
        >>> scores = ja.sil_scores(model, params, attacked, batches)
        >>> scores["embed"].shape == params["embed"].shape
        True
    """
    if at not in ("aligned", "attacked"):
        raise UserError(f"the gradient can be taken at 'aligned' or 'attacked', not {at!r}")
    point = aligned if at == "aligned" else attacked
    point = sharding.place(point, sharding.mesh_of(point))  # where its gradients will be
    both = {"the aligned model": aligned, "the attacked model": attacked}
    tree.check_alike(both | {f"the {at} model": point})
    totals, count = gradient_moments(model, point, batches, loss_fn, label, spread)
    if count == 0:
        raise UserError(f"{label}: no calibration example has a token to predict")
    return _sil_in_place(totals["abs"], count, aligned, attacked)


@functools.partial(jax.jit, donate_argnums=0)
def _sil_in_place(total: Tree, count: int, aligned: Tree, attacked: Tree) -> Tree:
    """`sil` of a sum over so many examples, in the sum's own memory."""
    return sil(aligned, attacked, _mean(total, count))


def mean_gradient(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    loss_fn: LossFn = losses.answer_loss,
    label: str = "gradients",
    moment: str = "abs",
) -> Tree:
    """Mean over examples of a moment of `grad L(x)`, a tree like the parameters in float32.

    Args:
        model: the decoder.
        params: where the gradient is taken.
        batches: examples, arrays `[B, T]`; rows without loss tokens are not counted.
        loss_fn: loss of a batch (nats per answer token).
        label: what the progress bar says.
        moment: of the gradient's entries, a name in `MOMENTS`.

    Raises:
        UserError: no example has a token to predict.
    """
    totals, count = gradient_moments(model, params, batches, loss_fn, label, moments=(moment,))
    if not count:
        raise UserError(f"{label}: no example has a token to predict")
    return mean_in_place(totals[moment], count)


@functools.partial(jax.jit, donate_argnums=0)
def mean_in_place(total: Tree, count: int) -> Tree:
    """A sum over so many examples as their mean, in the sum's own memory."""
    return _mean(total, count)


def _mean(total: Tree, count: int) -> Tree:
    return jax.tree.map(lambda leaf: leaf / count, total)


def gradient_moments(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    loss_fn: LossFn,
    label: str,
    spread: bool = True,
    moments: Sequence[str] = ("abs",),
) -> tuple[dict[str, Tree], int]:
    """Sums over examples of functions of each example's gradient, in one pass.

    Args:
        model: the decoder.
        params: where the gradients are taken.
        batches: as for `sil_scores`.
        loss_fn: as for `sil_scores`.
        label: what the progress bar says.
        spread: as for `sil_scores`.
        moments: which functions, of `MOMENTS`; each holds memory like the parameters in float32.

    Returns:
        by moment a tree like the parameters, float32; and the number of examples.
    """
    check_tokens(model.config, (batch["tokens"] for batch in batches), f"{label}: batch")
    mesh = sharding.mesh_of(params)
    params = sharding.place(params, mesh)
    totals = {
        moment: jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, jnp.float32, device=leaf.sharding), params
        )
        for moment in moments
    }
    predictions = [(np.asarray(losses.predicted(batch)) > 0).sum(axis=1) for batch in batches]
    most = max([8, *(int(row) for rows in predictions for row in rows)])
    together = loss_fn is losses.answer_loss
    group = sharding.ways(mesh) if together or spread else 1
    if together and batches and model.remat != "full":
        rows, length = batches[0]["tokens"].shape
        own = sharding.filled_rows(rows, mesh) // group
        item, ways = params["embed"].dtype.itemsize, mesh.shape["tensor"]
        kept = activations(model.config, own, length, item, model.remat, ways)
        if is_much(kept, tree.nbytes(params) // mesh.size):
            model = model.clone(remat="full")
    for batch, asked in zip(track(batches, label), predictions, strict=True):
        rows = -(-len(asked) // group) * group
        batch = take(batch, np.arange(len(asked)), rows)
        if together:
            batch = sharding.place_batch(batch, mesh)
            totals = batched.accumulate(model, mesh, -(-most // 8) * 8, totals, params, batch)
        else:
            examples = np.arange(rows) < len(asked)
            examples[: len(asked)] &= asked > 0
            totals = _accumulate(model, loss_fn, mesh, group, totals, params, batch, examples)
    return totals, sum(int((asked > 0).sum()) for asked in predictions)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4,))
def _accumulate(
    model: Transformer,
    loss_fn: LossFn,
    mesh: Mesh,
    together: int,
    totals: dict[str, Tree],
    params: Tree,
    batch: Tree,
    examples: jax.Array,
) -> dict[str, Tree]:
    """Add the moments of each example's gradient, `together` examples at a time on own devices."""

    def gradient(example, params):
        single = jax.tree.map(lambda array: array[None], example)
        with sharding.within(mesh):
            return jax.grad(lambda p: loss_fn(model, p, single))(params)

    def add(totals, rows):
        group, real = rows
        if together == 1:
            grads = jax.tree.map(
                lambda g: g[None], gradient(jax.tree.map(lambda a: a[0], group), params)
            )
        else:
            with sharding.within(mesh):
                group = jax.tree.map(lambda rows: sharding.constrain(rows, sharding.BATCH), group)
            axes = sharding.BATCH[0]
            with sharding.each_alone():
                grads = jax.vmap(gradient, (0, None), spmd_axis_name=axes)(group, params)

        def grow(moment, total, grads):
            chosen = real.reshape(-1, *[1] * (grads.ndim - 1))
            size = MOMENTS[moment](grads.astype(jnp.float32))
            return total + jnp.sum(jnp.where(chosen, size, 0.0), axis=0)

        totals = {
            moment: jax.tree.map(functools.partial(grow, moment), total, grads)
            for moment, total in totals.items()
        }
        return sharding.keep(totals, mesh), None

    groups = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[1:]), (batch, examples))
    totals, _ = jax.lax.scan(add, totals, groups)
    return sharding.keep(totals, mesh)
