"""LoRA (Hu et al. 2021) as a change of parameters: `W + scale * a @ b`, with only a, b trained.

The model never hears of adapters: a step merges them into a copy of the weights. That saves the
optimiser's memory, not the gradient's; and whatever works on parameters (scores, stitching,
export) works on merged ones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
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
        UserError: `rank` is not positive, or no matrix matches.
    """
    if rank < 1:
        raise UserError(f"LoRA's rank is {rank}; it should be at least 1")
    matrices = {
        name: (leaf, inputs)
        for name, leaf in tree.named_leaves(params).items()
        for pattern, inputs in MATRICES
        if re.search(pattern, name)
    }
    chosen = {name: found for name, found in matrices.items() if re.search(targets, name)}
    if not chosen:
        raise UserError(
            f"LoRA's targets {targets!r} match no matrix; there are: {', '.join(matrices)}"
        )
    adapters = {}
    for name, part in zip(chosen, jax.random.split(key, len(chosen)), strict=True):
        leaf, inputs = chosen[name]
        layers, *sizes = leaf.shape
        a = jax.random.normal(part, (layers, *sizes[:inputs], rank), jnp.float32)
        adapters[f"{name}/a"] = a / math.sqrt(math.prod(sizes[:inputs]))
        adapters[f"{name}/b"] = jnp.zeros((layers, rank, *sizes[inputs:]), jnp.float32)
    return sharding.place(tree.unflatten(adapters), sharding.mesh_of(params))


def merge(params: Tree, adapters: Tree, scale: float) -> Tree:
    """Parameters with `W + scale * a @ b` in the place of every adapted `W`.

    The sum is taken in float32 and rounded to W's type. Where the change itself is of interest
    (scores, stitching), merge into `tree.cast(params, "float32")`: of a small one little is left
    in bfloat16.

    Raises:
        UserError: an adapter fits no parameter.
    """
    parts = tree.named_leaves(adapters)
    changes = {
        name.removesuffix("/a"): _product(a, parts[f"{name.removesuffix('/a')}/b"])
        for name, a in parts.items()
        if name.endswith("/a")
    }
    leaves = tree.named_leaves(params)
    for name, change in changes.items():
        if name not in leaves or leaves[name].shape != change.shape:
            found = leaves[name].shape if name in leaves else "absent"
            raise UserError(
                f"the adapters do not fit the model: {name} is {found} there, and "
                f"{change.shape} by the adapters"
            )

    def add(name, leaf):
        if name not in changes:
            return leaf
        return (leaf.astype(jnp.float32) + scale * changes[name]).astype(leaf.dtype)

    return tree.map_named(add, params)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a @ b` layer by layer, the axes of inputs and outputs kept apart."""
    return jax.vmap(functools.partial(jnp.tensordot, axes=1))(a, b)


@dataclasses.dataclass(frozen=True)
class MergedLoss:
    """A loss of the model with adapters; equal ones are compiled once."""

    loss_fn: LossFn
    scale: float

    def __call__(self, model: Transformer, adapters: Tree, batch: Tree, base: Tree) -> jax.Array:
        """The loss, as a function of the adapters."""
        return self.loss_fn(model, merge(base, adapters, self.scale), batch)


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
    adapters, loss = change.first(params, key), MergedLoss(loss_fn, change.scale)
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
    found, history = finetune(model, params, batches, how.updates, how.key, change, label=how.label)
    return merge(tree.cast(params, np.float32), found, change.scale), history
