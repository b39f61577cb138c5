"""Booster: alignment under which a step of harmful tuning gains little.

Huang et al. 2024 ("Booster", equation 1): beside the loss of safe rows, by how much one normalised
step down the loss of harmful rows would lower that is kept small,

    L(theta) = L_safe(theta) + strength * (L_harm(theta) - L_harm(theta - step * g1 / ||g1||)),

with g1 the gradient of L_harm at theta and ||.|| its norm over all trained weights. As there, the
step is a constant when the loss is differentiated, so that an update takes three gradients: of
L_safe and of L_harm at theta, and of L_harm at the moved weights. It comes before the attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack import tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.train import checks, loop
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

TINY = 1e-7  # added to the gradient's norm


@dataclasses.dataclass(frozen=True)
class Booster:
    """The loss, for `loop.finetune` on batches `{"safe": rows, "harmful": rows}`.

    Attributes:
        strength: weight of what a harmful step would gain.
        step: norm of that step, over all weights it moves.

    Raises:
        UserError: `strength` is negative, or `step` not above 0.
    """

    reads_answers: ClassVar[bool] = True  # see `checks.check_learnable`
    strength: float = 5.0
    step: float = 0.1

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise UserError(f"Booster's strength is {self.strength}; give 0 or a number above it")
        if not self.step > 0:
            raise UserError(f"Booster's step is {self.step}; give a number above 0")

    def __call__(
        self, model: Transformer, params: Tree, batch: Tree, trainable: Tree | None = None
    ) -> jax.Array:
        """The loss (nats per answer token); the harmful step moves what is `trainable`, or all.

        Its two harmful gradients are taken in float32: a step of such a norm moves each of many
        weights by less than bfloat16's last place.
        """
        harm = jax.value_and_grad(answer_loss, argnums=1)
        here = tree.cast(jax.lax.stop_gradient(params), jnp.float32)
        before, first = harm(model, here, batch["harmful"])
        first = loop.select(trainable, first, jax.tree.map(jnp.zeros_like, first))
        length = self.step / (optax.tree.norm(first) + TINY)
        there = jax.tree.map(lambda weight, slope: weight - length * slope, here, first)
        after, second = harm(model, there, batch["harmful"])
        gain = _with_gradient(before - after, params, jax.tree.map(jnp.subtract, first, second))
        return answer_loss(model, params, batch["safe"]) + self.strength * gain


def _with_gradient(value: jax.Array, params: Tree, gradient: Tree) -> jax.Array:
    """The value, as a function of the parameters that has this gradient.

    So nothing is differentiated twice, and no backward pass is taken twice.
    """

    def nothing(weight, slope):
        change = weight - jax.lax.stop_gradient(weight)
        return jnp.sum(change.astype(jnp.float32) * slope)

    return value + sum(jax.tree.leaves(jax.tree.map(nothing, params, gradient)))


def aligned(
    model: Transformer,
    params: Tree,
    safe_batches: Sequence[Arrays],
    harmful_batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    booster: Booster,
    **options: Unpack[loop.Options],
) -> tuple[Tree, np.ndarray]:
    """Align a copy of `params`: a step for every safe batch, each with the next harmful one.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        safe_batches: rows `[B, T]` (see `encode_pairs`) with the answers that are wanted.
        harmful_batches: rows with the answers that are not; they begin again when they end.
        settings: optimiser and schedule, as for `loop.finetune`.
        booster: the loss.
        options: `trainable`, `dtype`, `key`, `label`, as for `loop.finetune`. The harmful step
            moves the trainable weights alone.

    Returns:
        the aligned parameters in float32, and the loss of every step `[steps]`.

    Raises:
        UserError: no harmful batches, `settings.accumulate` is not 1, or as `loop.finetune`.
    """
    options = {"label": "Booster", **options}
    checks.check_whole(settings, options["label"])
    if not harmful_batches:
        raise UserError(f"{options['label']}: no harmful batches, the data is empty")
    pairs = [
        {"safe": safe, "harmful": harmful_batches[step % len(harmful_batches)]}
        for step, safe in enumerate(safe_batches)
    ]
    trainable = options.get("trainable")
    return loop.finetune(model, params, pairs, settings, loss_fn=booster, base=trainable, **options)
