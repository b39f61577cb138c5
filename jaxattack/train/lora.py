"""LoRA (Hu et al. 2021) as a change of parameters: `W + scale * a @ b`, with only a, b trained.

In training the adapters stay beside the weights, which then have no gradient: a step holds the
weights once, in the model's type, and little else. After it they are merged, so that whatever works
on parameters (scores, stitching, export) works on them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.adapted import Adapted
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop, losses
from jaxattack.train.losses import LossFn
from jaxattack.train.method import How
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

# The matrices of a stack of layers, and how many axes after the layers' are their inputs.
MATRICES = ((r"attention/o$", 2), (r"(attention/(q|k|v|qkv)|mlp/(gate|up|down))$", 1))


def init(params: Tree, rank: int, key: jax.Array, targets: str = "") -> Tree:
    """Adapters that change nothing yet.

    Args:
        params: the model's parameters.
        rank: of every change.
        key: PRNG key; each matrix draws its own numbers.
        targets: regular expression, searched in names like "layers/attention/q"; the matrices it
            finds get adapters. "" finds all of them.

    Returns:
        `{"a": [L, *inputs, rank], "b": [L, rank, *outputs]}` in float32 in the place of every
        chosen matrix `[L, *inputs, *outputs]`; `a` is normal with variance 1 / inputs, `b` zero.

    Raises:
        UserError: `rank` is not positive, `key` is none, `targets` is no expression, or no matrix
            matches.
    """
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1:
        raise UserError(f"LoRA's rank is {rank!r}; it should be a whole number, at least 1")
    wanted = tree.pattern(targets, "LoRA's targets")
    matrices = {
        name: (leaf, inputs)
        for name, leaf in tree.named_leaves(params).items()
        for pattern, inputs in MATRICES
        if re.search(pattern, name)
    }
    chosen = {name: found for name, found in matrices.items() if wanted.search(name)}
    if not chosen:
        raise UserError(
            f"LoRA's targets {targets!r} match no matrix; there are: {', '.join(matrices)}"
        )
    try:
        keys = jax.random.split(key, len(chosen))
    except (TypeError, ValueError) as error:
        raise UserError(f"LoRA's key is {key!r}; give one key: jax.random.key(<seed>)") from error
    adapters = {}
    for name, part in zip(chosen, keys, strict=True):
        leaf, inputs = chosen[name]
        layers, *sizes = leaf.shape
        a = jax.random.normal(part, (layers, *sizes[:inputs], rank), jnp.float32)
        adapters[f"{name}/a"] = a / math.sqrt(math.prod(sizes[:inputs]))
        adapters[f"{name}/b"] = jnp.zeros((layers, rank, *sizes[inputs:]), jnp.float32)
    return sharding.place(tree.unflatten(adapters), sharding.mesh_of(params))


def attach(params: Tree, adapters: Tree, scale: float) -> Tree:
    """Parameters that the model reads as `merge`'s, with the adapters beside their matrices.

    Raises:
        UserError: an adapter fits no parameter.
    """
    pairs = _pairs(params, adapters)
    return tree.map_named(
        lambda name, leaf: (
            Adapted(leaf, pairs[name][0], scale * pairs[name][1]) if name in pairs else leaf
        ),
        params,
    )


def merge(params: Tree, adapters: Tree, scale: float, dtype: Any = None) -> Tree:
    """Parameters with `W + scale * a @ b` in the place of every adapted `W`.

    The sum is taken in float32 and rounded to `dtype`, by default each W's. Where the change itself
    is of interest (scores, stitching), that is float32: of a small one little is left in bfloat16.

    Raises:
        UserError: an adapter fits no parameter.
    """
    pairs = _pairs(params, adapters)

    def add(name, leaf):
        wanted = jnp.dtype(dtype or leaf.dtype)
        if name not in pairs:
            return leaf.astype(wanted)
        return _added(leaf, *pairs[name], scale, wanted)

    return tree.map_named(add, params)


@functools.partial(jax.jit, static_argnums=4)
def _added(leaf: jax.Array, a: jax.Array, b: jax.Array, scale: Any, dtype: Any) -> jax.Array:
    """`leaf + scale * a @ b`, compiled, for so the sum takes the product's memory."""
    return (leaf.astype(jnp.float32) + scale * _product(a, b)).astype(dtype)


