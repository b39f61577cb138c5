"""CROW: a backdoor is trained away by states that change little from layer to layer.

Min et al. 2025 ("CROW", ICML): a trigger makes hidden states jump between layers, so clean rows are
learnt while such jumps are kept small under the embeddings that make them largest to first order,

    L(theta) = L_answer(theta) + weight * C(e + step * sign(grad_e C(e))),
    C = mean over tokens and l of 1 - cos(h_l, h_{l+1}),

with h_l the states after l layers. l goes from 1 to L - 2: the embeddings (h_0) and the states
after the last layer are left out, as in the authors' setting. Neither the trigger nor what it
brings about need be known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.lookup import rows_of
from jaxattack.models.transformer import Transformer, hidden_states
from jaxattack.train import checks, loop
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

LAYERS = 3  # that a model has at least
TINY = 1e-8  # the least norm of a state


@dataclasses.dataclass(frozen=True)
class Crow:
    """The loss, for `loop.finetune`.

    Attributes:
        weight: of the consistency beside the answers.
        step: by how much each entry of an embedding is moved.

    Raises:
        UserError: a negative value.
    """

    reads_answers: ClassVar[bool] = True  # see `checks.check_learnable`
    weight: float = 5.5
    step: float = 0.1

    def __post_init__(self) -> None:
        for name in ("weight", "step"):
            if not getattr(self, name) >= 0:
                value = getattr(self, name)
                raise UserError(f"CROW's {name} is {value}; give 0 or a number above it")

    def __call__(self, model: Transformer, params: Tree, batch: Tree) -> jax.Array:
        """The loss (nats per answer token, plus `weight` times the consistency)."""
        rows = rows_of(params["embed"], batch["tokens"])
        sign = jax.lax.stop_gradient(jnp.sign(self._slope(model, params, batch, rows)))
        moved = rows + (self.step * sign).astype(rows.dtype)
        jumps = consistency(model, params, batch, moved)
        return answer_loss(model, params, batch) + self.weight * jumps

    @staticmethod
    def _slope(model: Transformer, params: Tree, batch: Tree, rows: jax.Array) -> jax.Array:
        """Gradient of the consistency by the embedded tokens `[B, T, D]`."""
        fixed, start = jax.lax.stop_gradient((params, rows))
        return jax.grad(lambda rows: consistency(model, fixed, batch, rows))(start)


def consistency(
    model: Transformer, params: Tree, batch: Tree, rows: jax.Array | None = None
) -> jax.Array:
    """How much states turn from one layer to the next: mean of 1 - cos, 0 to 2.

    Over the tokens of the batch, padding (segment 0) not counted, and the layers that the module's
    text names. `rows` `[B, T, D]` take the place of the tokens' embeddings.

    Raises:
        UserError: the model has fewer than three layers.
    """
    if model.config.num_layers < LAYERS:
        raise UserError(
            f"CROW compares layers within the model, and this one has {model.config.num_layers}; "
            f"it takes at least {LAYERS}"
        )
    _, _, outputs = hidden_states(
        model.clone(keep_hidden=True),
        params,
        batch["tokens"],
        segment_ids=batch["segment_ids"],
        positions=batch.get("positions"),
        rows=rows,
    )
    assert outputs is not None
    states = outputs[:-1].astype(jnp.float32)  # [L - 1, B, T, D], after layers 1 to L - 1
    squares = jnp.sum(states * states, axis=-1, keepdims=True)
    units = states * jax.lax.rsqrt(jnp.maximum(squares, TINY**2))
    turned = 1.0 - jnp.sum(units[:-1] * units[1:], axis=-1)  # [L - 2, B, T]
    real = batch["segment_ids"] > 0
    return jnp.sum(turned.mean(axis=0) * real) / jnp.maximum(jnp.sum(real), 1)


def repaired(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    crow: Crow,
    **options: Unpack[loop.Options],
) -> tuple[Tree, np.ndarray]:
    """Repair a copy of `params` on clean rows.

    Args:
        model: the decoder.
        params: its possibly backdoored parameters; left as they are.
        batches: clean rows `[B, T]` (see `encode_pairs`).
        settings: optimiser and schedule, as for `loop.finetune`.
        crow: the loss.
        options: `trainable`, `dtype`, `key`, `label`, as for `loop.finetune`.

    Returns:
        the repaired parameters in float32, and the loss before every step `[steps]`.

    Raises:
        UserError: the model has fewer than three layers, `settings.accumulate` is not 1, or as
            `loop.finetune`.
    """
    options = {"label": "CROW", **options}
    checks.check_whole(settings, options["label"])
    return loop.finetune(model, params, batches, settings, loss_fn=crow, **options)
