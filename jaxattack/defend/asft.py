"""AsFT: tuning is held to the directions in which alignment has moved the weights.

Yang et al. 2025 ("AsFT"): with V = W_aligned - W_base and D = W - W_aligned of every matrix of the
layers, written with a row for each output, the loss is

    L(theta) + strength * sum ||(I - C) D||_F^2,    C = V V^T / ||V||_F.

C is a projection in name only: its largest eigenvalue is ||V||_2^2 / ||V||_F, not 1, so the scale
of V matters. It is what the authors' code has, and SafeLoRA's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack import tree
from jaxattack.data.dialogues import Arrays
from jaxattack.defend import matrices
from jaxattack.defend.matrices import along, inputs_of
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop, rounding
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

TINY = 1e-30  # the least norm of V: of a matrix that alignment left, C is 0


@dataclasses.dataclass(frozen=True)
class Asft:
    """The loss; `base` has the `aligned` matrices and their `spaces`.

    Attributes:
        strength: of the penalty.
        forward: types in which the answers see the weights; None: as they are. The penalty sees
            them as they are trained: in bfloat16 most of D would be lost.
    """

    reads_answers: ClassVar[bool] = True  # see `checks.check_learnable`
    strength: float
    forward: rounding.Types | None = None

    def __call__(self, model: Transformer, params: Tree, batch: Tree, base: Tree) -> jax.Array:
        """The loss (nats per answer token, plus the penalty)."""
        seen = params if self.forward is None else rounding.as_types(params, self.forward)
        loss = answer_loss(model, seen, batch)
        return loss + self.strength * penalty(params, base["aligned"], base["spaces"])


def penalty(params: Tree, aligned: Tree, spaces: Tree) -> jax.Array:
    """Sum over the matrices of `||(I - C) D||_F^2`, in float32."""
    named, total = tree.named_leaves(params), jnp.float32(0.0)
    pairs = zip(tree.named_leaves(aligned).items(), jax.tree.leaves(spaces), strict=True)
    for (name, start), space in pairs:
        change = named[name].astype(jnp.float32) - start.astype(jnp.float32)
        total = total + jnp.sum(jnp.square(change - _within(name, space, change)))
    return total


def _matrices(params: Tree) -> Tree:
    """The leaves that are stacks of the layers' matrices, `[L, *inputs, *outputs]`."""
    named = tree.named_leaves(params)
    return tree.unflatten({name: leaf for name, leaf in named.items() if inputs_of(name)})


@jax.jit
def _subspaces(aligned: Tree, base: Tree) -> Tree:
    """`V / sqrt(||V||_F)` of every matrix and layer, in its own shape: C is this times its own
    transpose, and is never formed where it is larger than V.
    """

    def scaled(after: jax.Array, before: jax.Array) -> jax.Array:
        moved = after.astype(jnp.float32) - before.astype(jnp.float32)
        axes = tuple(range(1, moved.ndim))
        norm = jnp.sqrt(jnp.sum(jnp.square(moved), axis=axes, keepdims=True))
        return moved / jnp.sqrt(jnp.maximum(norm, TINY))

    return jax.tree.map(scaled, _matrices(aligned), _matrices(base))


def _within(name: str, space: jax.Array, change: jax.Array) -> jax.Array:
    """`C D`, layer by layer, in the shape of the leaf `name`."""
    found = jax.vmap(along)(matrices.view(name, change), matrices.view(name, space))
    return found.reshape(change.shape)


def tune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    base: Tree,
    aligned: Tree,
    strength: float = 1.0,
    **options: Unpack[loop.Options],
) -> tuple[Tree, np.ndarray]:
    """Tune a copy of `params` under the penalty.

    Args:
        model: the decoder.
        params: where to start, as a rule `aligned`; left as they are.
        batches: the user's `[B, T]`.
        settings: optimiser and schedule, as for `loop.finetune`.
        base: parameters before the alignment.
        aligned: those after it.
        strength: of the penalty.
        options: `trainable`, `dtype`, `key`, `label`, as for `loop.finetune`.

    Returns:
        the tuned parameters in float32, and the loss of every step with the penalty `[steps]`.

    Raises:
        UserError: the models are not of one shape, `base` and `aligned` are the same, `strength` is
            negative, weights are "extended", or as `loop.finetune`.
    """
    options = {"label": "AsFT", **options}
    if not 0 <= strength < math.inf:
        raise UserError(f"AsFT's strength is {strength}; give 0 or a number above it")
    if isinstance(settings, Settings) and settings.weights == "extended":
        raise UserError(
            f"{options['label']}: of weights='extended' its penalty would see the bfloat16 part "
            "alone, in which small changes are none; take weights='float32'"
        )
    for what, other in (("the base", base), ("the aligned model", aligned)):
        tree.check_same_shapes(what, other, "the model", params)
    tree.check_same_devices({"the base": base, "the aligned model": aligned})
    spaces = _subspaces(aligned, base)
    if not any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(spaces)):
        raise UserError(
            f"{options['label']}: the base and the aligned model have the same matrices, so there "
            "is no direction of alignment"
        )
    loss = Asft(strength, rounding.forward_types(params, options.get("dtype"), options["label"]))
    kept = {"aligned": _matrices(aligned), "spaces": spaces}
    options = {**options, "dtype": "float32"}  # the loss casts
    return loop.finetune(model, params, batches, settings, loss_fn=loss, base=kept, **options)