def _pairs(params: Tree, adapters: Tree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """`a` and `b` by the name of their matrix."""
    parts = tree.named_leaves(adapters)
    names = [name.removesuffix("/a") for name in parts if name.endswith("/a")]
    pairs = {name: (parts[f"{name}/a"], parts[f"{name}/b"]) for name in names}
    leaves = tree.named_leaves(params)
    for name, pair in pairs.items():
        shape = jax.eval_shape(_product, *pair).shape
        if name not in leaves or leaves[name].shape != shape:
            found = leaves[name].shape if name in leaves else "absent"
            raise UserError(
                f"the adapters do not fit the model: {name} is {found} there, and "
                f"{shape} by the adapters"
            )
    return pairs


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a @ b` layer by layer, the axes of inputs and outputs kept apart."""
    return jax.vmap(functools.partial(jnp.tensordot, axes=1))(a, b)


@dataclasses.dataclass(frozen=True)
class AdaptedLoss:
    """A loss of the model with adapters; equal ones are compiled once."""

    loss_fn: LossFn
    scale: float

    def __call__(self, model: Transformer, adapters: Tree, batch: Tree, base: Tree) -> jax.Array:
        """The loss, as a function of the adapters."""
        return self.loss_fn(model, attach(base, adapters, self.scale), batch)


@dataclasses.dataclass(frozen=True)
class LowRank:
    """What adapters there are.

    Attributes:
        rank: of the change of every matrix.
        alpha: the change is scaled by `alpha / rank`.
        targets: which matrices, as for `init`.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str = ""

    @property
    def scale(self) -> float:
        """Factor of the change."""
        return self.alpha / self.rank

    def first(self, params: Tree, key: jax.Array) -> Tree:
        """The adapters before the training, see `init`."""
        return init(params, self.rank, key, self.targets)


def finetune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    key: jax.Array,
    change: LowRank,
    loss_fn: LossFn = losses.answer_loss,
    label: str = "LoRA",
) -> tuple[Tree, np.ndarray]:
    """Train adapters on the batches in order; `merge(params, adapters, change.scale)` applies them.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: as for `loop.finetune`.
        settings: optimiser and schedule; "muon" moves adapters like Adam.
        key: PRNG key of the adapters' first values.
        change: rank, scale and place of the adapters.
        loss_fn: loss of a batch (nats per answer token).
        label: what the progress bar says.

    Returns:
        the adapters, and the loss of every step `[steps]`.

    Raises:
        UserError: as `init` and `loop.finetune`.
    """
    adapters, loss = change.first(params, key), AdaptedLoss(loss_fn, change.scale)
    return loop.finetune(model, adapters, batches, settings, None, loss, label, base=params)


def tune(
    model: Transformer, params: Tree, batches: Sequence[Arrays], how: How
) -> tuple[Tree, np.ndarray]:
    """Adapters, then merged into the weights (a `method.Method`).

    Raises:
        UserError: some weights are to be frozen, which adapters of whole matrices cannot do.
    """
    if how.trainable is not None:
        raise UserError(f"{how.label}: adapters change whole matrices; single weights cannot stay")
    change = LowRank(how.rank, how.alpha)
    seen = tree.cast(params, how.dtype)  # of what is kept in float32 as of what was loaded
    found, history = finetune(model, seen, batches, how.updates, how.key, change, label=how.label)
    del seen  # what is merged into is `params`, which nobody rounded
    return merge(params, found, change.scale, jnp.float32), history
