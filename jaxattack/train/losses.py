"""Losses of a batch, as functions of parameters."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxattack.models.lookup import look_up
from jaxattack.models.transformer import Transformer, head, hidden_states
from jaxattack.train.cross_entropy import cross_entropy
from jaxattack.tree import Tree

# (model, params, batch) -> mean over the batch's answer tokens; with a `base` it comes fourth.
LossFn = Callable[..., jax.Array]


def predicted(batch: Tree) -> jax.Array:
    """Weights `[B, T-1]` of the predictions: loss mask, and never across two segments."""
    segments = batch["segment_ids"]
    return batch["loss_mask"][:, 1:] * (segments[:, 1:] == segments[:, :-1])


def answer_loss(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
    """Mean cross entropy over all answer tokens of the batch (nats per token; 0 if none)."""
    rows, table = look_up(params["embed"], batch["tokens"])
    params = params | {"embed": table}
    hidden, _, _ = hidden_states(
        model,
        params,
        batch["tokens"],
        segment_ids=batch["segment_ids"],
        positions=batch.get("positions"),
        rows=rows,
    )
    return next_token_loss(model, params, hidden, batch)


def next_token_loss(model: Transformer, params: Tree, hidden: jax.Array, batch: Tree) -> jax.Array:
    """The same, given the final hidden states `[B, T, D]`."""
    weights = predicted(batch)
    weights = weights / jnp.maximum(jnp.sum(weights), 1.0)
    return cross_entropy(
        hidden[:, :-1],
        head(model, params),
        batch["tokens"][:, 1:],
        weights,
        model.config.final_softcap,
    )
