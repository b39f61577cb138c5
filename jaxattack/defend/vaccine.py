"""Vaccine: alignment under the shift of attention's outputs that undoes it most.

Huang et al. 2024 ("Vaccine", equations 2 and 3): harmful tuning moves hidden states, so the aligned
answers are learnt while those are moved the worst way to first order,

    e* = radius * g / ||g||,  g = the gradient of L by all attention modules' outputs,

with ||.|| over all layers, tokens and features together; the update goes down the gradient of L by
the weights with e* added to those outputs, as a constant. It comes before the attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import INPUTS, Attention, Transformer
from jaxattack.train import checks, loop
from jaxattack.train.losses import next_token_loss
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

TINY = 1e-7  # added to the gradient's norm


@dataclasses.dataclass(frozen=True)
class Vaccine:
    """The loss, for `loop.finetune`.

    Attributes:
        radius: norm of the shift, over all layers, tokens and features of a batch. In a bfloat16
            forward pass, what of it is below half an output's last place is lost.

    Raises:
        UserError: `radius` is negative.
    """

    reads_answers: ClassVar[bool] = True  # see `checks.check_learnable`
    radius: float = 2.0

    def __post_init__(self) -> None:
        if not self.radius >= 0:
            raise UserError(f"Vaccine's radius is {self.radius}; give 0 or a number above it")

    def __call__(self, model: Transformer, params: Tree, batch: Tree) -> jax.Array:
        """The answer loss under the worst shift (nats per answer token)."""
        shift = jax.lax.stop_gradient(self.shift(model, params, batch))
        return shifted_loss(model, params, batch, shift)

    def shift(self, model: Transformer, params: Tree, batch: Tree) -> jax.Array:
        """What is added to the outputs of all attention modules, float32 `[L, B, T, D]`."""
        c, fixed = model.config, jax.lax.stop_gradient(params)
        none = jnp.zeros((c.num_layers, *batch["tokens"].shape, c.hidden_size), jnp.float32)
        none = sharding.constrain(none, P(None, *sharding.BATCH))
        slope = jax.grad(lambda shift: shifted_loss(model, fixed, batch, shift))(none)
        return self.radius * slope / (jnp.linalg.norm(slope) + TINY)


def shifted_loss(model: Transformer, params: Tree, batch: Tree, shift: jax.Array) -> jax.Array:
    """`answer_loss` with `shift` `[L, B, T, D]` added to the attention modules' outputs."""

    def add(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if not isinstance(context.module, Attention) or context.method_name != "__call__":
            return result
        out, cache = result
        own: jax.Array = context.module.get_variable(INPUTS, "shift")
        return (out.astype(jnp.float32) + own).astype(out.dtype), cache

    # As a variable, the scan over layers gives each layer its part, and its gradient back.
    variables = {"params": params, INPUTS: {"layers": {"attention": {"shift": shift}}}}
    with nn.intercept_methods(add):
        hidden, _, _ = cast(
            Any,
            model.apply(
                variables,
                batch["tokens"],
                method="hidden",
                segment_ids=batch["segment_ids"],
                positions=batch.get("positions"),
            ),
        )
    return next_token_loss(model, params, hidden, batch)


def aligned(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    vaccine: Vaccine,
    **options: Unpack[loop.Options],
) -> tuple[Tree, np.ndarray]:
    """Align a copy of `params` on safe rows.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: rows `[B, T]` (see `encode_pairs`) with the answers that are wanted.
        settings: optimiser and schedule, as for `loop.finetune`.
        vaccine: the loss.
        options: `trainable`, `dtype`, `key`, `label`, as for `loop.finetune`.

    Returns:
        the aligned parameters in float32, and the loss under the shift before every step `[steps]`.

    Raises:
        UserError: `settings.accumulate` is not 1, or as `loop.finetune`.
    """
    options = {"label": "Vaccine", **options}
    checks.check_whole(settings, options["label"])
    return loop.finetune(model, params, batches, settings, loss_fn=vaccine, **options)
